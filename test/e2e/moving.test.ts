/**
 * Kept-alive connections whose requests go to the nodes that hold their content (keepAlive:
 * migrate): curl and wrk over nodes with nginx, Apache and Node.js.
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { curlAll } from '../../lab/clients/curl.js';
import { keptAlive } from '../../lab/clients/kept-alive.js';
import { wrk } from '../../lab/clients/wrk.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const NODES = ['n1', 'n2', 'n3'];
const BIG_BYTES = 3_000_000;
const UPLOAD_BYTES = 5_000_000;
const LOAD_SECONDS = 2;

const resources = [
  ...NODES.map((name) => ({ path: `/${name}/`, nodes: [name] })),
  { path: '/upload', nodes: ['n3'] },
];
const virtualServers = [{ name: 'www', address: VIRTUAL_ADDRESS, port: 80, keepAlive: 'migrate' }];

function big(index: number): Buffer {
  return Buffer.alloc(BIG_BYTES, `${index}`);
}

function fill(farm: Farm): void {
  farm.webs.forEach((web, index) => {
    web.put(`n${index + 1}/small.txt`, `from node ${index + 1}\n`);
    web.put(`n${index + 1}/big.bin`, big(index + 1));
  });
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test('requests of one connection go to three nodes', { skip: whyNoFarm() }, async (t) => {
  const web = [{}, { server: 'apache' as const }, { server: 'node' as const }];
  const balancer = { virtualServers };
  await withFarm(t, { resources, fill, nodes: 3, web, balancer }, async (farm) => {
    const counter = async (name: string): Promise<number> =>
      (await farm.stats()).counters[name] ?? 0;

    await farm.waitFor(
      async () => (await farm.stats()).nodes.every(({ lastReportMs }) => lastReportMs !== null),
      'the balancer knows what each node can do',
    );

    await t.test('curl: small and large files, on one connection', async (t) => {
      const order = [1, 2, 3, 1, 1, 3, 2, 1];
      const urls = order.map((node) => `${BASE}/n${node}/small.txt`);
      const answers = await curlAll(farm.client, urls);
      t.same(
        answers.map(({ status, body }) => `${status} ${body}`),
        order.map((node) => `200 from node ${node}\n`),
      );
      t.same(
        answers.map(({ connects }) => connects),
        order.map((_, index) => (index === 0 ? 1 : 0)),
        'one connection',
      );
      t.equal(await counter('moved'), 6);
      t.equal(await counter('resumed'), 4, 'each node keeps its socket');
      const files = await curlAll(
        farm.client,
        [1, 2, 3, 1].map((node) => `${BASE}/n${node}/big.bin`),
      );
      t.same(
        files.map(({ body, connects }) => [
          createHash('sha256').update(body).digest('hex'),
          connects,
        ]),
        [1, 2, 3, 1].map((node, index) => [
          createHash('sha256').update(big(node)).digest('hex'),
          index === 0 ? 1 : 0,
        ]),
      );
    });

    await t.test('uploads, HEAD, and a request that no node holds', async (t) => {
      const body = Buffer.alloc(UPLOAD_BYTES, 'b');
      const { answers } = await keptAlive(farm.client, VIRTUAL_ADDRESS, [
        { path: '/n1/small.txt' },
        { path: '/upload', method: 'POST', body: UPLOAD_BYTES },
        { path: '/n2/small.txt', method: 'HEAD' },
        { path: '/n2/small.txt', method: 'HEAD' },
        { path: '/n1/small.txt' },
        { path: '/nowhere' },
      ]);
      t.same(
        answers.map(({ status }) => status),
        [200, 200, 200, 200, 200, 404],
      );
      const digest = createHash('sha256').update(body).digest('hex');
      t.equal(answers[1]?.sha256, createHash('sha256').update(`${digest}\n`).digest('hex'));
    });

    await t.test('wrk: connections that move with each request', async (t) => {
      const directory = mkdtempSync('/tmp/baton-moving-');
      t.teardown(() => rmSync(directory, { recursive: true, force: true }));
      const script = path.join(directory, 'three.lua');
      writeFileSync(
        script,
        `local n = 0
request = function()
  n = n % 3 + 1
  return wrk.format("GET", "/n" .. n .. "/small.txt")
end
`,
      );
      const before = (await farm.stats()).counters;
      const result = await wrk(farm.client, `${BASE}/`, {
        connections: 8,
        seconds: LOAD_SECONDS,
        script,
      });
      t.equal(result.failed, 0, JSON.stringify(result));
      t.ok(result.requests > 100, `${result.requests} requests`);
      const { counters } = await farm.stats();
      const since = (name: string): number => (counters[name] ?? 0) - (before[name] ?? 0);
      const moved = since('moved');
      t.ok(moved > result.requests / 2, `${moved} moves`);
      const built = since('handoffs') - since('resumed');
      // Apache closes a connection after 100 requests, and wrk opens another one.
      const sockets = since('established') * NODES.length;
      t.ok(built <= sockets, `${built} sockets, at most one a node and connection: ${sockets}`);
      t.comment(`${result.requests} requests, ${moved} moves`);
    });

    const { counters } = await farm.stats();
    for (const name of [
      ...['moves_refused', 'moves_silent', 'handoff_silent', 'closed_no_node'],
      ...['resumes_refused', 'parked_closed'],
    ])
      t.equal(counters[name], 0, name);
    await farm.waitEmpty();
    for (const web of farm.webs) t.same(web.complaints(), [], 'nothing unusual in its error log');
    t.comment(
      Object.entries(counters)
        .filter(([name, value]) => value !== 0 && /^(pinned|move|reset|drop)/.test(name))
        .join(' '),
    );
  });
});
