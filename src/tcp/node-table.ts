/**
 * What an engine knows of each node: where its frames go, whether it takes handoffs, and how many
 * sessions it has. Filled by the control side, read by predictors and by every forwarded packet.
 *
 * A balancer may have several engines, one in each thread, and what a node tells reaches one of them. So
 * what is known of the node itself lies in memory that all share, and so does each engine's count of
 * sessions, a row for each, written by that engine alone. There are no locks: every value stands for
 * itself, and one that is a moment old does no harm.
 *
 *     node         0  1  2 ...
 *     engine 0     4  0  7        sessions; a node's load is the sum of its column
 *     engine 1     3  1  5
 */

/** Silent handoffs in a row after which a node is left alone for a while. */
const FAILURES_TO_SUSPEND = 3;
/** How long, in ms, unless its agent is started anew before. */
const SUSPENSION_MS = 5_000;

/** How long the last report must be past, in ms, before one with an earlier clock is believed. */
const CLOCK_MS = 5_000;

/** Rows begin at cache lines: engines that count do not disturb each other. */
const LINE_WORDS = 16;
/** Of the shared part of a node: two doubles, three words, two bytes. */
const SHARED_BYTES = 30;

/** Which engine this is of those that share `memory`. */
export interface NodeShare {
  /** Of `nodeMemory`. */
  memory: SharedArrayBuffer;
  worker: number;
  workers: number;
}

/** Memory for what so many engines share about so many nodes, of which nothing is known yet. */
export function nodeMemory(nodes: number, workers: number): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(
    workers * rowWords(nodes) * Uint32Array.BYTES_PER_ELEMENT + nodes * SHARED_BYTES,
  );
  const { reportedAt, able } = sharedViews(memory, nodes, workers);
  reportedAt.fill(-1);
  able.fill(1);
  return memory;
}

function rowWords(nodes: number): number {
  return Math.ceil(nodes / LINE_WORDS) * LINE_WORDS;
}

interface SharedViews {
  /** Rows of `active`, one after the other. */
  rows: Uint32Array;
  reportedAt: Float64Array;
  suspendedUntil: Float64Array;
  agentStart: Uint32Array;
  agentClock: Uint32Array;
  failures: Uint32Array;
  able: Uint8Array;
  leaving: Uint8Array;
}

function sharedViews(memory: SharedArrayBuffer, nodes: number, workers: number): SharedViews {
  const rows = new Uint32Array(memory, 0, workers * rowWords(nodes));
  let at = rows.byteLength;
  const after = (bytes: number): number => {
    at += bytes;
    return at - bytes;
  };
  // The widest first, so that each is aligned.
  return {
    rows,
    reportedAt: new Float64Array(memory, after(nodes * 8), nodes),
    suspendedUntil: new Float64Array(memory, after(nodes * 8), nodes),
    agentStart: new Uint32Array(memory, after(nodes * 4), nodes),
    agentClock: new Uint32Array(memory, after(nodes * 4), nodes),
    failures: new Uint32Array(memory, after(nodes * 4), nodes),
    able: new Uint8Array(memory, after(nodes), nodes),
    leaving: new Uint8Array(memory, after(nodes), nodes),
  };
}

export class NodeTable {
  readonly count: number;
  /** IPv4 addresses. */
  readonly address: Uint32Array;
  /** Upper 16 and lower 32 bits of each MAC address, as they stand on the wire. */
  readonly macHigh: Uint16Array;
  readonly macLow: Uint32Array;
  readonly weight: Uint32Array;
  /** 1: the MAC address is resolved. */
  readonly resolved: Uint8Array;
  /** 0: the node itself has said that it can not adopt, or that it is leaving. 1: it can, or has not said. */
  readonly able: Uint8Array;
  /** Sessions that this engine has handed over, not yet closed. */
  readonly active: Uint32Array;
  /** Handoffs to it that this engine has seen confirmed, ever. */
  readonly adopted: Float64Array;
  /** When the node's agent reported last, ms on the engines' clock; -1: never. */
  readonly reportedAt: Float64Array;
  /** 1: the agent has said that it is stopping. */
  readonly leaving: Uint8Array;
  /** Start and clock of the agent, from its last report. */
  private readonly agentStart: Uint32Array;
  private readonly agentClock: Uint32Array;
  private readonly failures: Uint32Array;
  private readonly suspendedUntil: Float64Array;

  private readonly rows: Uint32Array;
  private readonly rowWords: number;

  /** @param share with other engines, whose clock must be the same; by default there are none */
  constructor(
    nodes: readonly { address: number; weight: number }[],
    { memory, worker, workers }: NodeShare = { memory: nodeMemory(nodes.length, 1), worker: 0, workers: 1 },
  ) {
    this.count = nodes.length;
    this.address = Uint32Array.from(nodes, (node) => node.address);
    this.weight = Uint32Array.from(nodes, (node) => node.weight);
    this.macHigh = new Uint16Array(this.count);
    this.macLow = new Uint32Array(this.count);
    this.resolved = new Uint8Array(this.count);
    this.adopted = new Float64Array(this.count);
    const shared = sharedViews(memory, this.count, workers);
    this.rows = shared.rows;
    this.rowWords = rowWords(this.count);
    this.active = this.rows.subarray(worker * this.rowWords, worker * this.rowWords + this.count);
    this.able = shared.able;
    this.reportedAt = shared.reportedAt;
    this.leaving = shared.leaving;
    this.agentStart = shared.agentStart;
    this.agentClock = shared.agentClock;
    this.failures = shared.failures;
    this.suspendedUntil = shared.suspendedUntil;
  }

  /** Index of the node with this IPv4 address, or -1. */
  find(address: number): number {
    return this.address.indexOf(address);
  }

  /** Sessions of all engines that the node has. */
  load(node: number): number {
    const { rows, rowWords } = this;
    let sum = rows[node]!;
    for (let at = node + rowWords; at < rows.length; at += rowWords) sum += rows[at]!;
    return sum;
  }

  /** Sets the MAC address (six bytes), or marks the node unresolved. */
  setMac(node: number, mac: Uint8Array | undefined): void {
    if (mac === undefined) {
      this.resolved[node] = 0;
      return;
    }
    const view = new DataView(mac.buffer, mac.byteOffset, 6);
    this.macHigh[node] = view.getUint16(0);
    this.macLow[node] = view.getUint32(2);
    this.resolved[node] = 1;
  }

  /** Whether a session can be handed to the node at `now`. */
  takesHandoffs(node: number, now: number): boolean {
    return this.resolved[node] === 1 && this.able[node] === 1 && now >= this.suspendedUntil[node]!;
  }

  /** True while the node is left alone because it did not answer. */
  isSuspended(node: number, now: number): boolean {
    return now < this.suspendedUntil[node]!;
  }

  /** Whether a handoff ran out of tries at this node, and it has not answered since. */
  hasFailed(node: number): boolean {
    return this.failures[node] !== 0;
  }

  /** The node answered: whatever it was suspended for is over. */
  answered(node: number): void {
    // Said at every handoff, and mostly no news: then others' caches are left alone.
    if (this.failures[node] === 0 && this.suspendedUntil[node] === 0) return;
    this.failures[node] = 0;
    this.suspendedUntil[node] = 0;
  }

  /**
   * Takes in a report of the node's agent: its start (any number that differs between starts), its
   * clock in s, and what it can do. False for a report that is older than one already taken in.
   */
  reported(
    node: number,
    start: number,
    clock: number,
    canAdopt: boolean,
    leaving: boolean,
    now: number,
  ): boolean {
    const first = this.reportedAt[node]! < 0;
    const anew = start !== this.agentStart[node] && now - this.reportedAt[node]! > CLOCK_MS;
    // A machine's clock may be set back: a new agent counts, once the reports of the old one have stopped.
    if (!first && clock < this.agentClock[node]! && !anew) return false;
    // A new agent means a new shim: what the node was suspended for may be mended.
    if (first || start !== this.agentStart[node]) this.answered(node);
    this.agentStart[node] = start;
    this.agentClock[node] = clock;
    this.reportedAt[node] = now;
    this.leaving[node] = leaving ? 1 : 0;
    this.able[node] = canAdopt && !leaving ? 1 : 0;
    return true;
  }

  /** A handoff ran out of tries at this node. True when that suspends it. */
  stayedSilent(node: number, now: number): boolean {
    const failures = this.failures[node]! + 1;
    this.failures[node] = failures;
    if (failures < FAILURES_TO_SUSPEND) return false;
    this.suspendedUntil[node] = now + SUSPENSION_MS;
    return true;
  }
}
