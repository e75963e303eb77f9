/**
 * Nodes behind routers (`via: ixp`): three networks and three routers. Requests and ACKs pass the
 * balancer and the router behind it; answers take another router straight to the client.
 */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { curl, curlAll, sha256 } from '../../lab/clients/curl.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { type FarmUse, whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const DOWNLOAD = randomBytes(20_000_000);
const UPLOAD_BYTES = 2_000_000;
/** Notices and reports during the download. */
const MOST_NOTICE_BYTES = 100_000;

const ROUTED: FarmUse = {
  nodes: 2,
  routed: true,
  resources: [
    { path: '/one/', nodes: ['n1'] },
    { path: '/two/', nodes: ['n2'] },
    { path: '/post', nodes: ['n1'] },
  ],
  balancer: {
    timeouts: { linger: '300ms', closing: '2s' },
    nodes: [
      { name: 'n1', address: '10.98.0.3', via: 'ixp' },
      { name: 'n2', address: '10.98.0.4', via: 'ixp' },
    ],
  },
  fill: (farm) => {
    for (const [index, place] of ['one', 'two'].entries()) {
      farm.webs[index]?.put(`${place}/a.txt`, `from n${index + 1}\n`);
      farm.webs[index]?.put(`${place}/long.bin`, DOWNLOAD);
    }
  },
};

t.setTimeout(FILE_TIMEOUT_MS);

t.test('nodes can be behind routers', { skip: whyNoFarm() }, async (t) => {
  await withFarm(t, ROUTED, async (farm) => {
    const { client } = farm;
    const r2 = farm.host('r2');
    const r3 = farm.host('r3');

    await t.test('a request is answered by the node that holds it', async (t) => {
      for (const [place, node] of [
        ['one', 'n1'],
        ['two', 'n2'],
      ] as const) {
        const answer = await curl(client, `${BASE}/${place}/a.txt`);
        t.match(answer, { exit: 0, status: 200 });
        t.equal(answer.body.toString(), `from ${node}\n`);
      }
      await farm.waitEmpty();
    });

    await t.test('a connection can carry many requests', async (t) => {
      const answers = await curlAll(
        client,
        Array.from({ length: 20 }, () => `${BASE}/one/a.txt`),
      );
      t.ok(answers.every(({ status }) => status === 200));
      t.equal(
        answers.reduce((sum, answer) => sum + answer.connects, 0),
        1,
        'one connection',
      );
      await farm.waitEmpty();
    });

    await t.test('an answer takes another router than its request', async (t) => {
      const answers = (await r3.traffic('eth0')).receivedBytes;
      const notices = (await r2.traffic('eth1')).receivedBytes;
      const answer = await curl(client, `${BASE}/one/long.bin`);
      t.match(answer, { exit: 0, status: 200 });
      t.equal(sha256(answer.body), sha256(DOWNLOAD));
      t.ok((await r3.traffic('eth0')).receivedBytes - answers > DOWNLOAD.length, 'the answer');
      t.ok((await r2.traffic('eth1')).receivedBytes - notices < MOST_NOTICE_BYTES, 'only notices');
      await farm.waitEmpty();
    });

    await t.test('an upload arrives', async (t) => {
      const file = `${farm.directory}/upload.bin`;
      const body = DOWNLOAD.subarray(0, UPLOAD_BYTES);
      writeFileSync(file, body);
      const answer = await curl(client, `${BASE}/post`, ['--data-binary', `@${file}`]);
      t.match(answer, { exit: 0, status: 200 });
      t.equal(sha256(farm.webs[0]?.lastPosted() ?? new Uint8Array(0)), sha256(body));
      await farm.waitEmpty();
    });
  });
});

/** Requests that go to the two nodes in turn, on one connection. */
const MOVES = 60;

t.test('connections move between nodes behind routers', { skip: whyNoFarm() }, async (t) => {
  const nodes = ROUTED.balancer?.nodes as { name: string; handoff?: string }[];
  const MOVING: FarmUse = {
    ...ROUTED,
    balancer: {
      ...ROUTED.balancer,
      virtualServers: [{ name: 'www', address: VIRTUAL_ADDRESS, port: 80, keepAlive: 'migrate' }],
      nodes: nodes.map((node) => (node.name === 'n2' ? { ...node, handoff: 'replay' } : node)),
    },
  };
  await withFarm(t, MOVING, async (farm) => {
    await farm.waitFor(
      async () => (await farm.stats()).nodes.every(({ lastReportMs }) => lastReportMs !== null),
      'the balancer knows what each node can do',
    );
    const { counters } = await farm.stats();
    const answers = await curlAll(
      farm.client,
      Array.from({ length: MOVES }, (_, index) => `${BASE}/${index % 2 ? 'two' : 'one'}/a.txt`),
    );
    t.same(
      answers.map(({ body }) => body.toString()),
      answers.map((_, index) => `from n${(index % 2) + 1}\n`),
      'each request is answered by the node that holds it',
    );
    t.equal(
      answers.reduce((sum, answer) => sum + answer.connects, 0),
      1,
      'one connection',
    );
    const after = (await farm.stats()).counters;
    t.ok((after.moved ?? 0) - (counters.moved ?? 0) > MOVES / 2, 'it moved');
    t.ok((after.replay_syn ?? 0) > (counters.replay_syn ?? 0), 'n2 replayed');

    const [first, long] = await curlAll(farm.client, [`${BASE}/one/a.txt`, `${BASE}/two/long.bin`]);
    t.equal(first?.status, 200);
    t.equal(sha256(long?.body ?? new Uint8Array(0)), sha256(DOWNLOAD), 'a download arrives intact');
    await farm.waitEmpty();
  });
});
