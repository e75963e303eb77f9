/**
 * What the engines of a balancer, and its main thread, know of the nodes together: one piece of
 * shared memory. There are no locks: every value stands for itself, and one that is a moment old
 * does no harm.
 *
 *     node         0  1  2 ...
 *     engine 0     4  0  7        sessions; a node's load is the sum of its column
 *     engine 1     3  1  5
 *
 * Each engine writes its own row. What nodes report, the engine writes that hears it; what is
 * offered to clients (`withheld`, `ownRefused`), the main thread.
 */

/** Rows begin at cache lines: engines that count do not disturb each other. */
const LINE_WORDS = 16;

/**
 * What became of the last handoff of a virtual server to a node: nothing yet, adopted, adopted and
 * never read, or the IxcpReason of its refusal.
 */
export const Outcome = { none: 0, unread: 0xfe, adopted: 0xff } as const;

/** Which engine this is of those that share `memory`, about how many virtual servers. */
export interface NodeShare {
  /** Of `nodeMemory`. */
  memory: SharedArrayBuffer;
  worker: number;
  workers: number;
  servers: number;
}

export interface NodeViews {
  /** Sessions: rows of `rowWords(nodes)` words, one for each engine. */
  rows: Uint32Array;
  /**
   * When the agent reported last, and last under another key: ms on the engines' clock; -1: never.
   */
  reportedAt: Float64Array;
  badKeyAt: Float64Array;
  suspendedUntil: Float64Array;
  agentStart: Uint32Array;
  agentClock: Uint32Array;
  failures: Uint32Array;
  /** IxcpFlag bits of the last report. */
  reported: Uint16Array;
  able: Uint8Array;
  /** IxpFlag bits of the options that the node's kernel does not go on with. */
  refused: Uint8Array;
  /** The following by node * servers + virtual server. When it may be asked first again, ms. */
  restsUntil: Float64Array;
  /** Outcome of the last handoff, and how many in a row were refused. */
  outcome: Uint8Array;
  refusals: Uint8Array;
  /** 1: the node has said that it has not the virtual address. */
  lacks: Uint8Array;
  /**
   * IxpFlag bits: the options that SYN/ACKs do not offer; and those that our own kernel does not go
   * on with.
   */
  withheld: Uint8Array;
  ownRefused: Uint8Array;
}

/** Words of one engine's row. */
export function rowWords(nodes: number): number {
  return Math.ceil(nodes / LINE_WORDS) * LINE_WORDS;
}

/**
 * Bytes of the shared part of a node: three doubles, three words, a half word, two bytes; and of a
 * pair of node and server.
 */
const NODE_BYTES = 3 * 8 + 3 * 4 + 2 + 2;
const PAIR_BYTES = 8 + 3;
/** Of what is about no node. */
const OWN_BYTES = 2;

/**
 * Memory for what so many engines share about so many nodes and virtual servers, of which nothing
 * is known yet.
 */
export function nodeMemory(nodes: number, workers: number, servers = 1): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(
    workers * rowWords(nodes) * Uint32Array.BYTES_PER_ELEMENT +
      nodes * NODE_BYTES +
      nodes * servers * PAIR_BYTES +
      OWN_BYTES,
  );
  const { reportedAt, badKeyAt, able } = nodeViews(memory, nodes, workers, servers);
  reportedAt.fill(-1);
  badKeyAt.fill(-1);
  able.fill(1);
  return memory;
}

/** The parts of such memory. */
export function nodeViews(
  memory: SharedArrayBuffer,
  nodes: number,
  workers: number,
  servers: number,
): NodeViews {
  const rows = new Uint32Array(memory, 0, workers * rowWords(nodes));
  const pairs = nodes * servers;
  let at = rows.byteLength;
  const after = (bytes: number): number => {
    at += bytes;
    return at - bytes;
  };
  // The widest first, so that each is aligned.
  return {
    rows,
    reportedAt: new Float64Array(memory, after(nodes * 8), nodes),
    badKeyAt: new Float64Array(memory, after(nodes * 8), nodes),
    suspendedUntil: new Float64Array(memory, after(nodes * 8), nodes),
    restsUntil: new Float64Array(memory, after(pairs * 8), pairs),
    agentStart: new Uint32Array(memory, after(nodes * 4), nodes),
    agentClock: new Uint32Array(memory, after(nodes * 4), nodes),
    failures: new Uint32Array(memory, after(nodes * 4), nodes),
    reported: new Uint16Array(memory, after(nodes * 2), nodes),
    able: new Uint8Array(memory, after(nodes), nodes),
    refused: new Uint8Array(memory, after(nodes), nodes),
    outcome: new Uint8Array(memory, after(pairs), pairs),
    refusals: new Uint8Array(memory, after(pairs), pairs),
    lacks: new Uint8Array(memory, after(pairs), pairs),
    withheld: new Uint8Array(memory, after(1), 1),
    ownRefused: new Uint8Array(memory, after(1), 1),
  };
}
