/** How long nothing was heard, by samples that are not taken at the same moments. */
import t from 'tap';
import { type Interval, longestPause } from '../../../lab/probes/rate.js';

/** Intervals of 100 ms from 0 on, with so many packets in each. */
const every100 = (...packets: number[]): Interval[] =>
  packets.map((count, index) => ({ from: index * 100, to: index * 100 + 100, packets: count }));

t.test('the time for which nobody received anything', async (t) => {
  t.equal(longestPause([every100(1, 1, 1)]), 0);
  t.equal(longestPause([every100(1, 0, 0, 0, 2, 0, 1)]), 300);
  t.equal(longestPause([every100(0, 0, 1, 0, 1, 0, 0, 0)]), 300, 'at the end');
  t.equal(longestPause([every100(0, 0, 1, 0, 1, 0)]), 200, 'and at the beginning');
  t.equal(longestPause([every100(0, 0)]), 200, 'or all the time');
  t.equal(
    longestPause([every100(1, 0, 0, 1), every100(0, 0, 5, 0)]),
    100,
    'another host heard something',
  );
  const late = [
    { from: 0, to: 100, packets: 3 },
    { from: 100, to: 900, packets: 3 },
    { from: 900, to: 1000, packets: 3 },
  ];
  t.equal(longestPause([late]), 0, 'a sample that is late is no pause');
});
