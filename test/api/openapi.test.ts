import { createConfig, lintFromString } from '@redocly/openapi-core';
import t from 'tap';
import { ApiCounters } from '../../src/api/counters.js';
import { openApiDocument } from '../../src/api/openapi.js';
import { allRoutes } from '../../src/api/routes/index.js';
import { OpenStreams } from '../../src/api/streams.js';
import { FakeControl } from '../support/fake-control.js';

interface Operation {
  operationId: string;
  description: string;
  parameters: { name: string; in: string; required: boolean; schema: object }[];
  requestBody?: { required: boolean };
  responses: Record<string, object>;
}
interface OpenApi {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, { required?: string[] }> };
}

const routes = allRoutes({
  control: new FakeControl(),
  streams: new OpenStreams(),
  counters: new ApiCounters(),
});
const document = openApiDocument(routes) as OpenApi;

/** What the linter says about a document: rule and place. */
async function lint(what: object): Promise<string[]> {
  const problems = await lintFromString({
    source: JSON.stringify(what),
    absoluteRef: 'openapi.json',
    config: await createConfig({ extends: ['recommended-strict'] }),
  });
  return problems.map(({ ruleId, message, location }) => {
    const place = location[0];
    return `${ruleId}: ${message} ${place !== undefined && 'pointer' in place ? place.pointer : ''}`;
  });
}

t.test('the linter finds nothing', async (t) => {
  t.same(await lint(document), []);
});

t.test('the linter would find mistakes', async (t) => {
  const stats = document.paths['/v1/stats']?.get;
  t.ok(stats);
  const broken = {
    ...document,
    paths: {
      '/v1/stats': { get: { ...stats, operationId: 'one', tags: ['unknown'] } },
      '/v1/{name}': {
        get: { ...stats, operationId: 'one', responses: { 200: { $ref: '#/nowhere' } } },
      },
    },
  };
  const found = (await lint(broken)).join('\n');
  t.match(found, /operation-operationId-unique/);
  t.match(found, /path-parameters-defined/);
  t.match(found, /no-unresolved-refs/);
});

t.test('it has every call of the API', async (t) => {
  const listed = Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, { operationId }]) => [
      method.toUpperCase(),
      path.replace(/\{(\w+)\}/g, ':$1'),
      operationId,
    ]),
  );
  const wanted = routes.map(({ method, path, id }) => [method, path, id]);
  t.same(listed.sort(), wanted.sort());
  t.ok(listed.length > 20);
});

t.test('it says what the checks demand', async (t) => {
  const { schemas } = document.components;
  t.same(schemas.NewNode?.required, ['name', 'address'], 'the weight has a default');
  t.match(document.paths['/v1/sessions']?.get?.parameters, [
    { name: 'limit', in: 'query', required: false, schema: { default: 100, maximum: 1_000 } },
    { name: 'after', in: 'query', required: false },
  ]);
  t.match(document.paths['/v1/nodes/{name}']?.patch, {
    description: / Needs the role admin\.$/,
    parameters: [{ name: 'name', in: 'path', required: true }],
    requestBody: { required: true },
    responses: { 200: Object, 400: Object, 401: Object, 403: Object, 404: Object, 409: Object },
  });
  t.match(document.paths['/v1/reload']?.post, { requestBody: { required: false } });
  t.match(document.paths['/v1/leave']?.post, { description: /^Only on the unix socket\./ });
  t.notMatch(JSON.stringify(document), /"expected"|ipv4-/, 'no words of our own');
});
