/** Which events about nodes reach the main thread, and how often. */
import t from 'tap';
import type { EngineEvent } from '../../../src/balancer/threads/engine-messages.js';
import { NodeEvents } from '../../../src/balancer/threads/node-events.js';

const SLOT = 77;

function make(): { events: NodeEvents; reported: () => EngineEvent[] } {
  const reported: EngineEvent[] = [];
  return {
    events: new NodeEvents((event) => reported.push(event)),
    reported: () => reported.splice(0),
  };
}

t.test('a kind of event about a node is reported once a second', async (t) => {
  const { events, reported } = make();
  events.silent(SLOT, 1, 1_000);
  events.silent(SLOT, 1, 1_999);
  events.silent(SLOT, 2, 1_999);
  t.same(reported(), [
    { event: 'silent', node: 1 },
    { event: 'silent', node: 2 },
  ]);
  events.silent(SLOT, 1, 2_000);
  t.same(reported(), [{ event: 'silent', node: 1 }]);
});

t.test('refusals for different reasons are different kinds', async (t) => {
  const { events, reported } = make();
  events.refused(SLOT, 1, 1, 0);
  events.refused(SLOT, 1, 2, 0);
  events.refused(SLOT, 1, 1, 10);
  events.released(SLOT, 1, 10);
  t.same(reported(), [
    { event: 'refused', node: 1, reason: 1 },
    { event: 'refused', node: 1, reason: 2 },
    { event: 'changed', node: 1 },
  ]);
});

t.test('unknown reasons are one kind, so that nobody can make more of them', async (t) => {
  const { events, reported } = make();
  for (let reason = 7; reason < 256; reason++) events.refused(SLOT, 1, reason, 0);
  t.same(reported(), [{ event: 'refused', node: 1, reason: 7 }]);
});

t.test('everything about another node in the slot is news', async (t) => {
  const { events, reported } = make();
  const say = (): void => {
    events.silent(SLOT, 1, 1_000);
    events.badKey(1, 1_000);
    events.reported(1, 5);
  };
  say();
  t.equal(reported().length, 3);
  say();
  t.equal(reported().length, 0);
  events.forget(1);
  say();
  t.equal(reported().length, 3);
});

t.test('unconfirmed handoffs are reported every 250 ms', async (t) => {
  const { events, reported } = make();
  for (const now of [0, 249, 250, 400, 500]) events.unconfirmed(SLOT, 3, now);
  t.same(reported(), Array(3).fill({ event: 'unconfirmed', node: 3 }));
});

t.test('events that a stranger can cause are reported once a minute', async (t) => {
  const { events, reported } = make();
  for (const now of [0, 1_000, 59_999, 60_000]) events.badKey(0, now);
  t.same(reported(), Array(2).fill({ event: 'changed', node: 0 }));
});

t.test("an agent's report is an event when its flags differ from the last ones", async (t) => {
  const { events, reported } = make();
  for (const flags of [0, 0, 5, 5, 0]) events.reported(0, flags);
  events.reported(1, 0);
  t.same(
    reported(),
    [0, 0, 0, 1].map((node) => ({ event: 'changed', node })),
  );
});
