/**
 * Layout of the tables of virtual servers with mode forward: bpf/lib/forward.h, which test/kernel
 * compares with this file. Offsets are in bytes, numbers in host byte order.
 */

/** Times in the tables are ticks: units of 1024 ms, in 22 bits. */
export const TICK_SHIFT = 10;
export const TICK_MASK = 0x3fffff;
/** Ticks by which a time may be ahead of the reader's: about a minute. */
export const TICKS_AHEAD = 64;
/** ms of a tick. */
export const TICK_MS = 1 << TICK_SHIFT;

/** In place of the slot of a node. */
export const NO_NODE = 0xffff;
/** Places in `picks` of a virtual server. */
export const MOST_PICKS = 240;

/** struct forward_server, by slot of the virtual server. */
export const FORWARD_SERVER = {
  flags: 0,
  buckets: 4,
  firstBucket: 8,
  stickyMask: 12,
  clientSeed: 16,
  portSeed: 20,
  cursor: 24,
  pickCount: 28,
  picks: 32,
} as const;
export const FORWARD_SERVER_BYTES = 512;
export const ServerFlag = { inUse: 1, closed: 2 } as const;

/** struct forward_bucket. */
export const FORWARD_BUCKET = { node: 0, seen: 4 } as const;
export const FORWARD_BUCKET_BYTES = 8;

/** struct forward_node, by slot of the node. */
export const FORWARD_NODE_BYTES = 8;
export const NodeFlag = {
  /** Packets of its flows go to it. */
  keeps: 1,
  /** It gets new flows. */
  takes: 2,
} as const;

/** struct forward_flow. */
export const FORWARD_FLOW = {
  client: 0,
  ports: 4,
  node: 8,
  server: 10,
  kind: 11,
  seen: 12,
} as const;
export const FORWARD_FLOW_BYTES = 16;
/** Records of a set. */
export const WAYS = 4;
/** Sets that may have a record, and sets of which one is a record's first candidate. */
export const CANDIDATES = 3;
export const NEAR_SETS = 8192;
/** Bits of `kind`, and of the state in its upper half. */
export const FlowKind = { none: 0, flow: 1, sticky: 2, fragment: 3 } as const;
export const KIND_MASK = 0x0f;
export const FlowState = { second: 0x10, fin: 0x20, rst: 0x40 } as const;

/** struct forward_address, the key of map `forward_addresses`: bytes as in a packet, then host. */
export const FORWARD_ADDRESS = { address: 0, transport: 4 } as const;
export const FORWARD_ADDRESS_BYTES = 8;
/** struct forward_span, its value. */
export const FORWARD_SPAN = { first: 0, count: 4 } as const;
export const FORWARD_SPAN_BYTES = 8;
/** struct forward_range, the element of map `forward_ranges`. */
export const FORWARD_RANGE = { from: 0, to: 2, slot: 4 } as const;
export const FORWARD_RANGE_BYTES = 8;
/**
 * struct inline_span, an entry of map `inline_spans`: an address, as bytes in a packet, then
 * transport, count and first in one number.
 */
export const INLINE_SPAN = { address: 0, span: 4 } as const;
export const INLINE_SPAN_BYTES = 8;
export const INLINE_SPANS = 4;
export const SPAN_COUNT_SHIFT = 13;
export const SPAN_TRANSPORT_SHIFT = 26;
/** Ranges of all virtual servers. The map has room for twice as many. */
export const MOST_FORWARD_RANGES = 4096;

/** struct forward_count: what each CPU or engine thread has counted. */
export const FORWARD_COUNT = { packets: 0, bytes: 8, flows: 16 } as const;
export const FORWARD_COUNT_BYTES = 24;
