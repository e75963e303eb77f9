/** Why a session stays with its node for good, and the counter of each reason. */
import { Counter } from '../../base/counters.js';
import { Pin } from '../../directory/dispatcher.js';

/** Reasons that the engine finds itself. Those of the requests are `Pin`. */
export const Stay = {
  /** A request came behind another one before that was answered, in one segment. */
  pipelining: 32,
  /** A segment of a body is missing, and its bytes say where the body ends. */
  gap: 33,
  /** The node cannot say where its answers end. */
  unfollowed: 34,
  /** The node does not know how to let a session go. */
  unable: 35,
} as const;

/** By reason. A client that wants no further request has no reason to move. */
const COUNTERS = new Map<number, number>([
  [Pin.upgrade, Counter.pinned_upgrade],
  [Pin.connect, Counter.pinned_connect],
  [Pin.expect, Counter.pinned_expect],
  [Pin.authentication, Counter.pinned_authentication],
  [Pin.body, Counter.pinned_body],
  [Pin.head, Counter.pinned_head],
  [Pin.method, Counter.pinned_method],
  [Stay.pipelining, Counter.pinned_pipelining],
  [Stay.gap, Counter.pinned_gap],
  [Stay.unfollowed, Counter.pinned_unfollowed],
  [Stay.unable, Counter.pinned_unable],
]);

/** Index of the counter of a reason; undefined: it is not counted. */
export function pinCounter(reason: number): number | undefined {
  return COUNTERS.get(reason);
}
