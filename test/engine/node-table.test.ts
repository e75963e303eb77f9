/** Which nodes take a handoff, and which options of a session an IXP header leaves out. */
import t from 'tap';
import { holderSets } from '../../src/directory/holders.js';
import { ownStates } from '../../src/directory/node-states.js';
import { createPredictor, PREDICTOR_NAMES } from '../../src/directory/predictors/index.js';
import { inSlots } from '../../src/engine/farm.js';
import { HandoffCandidates } from '../../src/engine/handoff/candidates.js';
import { NodeTable } from '../../src/engine/node-table.js';
import { IxcpFlag } from '../../src/wire/ixcp.js';
import { IxpFlag } from '../../src/wire/ixp.js';

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);

function tableOf(count: number, servers = 1): NodeTable {
  const nodes = Array.from({ length: count }, (_, index) => ({ address: index + 1, weight: 1 }));
  return new NodeTable(inSlots(nodes), ownStates(nodes, servers));
}

for (const name of PREDICTOR_NAMES) {
  t.test(`${name}: picks no node that takes no handoff`, async (t) => {
    const nodes = tableOf(2);
    nodes.resolved.fill(1);
    const candidates = new HandoffCandidates(nodes);
    const predictor = createPredictor(name, holderSets([{ nodes: [0, 1] }]), candidates);
    const picks = (now: number): number[] => {
      candidates.setSession(0, 0, now);
      return [predictor.pick(0, 0), predictor.pick(0, 0)];
    };
    t.same(picks(0), [0, 1]);
    nodes.states.able[0] = 0;
    t.same(picks(0), [1, 1], 'unable');
    nodes.resolved[1] = 0;
    t.same(picks(0), [-1, -1], 'unresolved');
    nodes.states.able[0] = 1;
    for (let i = 0; i < 3; i++) nodes.states.handoffTimedOut(0, 1_000);
    t.same(picks(1_000), [-1, -1], 'suspended');
    t.same(picks(1_000_000), [0, 0], 'no longer suspended');
  });
}

t.test('candidates are those of one session', async (t) => {
  const nodes = tableOf(1, 2);
  nodes.setMac(0, MAC);
  const candidates = new HandoffCandidates(nodes);
  const available = (server: number, options: number): boolean => {
    candidates.setSession(server, options, 0);
    return candidates.available(0);
  };
  nodes.states.setLacks(0, 1, true);
  t.same([available(0, 0), available(1, 0)], [true, false], 'the second address is missing');
  nodes.states.reported(0, 1, 1, IxcpFlag.canAdopt | IxcpFlag.noTimestamps | IxcpFlag.noSack, 0);
  t.notOk(available(0, IxpFlag.timestampsOk), 'timestamps are agreed, and the node refuses them');
  t.ok(available(0, IxpFlag.sackOk), 'a session goes on without SACK');
  t.ok(available(0, 0x80), 'bits that are no options are ignored');
  t.same([candidates.weight(0), candidates.load(0)], [1, 0]);
  nodes.states.active[0] = 3;
  t.equal(candidates.load(0), 3);
});

t.test('IXP headers leave out SACK where the kernel refuses it', async (t) => {
  const nodes = tableOf(1);
  nodes.states.reported(0, 1, 1, IxcpFlag.canAdopt | IxcpFlag.noTimestamps | IxcpFlag.noSack, 0);
  t.equal(nodes.omittedOptions(0), IxpFlag.sackOk);
});
