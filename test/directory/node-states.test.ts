/** The states of nodes by themselves: no engine is needed to keep them. */
import t from 'tap';
import { Admin, nodeMemory, Outcome, Way } from '../../src/directory/node-memory.js';
import { NodeStates, ownStates } from '../../src/directory/node-states.js';
import { IxcpFlag, IxcpReason } from '../../src/wire/ixcp.js';

const statesOf = (servers = 1): NodeStates => ownStates([{ weight: 1 }, { weight: 2 }], servers);

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
  states.setAdmin(0, Admin.draining);
  t.equal(states.flagsInService(0, BOTH), 0, 'it gets no new sessions');
  states.setAdmin(0, Admin.up);
  states.reported(0, 1, 2, flags | IxcpFlag.leaving, 0);
  t.equal(states.flagsInService(0, BOTH), 0, 'it is leaving');
});

t.test('what the main thread writes counts at the next pick of every engine', async (t) => {
  const memory = nodeMemory(2, 2, 1);
  const [main, other] = [0, 1].map(
    (worker) => new NodeStates({ memory, nodes: 2, worker, workers: 2, servers: 1 }),
  );
  t.equal(other?.weight[1], 0, 'a slot without a node has no weight');
  main?.setWeight(1, 7);
  t.equal(other?.weight[1], 7);
  for (const admin of [Admin.draining, Admin.maintenance]) {
    main?.setAdmin(1, admin);
    t.equal(other?.admin(1), admin);
    t.notOk(other?.available(1, 0, 0, 0));
    t.notOk(other?.available(1, 0, 0, Number.POSITIVE_INFINITY), 'not even as the last choice');
  }
  main?.setAdmin(1, Admin.up);
  t.ok(other?.available(1, 0, 0, 0));
});

t.test('a slot that another node takes knows nothing', async (t) => {
  const states = statesOf(2);
  const fresh = statesOf(2);
  for (let i = 0; i < 3; i++) states.handoffRefused(0, 1, IxcpReason.noListener, 1_000);
  for (let i = 0; i < 3; i++) states.handoffTimedOut(0, 1_000);
  states.reported(0, 7, 100, IxcpFlag.leaving | IxcpFlag.noTimestamps, 1_000);
  states.otherKeyReported(0, 1_000);
  states.setLacks(0, 0, true);
  states.setAdmin(0, Admin.draining);
  t.notSame(states.health(0, 2_000), fresh.health(0, 2_000));
  states.clearSlot(0);
  t.same(states.health(0, 2_000), fresh.health(0, 2_000));
  t.same([states.weight[0], states.admin(0)], [0, Admin.up]);
  t.ok(states.available(0, 0, 3, 0));
  t.ok(states.reported(0, 1, 1, IxcpFlag.canAdopt, 3_000), 'any clock of the new agent is right');
  t.equal(states.weight[1], 2, 'the other node is as it was');
});

t.test('a slot that another virtual server takes knows nothing', async (t) => {
  const states = statesOf(2);
  const fresh = statesOf(2);
  states.handoffTimedOut(1, 1_000);
  fresh.handoffTimedOut(1, 1_000);
  for (let i = 0; i < 3; i++) states.handoffRefused(1, 1, IxcpReason.noListener, 1_000);
  states.setLacks(1, 1, true);
  t.notSame(states.health(1, 0), fresh.health(1, 0));
  states.clearServer(1);
  t.same(states.health(1, 0), fresh.health(1, 0));
  t.ok(states.available(1, 1, 0, 1_000));
});

t.test('whatever may keep a node from sessions is told', async (t) => {
  const states = ownStates([{ weight: 1 }, { weight: 1 }], 2);
  let told = 0;
  states.onRestrict = () => {
    told += 1;
  };
  const tells = (what: string, times: number, action: () => void): void => {
    const before = told;
    action();
    t.equal(told - before, times, what);
  };
  const able = IxcpFlag.canAdopt;
  tells('the first report', 1, () => states.reported(0, 1, 1, able, 10));
  tells('the same report', 0, () => states.reported(0, 1, 2, able, 20));
  tells('another one', 1, () => states.reported(0, 1, 3, able | IxcpFlag.leaving, 30));
  tells('a weight', 1, () => states.setWeight(0, 0));
  tells('the same weight', 0, () => states.setWeight(0, 0));
  tells('an operator', 1, () => states.setAdmin(0, Admin.draining));
  tells('no address', 1, () => states.setLacks(0, 1, true));
  tells('still no address', 0, () => states.setLacks(0, 1, true));
  tells('two refusals', 0, () => {
    for (let n = 0; n < 2; n++) states.handoffRefused(1, 0, IxcpReason.noListener, 40);
  });
  tells('a third one', 1, () => states.handoffRefused(1, 0, IxcpReason.noListener, 40));
  tells('two timeouts', 0, () => {
    for (let n = 0; n < 2; n++) states.handoffTimedOut(1, 50);
  });
  tells('a third one', 1, () => states.handoffTimedOut(1, 50));
  tells('a server that stalls', 1, () => states.serverStalled(1, 1, 60));
  tells('its trial', 1, () => states.handoffStarted(1, 1, 6_000));
  tells('handoffs that succeed', 0, () => {
    states.handoffStarted(1, 0, 60);
    states.handoffConfirmed(1, 0);
    states.serverAnswered(1, 1);
  });
});

t.test('how a node takes sessions: the config, its reports and its refusals', async (t) => {
  const states = ownStates([{ weight: 1 }], 2);
  const able = (flags: number): boolean => {
    states.reported(0, 1, ++clock, flags, 0);
    return states.available(0, 0, 0, 0);
  };
  let clock = 0;
  const { canAdopt, canReplay, noCookies } = IxcpFlag;
  for (const [way, flags, takes, replays] of [
    [Way.auto, canAdopt, true, false],
    [Way.auto, canAdopt | canReplay, true, false],
    [Way.auto, canReplay, true, true],
    [Way.auto, canReplay | noCookies, true, true],
    [Way.auto, 0, false, true],
    [Way.adopt, canAdopt | canReplay, true, false],
    [Way.adopt, canReplay, false, false],
    [Way.replay, canAdopt | canReplay, true, true],
    [Way.replay, canAdopt, false, true],
  ] as const) {
    states.setWay(0, way);
    t.equal(able(flags), takes, `way ${way}, flags ${flags}`);
    t.equal(states.replays(0, 0), replays, `way ${way}, flags ${flags}`);
  }
  t.notOk(able(canReplay | IxcpFlag.leaving));

  states.setWay(0, Way.auto);
  able(canAdopt);
  t.notOk(states.fallsBack(0, 0), 'an agent that cannot replay');
  able(canAdopt | canReplay);
  t.ok(states.fallsBack(0, 0));
  t.ok(states.fallsBack(0, 0), 'of many sessions that were under way');
  t.same([states.replays(0, 0), states.replays(0, 1)], [true, false], 'one virtual server');
  t.same([...states.health(0, 0).unadoptable], [1, 0]);
  states.setWay(0, Way.adopt);
  t.notOk(states.replays(0, 0), 'the config decides');
  states.setWay(0, Way.auto);
  states.reported(0, 2, ++clock, canAdopt | canReplay, 0);
  t.notOk(states.replays(0, 0), 'a new agent may find another kernel, or another listener');
});
