/**
 * An engine with several threads: content, balance, statistics of all threads together, and
 * restarts with another number of threads.
 */
import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { type CurlAnswer, curl, sha256 } from '../../lab/clients/curl.js';
import { Download } from '../../lab/clients/download.js';
import { wrk } from '../../lab/clients/wrk.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import type { StatsDocument } from '../../src/api/documents.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const WORKERS = 2;
/** Pace of each download in bytes a second; many run at the same time. */
const PACE = 200_000;
const long = randomBytes(8_000_000);

const resources = [
  { path: '/both/', nodes: ['n1', 'n2'] },
  { path: '/one/', nodes: ['n1'] },
];
const balancer = {
  workers: WORKERS,
  timeouts: { linger: '1s', closing: '2s' },
  virtualServers: [
    { name: 'www', address: VIRTUAL_ADDRESS, port: 80, predictor: 'least-connections' },
  ],
};

function fill(farm: Farm): void {
  farm.webs.forEach((web, index) => {
    web.put('both/a.txt', `from node ${index + 1}\n`);
    web.put('both/long.bin', long);
    web.put('one/1k.bin', Buffer.alloc(1024, 'x'));
  });
}

interface Row {
  client: string;
  state: string;
  node: string;
}

async function sessionsOf(farm: Farm, limit: number): Promise<{ sessions: Row[]; total: number }> {
  const args = ['sessions', '-c', farm.balancerConfig, '--json', '--limit', String(limit)];
  return JSON.parse((await farm.baton(args)).stdout) as { sessions: Row[]; total: number };
}

function activeOf({ nodes }: StatsDocument): number {
  return nodes.reduce((sum, node) => sum + node.active, 0);
}

/** Starts downloads that go on until `finish`. There are no other sessions. */
async function begin(farm: Farm, count: number): Promise<Download[]> {
  const downloads = Array.from(
    { length: count },
    () => new Download(farm, `${BASE}/both/long.bin`, PACE),
  );
  const all = async (): Promise<boolean> => {
    const stats = await farm.stats();
    return activeOf(stats) === count && stats.sessions.passing === count;
  };
  await farm.waitFor(all, `${count} downloads run`);
  return downloads;
}

async function finish(t: Test, downloads: readonly Download[]): Promise<void> {
  const ends = await Promise.all(downloads.map((download) => download.finish()));
  t.same([...new Set(ends.map(({ error }) => error))], ['']);
  t.ok(
    ends.every((end) => end.sha256 === sha256(long)),
    'every byte arrived',
  );
}

function ended(farm: Farm): Promise<void> {
  const empty = async (): Promise<boolean> => {
    const { nodes, sessions } = await farm.stats();
    return sessions.total === 0 && nodes.every((node) => node.active === 0);
  };
  return farm.waitFor(empty, 'no session left');
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test('several engine threads work as one', { skip: whyNoFarm() }, async (t) => {
  await withFarm(t, { resources, fill, nodes: 2, balancer }, async (farm) => {
    const get = (path: string): Promise<CurlAnswer> => curl(farm.client, BASE + path);

    await t.test('connections are spread over the threads and all served', async (t) => {
      const options = { connections: 200, seconds: 2, close: true };
      const result = await wrk(farm.client, `${BASE}/one/1k.bin`, options);
      t.same(result.errors, { connect: 0, read: 0, write: 0, status: 0, timeout: 0 });
      await ended(farm);
      const { counters, stages, nodes } = await farm.stats();
      t.equal(stages.length, WORKERS);
      const frames = stages.map((stage) => stage.frames);
      const most = Math.max(...frames);
      t.ok(Math.min(...frames) > most / 2, `frames of each thread: ${frames.join(', ')}`);
      t.ok(
        (counters.adopted ?? 0) >= result.requests,
        `${counters.adopted} adopted, ${result.requests} requests`,
      );
      t.ok((nodes[0]?.adopted ?? 0) > result.requests / 2, `n1 adopted ${nodes[0]?.adopted}`);
      t.equal(counters.drop_other_worker, 0);
      t.equal(counters.reset_sent, 0);
      t.equal(counters.answer_503, 0);
    });

    await t.test('each thread answers 404 when no node holds the content', async (t) => {
      const answers = await Promise.all(Array.from({ length: 12 }, () => get('/none.txt')));
      t.same([...new Set(answers.map(({ status, exit }) => `${status} ${exit}`))], ['404 0']);
      await ended(farm);
    });

    await t.test('sessions of all threads are balanced, counted and listed', async (t) => {
      const count = 24;
      const downloads = await begin(farm, count);
      const { nodes, sessions } = await farm.stats();
      t.equal(sessions.passing, count);
      const active = nodes.map((node) => node.active);
      t.equal(active[0]! + active[1]!, count);
      // Both threads may choose a node at the same moment.
      t.ok(Math.abs(active[0]! - active[1]!) <= 4, `sessions of the nodes: ${active.join(', ')}`);
      const all = await sessionsOf(farm, 1000);
      t.equal(all.total, count);
      t.equal(
        new Set(all.sessions.map(({ client }) => client)).size,
        count,
        'each session is listed once',
      );
      t.same([...new Set(all.sessions.map(({ state }) => state))], ['passing']);
      for (const limit of [1, 7, 16, 23]) {
        const some = await sessionsOf(farm, limit);
        t.same([some.sessions.length, some.total], [limit, count]);
        t.same(
          some.sessions.map(({ client }) => client),
          all.sessions.slice(0, limit).map(({ client }) => client),
        );
      }
      await finish(t, downloads);
      await ended(farm);
    });

    await t.test('a node that leaves gets no handoff from any thread', async (t) => {
      await farm.agents[1]?.stop();
      await farm.waitFor(
        async () => (await farm.stats()).nodes[1]?.condition === 'leaving',
        'n2 is leaving',
      );
      const answers = await Promise.all(Array.from({ length: 16 }, () => get('/both/a.txt')));
      t.same([...new Set(answers.map(({ body }) => body.toString()))], ['from node 1\n']);
      await farm.startNode(1);
      await farm.waitNodesUp();
      const again = await Promise.all(Array.from({ length: 16 }, () => get('/both/a.txt')));
      t.same([...new Set(again.map(({ body }) => body.toString()))].sort(), [
        'from node 1\n',
        'from node 2\n',
      ]);
    });

    const skip =
      DATAPATH === 'packet' ? 'with this datapath connections wait while no balancer runs' : false;
    await t.test(
      'sessions outlive a kill and a start with another number of threads',
      { skip },
      async (t) => {
        const downloads = await begin(farm, 12);
        for (const workers of [3, 1, WORKERS]) {
          await farm.balancerProgram?.kill();
          farm.configureBalancer(resources, { ...balancer, workers });
          await farm.startBalancer();
          await farm.waitNodesUp();
          const stats = await farm.stats();
          t.equal(stats.stages.length, workers);
          t.equal(stats.sessions.passing, downloads.length, `with ${workers}`);
          t.equal(activeOf(stats), downloads.length);
          t.equal((await sessionsOf(farm, 1000)).sessions.length, downloads.length);
          const answers = await Promise.all(Array.from({ length: 8 }, () => get('/both/a.txt')));
          t.ok(answers.every(({ status }) => status === 200));
          await farm.waitFor(
            async () => activeOf(await farm.stats()) === downloads.length,
            'sessions of the old number are ended',
          );
        }
        await finish(t, downloads);
        await ended(farm);
      },
    );
  });
});
