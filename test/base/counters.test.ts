/** Counters in shared memory. */
import t from 'tap';
import { COUNTER_NAMES, Counter, Counters } from '../../src/base/counters.js';

t.test('another view of the memory sees the counters', async (t) => {
  const counters = new Counters();
  counters.count(Counter.syn);
  counters.add(Counter.forwarded_bytes, 1500);
  const other = new Counters(counters.memory);
  t.equal(other.get('syn'), 1);
  t.equal(other.toObject().forwarded_bytes, 1500);
  t.equal(Object.keys(other.toObject()).length, COUNTER_NAMES.length);
});
