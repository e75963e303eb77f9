/** Several engine threads as one: their start data, and the sum of their answers. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t, { type Test } from 'tap';
import { httpServer, serverSlot } from '../../../lab/virtual-server.js';
import type { Farm, NodeSlot, ServerSlot } from '../../../src/balancer/objects/farm.js';
import { farmMemory, farmStates, writeFarm } from '../../../src/balancer/objects/farm-states.js';
import type { EngineListener } from '../../../src/balancer/threads/engine-handle.js';
import { EnginePool, type PoolOptions } from '../../../src/balancer/threads/engine-pool.js';
import { shareOfLimits } from '../../../src/balancer/threads/limits.js';
import { NodeCounter, ObjectCounters, ServerCounter } from '../../../src/base/object-counters.js';
import type { NodeStates } from '../../../src/directory/node-states.js';
import { sessionHash, sessionWorker } from '../../../src/engine/table/session-record.js';
import { requireAddress } from '../../../src/wire/address.js';
import { IxcpFlag } from '../../../src/wire/ixcp.js';

const LIMITS = {
  sessions: 10,
  halfOpen: 5,
  headBytes: 100,
  heads: 3,
  handoffTries: 2,
  synAckTries: 5,
};

const SEEDS = { client: 0x1234_5678, port: 0x0bad_cafe, nonce: 0 };

/**
 * A thread that answers like an engine. `slots` lists the slots of its sessions; the row of each is
 * "worker.slot".
 */
const ENGINE = `
import { parentPort, workerData } from 'node:worker_threads';
const { worker, workers, limits, counters, slots } = workerData;
new Float64Array(counters)[0] = 100 ** worker;
new Float64Array(counters)[1] = 1;
let macs = 0;
let prepared = 0;
let current = workerData.farm.generation;
parentPort.on('message', (message) => {
  const { kind, id } = message;
  if (kind === 'neighbour') macs += message.mac === null ? 0 : message.mac[0];
  if (kind === 'stop') parentPort.close();
  if (kind === 'sessions') {
    const from = slots[worker].filter((slot) => slot >= message.after);
    const sessions = from.slice(0, message.limit).map((slot) => worker + '.' + slot);
    const page = { sessions, total: slots[worker].length, next: from[message.limit] ?? null };
    parentPort.postMessage({ kind, id, page });
  }
  if (kind === 'explain') {
    const known = message.question.generation === current;
    const answer = known ? { node: worker, holders: [] } : undefined;
    parentPort.postMessage({ kind: 'explained', id, answer });
  }
  if (kind === 'snapshot') {
    const node = (index) => ({
      active: 10 ** worker * (index + 1), adopted: worker + 1,
    });
    const snapshot = {
      nodes: [node(0), node(1)], inState: [0, worker, macs], perServer: [limits.sessions],
      heldByServer: [current, prepared], ring: [1, 2 * worker],
    };
    parentPort.postMessage({ kind, id, snapshot });
  }
  if (kind === 'prepare') {
    const cannot = message.farm.generation === 13 && worker === 1;
    prepared = message.farm.generation;
    const fault = cannot
      ? { name: 'BatonError', code: 'BATON_IN_USE', message: 'sessions have it', where: 'slot 7' }
      : undefined;
    parentPort.postMessage({ kind: 'prepared', id, fault });
  }
  if (kind === 'commit') {
    current = prepared;
    parentPort.postMessage({ kind: 'committed', id });
  }
  if (kind === 'discard') {
    prepared = 0;
    parentPort.postMessage({ kind: 'discarded', id });
  }
  if (kind === 'neighbour' && message.node === 99) throw new Error('a fault of thread ' + worker);
});
if (workerData.fails === worker) throw new Error('no ring for ' + worker);
parentPort.postMessage({ kind: 'ready', takenOver: worker + 1 });
`;

const NODE = {
  slot: 0,
  name: 'n1',
  address: requireAddress('10.99.0.3'),
  weight: 4,
  retired: false,
};
const SERVER: ServerSlot = serverSlot(2, httpServer('www', requireAddress('10.99.0.100'), 80));

function farmOf(
  generation: number,
  nodes: readonly NodeSlot[] = [NODE],
  servers: readonly ServerSlot[] = [SERVER],
): Farm {
  return { generation, nodes, servers } as Farm;
}

interface Made {
  pool: EnginePool;
  states: NodeStates;
  died: Promise<string>;
}

async function make(
  t: Test,
  slots: readonly (readonly number[])[],
  more: object = {},
): Promise<Made> {
  const directory = mkdtempSync(join(tmpdir(), 'baton-pool-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'engine.mjs');
  writeFileSync(file, ENGINE);
  let tell: (reason: string) => void = () => {};
  const died = new Promise<string>((resolve) => {
    tell = resolve;
  });
  const listener: EngineListener = { event: () => {}, died: (reason) => tell(reason) };
  const nodes = farmMemory(slots.length);
  writeFarm(farmStates(nodes, slots.length), farmOf(1));
  const datapath = { seeds: SEEDS };
  const key = new Uint8Array(16);
  const given = { farm: farmOf(1), limits: LIMITS, key, nodes, slots, datapath, ...more };
  const program = pathToFileURL(file);
  const pool = await EnginePool.start({
    program,
    workers: slots.length,
    given: given as unknown as PoolOptions['given'],
    listener,
  });
  t.teardown(() => pool.stop());
  return { pool, died, states: farmStates(nodes, slots.length) };
}

/** Reads all pages of `limit` rows: the rows and the totals of each page. */
async function pages(
  pool: EnginePool,
  limit: number,
): Promise<{ rows: unknown[][]; totals: number[] }> {
  const rows: unknown[][] = [];
  const totals: number[] = [];
  for (let after: number | null = 0; after !== null; ) {
    const page = await pool.sessions(after, limit);
    rows.push(page.sessions);
    totals.push(page.total);
    if (page.next !== null && page.next <= after)
      throw new Error(`from ${after} on to ${page.next}`);
    after = page.next;
  }
  return { rows, totals };
}

t.test('the shares of a limit add up to no less than the limit', async (t) => {
  t.same(shareOfLimits(LIMITS, 1), LIMITS);
  t.same(shareOfLimits(LIMITS, 4), { ...LIMITS, sessions: 3, halfOpen: 2, heads: 1 });
  t.same(shareOfLimits(LIMITS, 8), { ...LIMITS, sessions: 2, halfOpen: 1, heads: 1 });
  const few = { sessions: 9, halfOpen: 2, headBytes: 9 };
  t.same(shareOfLimits(few, 2), { sessions: 5, halfOpen: 1, headBytes: 9 });
});

t.test('threads start and answer as one', async (t) => {
  const { pool } = await make(t, [[], [], []]);
  pool.setNeighbour(0, Uint8Array.of(2, 0, 0, 0, 0, 1));
  pool.setNeighbour(1, undefined);
  const snapshot = await pool.snapshot();
  t.same(snapshot, {
    nodes: [
      { active: 111, adopted: 6 },
      { active: 222, adopted: 6 },
    ],
    inState: [0, 3, 6],
    perServer: [12],
    heldByServer: [3, 0],
    ring: [3, 6],
  });
  t.equal(pool.takenOver, 6);
  t.match(pool.counters(), { frames: 10_101, forwarded: 3, sent: 0 });
  t.same(
    pool.stages().map(({ worker, frames }) => [worker, frames]),
    [
      [0, 0],
      [1, 0],
      [2, 0],
    ],
  );
});

t.test('pages of sessions continue from thread to thread', async (t) => {
  const { pool } = await make(t, [[0, 2, 3], [], [1]]);
  const all = ['0.0', '0.2', '0.3', '2.1'];
  t.same(await pages(pool, 10), { rows: [all], totals: [4] });
  t.same(await pages(pool, 1), { rows: all.map((row) => [row]), totals: [4, 4, 4, 4] });
  t.same((await pages(pool, 2)).rows, [all.slice(0, 2), all.slice(2)]);
  t.same(
    (await pages(pool, 3)).rows,
    [all.slice(0, 3), all.slice(3)],
    'the next page begins in another thread',
  );
  t.same(await pool.sessions(1000, 5), { sessions: [], total: 4, next: null });
  const none = await make(t, [[], []]);
  t.same(await pages(none.pool, 5), { rows: [[]], totals: [0] });
  const first = await make(t, [[3], [0]]);
  t.same((await pages(first.pool, 1)).rows, [['0.3'], ['1.0']], 'a slot 0');
});

t.test('a change takes effect in all threads, or in none', async (t) => {
  const { pool, states } = await make(t, [[], [], []]);
  const generations = async (): Promise<number[]> => (await pool.snapshot()).heldByServer;
  await pool.change(farmOf(5, [{ ...NODE, weight: 9 }]));
  t.same(await generations(), [15, 15]);
  t.equal(states.weight[0], 9);
  await t.rejects(pool.change(farmOf(13, [{ ...NODE, weight: 1 }])), {
    name: 'BatonError',
    code: 'BATON_IN_USE',
    message: 'sessions have it',
    where: 'slot 7',
  });
  t.same(await generations(), [15, 0], 'what was prepared is forgotten');
  t.equal(states.weight[0], 9);
  await pool.change(farmOf(14, [{ ...NODE, weight: 2, retired: true }]));
  t.same(await generations(), [42, 42]);
  t.equal(states.weight[0], 0, 'a retired node has no weight');
});

t.test('a slot with another address knows nothing of its earlier owner', async (t) => {
  const { pool, states } = await make(t, [[]]);
  const other = { ...NODE, slot: 7, address: requireAddress('10.99.0.4') };
  const spare = { ...SERVER, slot: 9, port: 81 };
  await pool.change(farmOf(2, [NODE, other], [SERVER, spare]));
  for (const node of [0, 7]) {
    states.reported(node, 1, 1, IxcpFlag.leaving, 5);
    states.setLacks(node, 2, true);
    states.setLacks(node, 9, true);
  }
  const changed = { ...other, address: requireAddress('10.99.0.5') };
  await pool.change(farmOf(3, [NODE, changed], [SERVER, { ...spare, port: 82 }]));
  t.equal(states.reportedAt[0], 5, 'the node that stays is as it was');
  t.equal(states.reportedAt[7], -1);
  t.same(
    [2, 9].map((server) => states.health(0, 0).lacks[server]),
    [1, 0],
    'slot 9 is new',
  );
  t.same([states.weight[7], states.able[7]], [NODE.weight, 1]);
  await pool.change(farmOf(4, [NODE], [SERVER]));
  t.equal(states.weight[7], 0);
});

t.test('if one thread cannot start, those that did end', async (t) => {
  await t.rejects(make(t, [[], [], []], { fails: 2 }), /no ring for 2/);
});

t.test('the end of one thread is reported', async (t) => {
  const { pool, died } = await make(t, [[], []]);
  pool.setNeighbour(99, undefined);
  t.match(await died, /a fault of thread/);
});

t.test('a question about a request goes to the thread that owns the client', async (t) => {
  const { pool } = await make(t, [[], [], []]);
  t.equal(pool.workers, 3);
  const question = { generation: 1, resource: 0, server: 2 };
  const client = requireAddress('192.0.2.7');
  const workers = new Set<number>();
  for (let port = 40_000; port < 40_050; port++) {
    const worker = pool.workerOf(client, port, question.server);
    const hash = sessionHash(client, ((port << 16) | 2) >>> 0, SEEDS.client, SEEDS.port);
    t.equal(worker, sessionWorker(hash, 3));
    t.same(await pool.explain(worker, question), { node: worker, holders: [] });
    workers.add(worker);
  }
  t.equal(workers.size, 3, 'the port decides');
  t.equal(await pool.explain(0, { ...question, generation: 9 }), undefined, 'of another farm');
});

t.test('the counters of a slot begin again when another node or server takes it', async (t) => {
  const { pool } = await make(t, [[], []]);
  const [, objects] = pool.objects;
  const seen = (): number[] => [
    ...[0, 1].map((slot) => ObjectCounters.ofNode(pool.objects, slot).adopted),
    ObjectCounters.ofServer(pool.objects, SERVER.slot).requests,
  ];
  for (const slot of [0, 1]) objects?.countNode(slot, NodeCounter.adopted);
  objects?.countServer(SERVER.slot, ServerCounter.requests);
  await pool.change(farmOf(2));
  t.same(seen(), [1, 1, 1], 'the same owners');
  const other = { ...NODE, address: requireAddress('10.99.0.99') };
  await pool.change(farmOf(3, [other], [{ ...SERVER, port: 8080 }]));
  t.same(seen(), [0, 1, 0], 'the slot 1 has had no owner');
});
