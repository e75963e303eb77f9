/**
 * Maps of the XDP program for later requests of sessions that may move: bpf/lib/heads.h, which
 * test/kernel compares with this file.
 */

/** Heads of one set of map `heads`. */
export const HEAD_WAYS = 4;
/** Bytes of the payloads that can be in the map. */
export const HEAD_LEAST_BYTES = 16;
export const HEAD_MOST_BYTES = 1024;
/** Slots of nodes that can be in the map. */
export const HEAD_NODES = 256;

/** struct judged_head, the element of map `heads`. */
export const JUDGED_HEAD = {
  digest: 0,
  generation: 16,
  server: 20,
  number: 24,
  requests: 28,
  nodes: 32,
} as const;
export const JUDGED_HEAD_BYTES = 64;

/** struct session_moves, the element of map `moves`. */
export const SESSION_MOVES = {
  requests: 0,
  head: 4,
} as const;
export const SESSION_MOVES_BYTES = 8;

/** Sets of map `heads` for each worker: 4,096 heads, 256 KiB. */
export const HEAD_SETS = 1024;
