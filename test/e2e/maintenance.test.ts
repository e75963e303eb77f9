/**
 * Operators drain nodes, put them into maintenance and enable them again, while clients go on. What
 * they set outlives the balancer.
 */
import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { type CurlAnswer, curl, sha256 } from '../../lab/clients/curl.js';
import { Download } from '../../lab/clients/download.js';
import { converse, type Heard, type Step } from '../../lab/clients/raw-client.js';
import { Wrk } from '../../lab/clients/wrk.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { findCommand, whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { machineState } from '../../lab/probes/machine.js';
import type { AdminState, NodeDocument } from '../../src/api/documents.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const CONNECTIONS = 16;
const ROUNDS = 3;
const long = randomBytes(16_000_000);
const resources = [
  { path: '/', nodes: ['n1', 'n2', 'n3'] },
  { path: '/one/', nodes: ['n1'] },
];
const timeouts = { linger: '1s', closing: '2s' };

function fill(farm: Farm): void {
  farm.webs.forEach((web, index) => {
    web.put('a.txt', `from node ${index + 1}\n`);
    web.put('one/long.bin', long);
    web.put('one/a.txt', `from node ${index + 1}\n`);
  });
}

async function nodeOf(farm: Farm, index: number): Promise<NodeDocument> {
  return (await farm.stats()).nodes[index]!;
}

async function set(farm: Farm, node: string, state: AdminState, reason = ''): Promise<void> {
  await farm.control().change({ kind: 'node-state', node, state, reason });
}

const get = (farm: Farm, path = '/a.txt'): Promise<CurlAnswer> => curl(farm.client, BASE + path);

/** The bodies of a few requests, each once. */
async function bodies(farm: Farm): Promise<string[]> {
  const answers = await Promise.all(Array.from({ length: 12 }, () => get(farm)));
  return [...new Set(answers.map(({ body }) => body.toString()))].sort();
}

/** A client that asks once, and keeps its connection until the other side ends it. */
function keptAlive(farm: Farm, path: string): Promise<Heard> {
  const steps: Step[] = [
    { send: `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n` },
    { hear: 'HTTP/1.1 200' },
    { untilClosed: true },
  ];
  return converse(
    farm.client,
    { address: VIRTUAL_ADDRESS, port: 80, steps, timeoutMs: FILE_TIMEOUT_MS },
    FILE_TIMEOUT_MS,
  );
}

/** Connections to the virtual address that the node has. */
async function socketsOf(farm: Farm, index: number): Promise<number> {
  const filter = ['state', 'established', 'src', VIRTUAL_ADDRESS];
  const { stdout } = await farm.nodes[index]!.run('ss', ['-tnH', ...filter]);
  return stdout.split('\n').filter((line) => line !== '').length;
}

t.setTimeout(FILE_TIMEOUT_MS);

const why = whyNoFarm() || (findCommand('ss') && findCommand('wrk') ? false : 'needs ss and wrk');

t.test('nodes drain and come back under load', { skip: why }, async (t) => {
  await withFarm(t, { resources, fill, nodes: 3, balancer: { timeouts } }, async (farm) => {
    const load = { connections: CONNECTIONS, seconds: FILE_TIMEOUT_MS / 1_000 };
    const kept = new Wrk(farm.client, `${BASE}/a.txt`, load);
    const closing = new Wrk(farm.client, `${BASE}/a.txt`, { ...load, close: true });
    const adoptedBy = async (index: number): Promise<number> => (await nodeOf(farm, index)).adopted;
    const works = async (index: number): Promise<void> => {
      const before = await adoptedBy(index);
      await farm.waitFor(
        async () => (await adoptedBy(index)) > before,
        `n${index + 1} gets sessions`,
      );
    };
    for (let round = 0; round < ROUNDS; round++) {
      for (const index of [0, 1, 2]) {
        await works(index);
        await set(farm, `n${index + 1}`, 'draining', `round ${round}`);
        t.match(await nodeOf(farm, index), {
          state: 'draining',
          by: 'local',
          why: `round ${round}`,
          condition: 'up',
        });
        // Handoffs that are under way are confirmed by then.
        t.notOk((await bodies(farm)).includes(`from node ${index + 1}\n`));
        const adopted = await adoptedBy(index);
        await works((index + 1) % 3);
        t.equal(await adoptedBy(index), adopted, 'the node gets no new sessions');
        await set(farm, `n${index + 1}`, 'up');
      }
    }
    for (const wrk of [kept, closing]) {
      t.ok(wrk.running);
      const { failed, requests, errors } = await wrk.stop();
      t.equal(failed, 0, `no request of ${requests} failed: ${JSON.stringify(errors)}`);
    }
    const { counters } = await farm.stats();
    t.equal(counters.closed_maintenance, 0);

    for (const node of ['n1', 'n2', 'n3']) await set(farm, node, 'draining');
    t.equal((await get(farm)).status, 503, 'no holder is left');
    for (const node of ['n1', 'n2', 'n3']) await set(farm, node, 'up');
    t.equal((await get(farm)).status, 200);
  });
});

t.test('maintenance ends the sessions of a node', { skip: why }, async (t) => {
  await withFarm(t, { resources, fill, nodes: 3, balancer: { timeouts } }, async (farm) => {
    await t.test('a download and a silent connection end, and the node is empty', async (t) => {
      const download = new Download(farm, `${BASE}/one/long.bin`);
      await download.begun();
      const silent = keptAlive(farm, '/one/a.txt');
      await farm.waitFor(
        async () => (await farm.stats()).sessions.passing === 2,
        'both sessions pass',
      );
      t.equal(await socketsOf(farm, 0), 2);
      await set(farm, 'n1', 'maintenance', 'disk swap');
      await farm.waitFor(() => !download.running, 'the download has ended');
      t.match((await download.finish()).error, /reset/i);
      t.equal((await silent).ending, 'ECONNRESET');
      await farm.waitFor(async () => (await socketsOf(farm, 0)) === 0, 'the node has no socket');
      await farm.waitFor(async () => (await nodeOf(farm, 0)).held === 0, 'no session names n1');
      t.equal((await farm.stats()).counters.closed_maintenance, 2);
      t.equal((await get(farm, '/one/a.txt')).status, 503);
    });

    await t.test('a client that connects again is served by another node', async (t) => {
      const before = await nodeOf(farm, 0);
      t.same(await bodies(farm), ['from node 2\n', 'from node 3\n']);
      t.equal((await nodeOf(farm, 0)).adopted, before.adopted);
    });

    await t.test('under load no request fails but those of the node', async (t) => {
      await set(farm, 'n1', 'up');
      const wrk = new Wrk(farm.client, `${BASE}/a.txt`, {
        connections: CONNECTIONS,
        seconds: FILE_TIMEOUT_MS / 1_000,
      });
      await farm.waitFor(async () => (await nodeOf(farm, 0)).active > 0, 'n1 has sessions');
      const all = (await farm.stats()).counters.closed_maintenance ?? 0;
      await set(farm, 'n1', 'maintenance');
      await farm.waitFor(async () => (await nodeOf(farm, 0)).held === 0, 'no session names n1');
      const { counters } = await farm.stats();
      const ended = (counters.closed_maintenance ?? 0) - all;
      await farm.waitFor(
        async () => (await farm.stats()).sessions.passing === CONNECTIONS,
        'wrk has connected again',
      );
      const { errors } = await wrk.stop();
      t.ok(ended > 0 && ended <= CONNECTIONS, `${ended} sessions have ended`);
      const met = errors.read + errors.write;
      t.ok(met <= ended, `${met} requests met the end of their connection`);
      t.match(errors, { connect: 0, timeout: 0, status: 0 });
      await set(farm, 'n1', 'up');
      await farm.waitFor(
        async () => (await get(farm)).body.toString() === 'from node 1\n',
        'n1 gets sessions again',
      );
    });
  });
});

t.test('states outlive the balancer', { skip: why }, async (t) => {
  await withFarm(t, { resources, fill, nodes: 3, balancer: { timeouts } }, async (farm) => {
    await set(farm, 'n1', 'draining', 'slow disk');
    await set(farm, 'n2', 'maintenance');
    const states = async (): Promise<unknown[]> =>
      (await farm.stats()).nodes.map(({ state, by, why, since }) => {
        return state === 'up' ? { state } : { state, by, why, since };
      });
    const before = await states();
    t.match(before, [{ state: 'draining', why: 'slow disk' }, { state: 'maintenance' }]);
    const same = async (t: Test): Promise<void> => {
      await farm.waitFor(
        async () => (await farm.stats()).nodes.every(({ condition }) => condition === 'up'),
        'the balancer knows all nodes',
      );
      t.same(await states(), before);
      t.same(await bodies(farm), ['from node 3\n']);
    };
    await t.test('--replace', async (t) => {
      await farm.startBalancer(['--replace']);
      await same(t);
    });
    await t.test('SIGUSR2 and a start', async (t) => {
      farm.balancerProgram?.signal('SIGUSR2');
      await farm.balancerProgram?.exited;
      await farm.startBalancer();
      await same(t);
    });
    await t.test('kill -9 and a start', async (t) => {
      await farm.balancerProgram?.kill();
      await farm.startBalancer();
      await same(t);
    });
    await t.test('a stop and a start', async (t) => {
      await farm.balancerProgram?.stop();
      await farm.startBalancer();
      await same(t);
    });
    await set(farm, 'n1', 'up');
    await set(farm, 'n2', 'up');
    const { kept } = await machineState(farm.balancer);
    t.same(
      kept.filter((name) => name.includes('/nodes-')),
      [],
      'nothing is left to keep',
    );
    await farm.startBalancer(['--replace']);
    await farm.waitNodesUp();
    t.equal(sha256((await get(farm, '/one/long.bin')).body), sha256(long));
  });
});
