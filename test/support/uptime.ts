/**
 * Where tests of the engine begin on its clock: ms since the machine started.
 * test/engine/uptimes.test.ts runs them again on machines that have been up for longer.
 */

const DAY_MS = 86_400_000;

/** Before and after what wraps: half of 2^32 ms, 24.8 days, and all of it. */
export const UPTIMES: Readonly<Record<string, number>> = {
  '0 days': 0,
  '24.8 days, 5 s before half of 2^32 ms': 2 ** 31 - 5_000,
  '25 days': 25 * DAY_MS,
  '49.7 days, 5 s before 2^32 ms': 2 ** 32 - 5_000,
  '50 days': 50 * DAY_MS,
  '400 days': 400 * DAY_MS,
};

/** Of every conversation that does not ask for another. */
export let START = 1_000_000;

/** Near it: a period of SYN cookies, 2^16 ms, begins 16,960 ms before it. */
export let IN_COOKIE_PERIOD = inCookiePeriod(START);

/** The tests that run from now on begin at this time. */
export function beginAt(start: number): void {
  START = start;
  IN_COOKIE_PERIOD = inCookiePeriod(start);
}

function inCookiePeriod(start: number): number {
  return start - (start % 65_536) + 16_960;
}
