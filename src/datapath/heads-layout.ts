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

/** Nodes at which sockets of one session wait at one time. */
export const MOST_PARKED = 4;
/** JUDGED_HEAD.server: no other node may get the head than the one whose bit is set. */
export const HEAD_SOLE = 0x8000_0000;

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
  generation: 8,
  nodeRequests: 12,
  parked: 16,
  moved: 24,
  endedNode: 28,
  endedAnswers: 30,
  endedNext: 32,
  endedAt: 36,
  resumedSeq: 40,
  resumedAck: 44,
  unproven: 48,
  resumedEnd: 52,
  busy: 56,
} as const;
export const SESSION_MOVES_BYTES = 64;

/** struct node_moves, of which each worker has HEAD_NODES behind all sessions in map `moves`. */
export const NODE_MOVES = { came: 0, went: 4 } as const;
export const NODE_MOVES_BYTES = 8;
/** Of the node_moves of one worker. */
export const NODE_MOVES_PART_BYTES = HEAD_NODES * NODE_MOVES_BYTES;
const NODE_MOVES_LINES = NODE_MOVES_PART_BYTES / SESSION_MOVES_BYTES;

/** Sets of heads of each worker, if sessions of these virtual servers may move. */
export function headSetsFor(servers: readonly { readonly keepAlive: string }[]): number {
  return servers.some(({ keepAlive }) => keepAlive === 'migrate') ? HEAD_SETS : 0;
}

/** Elements of map `moves`. @param capacity sessions of each worker */
export function movesEntries(capacity: number, workers: number): number {
  return workers * (capacity + NODE_MOVES_LINES);
}

/** Where the parts of a worker begin in map `moves`, in bytes. */
export function movesParts(
  capacity: number,
  workers: number,
  worker: number,
): { movesOffset: number; nodeMovesOffset: number } {
  const ofNodes = workers * capacity * SESSION_MOVES_BYTES;
  return {
    movesOffset: worker * capacity * SESSION_MOVES_BYTES,
    nodeMovesOffset: ofNodes + worker * NODE_MOVES_PART_BYTES,
  };
}

/** Sets of map `heads` for each worker: 4,096 heads, 256 KiB. */
export const HEAD_SETS = 1024;
