/** Counters of single nodes and virtual servers in shared memory. */
import t from 'tap';
import {
  NodeCounter,
  ObjectCounters,
  ServerCounter,
  TIME_BOUNDS_MS,
} from '../../src/base/object-counters.js';

t.test('the counts of several threads are added up by slot', async (t) => {
  const threads = [new ObjectCounters(3, 2), new ObjectCounters(3, 2)];
  threads[0]!.countNode(2, NodeCounter.handoffs);
  threads[1]!.countNode(2, NodeCounter.handoffs);
  threads[1]!.countNode(2, NodeCounter.refused);
  threads[0]!.countNode(1, NodeCounter.taken_back);
  threads[1]!.countServer(1, ServerCounter.answer_404);
  // The main thread has views of the same memory.
  const seen = threads.map(({ memory }) => new ObjectCounters(3, 2, memory));
  const none = { handoffs: 0, adopted: 0, refused: 0, silent: 0, taken_back: 0 };
  t.same(ObjectCounters.ofNode(seen, 0), none);
  t.same(ObjectCounters.ofNode(seen, 1), { ...none, taken_back: 1 });
  t.same(ObjectCounters.ofNode(seen, 2), { ...none, handoffs: 2, refused: 1 });
  t.match(ObjectCounters.ofServer(seen, 0), { answer_404: 0, connections: 0 });
  t.match(ObjectCounters.ofServer(seen, 1), { answer_404: 1, connections: 0 });
});

t.test('a time falls into the first bucket whose bound it does not exceed', async (t) => {
  const counters = new ObjectCounters(0, 2);
  const times = [0, 1, 1.5, 2, 300, 10_000, 10_001, 1e9];
  for (const ms of times) counters.handedAfter(1, ms);
  const { buckets, sumMs } = ObjectCounters.ofServer([counters], 1).timeToHandoff;
  const expected = new Array(TIME_BOUNDS_MS.length + 1).fill(0);
  for (const [bound, count] of [
    [1, 2],
    [2, 2],
    [500, 1],
    [10_000, 1],
  ] as const)
    expected[TIME_BOUNDS_MS.indexOf(bound)] = count;
  expected[TIME_BOUNDS_MS.length] = 2;
  t.same(buckets, expected);
  t.equal(
    sumMs,
    times.reduce((sum, ms) => sum + ms),
  );
  t.same(
    ObjectCounters.ofServer([counters], 0).timeToHandoff.sumMs,
    0,
    'the other virtual server has none',
  );
});

t.test('a slot begins again from 0, and its neighbours keep their counts', async (t) => {
  const counters = new ObjectCounters(3, 3);
  for (let slot = 0; slot < 3; slot++) {
    counters.countNode(slot, NodeCounter.adopted);
    counters.countServer(slot, ServerCounter.requests);
    counters.handedAfter(slot, 7);
  }
  counters.clearNode(1);
  counters.clearServer(1);
  const adopted = [0, 1, 2].map((slot) => ObjectCounters.ofNode([counters], slot).adopted);
  const servers = [0, 1, 2].map((slot) => ObjectCounters.ofServer([counters], slot));
  t.same(adopted, [1, 0, 1]);
  t.same(
    servers.map(({ requests }) => requests),
    [1, 0, 1],
  );
  t.same(
    servers.map(({ timeToHandoff }) => timeToHandoff.sumMs),
    [7, 0, 7],
  );
});
