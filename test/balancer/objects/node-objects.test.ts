/** The state of a node as people see it, and how operators set it. */
import t from 'tap';
import type { NodeSource } from '../../../src/api/documents.js';
import type { NodeStatus } from '../../../src/balancer/node-state.js';
import type { NodeSlot } from '../../../src/balancer/objects/farm.js';
import { type NodeChange, NodeObjects } from '../../../src/balancer/objects/node-objects.js';
import { shown } from '../../../src/balancer/objects/node-shown.js';
import type { OperatorState } from '../../../src/balancer/objects/operator-states.js';
import type { Log } from '../../../src/base/log.js';
import { Admin } from '../../../src/directory/node-memory.js';
import { ownStates } from '../../../src/directory/node-states.js';
import { type Address, toAddress } from '../../../src/wire/address.js';

const UP: NodeStatus = { condition: 'up', why: '' };
const LOST: NodeStatus = { condition: 'unresolved', why: 'no ARP answer' };
const NO_COUNTS = { active: 0, adopted: 0 };

const nodeAt = (slot: number, name: string, retired = false): NodeSlot => ({
  slot,
  name,
  address: toAddress(100 + slot),
  weight: retired ? 0 : 1,
  retired,
});

function objectsOf({ count = 1, kept = new Map<Address, OperatorState>(), full = false } = {}) {
  const nodes = Array.from({ length: count }, (_, slot) => nodeAt(slot, `n${slot + 1}`));
  const states = ownStates(nodes);
  const found: NodeStatus[] = nodes.map(() => UP);
  const lines: string[] = [];
  const say = (level: string) => (text: string) => void lines.push(`${level} ${text}`);
  const log: Log = {
    error: say('error'),
    warn: say('warn'),
    info: say('info'),
    debug: say('debug'),
  };
  const time = { now: 0 };
  const ended: number[] = [];
  const objects = new NodeObjects({
    nodes,
    states,
    finder: {
      status: (slot) => found[slot] ?? LOST,
      hasLooked: () => true,
      mac: () => null,
      reportAgeMs: () => null,
    },
    log,
    now: () => time.now,
    kept: {
      of: (address) => kept.get(address),
      save: (all) => {
        if (full) throw new Error('no space left on device');
        kept.clear();
        for (const { address, operator } of all) {
          if (operator !== undefined) kept.set(address, operator);
        }
      },
    },
    endSessions: (slot) => ended.push(slot),
  });
  const changes: NodeChange[] = [];
  objects.onChange((change) => changes.push(change));
  return {
    objects,
    states,
    kept,
    time,
    ended,
    changes,
    nodes,
    find: (slot: number, status: NodeStatus) => {
      found[slot] = status;
      objects.look(slot);
    },
    said: () => lines.splice(0),
  };
}

t.test('the worst state is shown', async (t) => {
  const is = (state: NodeSource['state']): NodeSource => ({
    source: state,
    state,
    by: state,
    why: `it is ${state}`,
    since: 0,
  });
  const order = ['up', 'draining', 'down', 'maintenance'] as const;
  for (const [rank, worse] of order.entries()) {
    for (const better of order.slice(0, rank)) {
      t.match(shown([is(better), is(worse)]), { state: worse, why: `it is ${worse}` });
      t.match(shown([is(worse), is(better)]), { state: worse, by: worse });
    }
  }
  t.same(shown([is('up'), { ...is('up'), by: 'balancer', why: 'late' }]), {
    state: 'up',
    by: 'up',
    why: 'it is up; late',
  });
});

t.test('an operator drains a node that then cannot be reached, and enables it', async (t) => {
  const { objects, states, find, said, changes } = objectsOf();
  t.same(said(), ['info node n1 is up']);
  const before = Date.now();
  t.same(objects.setState('n1', 'draining', 'local', 'disk swap'), [
    'node n1 is draining: disk swap',
  ]);
  t.equal(states.admin(0), Admin.draining);
  t.same(said(), ['info node n1 is draining by local: disk swap']);
  const draining = objects.document(0, NO_COUNTS);
  t.match(draining, { state: 'draining', by: 'local', why: 'disk swap', condition: 'up' });
  t.ok((draining?.since ?? 0) >= before);
  find(0, LOST);
  t.same(said(), ['warn node n1 is down (unresolved): no ARP answer']);
  t.match(objects.document(0, NO_COUNTS), {
    state: 'down',
    by: 'balancer',
    why: 'no ARP answer',
    condition: 'unresolved',
    sources: [
      { source: 'operator', state: 'draining', by: 'local', why: 'disk swap' },
      { source: 'balancer', state: 'down', by: 'balancer', why: 'no ARP answer' },
    ],
  });
  find(0, UP);
  said();
  t.same(objects.setState('n1', 'up', 'token-7'), ['node n1 is up']);
  t.equal(states.admin(0), Admin.up);
  t.same(said(), ['info node n1 is up by token-7']);
  find(0, LOST);
  find(0, UP);
  t.same(said(), ['warn node n1 is down (unresolved): no ARP answer', 'info node n1 is up']);
  t.same(
    changes.map(({ state, by }) => `${state} by ${by}`),
    [
      'draining by local',
      'down by balancer',
      'draining by local',
      'up by token-7',
      'down by balancer',
      'up by token-7',
    ],
  );
});

t.test('maintenance outranks what the balancer finds, and ends sessions', async (t) => {
  const { objects, states, find, ended, said } = objectsOf({ count: 2 });
  said();
  objects.setState('n2', 'maintenance', 'local');
  t.equal(states.admin(1), Admin.maintenance);
  t.same(ended, [1]);
  t.same(said(), ['info node n2 is in maintenance by local']);
  const { since } = objects.document(1, NO_COUNTS) ?? {};
  find(1, LOST);
  t.match(objects.document(1, NO_COUNTS), {
    state: 'maintenance',
    by: 'local',
    condition: 'unresolved',
    since,
  });
  t.match(objects.document(0, NO_COUNTS), { state: 'up', by: 'config' });
});

t.test('the same again changes nothing, and another reason does not change since', async (t) => {
  const { objects, changes } = objectsOf();
  t.same(objects.setState('n1', 'up', 'local'), []);
  objects.setState('n1', 'draining', 'local', 'one');
  const { since } = objects.document(0, NO_COUNTS) ?? {};
  t.same(objects.setState('n1', 'draining', 'local', 'one'), []);
  t.same(objects.setState('n1', 'draining', 'ops', 'two'), ['node n1 is draining: two']);
  t.match(objects.document(0, NO_COUNTS), { by: 'ops', why: 'two', since });
  t.equal(changes.length, 2);
});

t.test('states are kept and come back, and the sessions of an earlier run end', async (t) => {
  const first = objectsOf({ count: 2 });
  first.objects.setState('n1', 'draining', 'local', 'disk');
  first.objects.setState('n2', 'maintenance', 'ops');
  const second = objectsOf({ count: 2, kept: first.kept });
  t.same(
    [0, 1].map((slot) => second.states.admin(slot)),
    [Admin.draining, Admin.maintenance],
  );
  t.same(second.ended, [1]);
  const [before, after] = [first, second].map(({ objects }) => objects.document(0, NO_COUNTS));
  t.match(after, { state: 'draining', by: 'local', why: 'disk', since: before?.since });
  t.same(second.said(), [
    'info node n1 is draining by local: disk',
    'info node n2 is in maintenance by ops',
  ]);
});

t.test('a state that cannot be kept is in force, and the log says so', async (t) => {
  const { objects, states, said } = objectsOf({ full: true });
  said();
  objects.setState('n1', 'draining', 'local');
  t.equal(states.admin(0), Admin.draining);
  t.match(said(), ['warn states of nodes will not survive a restart: no space left on device']);
});

t.test('mistakes are refused and change nothing', async (t) => {
  const { objects, states, said, changes } = objectsOf();
  said();
  const state = (name: string, to: string, reason = '') =>
    objects.setState(name, to as 'up', 'local', reason);
  t.throws(() => state('n9', 'up'), { code: 'BATON_UNKNOWN' });
  t.throws(() => state('n1', 'down'), { code: 'BATON_REQUEST', hint: /up, draining, maintenance/ });
  t.throws(() => state('n1', 'draining', 'x'.repeat(201)), { code: 'BATON_REQUEST' });
  t.throws(() => state('n1', 'draining', 'two\nlines'), { code: 'BATON_REQUEST' });
  t.throws(() => state('n1', 'draining', '\u001b[2J'), { code: 'BATON_REQUEST' });
  t.equal(states.admin(0), Admin.up);
  t.same([changes, said()], [[], []]);
});

t.test('a node that changes all the time does not fill the log', async (t) => {
  const { find, time, said, changes } = objectsOf();
  said();
  for (let change = 0; change < 300; change++) {
    time.now += 100;
    find(0, change % 2 === 0 ? LOST : UP);
  }
  const lines = said();
  t.ok(lines.length >= 2 && lines.length <= 20, `${lines.length} lines for 300 changes in 30 s`);
  t.equal(changes.length, 300, 'listeners get each');
  find(0, LOST);
  time.now += 10_000;
  find(0, LOST);
  t.match([...lines, ...said()].at(-1), /is down \(unresolved\)/);
});

t.test('another farm: names change, nodes go and come', async (t) => {
  const { objects, kept, states, nodes, said } = objectsOf({ count: 2 });
  objects.setState('n1', 'draining', 'local');
  objects.setState('n2', 'maintenance', 'local');
  said();
  objects.setFarm([{ ...nodes[0]!, name: 'first' }, nodeAt(1, 'n2', true)]);
  t.match(objects.document(0, NO_COUNTS), { name: 'first', state: 'draining' });
  t.throws(() => objects.setState('n2', 'up', 'local'), { code: 'BATON_UNKNOWN' }, 'it is retired');
  t.equal(states.admin(1), Admin.maintenance, 'its sessions go on ending');
  objects.setFarm([{ ...nodes[0]!, name: 'first' }]);
  t.equal(objects.document(1, NO_COUNTS), undefined);
  t.equal(kept.has(nodes[1]!.address), false, 'its state is forgotten');
  states.clearSlot(1);
  objects.setFarm([...nodes]);
  t.match(objects.document(1, NO_COUNTS), { name: 'n2', state: 'up', by: 'config' });
});

t.test('a node that was removed and comes back has no state of an operator', async (t) => {
  const { objects, kept, states, nodes } = objectsOf({ count: 2 });
  objects.setState('n2', 'draining', 'local');
  objects.setFarm([nodes[0]!, nodeAt(1, 'n2', true)]);
  objects.setFarm([...nodes]);
  t.match(objects.document(1, NO_COUNTS), { name: 'n2', state: 'up' });
  t.equal(states.admin(1), Admin.up);
  t.equal(kept.has(nodes[1]!.address), false);
});
