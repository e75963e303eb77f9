/** The counter of each way in which a session can end. */
import { Counter } from '../base/counters.js';
import type { CloseReason } from './options.js';

export const CLOSE_COUNTERS: { readonly [Reason in CloseReason]: number } = {
  fin: Counter.closed_fin,
  'client-reset': Counter.closed_client_reset,
  'node-reset': Counter.closed_node_reset,
  idle: Counter.closed_idle,
  'handshake-timeout': Counter.closed_handshake_timeout,
  evicted: Counter.evicted_half_open,
  'evicted-head': Counter.evicted_head,
  replaced: Counter.closed_replaced,
  'no-node': Counter.closed_no_node,
  lost: Counter.closed_lost,
  maintenance: Counter.closed_maintenance,
  removed: Counter.closed_removed,
  answered: Counter.closed_answered,
};
