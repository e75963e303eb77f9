/** The clocks of a session's two sides, as the timestamps of its client show them (RFC 7323). */
import { seqAdd, seqAfter, seqDiff } from '../wire/seq.js';
import type { Core } from './core.js';
import { SessionFlag } from './table/session-table.js';

/**
 * Takes the timestamp of the current segment, which lies in the window of a session whose other end
 * is the balancer. Returns false if the segment is older than one before it, and must be dropped
 * and acknowledged (RFC 7323 section 5.3, PAWS). A segment without a timestamp is taken, as Linux
 * does. A segment behind a gap does not set the time that is echoed (section 4.3).
 */
export function takeTimestamp(core: Core, slot: number): boolean {
  const { sessions, segment } = core;
  if (!sessions.has(slot, SessionFlag.timestampsOk)) return true;
  if (!segment.parseOptions() || !segment.options.hasTimestamps) return true;
  const { tsval } = segment.options;
  if (seqAfter(sessions.tsval(slot), tsval)) return false;
  if (!seqAfter(segment.sequence, sessions.receiveNext(slot))) sessions.setTsval(slot, tsval);
  return true;
}

/**
 * Notes the timestamps of the current segment, which the session's client has sent. What is sent to
 * a node later is no older than what the node has seen of the client, and our clock is ahead of
 * what the client has seen: the node that it had may have the faster clock. Else the other side
 * drops segments (PAWS, section 5.3).
 *
 * @param isFirst nothing was noted for a while, so the segment's clock counts however far it is
 *   from the last one: a clock of microseconds wraps in 72 minutes
 */
export function noteTimestamps(core: Core, slot: number, isFirst: boolean): void {
  const { sessions, segment } = core;
  if (!sessions.has(slot, SessionFlag.timestampsOk)) return;
  if (!segment.parseOptions() || !segment.options.hasTimestamps) return;
  const { tsval, tsecr } = segment.options;
  if (isFirst || seqAfter(tsval, sessions.tsval(slot))) sessions.setTsval(slot, tsval);
  const ahead = seqDiff(seqAdd(tsecr, 1), core.tsvalOf(slot));
  if (ahead > 0) sessions.setTsOffset(slot, seqAdd(sessions.tsOffset(slot), ahead));
}
