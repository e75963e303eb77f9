/**
 * What the XDP program and user space share beside the sessions (engine/table/session-record.ts,
 * engine/table/told-record.ts), byte by byte: bpf/lib/session.h, with which test/kernel compares
 * this file. Numbers are in host byte order unless their line says otherwise.
 */

/** SHARED_LAYOUT: sessions of another layout mean nothing to us. */
export const SHARED_LAYOUT = 3;
export const MAX_WORKERS = 8;
/** Nodes that the XDP program knows. */
export const MAX_XDP_NODES = 1024;
export const MAX_QUEUES = 64;
/** Words of one element of map `session_index`. */
export const INDEX_LINE_WORDS = 16;

/** struct xdp_control, the one element of map `control`. */
export const CONTROL = {
  layout: 0,
  workers: 4,
  capacity: 8,
  indexWords: 12,
  clientSeed: 16,
  portSeed: 20,
  /** Network byte order. */
  own: 24,
  interfaces: 28,
  mac: 32,
  mss: 44,
  window: 46,
  windowShift: 48,
  /** WAY bits, written by the main thread at any time. */
  way: 49,
  /** IxpFlag bits, written by the main thread at any time. */
  withheld: 50,
  tap: 51,
  aliveAt: 52,
  /** A word for each worker. */
  halfOpen: 56,
  cookieAt: 88,
  servers: 92,
  key: 96,
  secret: 112,
  /** NEAR_SERVERS of struct near_server: address and port as in a packet, then the index. */
  near: 144,
  /** A word for each worker. */
  indexState: 176,
} as const;
export const CONTROL_BYTES = 208;
export const NEAR_SERVERS = 4;
export const NEAR_SERVER_BYTES = 8;

/** How frames leave by the interface that they came in by: WAY_* of bpf/lib/session.h. */
export const WAY = {
  /** XDP_TX of the interface may be lost. */
  redirect: 1,
  /** XDP is generic: frames keep their socket buffers. */
  stack: 2,
} as const;

/** struct xdp_node, element of map `nodes`. */
export const NODE = {
  destination: 0,
  source: 6,
  interface: 12,
  /** Network byte order. */
  address: 16,
  redirect: 20,
} as const;
export const NODE_BYTES = 24;

/**
 * Of a record in a ring buffer by which the engine is told: 36 bytes behind a header of 8, and all
 * of it a multiple of 8.
 */
const RING_RECORD_BYTES = 48;
/** The first is a page on any machine; the second is for more than 20,000 records. */
const SMALLEST_RING_BYTES = 1 << 16;
const LARGEST_RING_BYTES = 1 << 20;

/**
 * Size of the ring buffer by which a worker is told of SYNs and what else there is: for half of the
 * half-open sessions that it may have, because the kernel fills it before the worker can count
 * them.
 */
export function toldRingBytes(halfOpen: number): number {
  let bytes = SMALLEST_RING_BYTES;
  while (bytes < LARGEST_RING_BYTES && 2 * toldRingRecords(2 * bytes) <= halfOpen) bytes *= 2;
  return bytes;
}

/** How many records such a ring buffer holds. */
export function toldRingRecords(bytes: number): number {
  return Math.floor(bytes / RING_RECORD_BYTES);
}
