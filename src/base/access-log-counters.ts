/**
 * The counters of the access log, in memory that the log thread writes and the main thread reads.
 */
import { type CounterInfo, counter } from './counter-info.js';

/**
 * By name, in the order of their memory. In `baton stats` the prefix `access_log_` is before it.
 */
export const ACCESS_LOG_COUNTERS = {
  lines: counter(
    'lines',
    'Lines that are in the file of the access log, one for each session that has ended.',
  ),
  lost: counter(
    'lines',
    'Lines that the file did not take, because the disk is full or failed. The log of the balancer has the reason. Nothing but these lines is lost.',
  ),
  ring_lost: counter(
    'records',
    'Records for the access log dropped because an engine thread made them faster than the log thread read them. Each is a line that is missing, or one that lacks its request. Give the log thread more CPU time, or a faster disk.',
  ),
  table_lost: counter(
    'sessions',
    'Sessions whose request the log thread gave up because too many sessions were open at one time. Their lines have only the first 40 bytes of the request, and the reason `request-lost`.',
  ),
} as const satisfies Readonly<Record<string, CounterInfo>>;

export type AccessLogCounter = keyof typeof ACCESS_LOG_COUNTERS;
export const ACCESS_LOG_COUNTER_NAMES = Object.keys(ACCESS_LOG_COUNTERS) as AccessLogCounter[];
