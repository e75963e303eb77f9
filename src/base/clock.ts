/**
 * The clock of times in memory that the kernel shares: CLOCK_MONOTONIC, the time since the machine
 * started, in ms as an unsigned 32-bit number. It wraps every 49.7 days, so two times are compared
 * by their difference.
 */

/**
 * How far a time may be ahead of the caller's clock, in ms: the kernel reads the clock later than
 * the datapath does.
 */
const MOST_AHEAD_MS = 60_000;

/**
 * Time from `then` to `clock`, in ms. A time that is a little ahead counts as now. The result is
 * right for up to 49.7 days less a minute. A signed difference would take a time that is 25 days
 * old for one in the future.
 */
export function elapsed(clock: number, then: number): number {
  const ms = (clock - then) >>> 0;
  return ms > 0xffff_ffff - MOST_AHEAD_MS ? 0 : ms;
}

/**
 * A reader of CLOCK_MONOTONIC, in ms. All threads share that clock, and the kernel writes its times
 * into sessions.
 */
export function monotonicClock(): () => number {
  // The thread's own clock runs at the same rate.
  const ahead = Number(process.hrtime.bigint()) / 1e6 - performance.now();
  return () => performance.now() + ahead;
}
