/** The API over TLS, from another machine: rights, changes, events, and a reload of its tokens. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { type CurlAnswer, curl } from '../../lab/clients/curl.js';
import { BALANCER_ADDRESS, VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { makeCertificate } from '../../lab/servers/certificates.js';
import type { ResourceList } from '../../src/api/client.js';

t.setTimeout(FILE_TIMEOUT_MS);

const LISTEN = `${BALANCER_ADDRESS}:8443`;
const ADMIN = 'admin-token-'.repeat(4);
const READER = 'reader-token-'.repeat(4);
const LATER = 'later-token-'.repeat(4);

const resources = [{ path: '/', nodes: ['n1', 'n2'] }];
const api = { listen: LISTEN, certificate: 'api.pem', key: 'api.key', tokens: 'tokens.txt' };

function writeTokens(farm: Farm, text: string): void {
  writeFileSync(path.join(farm.directory, 'tokens.txt'), text, { mode: 0o600 });
}

/** Content that says which node it came from, and the secrets of the API. */
function fill(farm: Farm): void {
  for (const [index, web] of farm.webs.entries()) web.put('who.txt', `n${index + 1}`);
  makeCertificate(farm.directory, 'api', { address: BALANCER_ADDRESS });
  writeTokens(farm, `alice admin ${ADMIN}\nbob read-only ${READER}\n`);
}

t.test('the API over TLS', { skip: whyNoFarm() }, async (t) => {
  await withFarm(t, { resources, fill, nodes: 2, balancer: { api } }, async (farm) => {
    const trusted = ['--cacert', path.join(farm.directory, 'api.pem')];
    const call = (target: string, token: string, ...more: string[]): Promise<CurlAnswer> =>
      curl(farm.client, `https://${LISTEN}${target}`, [
        ...trusted,
        ...['-H', `Authorization: Bearer ${token}`],
        ...more,
      ]);
    const setState = (state: string, token: string): Promise<CurlAnswer> => {
      const body = JSON.stringify({ state, reason: 'a new disk' });
      const json = ['-H', 'Content-Type: application/json', '--data', body];
      return call('/v1/nodes/n1', token, '-X', 'PATCH', ...json);
    };
    /** The nodes that answer ten requests. */
    const answering = async (): Promise<string[]> => {
      const answers = await Promise.all(
        Array.from({ length: 10 }, () => curl(farm.client, `http://${VIRTUAL_ADDRESS}/who.txt`)),
      );
      return [...new Set(answers.map(({ body }) => body.toString()))].sort();
    };
    const events = farm.client.start('events', [
      'curl',
      ...['-sSN', ...trusted, '-H', `Authorization: Bearer ${READER}`],
      `https://${LISTEN}/v1/events`,
    ]);
    await events.waitForLog(/event: rates/);

    await t.test('an operator on another machine drains a node, and others see it', async (t) => {
      t.same(await answering(), ['n1', 'n2']);
      t.equal((await setState('draining', READER)).status, 403);
      t.same(await answering(), ['n1', 'n2'], 'the token may only read');
      t.equal((await setState('draining', ADMIN)).status, 200);
      t.same(await answering(), ['n2']);
      const { body } = await call('/v1/nodes/n1', READER);
      t.match(JSON.parse(body.toString()), { state: 'draining', by: 'alice', why: 'a new disk' });
      await events.waitForLog(/event: node\ndata: .*"n1".*"draining".*"alice"/);
      await events.waitForLog(/event: change\ndata: .*"by":"alice"/);
      t.equal((await setState('up', ADMIN)).status, 200);
      t.same(await answering(), ['n1', 'n2']);
    });

    await t.test('a resource has a state, and counts its requests across changes', async (t) => {
      const rows = async () => {
        const { stdout } = await farm.baton(['resources', '-c', farm.balancerConfig, '--json']);
        return (JSON.parse(stdout) as ResourceList).resources;
      };
      const [before] = await rows();
      t.match(before, { path: '/', nodes: ['n1', 'n2'], state: 'up', up: 2 });
      await answering();
      await farm.baton(['add', 'resource', '/who.txt', 'n2', '-c', farm.balancerConfig]);
      t.equal((await setState('maintenance', ADMIN)).status, 200);
      await answering();
      t.match(await rows(), [
        { path: '/', state: 'degraded', up: 1, requests: (before?.requests ?? 0) + 10 },
        { path: '/who.txt', state: 'up', up: 1, requests: 10 },
      ]);
      await farm.baton(['remove', 'resource', '/who.txt', '-c', farm.balancerConfig]);
      t.equal((await setState('up', ADMIN)).status, 200);
    });

    await t.test('a reload takes new tokens in, or refuses a file with a mistake', async (t) => {
      writeTokens(farm, 'alice admin short\n');
      const reload = ['reload', '-c', farm.balancerConfig];
      const refused = await farm.baton(reload, { allowFailure: true });
      t.equal(refused.code, 1);
      t.match(refused.stderr, /tokens file .*tokens\.txt: line 1: the token of alice is not valid/);
      t.equal((await call('/v1/nodes', ADMIN)).status, 200, 'the old tokens still hold');

      writeTokens(farm, `bob read-only ${READER}\ncarol admin ${LATER}\n`);
      await farm.baton(reload);
      t.equal((await call('/v1/nodes', ADMIN)).status, 401);
      t.equal((await call('/v1/nodes', LATER)).status, 200);
      t.ok(((await farm.stats()).counters.api_no_token ?? 0) >= 1);
      t.notMatch(farm.balancerProgram?.log() ?? '', /-token-/, 'no token is in the log');
    });

    await t.test('the stream ends when the balancer stops', async (t) => {
      await farm.balancerProgram?.stop();
      t.match(await events.exited, { code: 0 });
    });
  });
});
