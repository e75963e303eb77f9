/**
 * Byte offsets of the structs that the XDP program and user space share: bpf/lib/session.h, which
 * test/kernel compares with this file. Sessions and kernel events have files of their own
 * (engine/table/session-record.ts, engine/table/kernel-event.ts). Numbers are in host byte order
 * unless their line says otherwise.
 */

/** A balancer takes over the sessions of an earlier run only if this number is the same. */
export const SHARED_LAYOUT = 9;
export const MAX_WORKERS = 8;
/** Capacity of map `nodes`, and slots for nodes everywhere. */
export const MAX_XDP_NODES = 1024;
/**
 * Slots for virtual servers: far below the limit of 16 bits in a session's key, and of the maps in
 * bpf/lib/virtual-servers.h.
 */
export const MOST_VIRTUAL_SERVERS = 256;
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
  /** The main thread may write it at any time. */
  mss: 44,
  window: 46,
  windowShift: 48,
  /** OUTPUT bits. The main thread may write them at any time. */
  output: 49,
  /** IxpFlag bits. The main thread may write them at any time. */
  withheld: 50,
  tap: 51,
  aliveAt: 52,
  /** A word for each worker. */
  halfOpen: 56,
  cookieAt: 88,
  /** Virtual servers in use, also retired ones. */
  servers: 92,
  key: 96,
  secret: 112,
  /**
   * INLINE_SERVERS of struct inline_server: address and port as in a packet, then the slot with
   * flags, or NO_SERVER.
   */
  inlineServers: 144,
  /** A word for each worker. */
  indexState: 176,
  /** Virtual servers with mode forward. The main thread may write it at any time. */
  forwards: 208,
  /** Elements of map `forward_flows`. */
  forwardSets: 212,
  /** Sets of map `heads` of each worker (heads-layout.ts); 0: the program forwards no heads. */
  headSets: 216,
  /** The main thread and the engines add to it: heads of another value are void. */
  headGeneration: 220,
  headKey: 224,
  /** Four words: the key of aliases. */
  alias: 240,
  /** Virtual servers with an IPv6 address. The main thread may write it at any time. */
  ipv6: 256,
  mostFrame: 260,
  /** 1: the balancer has an IPv6 address, and `own6` is it. */
  hasOwn6: 264,
  own6: 268,
} as const;
export const CONTROL_BYTES = 288;
export const INLINE_SERVERS = 4;
export const INLINE_SERVER_BYTES = 8;
/** Flags of a virtual server, beside its slot: it takes no new sessions, and */
export const SERVER_RETIRED = 0x8000;
/** the ACKs that end its handshakes go to the engine. */
export const SERVER_ACKS_UP = 0x4000;
export const SERVER_SLOT = 0x3fff;
/** An entry of CONTROL.inlineServers is free. */
export const NO_SERVER = 0xffff;

/** How frames leave through the interface that they arrived on: OUTPUT_* of bpf/lib/session.h. */
export const OUTPUT = {
  /** XDP_TX may lose frames on this interface. */
  redirect: 1,
  /** XDP is generic, so frames keep their socket buffers. */
  generic: 2,
} as const;

/** struct xdp_node, the element of map `nodes`. */
export const NODE = {
  destination: 0,
  source: 6,
  interface: 12,
  /** Network byte order, as is `balancer`. */
  address: 16,
  redirect: 20,
  /** Bytes before each carried packet; 0: the node is on the link. */
  carry: 24,
  most: 28,
  /** The balancer's address in IXP headers, or its alias. */
  balancer: 32,
  /** FAMILY_IPV6: `address` is an alias, and `address6` the address. */
  family: 36,
  address6: 40,
} as const;
export const NODE_BYTES = 64;
export const FAMILY_IPV6 = 6;
/** In place of the interface: the node is this machine (OWN_STACK of bpf/lib/config.h). */
export const OWN_STACK = 0xffff_ffff;

/**
 * Bytes of a kernel event in a ring buffer: a header of 8 and an event of 36, rounded up to a
 * multiple of 8.
 */
const RING_RECORD_BYTES = 48;
/**
 * The smallest is a multiple of the page size on any machine. The largest holds more than 20,000
 * events.
 */
const SMALLEST_RING_BYTES = 1 << 16;
const LARGEST_RING_BYTES = 1 << 20;

/**
 * Size in bytes of the ring buffer for a worker's kernel events. It has room for half of the
 * half-open sessions that the worker may have: the kernel can fill it before the worker counts
 * them.
 */
export function eventRingBytes(halfOpen: number): number {
  let bytes = SMALLEST_RING_BYTES;
  while (bytes < LARGEST_RING_BYTES && 2 * eventRingRecords(2 * bytes) <= halfOpen) bytes *= 2;
  return bytes;
}

/** Number of events that a ring buffer of this size holds. */
export function eventRingRecords(bytes: number): number {
  return Math.floor(bytes / RING_RECORD_BYTES);
}
