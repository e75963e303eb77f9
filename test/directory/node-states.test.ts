/** The states of nodes by themselves: no engine is needed to keep them. */
import t from 'tap';
import { Outcome } from '../../src/directory/node-memory.js';
import { NodeStates, ownShare } from '../../src/directory/node-states.js';
import { IxcpFlag, IxcpReason } from '../../src/wire/ixcp.js';

const statesOf = (servers = 1): NodeStates =>
  new NodeStates([{ weight: 1 }, { weight: 2 }], ownShare(2, servers));

t.test('a stalled server is the last choice, then tried with one session at a time', async (t) => {
  const states = statesOf(2);
  const available = (now: number): boolean => states.available(0, 1, 0, now);
  states.serverStalled(0, 1, 1_000);
  t.notOk(available(5_999));
  t.ok(available(6_000));
  t.ok(states.available(0, 0, 0, 1_000), 'the other virtual server is not concerned');
  states.handoffStarted(0, 1, 6_000);
  t.notOk(available(7_999), 'one session tries it');
  t.ok(available(8_000));
  states.handoffConfirmed(0, 1);
  t.equal(states.health(0, 8_000).outcomes[1], Outcome.stalled, 'the kernel adopts for it');
  states.handoffStarted(0, 1, 8_000);
  states.serverAnswered(0, 1);
  t.ok(available(8_000));
  t.equal(states.health(0, 8_000).outcomes[1], Outcome.adopted);
});

t.test('a new agent clears what went wrong before', async (t) => {
  const states = statesOf();
  t.ok(states.reported(1, 7, 100, IxcpFlag.canAdopt, 1_000));
  for (let i = 0; i < 3; i++) {
    states.handoffTimedOut(1, 1_000);
    states.handoffRefused(1, 0, IxcpReason.noListener, 1_000);
  }
  t.ok(states.reported(1, 7, 101, IxcpFlag.canAdopt, 2_000));
  t.notOk(states.available(1, 0, 0, 1_500), 'another report of the same agent changes nothing');
  t.ok(states.reported(1, 8, 102, IxcpFlag.canAdopt, 3_000));
  t.ok(states.available(1, 0, 0, 1_500));
  t.notOk(states.hasFailed(1, 0));
  t.notOk(states.reported(1, 8, 101, 0, 3_100), 'an older report');
  t.notOk(states.reported(1, 9, 50, 0, 8_000), 'an earlier clock, 5 s after the last report');
  t.ok(states.reported(1, 9, 50, 0, 8_001), 'the old agent has stopped: the clock was set back');
});

t.test('flags of a node in service', async (t) => {
  const BOTH = [{ slot: 0 }, { slot: 1 }];
  const states = statesOf(2);
  const flags = IxcpFlag.canAdopt | IxcpFlag.noSack;
  t.equal(states.flagsInService(0, BOTH), 0, 'it has not reported');
  states.reported(0, 1, 1, flags, 0);
  t.equal(states.flagsInService(0, BOTH), flags);
  states.setLacks(0, 0, true);
  t.equal(states.flagsInService(0, BOTH), flags);
  t.equal(states.flagsInService(0, BOTH.slice(0, 1)), 0, 'only the virtual servers in use count');
  states.setLacks(0, 1, true);
  t.equal(states.flagsInService(0, BOTH), 0, 'it has none of the virtual addresses');
  states.setLacks(0, 1, false);
  states.reported(0, 1, 2, flags | IxcpFlag.leaving, 0);
  t.equal(states.flagsInService(0, BOTH), 0, 'it is leaving');
});
