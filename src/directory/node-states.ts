/**
 * What an engine knows of each node: where its frames go, whether it takes handoffs, and how many
 * sessions it has. Filled by the control side, read by predictors and by every forwarded packet.
 *
 * A balancer may have several engines, one in each thread, and what a node tells reaches one of
 * them. So what is known of the node itself lies in memory that all share (node-memory.ts).
 */
import { IxcpFlag, IxcpReason, refusedOptions } from '../wire/ixcp.js';
import { IxpFlag } from '../wire/ixp.js';
import {
  type NodeShare,
  type NodeViews,
  nodeMemory,
  nodeViews,
  Outcome,
  rowWords,
} from './node-memory.js';

/** Silent handoffs in a row after which a node is left alone for a while. */
const FAILURES_TO_SUSPEND = 3;
/**
 * How long, in ms, unless its agent is started anew before; and one of which no agent has ever been
 * heard.
 */
const SUSPENSION_MS = 5_000;
const UNHEARD_SUSPENSION_MS = 60_000;
/**
 * Refusals in a row after which a node is asked last, for so long, in ms: each costs the client a
 * round trip to it.
 */
const REFUSALS_TO_REST = 3;
const REST_MS = 1_000;
const MOST_REFUSALS = 0xff;
/**
 * A server that stands still is left alone for so long, in ms, and then tried with one session at a
 * time: the time in which that is taken back again, or answered.
 */
const STANDSTILL_MS = 5_000;
const TRIAL_MS = 2_000;

/**
 * Options that a session cannot go on without once they are agreed. Without SACK it can: nobody has
 * to use it (RFC 2018).
 */
const NEEDED_OPTIONS = IxpFlag.windowScaleOk | IxpFlag.timestampsOk;

/** How long the last report must be past, in ms, before one with an earlier clock is believed. */
const CLOCK_MS = 5_000;

/** All that the engines know of a node at some time, but for its sessions. */
export interface NodeKnowledge {
  resolved: boolean;
  /** ms since its agent's last report; null: never. */
  reportAgeMs: number | null;
  /** A report under another key came, and none under ours since. */
  otherKey: boolean;
  /** IxcpFlag bits of the last report. */
  flags: number;
  /** It did not answer its last handoff, or so many that it is left alone. */
  failed: boolean;
  suspended: boolean;
  /**
   * By index of the virtual server. 1: its address is not there; and what became of its last
   * handoff (Outcome).
   */
  lacks: Uint8Array;
  outcomes: Uint8Array;
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
  /** When its MAC address last changed from one to another, ms on the engine's clock. */
  readonly movedAt: Float64Array;
  /**
   * 0: the node itself has said that it can not adopt, or that it is leaving. 1: it can, or has not
   * said.
   */
  readonly able: Uint8Array;
  /** Sessions that this engine has handed over, not yet closed. */
  readonly active: Uint32Array;
  /** Handoffs to it that this engine has seen confirmed, ever. */
  readonly adopted: Float64Array;
  /** When the node's agent reported last, ms on the engines' clock; -1: never. */
  readonly reportedAt: Float64Array;
  private readonly servers: number;
  private readonly shared: NodeViews;
  private readonly rowWords: number;

  /**
   * @param share with other engines, whose clock must be the same; by default there are none, and
   *   one virtual server
   */
  constructor(
    nodes: readonly { address: number; weight: number }[],
    share: NodeShare = ownShare(nodes.length, 1),
  ) {
    this.count = nodes.length;
    this.address = Uint32Array.from(nodes, (node) => node.address);
    this.weight = Uint32Array.from(nodes, (node) => node.weight);
    this.macHigh = new Uint16Array(this.count);
    this.macLow = new Uint32Array(this.count);
    this.resolved = new Uint8Array(this.count);
    this.movedAt = new Float64Array(this.count).fill(Number.NEGATIVE_INFINITY);
    this.adopted = new Float64Array(this.count);
    this.servers = share.servers;
    this.shared = nodeViews(share.memory, this.count, share.workers, share.servers);
    this.rowWords = rowWords(this.count);
    const row = share.worker * this.rowWords;
    this.active = this.shared.rows.subarray(row, row + this.count);
    this.able = this.shared.able;
    this.reportedAt = this.shared.reportedAt;
  }

  /** Index of the node with this IPv4 address, or -1. */
  find(address: number): number {
    return this.address.indexOf(address);
  }

  /** Sessions of all engines that the node has. */
  load(node: number): number {
    const { rowWords, shared } = this;
    const { rows } = shared;
    let sum = rows[node]!;
    for (let at = node + rowWords; at < rows.length; at += rowWords) sum += rows[at]!;
    return sum;
  }

  /**
   * Sets the MAC address (six bytes), or marks the node unresolved. `now`: ms on the engine's
   * clock.
   */
  setMac(node: number, mac: Uint8Array | undefined, now = 0): void {
    if (mac === undefined) {
      this.resolved[node] = 0;
      return;
    }
    const view = new DataView(mac.buffer, mac.byteOffset, 6);
    const high = view.getUint16(0);
    const low = view.getUint32(2);
    const known = this.macHigh[node] !== 0 || this.macLow[node] !== 0;
    if (known && (high !== this.macHigh[node] || low !== this.macLow[node]))
      this.movedAt[node] = now;
    this.macHigh[node] = high;
    this.macLow[node] = low;
    this.resolved[node] = 1;
  }

  /**
   * Whether a session of a virtual server, in which these options were agreed, can be handed to the
   * node at `now`.
   * @param options IxpFlag bits; others count for nothing
   */
  takesHandoffs(node: number, server: number, options: number, now: number): boolean {
    const { shared } = this;
    const pair = node * this.servers + server;
    return (
      this.resolved[node] === 1 &&
      this.able[node] === 1 &&
      shared.lacks[pair] === 0 &&
      (shared.refused[node]! & options & NEEDED_OPTIONS) === 0 &&
      now >= shared.suspendedUntil[node]! &&
      now >= shared.restsUntil[pair]!
    );
  }

  /** IxpFlag bits of the options that SYN/ACKs do not offer. */
  get withheld(): number {
    return this.shared.withheld[0]!;
  }

  /**
   * IxpFlag bits of the agreed options that a node need not be told of: it does without. @param
   * node -1: ourselves
   */
  spared(node: number): number {
    const refused = node < 0 ? this.shared.ownRefused[0]! : this.shared.refused[node]!;
    return refused & IxpFlag.sackOk;
  }

  /** True while the node is left alone because it did not answer. */
  isSuspended(node: number, now: number): boolean {
    return now < this.shared.suspendedUntil[node]!;
  }

  /**
   * Whether the last handoff to the node ran out of tries, or its last one of this virtual server
   * was refused.
   */
  hasFailed(node: number, server: number): boolean {
    const { failures, refusals } = this.shared;
    return failures[node] !== 0 || refusals[node * this.servers + server] !== 0;
  }

  /** The node has adopted a session of this virtual server, so it takes them. */
  answered(node: number, server: number): void {
    const { outcome, refusals, restsUntil } = this.shared;
    const pair = node * this.servers + server;
    this.forgive(node);
    // Said at every handoff, and mostly no news: then others' caches are left alone. A kernel
    // adopts for a server that stands still.
    if (outcome[pair] === Outcome.adopted || outcome[pair] === Outcome.unread) return;
    outcome[pair] = Outcome.adopted;
    refusals[pair] = 0;
    restsUntil[pair] = 0;
  }

  /** The node has refused a handoff of this virtual server. @param reason IxcpReason */
  refused(node: number, server: number, reason: number, now: number): void {
    // That is about one client alone.
    if (reason === IxcpReason.tupleInUse) return;
    const { outcome, refusals, restsUntil } = this.shared;
    const pair = node * this.servers + server;
    outcome[pair] = reason;
    refusals[pair] = Math.min(MOST_REFUSALS, refusals[pair]! + 1);
    if (refusals[pair]! >= REFUSALS_TO_REST) restsUntil[pair] = now + REST_MS;
  }

  /**
   * The node's kernel has adopted a session of this virtual server, but its server reads nothing.
   */
  standsStill(node: number, server: number, now: number): void {
    const { outcome, restsUntil } = this.shared;
    const pair = node * this.servers + server;
    outcome[pair] = Outcome.unread;
    restsUntil[pair] = now + STANDSTILL_MS;
  }

  /** A session of this virtual server begins there. */
  begins(node: number, server: number, now: number): void {
    const { outcome, restsUntil } = this.shared;
    const pair = node * this.servers + server;
    if (outcome[pair] === Outcome.unread) restsUntil[pair] = now + TRIAL_MS;
  }

  /** The node's server has answered, or closed, a session of this virtual server. */
  serves(node: number, server: number): void {
    const { outcome, restsUntil } = this.shared;
    const pair = node * this.servers + server;
    if (outcome[pair] !== Outcome.unread) return;
    outcome[pair] = Outcome.adopted;
    restsUntil[pair] = 0;
  }

  /** Whether the node knows IXP_RELEASE. */
  canRelease(node: number): boolean {
    return (this.shared.reported[node]! & IxcpFlag.canRelease) !== 0;
  }

  /** A report came under another key than ours. */
  hasOtherKey(node: number, now: number): void {
    this.shared.badKeyAt[node] = now;
  }

  /**
   * Takes in a report of the node's agent: its start (any number that differs between starts), its
   * clock in s, and its IxcpFlag bits. False for a report that is older than one already taken in.
   */
  reported(node: number, start: number, clock: number, flags: number, now: number): boolean {
    const { shared } = this;
    const first = this.reportedAt[node]! < 0;
    const anew = start !== shared.agentStart[node] && now - this.reportedAt[node]! > CLOCK_MS;
    // A machine's clock may be set back: a new agent counts, once the reports of the old one have
    // stopped.
    if (!first && clock < shared.agentClock[node]! && !anew) return false;
    // A new agent means a new shim: what the node was left alone for may be mended.
    if (first || start !== shared.agentStart[node]) this.forgiveAll(node);
    shared.agentStart[node] = start;
    shared.agentClock[node] = clock;
    shared.reported[node] = flags;
    shared.refused[node] = refusedOptions(flags);
    this.reportedAt[node] = now;
    this.able[node] =
      (flags & (IxcpFlag.canAdopt | IxcpFlag.leaving)) === IxcpFlag.canAdopt ? 1 : 0;
    return true;
  }

  /**
   * IxcpFlag bits of the last report of a node that takes handoffs of some virtual server; 0 of any
   * other.
   */
  flagsOfTaker(node: number): number {
    const { shared, servers } = this;
    if (this.resolved[node] === 0 || this.able[node] === 0 || this.reportedAt[node]! < 0) return 0;
    for (let pair = node * servers; pair < (node + 1) * servers; pair++) {
      if (shared.lacks[pair] === 0) return shared.reported[node]!;
    }
    return 0;
  }

  /** The node has said whether it has the address of a virtual server. */
  setLacks(node: number, server: number, lacks: boolean): void {
    this.shared.lacks[node * this.servers + server] = lacks ? 1 : 0;
  }

  /** A handoff ran out of tries at this node. True when that suspends it. */
  stayedSilent(node: number, now: number): boolean {
    const { failures, suspendedUntil } = this.shared;
    failures[node] = failures[node]! + 1;
    if (failures[node]! < FAILURES_TO_SUSPEND) return false;
    const unheard = this.reportedAt[node]! < 0;
    suspendedUntil[node] = now + (unheard ? UNHEARD_SUSPENSION_MS : SUSPENSION_MS);
    return true;
  }

  /** What is known of the node at `now`. */
  knowledge(node: number, now: number): NodeKnowledge {
    const { shared, servers } = this;
    const reportedAt = this.reportedAt[node]!;
    const first = node * servers;
    return {
      resolved: this.resolved[node] === 1,
      reportAgeMs: reportedAt < 0 ? null : Math.max(0, now - reportedAt),
      otherKey: shared.badKeyAt[node]! > reportedAt,
      flags: shared.reported[node]!,
      failed: shared.failures[node] !== 0,
      suspended: this.isSuspended(node, now),
      lacks: shared.lacks.slice(first, first + servers),
      outcomes: shared.outcome.slice(first, first + servers),
    };
  }

  /**
   * What SYN/ACKs do not offer from now on, and what our own kernel does not go on with, which the
   * local services do without if they can. IxpFlag bits.
   */
  withhold(options: number, ownRefused: number): void {
    this.shared.withheld[0] = options;
    this.shared.ownRefused[0] = ownRefused;
  }

  private forgive(node: number): void {
    const { failures, suspendedUntil } = this.shared;
    if (failures[node] === 0 && suspendedUntil[node] === 0) return;
    failures[node] = 0;
    suspendedUntil[node] = 0;
  }

  private forgiveAll(node: number): void {
    const { outcome, refusals, restsUntil } = this.shared;
    const first = node * this.servers;
    const end = first + this.servers;
    this.forgive(node);
    outcome.fill(Outcome.none, first, end);
    refusals.fill(0, first, end);
    restsUntil.fill(0, first, end);
  }
}

/** For an engine that shares with no other what it knows of so many nodes and virtual servers. */
export function ownShare(nodes: number, servers: number): NodeShare {
  return { memory: nodeMemory(nodes, 1, servers), worker: 0, workers: 1, servers };
}
