/** Every call of the API on the unix socket: what reaches the balancer, and what is refused. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ControlClient } from '../../src/api/client.js';
import type { Change } from '../../src/api/control.js';
import { ControlApi } from '../../src/api/server.js';
import { BatonError, type ErrorCode } from '../../src/base/errors.js';
import { EXPLANATION, FakeControl, NODE, SERVER } from '../support/fake-control.js';

const directory = mkdtempSync(join(tmpdir(), 'baton-api-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const path = join(directory, 's');
const control = new FakeControl();
const api = new ControlApi(control);
t.before(() => api.start(path));
t.teardown(() => api.stop());
const client = new ControlClient(path);

interface Reply {
  status: number;
  headers: IncomingMessage['headers'];
  body: unknown;
}

async function call(
  method: string,
  target: string,
  body?: string,
  headers: Record<string, string> = { 'content-type': 'application/json' },
): Promise<Reply> {
  const asked = request({
    socketPath: path,
    path: target,
    method,
    agent: false,
    headers: body === undefined ? {} : headers,
  }).end(body);
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString();
  const isJson = response.headers['content-type']?.startsWith('application/json') === true;
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    body: isJson && text !== '' ? JSON.parse(text) : text,
  };
}

t.test('what the client reads is what the balancer says', async (t) => {
  t.same(await client.nodes(), { nodes: [NODE] });
  t.same(await client.node('n1'), NODE);
  t.same(await client.virtualServers(), { virtualServers: [SERVER] });
  t.same(await client.virtualServer('www'), SERVER);
  t.match(await client.resources(20), {
    resources: [{ path: '/0/20', host: null }, { path: '/1/19' }],
    total: 2,
  });
  t.same(await client.config(), control.configDocument);
  t.same(await client.saveConfig({ force: true }), { file: '/etc/b.yaml', written: true });
  t.same(control.saves, [{ force: true }]);
  const query = { url: 'http://10.99.0.100/a?b=c&d', from: '192.0.2.7' };
  t.same(await client.explain(query), EXPLANATION);
  t.same(control.queries, [query]);
  t.match(await call('GET', '/metrics'), {
    status: 200,
    body: 'baton_up 1\n',
    headers: { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' },
  });
  t.match(await call('GET', '/v1/openapi.json'), { status: 200, body: { openapi: '3.1.0' } });
  t.match(await call('HEAD', '/v1/nodes'), { status: 200, body: '' });
});

t.test('every change reaches the balancer as it was made', async (t) => {
  const changes: Change[] = [
    { kind: 'reload' },
    { kind: 'reload', file: '/etc/baton/b.yaml' },
    { kind: 'node-state', node: 'n1', state: 'draining', reason: 'new disk' },
    { kind: 'node-state', node: 'n1', state: 'up' },
    { kind: 'weight', node: 'n1', weight: 3 },
    { kind: 'add-node', node: { name: 'n2', address: '10.99.0.4', weight: 1 } },
    {
      kind: 'add-virtual-server',
      virtualServer: { name: 'w', address: '10.99.0.101', port: 80, predictor: 'round-robin' },
    },
    { kind: 'add-resource', resource: { path: '/ä/', nodes: ['n1'] } },
    { kind: 'remove-node', node: 'n/2?' },
    { kind: 'remove-virtual-server', virtualServer: 'www' },
    { kind: 'remove-virtual-server', virtualServer: 'www', endSessions: true },
    { kind: 'remove-resource', path: '/a?b&c=d/' },
    { kind: 'remove-resource', host: '*.example.org', path: '/', node: 'n1' },
  ];
  control.changes = [];
  for (const change of changes) t.same(await client.change(change), control.report);
  t.same(
    control.changes,
    changes.map((change) => ({ change, actor: 'local' })),
  );
  const node = '{"name": "n2", "address": "10.99.0.4"}';
  t.equal((await call('POST', '/v1/nodes', node)).status, 201);
  t.match(control.changes.at(-1), { change: { node: { weight: 1 } } }, 'defaults are filled in');
  t.equal((await call('POST', '/v1/reload')).status, 200, 'a body without keys may be absent');
});

t.test('a request that is not valid is refused, and the answer names the key', async (t) => {
  control.changes = [];
  const cases: [string, string, string | undefined, string, RegExp][] = [
    ['GET', '/v1/stats?x=1', undefined, 'query: x', /^is not a known key, expected no key$/],
    ['GET', '/v1/sessions?limt=1', undefined, 'query: limt', /did you mean limit\?$/],
    ['GET', '/v1/sessions?limit=1&limit=2', undefined, 'query: limit', /^is a list of 2, exp/],
    ['GET', '/v1/explain', undefined, 'query: url', /^is missing, expected a text of 1 to 8192/],
    ['DELETE', '/v1/resources', undefined, 'query: path', /^is missing/],
    ['POST', '/v1/reload', '{"file": "b.yaml"}', 'body: file', /^is "b.yaml", expected an absol/],
    ['POST', '/v1/config/save', '{"force": "yes"}', 'body: force', /^is "yes", expected true or f/],
    ['POST', '/v1/nodes', undefined, 'body: name', /^is missing, expected a name of 1 to 63/],
    ['POST', '/v1/nodes', '[]', 'body', /^is an empty list, expected/],
    ['POST', '/v1/nodes', 'nodes', 'body', /^is not valid JSON$/],
    ['POST', '/v1/nodes', '{"__proto__": {}}', 'body', /^is not valid JSON$/],
    [
      'POST',
      '/v1/nodes',
      '{"name": "n2", "address": "::1", "weight": 1}',
      'body: address',
      /^is "::1", expected an IP address/,
    ],
    [
      'POST',
      '/v1/nodes',
      '{"name": "n2", "address": "10.9.9.9", "weight": "3"}',
      'body: weight',
      /^is "3", expected a whole number from 1 to 1000$/,
    ],
    [
      'POST',
      '/v1/resources',
      '{"path": "/", "nodes": [7]}',
      'body: nodes.0',
      /^is 7, expected the name of a node$/,
    ],
    ['PATCH', '/v1/nodes/n1', '{}', 'body', /^is empty, expected one of state, weight, reason$/],
    ['PATCH', '/v1/nodes/n1', '{"reason": "x"}', 'body: reason', /^is given without a state$/],
    ['PATCH', '/v1/nodes/n1', '{"state": "up", "weight": 2}', 'body', /^has both/],
    [
      'PATCH',
      '/v1/nodes/n1',
      '{"state": "gone\\u001b"}',
      'body: state',
      /^is "gone\\u001b", expected one of up, draining, maintenance$/,
    ],
    ['POST', '/v1/leave', '{"x\\u001b": 1}', 'body: "x\\u001b"', /^is not a known key/],
  ];
  for (const [method, target, body, where, message] of cases) {
    t.match(
      await call(method, target, body),
      { status: 400, body: { error: { code: 'BATON_REQUEST', where, message } } },
      `${method} ${target} ${body ?? ''}`,
    );
  }
  t.same(control.changes, []);
  t.equal(control.left, 0, 'a call to leave that was refused has no effect');
});

t.test('method, path, type and length', async (t) => {
  t.match(await call('PUT', '/v1/nodes/n1', '{}'), {
    status: 405,
    headers: { allow: 'GET, HEAD, PATCH, DELETE' },
    body: { error: { code: 'BATON_REQUEST', hint: /GET, HEAD, PATCH, DELETE$/ } },
  });
  t.match(await call('HEAD', '/v1/events'), { status: 405, headers: { allow: 'GET' } });
  t.match(await call('GET', '/v1/node%1bs'), {
    status: 404,
    body: { error: { code: 'BATON_UNKNOWN', message: 'nothing at GET /v1/node%1bs' } },
  });
  t.match(await call('GET', '/v1/%'), { status: 400, body: { error: { code: 'BATON_REQUEST' } } });
  const long = JSON.stringify({ name: 'x'.repeat(65_536) });
  t.match(await call('POST', '/v1/nodes', long), {
    status: 413,
    body: { error: { code: 'BATON_REQUEST', message: 'the body is longer than 65536 bytes' } },
  });
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'nonsense']) {
    t.match(await call('POST', '/v1/nodes', '{}', { 'content-type': type }), {
      status: 415,
      body: { error: { code: 'BATON_REQUEST', where: 'Content-Type' } },
    });
  }
});

t.test('what is not HTTP gets an error document too', async (t) => {
  const socket = createConnection(path);
  socket.end('HELO there\r\n\r\n');
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  const [head = '', body = ''] = Buffer.concat(chunks).toString().split('\r\n\r\n');
  t.match(head, /^HTTP\/1\.1 400 Bad Request\r\nServer: Baton\r\n/);
  t.match(JSON.parse(body), {
    error: { code: 'BATON_REQUEST', message: 'the request is not valid HTTP' },
  });
});

t.test('an error of the balancer keeps its fields; its code decides the status', async (t) => {
  const statuses: [ErrorCode, number][] = [
    ['BATON_UNKNOWN', 404],
    ['BATON_CONFLICT', 409],
    ['BATON_IN_USE', 409],
    ['BATON_CONFIG', 400],
    ['BATON_ARGUMENT', 400],
    ['BATON_SYSTEM', 500],
  ];
  for (const [code, status] of statuses) {
    control.error = new BatonError(code, 'one\u001b\ntwo', { where: 'b.yaml:1:2', hint: 'do it' });
    const error = { code, message: 'one\\x1b\ntwo', where: 'b.yaml:1:2', hint: 'do it' };
    t.match(await call('POST', '/v1/reload', '{}'), { status, body: { error } });
    await t.rejects(client.change({ kind: 'reload' }), error, 'the client throws the same');
  }
  control.error = new Error('out of luck');
  t.match(await call('GET', '/v1/nodes'), {
    status: 500,
    body: { error: { code: 'BATON_SYSTEM', message: 'out of luck' } },
  });
  control.error = undefined;
  t.match(await call('GET', '/v1/nodes/n11'), {
    status: 404,
    body: {
      error: { code: 'BATON_UNKNOWN', message: 'there is no node "n11"', hint: 'did you mean n1?' },
    },
  });
});
