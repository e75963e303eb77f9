/** Which node has which bucket, what the next flows get, and which records stay. */
import t from 'tap';
import { assignParts } from '../../../src/balancer/forward/bucket-room.js';
import { ForwardKeeper } from '../../../src/balancer/forward/keeper.js';
import { picksFor } from '../../../src/balancer/forward/picks.js';
import { targetOf } from '../../../src/balancer/forward/targets.js';
import type { FarmSlots, NodeSlot, ServerSlot } from '../../../src/balancer/objects/farm.js';
import { virtualServer } from '../../../src/config/virtual-server.js';
import { Admin } from '../../../src/directory/node-memory.js';
import { ownStates } from '../../../src/directory/node-states.js';
import { FlowKind, FORWARD_SERVER, NO_NODE } from '../../../src/engine/forward/layout.js';
import {
  NO_FLOW,
  ownerOf,
  sharedForwardMemory,
  tickOf,
} from '../../../src/engine/forward/tables.js';
import { toAddress } from '../../../src/wire/address.js';

const KEY = new Uint8Array(16).fill(7);
const nodeAt = (slot: number, weight = 1): NodeSlot => ({
  slot,
  name: `n${slot}`,
  address: toAddress(0x0a00_0000 + slot),
  weight,
  retired: false,
});

function server(keys: Partial<Parameters<typeof virtualServer>[0]>): ServerSlot {
  const entry = { name: 's', address: '10.0.1.1', predictor: 'round-robin' as const, port: 80 };
  const made = virtualServer({ ...entry, mode: 'forward', ...keys }, new Map());
  return { ...made, slot: 0, retired: false, nodes: [0, 1, 2] };
}

class Fixture {
  now = 10_000_000;
  readonly states = ownStates([{ weight: 1 }, { weight: 1 }, { weight: 2 }], 4);
  readonly unresolved = new Set<number>();
  /** Slots of nodes of which nothing is known yet. */
  readonly pending: Set<number>;
  readonly keeper: ForwardKeeper;
  farm: FarmSlots;

  constructor(of: ServerSlot, pending: readonly number[] = []) {
    this.pending = new Set(pending);
    this.farm = { nodes: [nodeAt(0), nodeAt(1), nodeAt(2, 2)], servers: [of] };
    this.keeper = new ForwardKeeper({
      memory: sharedForwardMemory({ buckets: 2048, sets: 64 }),
      states: this.states,
      isResolved: (slot) => (this.pending.has(slot) ? undefined : !this.unresolved.has(slot)),
      key: KEY,
      limits: { idle: 600_000, linger: 5_000 },
      now: () => this.now,
    });
    this.keeper.require(this.farm);
    this.keeper.setFarm(this.farm);
  }

  get owners(): number[] {
    const { first, count } = this.keeper.partOf(0)!;
    return Array.from({ length: count }, (_, at) => this.keeper.tables.bucketNode(first + at));
  }

  /** A client uses every bucket. */
  /** @param ahead ticks by which the packets are later than the keeper's time */
  touch(ahead = 0): void {
    const { first, count } = this.keeper.partOf(0)!;
    for (let at = first; at < first + count; at++)
      this.keeper.tables.setBucketSeen(at, tickOf(this.now) + ahead);
  }

  /** All regular work, once. */
  work(): void {
    for (let turn = 0; turn < 4; turn++) this.keeper.work();
  }
}

t.test('a node that comes or goes moves its share of the buckets and no more', async (t) => {
  const of = (nodes: readonly NodeSlot[]) =>
    Array.from({ length: 4096 }, (_, bucket) => targetOf(bucket, nodes, 99));
  const all = of([nodeAt(0), nodeAt(1), nodeAt(2, 2)]);
  const share = (node: number): number => all.filter((each) => each === node).length / all.length;
  t.ok(Math.abs(share(0) - 0.25) < 0.03);
  t.ok(Math.abs(share(2) - 0.5) < 0.03, 'the weight counts');
  const without = of([nodeAt(0), nodeAt(2, 2)]);
  t.ok(all.every((node, bucket) => node === 1 || node === without[bucket]));
  t.equal(targetOf(1, [], 99), NO_NODE);
});

t.test('parts of the table of buckets', async (t) => {
  const wish = (slot: number, buckets: number) => ({ slot, name: `s${slot}`, buckets });
  const first = assignParts(new Map(), [wish(0, 16), wish(1, 32)], 64);
  t.same(first.get(1), { first: 0, count: 32 });
  t.same(first.get(0), { first: 32, count: 16 });
  const second = assignParts(first, [wish(0, 16), wish(2, 32)], 64);
  t.same(second.get(0), first.get(0), 'who stays keeps its part');
  t.same(second.get(2), { first: 0, count: 32 });
  t.throws(() => assignParts(second, [wish(0, 16), wish(3, 64)], 64), { code: 'BATON_CONFIG' });
});

t.test('picks are one turn of the predictor, or go to those with less', async (t) => {
  const picked = (slot: number, weight: number, load: number) => ({ slot, weight, load });
  const turn = picksFor('round-robin', [picked(4, 2, 0), picked(6, 4, 9)]);
  t.same(turn.toSorted(), [4, 6, 6]);
  const least = picksFor('least-connections', [picked(1, 1, 5), picked(2, 1, 0)]);
  t.same(least.slice(0, 5), [2, 2, 2, 2, 2]);
  t.same(picksFor('round-robin', []), []);
});

t.test('buckets move only when their node is down, gone, or they are idle', async (t) => {
  const fixture = new Fixture(server({ buckets: 1024, bucketIdle: '60s' }));
  const { keeper, states } = fixture;
  const before = fixture.owners;
  fixture.touch();
  states.setAdmin(1, Admin.draining);
  keeper.look();
  fixture.work();
  t.same(fixture.owners, before, 'draining: busy buckets stay');
  fixture.now += 70_000;
  fixture.work();
  t.notOk(fixture.owners.includes(1), 'idle ones go');
  t.ok(before.every((node, at) => node === 1 || node === fixture.owners[at]));
  states.setAdmin(1, Admin.up);
  fixture.touch();
  keeper.look();
  fixture.work();
  t.notOk(fixture.owners.includes(1), 'and come back only when they are idle again');
  fixture.now += 70_000;
  fixture.work();
  t.same(fixture.owners, before);
  fixture.touch();
  fixture.unresolved.add(0);
  keeper.look();
  t.notOk(fixture.owners.includes(0), 'down: at once');
  t.ok(before.every((node, at) => node === 0 || node === fixture.owners[at]));
});

t.test('buckets wait for nodes of which nothing is known yet', async (t) => {
  const of = server({ buckets: 1024, bucketIdle: '60s' });
  const expected = new Fixture(of).owners;
  const fixture = new Fixture(of, [0, 1, 2]);
  const { keeper, states } = fixture;
  t.same(new Set(fixture.owners), new Set([NO_NODE]));
  for (const slot of [1, 0]) {
    fixture.touch();
    fixture.pending.delete(slot);
    keeper.look();
    fixture.work();
  }
  const known = expected.map((node) => (node === 2 ? NO_NODE : node));
  t.same(fixture.owners, known, 'the others have theirs, and not those of the last one');
  fixture.touch();
  fixture.pending.delete(2);
  keeper.look();
  t.same(fixture.owners, expected, 'also when clients have come meanwhile');

  const late = new Fixture(of, [2]);
  late.pending.delete(2);
  late.unresolved.add(2);
  late.keeper.look();
  t.notOk(late.owners.includes(2), 'it is down');
  t.notOk(late.owners.includes(NO_NODE), 'so the others have its buckets');
  states.setAdmin(0, Admin.maintenance);
  fixture.pending.add(0);
  keeper.look();
  t.notOk(fixture.owners.includes(0), 'nothing waits for a node in maintenance');
});

t.test(
  'a balancer has the buckets of the earlier one, whichever node it finds first',
  async (t) => {
    const of = server({ buckets: 1024, bucketIdle: '60s' });
    const earlier = new Fixture(of);
    earlier.states.setAdmin(1, Admin.draining);
    earlier.touch();
    earlier.keeper.look();
    const before = earlier.owners;
    for (const first of [0, 1, 2]) {
      const next = new Fixture(of, [0, 1, 2]);
      next.states.setAdmin(1, Admin.draining);
      next.touch();
      next.keeper.takeOver(earlier.keeper.leave());
      for (const slot of [first, 0, 1, 2]) {
        next.pending.delete(slot);
        next.keeper.look();
        next.work();
      }
      t.same(next.owners, before, `node ${first} first`);
    }
  },
);

t.test('a removed virtual server need not wait for what it has', async (t) => {
  const buckets = new Fixture(server({ buckets: 1024 }));
  const flows = new Fixture(server({ sticky: '30m' }));
  const { tables } = flows.keeper;
  const owner = ownerOf(0, FlowKind.flow);
  const hash = tables.flowHash(7, 9, owner);
  tables.add(7, 9, owner, hash, 1, tickOf(flows.now));
  for (const fixture of [buckets, flows]) {
    const { keeper, farm } = fixture;
    const retired = { ...farm, servers: farm.servers.map((of) => ({ ...of, retired: true })) };
    if (fixture === buckets) fixture.touch();
    keeper.end(0);
    keeper.setFarm(retired);
    fixture.work();
    t.ok(keeper.heldByServer(0) > 0, 'it was in use then, or waits');
    keeper.end(0);
    t.equal(keeper.heldByServer(0), 0);
    keeper.setFarm(retired);
    if (fixture === buckets) fixture.touch();
    fixture.work();
    t.equal(keeper.heldByServer(0), 0, 'whatever still comes');
    keeper.setFarm(farm);
    t.ok(keeper.heldByServer(0) > 0, 'until it is added again');
  }
  t.equal(tables.find(7, 9, owner, hash), NO_FLOW);
  t.equal(flows.keeper.tables.serverWord(0, FORWARD_SERVER.flags), 1);
  t.same(new Set(buckets.owners), new Set([0, 1, 2]));
});

t.test('what the kernel has used after the keeper read the clock is not idle', async (t) => {
  const buckets = new Fixture(server({ buckets: 1024, bucketIdle: '60s' }));
  const owners = buckets.owners;
  buckets.states.setAdmin(1, Admin.draining);
  buckets.touch(1);
  buckets.keeper.look();
  buckets.work();
  t.same(buckets.owners, owners, 'a busy bucket stays');

  const flows = new Fixture(server({}));
  const { tables } = flows.keeper;
  const owner = ownerOf(0, FlowKind.flow);
  const hash = tables.flowHash(7, 9, owner);
  tables.add(7, 9, owner, hash, 1, tickOf(flows.now) + 1);
  flows.work();
  t.not(tables.find(7, 9, owner, hash), NO_FLOW, 'and so does a flow');
});

t.test('records of flows end by their idle times', async (t) => {
  const fixture = new Fixture(server({ sticky: '30m' }));
  const { keeper } = fixture;
  const { tables } = keeper;
  const add = (client: number, kind: number): (() => boolean) => {
    const owner = ownerOf(0, kind);
    const ports = kind === FlowKind.sticky ? 0 : 0x1000_0050;
    const hash = tables.flowHash(client, ports, owner);
    tables.add(client, ports, owner, hash, 1, tickOf(fixture.now));
    return () => tables.find(client, ports, owner, hash) !== NO_FLOW;
  };
  const opening = add(1, FlowKind.flow);
  const sticky = add(2, FlowKind.sticky);
  const fragment = add(3, FlowKind.fragment);
  fixture.work();
  t.same([opening(), sticky(), fragment()], [true, true, true]);
  t.equal(keeper.flowsOfServer(0), 1);
  t.equal(keeper.heldByNode(1), 1);
  fixture.now += 40_000;
  fixture.work();
  t.same([opening(), sticky(), fragment()], [true, true, false]);
  fixture.now += 60_000;
  fixture.work();
  t.same([opening(), sticky()], [false, true]);
  t.equal(keeper.heldByNode(1), 0);
  fixture.now += 1_900_000;
  fixture.work();
  t.equal(sticky(), false);
});

t.test('a virtual server that is gone forwards nothing', async (t) => {
  const fixture = new Fixture(server({}));
  const { keeper } = fixture;
  t.not(keeper.tables.serverWord(0, FORWARD_SERVER.flags), 0);
  keeper.setFarm({ ...fixture.farm, servers: [] });
  t.equal(keeper.tables.serverWord(0, FORWARD_SERVER.flags), 0);
  t.equal(keeper.heldByServer(0), 0);
});
