/** Differences of times on a clock that wraps. */
import t from 'tap';
import { elapsed } from '../../src/base/clock.js';
import { UPTIMES } from '../support/uptime.js';

t.test('the time between two readings of a clock that wraps', async (t) => {
  const DAY_MS = 86_400_000;
  for (const [uptime, start] of Object.entries(UPTIMES)) {
    const clock = (start + 100 * DAY_MS) >>> 0;
    const ago = (ms: number): number => elapsed(clock, (clock - ms) >>> 0);
    t.same(
      [0, 1, 900_000, 24 * DAY_MS, 25 * DAY_MS, 49 * DAY_MS].map(ago),
      [0, 1, 900_000, 24 * DAY_MS, 25 * DAY_MS, 49 * DAY_MS],
      `an uptime of ${uptime}`,
    );
    t.same([-1, -30_000].map(ago), [0, 0], 'the kernel reads the clock later');
  }
});
