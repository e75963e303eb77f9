/**
 * Times in memory that the kernel shares: ms of CLOCK_MONOTONIC, the time since the machine
 * started, as unsigned 32-bit numbers. They wrap every 49.7 days, so two of them are compared by
 * their difference.
 */

/**
 * How far a time may be ahead of ours, in ms: the kernel reads the clock later than the datapath
 * does.
 */
const MOST_AHEAD_MS = 60_000;

/**
 * How long ago `then` was, in ms, both on that clock. A time that is a little ahead counts as now.
 * Right for up to 49.7 days less a minute: a signed difference would take what is 25 days old for
 * something to come.
 */
export function elapsed(clock: number, then: number): number {
  const ms = (clock - then) >>> 0;
  return ms > 0xffff_ffff - MOST_AHEAD_MS ? 0 : ms;
}

/**
 * CLOCK_MONOTONIC in ms: all threads have it in common, and the kernel writes times by it into
 * sessions.
 */
export function monotonicClock(): () => number {
  // The thread's own clock runs with it.
  const ahead = Number(process.hrtime.bigint()) / 1e6 - performance.now();
  return () => performance.now() + ahead;
}
