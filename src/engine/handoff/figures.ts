/** Figures of sessions that are handed over, for counters of the balancer and of single objects. */
import { elapsed } from '../../base/clock.js';
import type { Core } from '../core.js';

/** Records the time from the SYN to the first handoff to a node, which is beginning now. */
export function noteTimeToHandoff(core: Core, slot: number): void {
  core.objects.handedAfter(core.serverOf(slot), elapsed(core.clock, core.sessions.openedAt(slot)));
}
