/** Figures of sessions that are handed over, for counters of the balancer and of single objects. */
import { elapsed } from '../../base/clock.js';
import { Counter } from '../../base/counters.js';
import { ServerCounter } from '../../base/object-counters.js';
import type { LocalServiceNumber } from '../../wire/ixp.js';
import { seqDiff } from '../../wire/seq.js';
import type { Core } from '../core.js';
import { SessionFlag } from '../table/session-table.js';

/** By LocalService number. The first is a node's own web server, which gives no local answer. */
const ANSWER_COUNTERS: readonly number[] = [
  Counter.handoffs_local,
  Counter.answer_400,
  Counter.answer_404,
  Counter.answer_408,
  Counter.answer_431,
  Counter.answer_503,
  Counter.closed_silent_client,
];
/** The same of the virtual server. */
const SERVER_ANSWERS: readonly number[] = [
  ServerCounter.handoffs,
  ServerCounter.answer_400,
  ServerCounter.answer_404,
  ServerCounter.answer_408,
  ServerCounter.answer_431,
  ServerCounter.answer_503,
  ServerCounter.closed_silent_client,
];

/** Counts a handoff to a local service, by the answer that it will give. */
export function countAnswer(core: Core, slot: number, service: LocalServiceNumber): void {
  core.counters.count(Counter.handoffs_local);
  core.counters.count(ANSWER_COUNTERS[service]!);
  core.objects.countServer(core.serverOf(slot), SERVER_ANSWERS[service]!);
}

/**
 * How long ago we sent what the client of the current segment has received last, in ms. That is the
 * SYN/ACK, or the ACK of a part of its head. Its timestamps echo the time. Infinity when it sends
 * none.
 */
export function answeredAgo(core: Core, slot: number): number {
  const { segment, sessions } = core;
  if (!sessions.has(slot, SessionFlag.timestampsOk)) return Number.POSITIVE_INFINITY;
  if (!segment.parseOptions() || !segment.options.hasTimestamps) return Number.POSITIVE_INFINITY;
  // If the kernel sent the SYN/ACK, it read the clock later than the datapath did.
  return Math.abs(seqDiff(core.tsvalOf(slot), segment.options.tsecr));
}

/**
 * Records the time from the SYN to the first handoff. The engine hears of a SYN that the kernel
 * answered with a delay, or not at all (a cookie). Then the client's timestamps know better. They
 * may be forged, so no more than the longest time for a head counts.
 *
 * @param ago of `answeredAgo`
 */
export function noteTimeToHandoff(core: Core, slot: number, ago: number): void {
  const known = elapsed(core.clock, core.sessions.openedAt(slot));
  const isLonger = ago > known && ago <= core.options.timeouts.head;
  core.objects.handedAfter(core.serverOf(slot), isLonger ? ago : known);
}
