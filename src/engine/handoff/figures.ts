/** Figures of sessions that are handed over, for counters of the balancer and of single objects. */
import { elapsed } from '../../base/clock.js';
import { Counter } from '../../base/counters.js';
import { ServerCounter } from '../../base/object-counters.js';
import type { LocalServiceNumber } from '../../wire/ixp.js';
import type { Core } from '../core.js';

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

/** Records the time from the SYN to the first handoff to a node, which is beginning now. */
export function noteTimeToHandoff(core: Core, slot: number): void {
  core.objects.handedAfter(core.serverOf(slot), elapsed(core.clock, core.sessions.openedAt(slot)));
}
