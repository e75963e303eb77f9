/**
 * Start times of engine tests on its clock, in ms since the machine started.
 * test/engine/uptimes.test.ts runs the tests again with longer uptimes.
 */

const DAY_MS = 86_400_000;

/** Before and after the wraps: half of 2^32 ms (24.8 days), and 2^32 ms. */
export const UPTIMES: Readonly<Record<string, number>> = {
  '0 days': 0,
  '24.8 days, 5 s before half of 2^32 ms': 2 ** 31 - 5_000,
  '25 days': 25 * DAY_MS,
  '49.7 days, 5 s before 2^32 ms': 2 ** 32 - 5_000,
  '50 days': 50 * DAY_MS,
  '400 days': 400 * DAY_MS,
};

/** Start of every conversation that does not set its own. */
export const USUAL_START = 1_000_000;
export let START = USUAL_START;

/** A time near START, 16,960 ms after the begin of a SYN cookie period of 2^16 ms. */
export let IN_COOKIE_PERIOD = inCookiePeriod(START);

/** The tests that run from now on begin at this time. */
export function beginAt(start: number): void {
  START = start;
  IN_COOKIE_PERIOD = inCookiePeriod(start);
}

function inCookiePeriod(start: number): number {
  return start - (start % 65_536) + 16_960;
}
