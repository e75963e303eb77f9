/** Pauses, found in samples that were not taken at the same moments. */
import t from 'tap';
import { type Interval, longestPause } from '../../../lab/probes/rate.js';

/** Intervals of 100 ms from 0 on, with these packet counts. */
const every100 = (...packets: number[]): Interval[] =>
  packets.map((count, index) => ({ from: index * 100, to: index * 100 + 100, packets: count }));

t.test('longestPause is the longest time in which no host received a packet', async (t) => {
  t.equal(longestPause([every100(1, 1, 1)]), 0);
  t.equal(longestPause([every100(1, 0, 0, 0, 2, 0, 1)]), 300);
  t.equal(longestPause([every100(0, 0, 1, 0, 1, 0, 0, 0)]), 300, 'at the end');
  t.equal(longestPause([every100(0, 0, 1, 0, 1, 0)]), 200, 'at the beginning');
  t.equal(longestPause([every100(0, 0)]), 200, 'all the time');
  t.equal(
    longestPause([every100(1, 0, 0, 1), every100(0, 0, 5, 0)]),
    100,
    'another host received a packet meanwhile',
  );
  const lateSample = [
    { from: 0, to: 100, packets: 3 },
    { from: 100, to: 900, packets: 3 },
    { from: 900, to: 1000, packets: 3 },
  ];
  t.equal(longestPause([lateSample]), 0, 'a late sample is not a pause');
});
