import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { PATIENCE_MS } from '../../lab/patience.js';
import type { NumberedEvent } from '../../src/api/control.js';
import type { StatsDocument } from '../../src/api/documents.js';
import { EventSource, ratesBetween } from '../../src/balancer/event-source.js';
import { statsAt } from '../support/even-stats.js';

/** A source whose balancer is one second older at each answer. */
function source(t: Test, stats?: () => Promise<StatsDocument>) {
  const asked = { times: 0 };
  const events = new EventSource({
    interval: 5,
    stats: () => {
      asked.times += 1;
      return stats?.() ?? Promise.resolve(statsAt(asked.times));
    },
  });
  t.teardown(() => events.stop());
  return { events, asked };
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const limit = Date.now() + PATIENCE_MS; !holds(); ) {
    if (Date.now() > limit) throw new Error(`not within ${PATIENCE_MS} ms: ${what}`);
    await sleep(2);
  }
}

const NODE = {
  node: 'n1',
  state: 'draining',
  by: 'local',
  why: 'new disk',
  since: 1,
  condition: 'up',
} as const;

t.test('rates are per second, between two answers', async (t) => {
  const { at, ...rates } = ratesBetween(statsAt(10), statsAt(12)) ?? { at: 0 };
  t.ok(at > 0);
  t.same(rates, {
    event: 'rates',
    seconds: 2,
    connections: 40,
    handoffs: 30,
    packets: 5_000,
    bytes: 400_000,
    active: 1_209,
  });
  t.equal(ratesBetween(statsAt(10), statsAt(10)), undefined, 'no time has passed');
});

t.test('rates are computed only while somebody listens', async (t) => {
  const { events, asked } = source(t);
  await sleep(30);
  t.equal(asked.times, 0, 'nobody has listened yet');
  const got: NumberedEvent[] = [];
  const first = events.subscribe((event) => got.push(event));
  const second = events.subscribe(() => {});
  await until('two rates have come', () => got.length >= 2);
  t.match(got[0]?.event, { event: 'rates', connections: 40 });
  first();
  const before = asked.times;
  await until('the other listener still gets them', () => asked.times > before + 1);
  second();
  await sleep(0);
  const after = asked.times;
  await sleep(50);
  t.equal(asked.times, after, 'the last listener has left');
});

t.test('a balancer that does not answer gives no rates, and one question waits', async (t) => {
  let fail = (_: Error): void => {};
  const { events, asked } = source(t, () => new Promise((_, reject) => (fail = reject)));
  const got: NumberedEvent[] = [];
  t.teardown(events.subscribe((event) => got.push(event)));
  await sleep(50);
  t.equal(asked.times, 1);
  fail(new Error('the engine has ended'));
  await until('it is asked again', () => asked.times === 2);
  t.same(got, []);
});

t.test('a listener who comes back gets what it has missed', async (t) => {
  const { events } = source(t, () => new Promise(() => {}));
  events.changed({ changed: ['node n1: weight 2, was 1'], generation: 2 }, 'alice');
  const seen: NumberedEvent[] = [];
  const leave = events.subscribe((event) => seen.push(event));
  events.node(NODE);
  leave();
  t.match(seen, [{ event: { event: 'node', ...NODE } }], 'only what comes after subscribing');
  events.changed({ changed: [], generation: 3 }, 'local');
  events.node({ ...NODE, state: 'up' });

  const missed = (after?: string): unknown[] => {
    const got: NumberedEvent[] = [];
    events.subscribe((event) => got.push(event), after)();
    return got.map(({ event }) => (event.event === 'change' ? event.generation : event.event));
  };
  t.same(missed(seen[0]?.id), [3, 'node']);
  t.same(missed('1-1'), [2, 'node', 3, 'node'], 'the id is of an earlier start');
  t.same(missed(), []);
  t.same(missed('rubbish'), []);
  for (let n = 0; n < 1_000; n++) events.node(NODE);
  t.equal(missed('1-1').length, 256, 'the memory is bounded');
});
