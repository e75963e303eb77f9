/** How long a session that passes may be silent. */
import type { Timeouts } from './options.js';
import { SessionFlag, type SessionTable } from './table/session-table.js';

/** Silence in ms that ends a session whose client has sent FIN. TCP_RTO_MAX of Linux is 120 s. */
const HALF_CLOSED_MS = 180_000;
/**
 * Questions without an answer after which a node counts as one that does not answer. One may be
 * lost.
 */
const MOST_UNANSWERED = 1;

/** @returns ms */
export function idleLimit(sessions: SessionTable, slot: number, timeouts: Timeouts): number {
  const { closing, idle } = timeouts;
  const flags = sessions.flags(slot);
  if ((flags & SessionFlag.nodeFin) !== 0) return closing;
  if ((flags & SessionFlag.clientFin) === 0) return idle;
  // The client only listens now. A closed window is probed at least every two minutes. So longer
  // silence means that the end was not reported, because the node's shim was reloaded meanwhile;
  // unless the node answers.
  if (sessions.tries(slot) <= MOST_UNANSWERED) return idle;
  return Math.min(idle, Math.max(closing, HALF_CLOSED_MS));
}
