/**
 * The states of the nodes, in memory that all threads of a balancer share. There are no locks: no
 * value depends on another one, and a slightly old value is good enough.
 *
 *     node            0  1  2 ...
 *     engine 0        4  0  7     active sessions; a node's load is the sum of its column
 *     engine 1        3  1  5
 *     engine 0        6  0  7     sessions held: the active ones, and those that linger
 *     engine 1        3  2  5
 *
 * Each engine writes its own two rows. A report is written by the engine that receives it. The main
 * thread writes `weight` and `admin`, and engines see them at their next pick.
 *
 * A node and a virtual server are named by their slots. The memory has a place for every slot, in
 * use or not.
 */

/** Rows begin at cache lines: engines that count do not disturb each other. */
const LINE_WORDS = 16;

/**
 * Result of the last handoff of a virtual server to a node: none yet, adopted, adopted by the
 * kernel while the web server has stalled and reads nothing, or the IxcpReason of a refusal.
 */
export const Outcome = { none: 0, stalled: 0xfe, adopted: 0xff } as const;

/** What operators say about a node. Only a node that is `up` gets new sessions. */
export const Admin = {
  up: 0,
  /** It keeps its sessions. */
  draining: 1,
  /** It gets nothing. */
  maintenance: 2,
} as const;
export type AdminState = (typeof Admin)[keyof typeof Admin];

/** How a node takes sessions, as the config says. */
export const Way = {
  /** It adopts them; it replays the handshake of those that its kernel cannot adopt. */
  auto: 0,
  adopt: 1,
  replay: 2,
} as const;
export type WayCode = (typeof Way)[keyof typeof Way];

/** The place of one engine among those that share `memory`. */
export interface NodeShare {
  /** Of `nodeMemory`, which had the same `nodes`, `workers` and `servers`. */
  memory: SharedArrayBuffer;
  /** Slots for nodes. */
  nodes: number;
  worker: number;
  workers: number;
  /** Slots for virtual servers. */
  servers: number;
}

export interface NodeViews {
  /** Active sessions: rows of `rowWords(nodes)` words, one for each engine. */
  rows: Uint32Array;
  /** Sessions held, laid out in the same way. */
  heldRows: Uint32Array;
  /** When the agent last reported: ms on the engines' clock; -1: never. */
  reportedAt: Float64Array;
  /** When a report last came under another key: ms on the engines' clock; -1: never. */
  badKeyAt: Float64Array;
  suspendedUntil: Float64Array;
  agentStart: Uint32Array;
  agentClock: Uint32Array;
  /** Handoffs in a row that timed out. */
  failures: Uint32Array;
  /** Share of new sessions; 0: the node gets none. */
  weight: Uint32Array;
  /** IxcpFlag bits of the last report. */
  reported: Uint16Array;
  able: Uint8Array;
  /** IxpFlag bits of the options that the node's kernel refuses. */
  refused: Uint8Array;
  /** AdminState. */
  admin: Uint8Array;
  /** WayCode. */
  way: Uint8Array;
  // The following by node * servers + virtual server.
  /** Until when the node is the last choice, ms. */
  restsUntil: Float64Array;
  /** Outcome of the last handoff. */
  outcome: Uint8Array;
  /** Handoffs in a row that were refused. */
  refusals: Uint8Array;
  /** 1: the node has reported that it does not have the virtual address. */
  lacks: Uint8Array;
  /** 1: the node's kernel has refused to adopt a session of the virtual server. */
  unadoptable: Uint8Array;
}

/** Words of one engine's row. */
export function rowWords(nodes: number): number {
  return Math.ceil(nodes / LINE_WORDS) * LINE_WORDS;
}

/** Bytes of a node: three doubles, four words, a half word, four bytes. */
const NODE_BYTES = 3 * 8 + 4 * 4 + 2 + 4;
/** Bytes of a pair of node and virtual server. */
const PAIR_BYTES = 8 + 4;

/**
 * Memory for this many slots of nodes, engines and slots of virtual servers. Nothing is known yet,
 * and no node has a weight.
 */
export function nodeMemory(nodes: number, workers: number, servers = 1): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(
    2 * workers * rowWords(nodes) * Uint32Array.BYTES_PER_ELEMENT +
      nodes * NODE_BYTES +
      nodes * servers * PAIR_BYTES,
  );
  const { reportedAt, badKeyAt, able } = nodeViews(memory, nodes, workers, servers);
  reportedAt.fill(-1);
  badKeyAt.fill(-1);
  able.fill(1);
  return memory;
}

/** The parts of the memory that `nodeMemory` makes; parameters as there. */
export function nodeViews(
  memory: SharedArrayBuffer,
  nodes: number,
  workers: number,
  servers: number,
): NodeViews {
  const rowsWords = workers * rowWords(nodes);
  const rows = new Uint32Array(memory, 0, rowsWords);
  const heldRows = new Uint32Array(memory, rows.byteLength, rowsWords);
  const pairs = nodes * servers;
  let at = 2 * rows.byteLength;
  const after = (bytes: number): number => {
    at += bytes;
    return at - bytes;
  };
  // The widest first, so that each is aligned.
  return {
    rows,
    heldRows,
    reportedAt: new Float64Array(memory, after(nodes * 8), nodes),
    badKeyAt: new Float64Array(memory, after(nodes * 8), nodes),
    suspendedUntil: new Float64Array(memory, after(nodes * 8), nodes),
    restsUntil: new Float64Array(memory, after(pairs * 8), pairs),
    agentStart: new Uint32Array(memory, after(nodes * 4), nodes),
    agentClock: new Uint32Array(memory, after(nodes * 4), nodes),
    failures: new Uint32Array(memory, after(nodes * 4), nodes),
    weight: new Uint32Array(memory, after(nodes * 4), nodes),
    reported: new Uint16Array(memory, after(nodes * 2), nodes),
    able: new Uint8Array(memory, after(nodes), nodes),
    refused: new Uint8Array(memory, after(nodes), nodes),
    admin: new Uint8Array(memory, after(nodes), nodes),
    way: new Uint8Array(memory, after(nodes), nodes),
    outcome: new Uint8Array(memory, after(pairs), pairs),
    refusals: new Uint8Array(memory, after(pairs), pairs),
    lacks: new Uint8Array(memory, after(pairs), pairs),
    unadoptable: new Uint8Array(memory, after(pairs), pairs),
  };
}
