/**
 * What the XDP program and user space share beside the sessions (tcp/session-record.ts, tcp/syn-record.ts), byte by byte: kernel-shim/session.h, with
 * which test/kernel compares this file. Numbers are in host byte order unless their line says otherwise.
 */

/** SHARED_LAYOUT: sessions of another layout mean nothing to us. */
export const SHARED_LAYOUT = 1;
export const MAX_WORKERS = 8;
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
  redirect: 49,
  aliveAt: 52,
  /** A word for each worker. */
  halfOpen: 56,
  cookieAt: 88,
  key: 96,
  secret: 112,
} as const;
export const CONTROL_BYTES = 144;

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
