/**
 * What the main thread does with the states of nodes: it logs each change, for the worse and for
 * the better, and decides which options are offered.
 */
import t from 'tap';
import { httpServer, serverSlot } from '../../lab/virtual-server.js';
import { NodeWatch } from '../../src/balancer/node-watch.js';
import { type FarmSlots, firstSlots, type NodeSlot } from '../../src/balancer/objects/farm.js';
import { NodeObjects } from '../../src/balancer/objects/node-objects.js';
import type { Log } from '../../src/base/log.js';
import { ownStates } from '../../src/directory/node-states.js';
import { inSlots } from '../../src/engine/farm.js';
import { NodeTable } from '../../src/engine/node-table.js';
import { requireAddress, toAddress } from '../../src/wire/address.js';
import { IxcpFlag, IxcpReason } from '../../src/wire/ixcp.js';
import { IxpFlag } from '../../src/wire/ixp.js';

const OK = IxcpFlag.canAdopt;
const WWW = httpServer('www', requireAddress('10.99.0.100'), 80);
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);

function watchOf(count: number, earlier?: number) {
  const farm = Array.from({ length: count }, (_, index) => ({ address: index + 1, weight: 1 }));
  const states = ownStates(farm);
  const nodes = new NodeTable(inSlots(farm), states);
  const lines: string[] = [];
  const say = (level: string) => (text: string) => void lines.push(`${level} ${text}`);
  const log: Log = {
    error: say('error'),
    warn: say('warn'),
    info: say('info'),
    debug: say('debug'),
  };
  const withheld: number[] = [];
  const time = { now: 1_000_000 };
  const farmSlots = firstSlots({
    nodes: Array.from({ length: count }, (_, slot) => ({
      name: `n${slot + 1}`,
      address: toAddress(slot + 1),
      weight: 1,
    })),
    virtualServers: [WWW],
  });
  const watch = new NodeWatch({
    farm: farmSlots,
    states,
    withheld: nodes.withheld,
    log,
    now: () => time.now,
    onWithheld: (options) => withheld.push(options),
    earlier,
  });
  const objects = new NodeObjects({
    nodes: farmSlots.nodes,
    states,
    finder: watch,
    log,
    now: () => time.now,
    kept: undefined,
    endSessions: () => {},
  });
  watch.onLook = (slot) => objects.look(slot);
  let clock = 0;
  return {
    watch,
    objects,
    nodes,
    states,
    lines,
    withheld,
    time,
    resolve: () => {
      for (let node = 0; node < count; node++) watch.neighbour({ node, mac: MAC, why: '' });
    },
    report: (node: number, flags: number) => {
      states.reported(node, 7, ++clock, flags, time.now);
      watch.look();
    },
    said: () => lines.splice(0),
    setFarm: (slots: FarmSlots) => {
      watch.setFarm(slots);
      objects.setFarm(slots.nodes);
    },
  };
}

t.test('a refusal and the recovery are logged once each', async (t) => {
  const { watch, states, time, resolve, report, said } = watchOf(1);
  resolve();
  t.same(said(), ['info node n1 is at 02:00:00:00:00:01', 'info node n1 is up']);
  report(0, OK);
  for (let i = 0; i < 5; i++) {
    states.handoffRefused(0, 0, IxcpReason.noListener, time.now);
    watch.engine({ event: 'refused', node: 0, reason: IxcpReason.noListener });
  }
  t.same(said(), [
    'warn node n1 is down (refusing): refused the last handoff of www (port 80): nothing listens there',
  ]);
  t.equal(watch.status(0).condition, 'refusing');
  states.handoffConfirmed(0, 0);
  watch.look();
  t.same(said(), ['info node n1 is up']);
  t.same(watch.status(0), { condition: 'up', why: '' });
});

t.test('an event about one connection is logged, and changes no state', async (t) => {
  const { watch, states, time, resolve, report, said } = watchOf(1);
  resolve();
  report(0, OK);
  said();
  states.handoffRefused(0, 0, IxcpReason.tupleInUse, time.now);
  watch.engine({ event: 'refused', node: 0, reason: IxcpReason.tupleInUse });
  t.same(said(), [
    'warn node n1 refused a handoff: an older connection of the same client port could not be removed',
  ]);
  t.equal(watch.status(0).condition, 'up');
});

t.test(
  'a report under another key does not mean that the agent left, and a valid report ends it',
  async (t) => {
    const { watch, states, time, resolve, report, said } = watchOf(1);
    resolve();
    report(0, OK);
    report(0, OK | IxcpFlag.leaving);
    t.match(
      said().at(-1),
      /^info node n1 is down \(leaving\): its agent is stopping or has stopped/,
    );
    time.now += 4_000;
    states.otherKeyReported(0, time.now);
    watch.engine({ event: 'changed', node: 0 });
    t.match(said(), [/^warn node n1 is down \(unable\): its agent has another key/]);
    time.now += 100_000;
    watch.look();
    t.equal(watch.status(0).condition, 'unable', 'until a valid report arrives');
    report(0, OK);
    t.same(said(), ['info node n1 is up']);
  },
);

t.test(
  'time passes: an agent that never reports, one that stops reporting, a suspension',
  async (t) => {
    const { watch, states, time, resolve, report, said } = watchOf(2);
    resolve();
    report(0, OK);
    said();
    time.now += 3_600;
    watch.look();
    t.match(said(), [
      /^warn node n2 is up \(unheard\): its agent has never reported: .*`balancers` does not list this balancer$/,
    ]);
    time.now += 2_000;
    watch.look();
    t.same(said(), ['warn node n1 is up, but: its agent no longer reports']);
    report(0, OK);
    for (let i = 0; i < 3; i++) states.handoffTimedOut(0, time.now);
    watch.engine({ event: 'silent', node: 0 });
    t.match(said(), [
      'info node n1 is up',
      'warn node n1 is down (suspended): did not answer the last handoff',
    ]);
    time.now += 4_500;
    report(0, OK);
    time.now += 600;
    watch.look();
    t.same(
      said(),
      ['warn node n1 is up, but: did not answer the last handoff'],
      'the node may be tried again',
    );
    states.handoffConfirmed(0, 0);
    watch.look();
    t.same(said(), ['info node n1 is up']);
  },
);

t.test(
  'a node that changes all the time does not fill the log, and its last state is logged',
  async (t) => {
    const { states, time, resolve, report, said } = watchOf(1);
    resolve();
    report(0, OK);
    said();
    for (let i = 0; i < 300; i++) {
      if (i % 2 === 0) states.handoffRefused(0, 0, IxcpReason.noListener, time.now);
      else states.handoffConfirmed(0, 0);
      time.now += 100;
      report(0, OK);
    }
    const lines = said();
    t.ok(lines.length >= 2 && lines.length <= 20, `${lines.length} lines for 300 changes in 30 s`);
    states.handoffRefused(0, 0, IxcpReason.noListener, time.now);
    for (let second = 0; second < 11; second++) {
      time.now += 1_000;
      report(0, OK);
    }
    t.match([...lines, ...said()].at(-1), /is down \(refusing\)/);
  },
);

t.test('SYN/ACKs offer what every node can continue with', async (t) => {
  const { watch, nodes, states, withheld, resolve, report } = watchOf(2);
  const { timestampsOk, windowScaleOk } = IxpFlag;
  t.same(withheld, [windowScaleOk | timestampsOk], 'before any report');
  t.match(watch.notOffered()[0], /^timestamps: not all nodes have reported yet$/);
  resolve();
  report(0, OK);
  t.equal(nodes.withheld.current, windowScaleOk | timestampsOk, 'one report is missing');
  report(1, OK);
  t.equal(nodes.withheld.current, 0);
  report(1, OK | IxcpFlag.noTimestamps | IxcpFlag.noSack);
  t.equal(nodes.withheld.current, timestampsOk, 'a session can continue without SACK');
  t.equal(nodes.omittedOptions(1), IxpFlag.sackOk);
  t.same(watch.notOffered(), ['timestamps: net.ipv4.tcp_timestamps is 0 on n2']);
  report(1, OK | IxcpFlag.noTimestamps | IxcpFlag.leaving);
  t.equal(nodes.withheld.current, 0, 'the node gets no more handoffs');
  report(1, IxcpFlag.noCookies | IxcpFlag.noTimestamps);
  t.equal(nodes.withheld.current, 0, 'the node cannot adopt');
  report(1, OK | IxcpFlag.noTimestamps);
  states.setLacks(1, 0, true);
  watch.look();
  t.equal(nodes.withheld.current, 0, 'the node lacks the virtual address');
  t.same(
    withheld,
    [5, 0, 4, 0, 4, 0].filter((value, index, all) => value !== all[index - 1]),
  );
});

t.test(
  'a node that never reports delays no option for long, and options of an earlier run stay',
  async (t) => {
    const first = watchOf(2);
    first.resolve();
    first.report(0, OK);
    first.time.now += 1_600;
    first.watch.look();
    t.equal(first.nodes.withheld.current, 0);
    const second = watchOf(2, IxpFlag.timestampsOk);
    t.same(second.withheld, [IxpFlag.timestampsOk]);
    second.resolve();
    second.report(0, OK);
    t.equal(second.nodes.withheld.current, IxpFlag.timestampsOk, 'until all nodes have reported');
    second.report(1, OK);
    t.equal(second.nodes.withheld.current, 0);
  },
);

t.test('nodes come and go, and a slot gets another node', async (t) => {
  const { watch, states, time, resolve, report, said, setFarm } = watchOf(2);
  const node = (slot: number, name: string, address: number, retired = false): NodeSlot => ({
    slot,
    name,
    address: toAddress(address),
    weight: 1,
    retired,
  });
  const farm = (...nodes: NodeSlot[]): FarmSlots => ({
    nodes,
    servers: [serverSlot(0, WWW)],
  });
  resolve();
  report(0, OK);
  report(1, OK | IxcpFlag.noTimestamps);
  time.now += 10_000;
  report(0, OK);
  report(1, OK | IxcpFlag.noTimestamps);
  said();
  t.match(watch.notOffered(), [/timestamps is 0 on n2$/]);

  setFarm(farm(node(0, 'first', 1), node(1, 'n2', 2, true)));
  t.match(watch.status(0), { condition: 'up' }, 'another name in the same slot');
  t.match(watch.status(1), { condition: 'removed' });
  t.equal(watch.mac(1), '02:00:00:00:00:01', 'its sessions go on');
  watch.look();
  t.same(watch.notOffered(), [], 'it gets no handoffs, so its options do not count');
  watch.engine({ event: 'silent', node: 1 });
  t.same(said(), []);

  setFarm(farm(node(0, 'first', 1), node(1, 'n2', 2)));
  t.match(watch.notOffered(), []);
  watch.look();
  t.match(watch.notOffered(), [/timestamps is 0 on n2$/], 'added again: what is known counts');
  said();

  setFarm(farm(node(1, 'n9', 9)));
  t.match(watch.status(0), { condition: 'removed' }, 'gone');
  t.equal(watch.mac(0), null);
  t.equal(watch.mac(1), null, 'another node in the slot');
  t.match(watch.status(1), { condition: 'unresolved', why: 'not looked for yet' });
  watch.neighbour({ node: 0, mac: MAC, why: '' });
  watch.engine({ event: 'refused', node: 0, reason: IxcpReason.tupleInUse });
  t.same(said(), [], 'late news of a node that is gone');
  states.reportedAt[1] = -1;
  watch.neighbour({ node: 1, mac: MAC, why: '' });
  t.same(said(), ['info node n9 is at 02:00:00:00:00:01', 'info node n9 is up']);
  time.now += 3_600;
  watch.look();
  t.match(said(), [/^warn node n9 is up \(unheard\): /], 'not before an agent had time to report');
});
