/**
 * The state of each node: its weight, its sessions, what its agent reports, and how its handoffs
 * ended. Engines write it, predictors and the main thread read it.
 *
 * A balancer may have several engines, one in each thread, and a packet of a node reaches only one
 * of them. So all threads share the memory of the states (node-memory.ts).
 */
import { IxcpFlag, IxcpReason, refusedOptions } from '../wire/ixcp.js';
import {
  Admin,
  type AdminState,
  type NodeShare,
  type NodeViews,
  nodeMemory,
  nodeViews,
  Outcome,
  rowWords,
  Way,
  type WayCode,
} from './node-memory.js';
import { NEEDED_OPTIONS, type NodeObstacle, obstacleOf } from './obstacle.js';

/** Handoffs in a row that must time out before a node is suspended. */
const TIMEOUTS_TO_SUSPEND = 3;
/**
 * Duration of a suspension in ms, and of the suspension of a node whose agent has never reported. A
 * start of the agent ends it earlier.
 */
const SUSPENSION_MS = 5_000;
const UNHEARD_SUSPENSION_MS = 60_000;
/**
 * Refusals in a row that make a node the last choice, and for how long, in ms. Each refusal costs
 * the client a round trip to the node.
 */
const REFUSALS_TO_REST = 3;
const REST_MS = 1_000;
const MOST_REFUSALS = 0xff;
/**
 * How long a node whose web server has stalled is the last choice, in ms. After that the node gets
 * one session in each trial period, in ms: the time in which the session is answered or taken back.
 */
const STALL_MS = 5_000;
const TRIAL_MS = 2_000;

// A plain constant: a pick reads it for each holder.
const UP = Admin.up;

/** Age of the last report, in ms, after which one with an earlier clock is believed. */
const CLOCK_MS = 5_000;

/** IxcpFlag bits of a report, one of which a node needs to take sessions in its way. */
const ABILITIES = {
  [Way.auto]: IxcpFlag.canAdopt | IxcpFlag.canReplay,
  [Way.adopt]: IxcpFlag.canAdopt,
  [Way.replay]: IxcpFlag.canReplay,
} as const;

/** The health of a node at some time. */
export interface NodeHealth {
  /** ms since its agent's last report; null: never. */
  reportAgeMs: number | null;
  /** A report under another key has come, and none under ours since. */
  otherKey: boolean;
  /** IxcpFlag bits of the last report. */
  flags: number;
  /** Its last handoff timed out. */
  failed: boolean;
  /** It is the last choice for a while, since several handoffs in a row have timed out. */
  suspended: boolean;
  /** For each virtual server, by slot. 1: the node does not have its address. */
  lacks: Uint8Array;
  /** For each virtual server, by slot: Outcome of the last handoff. */
  outcomes: Uint8Array;
  /** How it takes sessions, as the config says. */
  way: WayCode;
  /** For each virtual server, by slot. 1: its kernel has refused to adopt a session. */
  unadoptable: Uint8Array;
}

export class NodeStates {
  /** Slots for nodes. */
  readonly count: number;
  /** Share of new sessions, by slot. The main thread writes it (`setWeight`). */
  readonly weight: Uint32Array;
  /**
   * 0: the node has said that it cannot take sessions in its way, or that it is leaving. 1: it can,
   * or has said nothing.
   */
  readonly able: Uint8Array;
  /** Sessions that this engine has handed over and that have not ended. */
  readonly active: Uint32Array;
  /**
   * Sessions of this engine whose record names the node: the active ones, and those that linger.
   */
  readonly heldHere: Uint32Array;
  /** Handoffs that this engine has seen confirmed since it started. */
  readonly adopted: Float64Array;
  /** When the node's agent last reported, ms on the engines' clock; -1: never. */
  readonly reportedAt: Float64Array;
  /** Called when a node may have stopped taking sessions that it took before. */
  onRestrict: () => void = () => {};
  private readonly servers: number;
  private readonly shared: NodeViews;
  private readonly rowWords: number;

  /** @param share of memory that other engines may share, whose clock must be the same */
  constructor(share: NodeShare) {
    this.count = share.nodes;
    this.adopted = new Float64Array(this.count);
    this.servers = share.servers;
    this.shared = nodeViews(share.memory, this.count, share.workers, share.servers);
    this.rowWords = rowWords(this.count);
    const row = share.worker * this.rowWords;
    this.active = this.shared.rows.subarray(row, row + this.count);
    this.heldHere = this.shared.heldRows.subarray(row, row + this.count);
    this.weight = this.shared.weight;
    this.able = this.shared.able;
    this.reportedAt = this.shared.reportedAt;
  }

  /** Sessions of the node, over all engines. */
  load(node: number): number {
    const { rowWords, shared } = this;
    const { rows } = shared;
    let sum = rows[node]!;
    for (let at = node + rowWords; at < rows.length; at += rowWords) sum += rows[at]!;
    return sum;
  }

  /** Sessions of all engines whose record names the node, with those that linger. */
  held(node: number): number {
    const { heldRows } = this.shared;
    let sum = 0;
    for (let at = node; at < heldRows.length; at += this.rowWords) sum += heldRows[at]!;
    return sum;
  }

  /** AdminState of the node. */
  admin(node: number): AdminState {
    return this.shared.admin[node] as AdminState;
  }

  /** @param weight share of new sessions; 0: the node gets none */
  setWeight(node: number, weight: number): void {
    if (this.shared.weight[node] === weight) return;
    this.shared.weight[node] = weight;
    this.onRestrict();
  }

  setAdmin(node: number, admin: AdminState): void {
    this.shared.admin[node] = admin;
    this.onRestrict();
  }

  /** Sets how the node takes sessions. */
  setWay(node: number, way: WayCode): void {
    const { shared } = this;
    if (shared.way[node] === way) return;
    shared.way[node] = way;
    if (this.reportedAt[node]! >= 0) this.setAble(node);
    this.onRestrict();
  }

  /**
   * Forgets everything about a slot that another node takes: it has no weight, and it is up. No
   * session may name the slot.
   */
  clearSlot(node: number): void {
    const { shared, servers } = this;
    this.setWeight(node, 0);
    this.setAdmin(node, Admin.up);
    shared.way[node] = Way.auto;
    this.reportedAt[node] = -1;
    shared.badKeyAt[node] = -1;
    shared.agentStart[node] = 0;
    shared.agentClock[node] = 0;
    shared.reported[node] = 0;
    shared.refused[node] = 0;
    this.able[node] = 1;
    this.clear(node);
    shared.lacks.fill(0, node * servers, (node + 1) * servers);
  }

  /** Forgets what is known of all nodes about a slot that another virtual server takes. */
  clearServer(server: number): void {
    const { shared, servers } = this;
    for (let pair = server; pair < shared.lacks.length; pair += servers) {
      shared.outcome[pair] = Outcome.none;
      shared.refusals[pair] = 0;
      shared.restsUntil[pair] = 0;
      shared.lacks[pair] = 0;
      shared.unadoptable[pair] = 0;
    }
  }

  /** Whether the node gets sessions of this virtual server by replay of the handshake. */
  replays(node: number, server: number): boolean {
    const { shared } = this;
    const way = shared.way[node];
    if (way !== Way.auto) return way === Way.replay;
    return (
      shared.unadoptable[node * this.servers + server] === 1 ||
      (this.reportedAt[node]! >= 0 && (shared.reported[node]! & IxcpFlag.canAdopt) === 0)
    );
  }

  /**
   * The node's kernel has refused to adopt a session of this virtual server. Returns whether the
   * node gets its sessions by replay from now on.
   */
  fallsBack(node: number, server: number): boolean {
    const { shared } = this;
    const able = (shared.reported[node]! & IxcpFlag.canReplay) !== 0;
    if (!able || shared.way[node] !== Way.auto) return false;
    shared.unadoptable[node * this.servers + server] = 1;
    return true;
  }

  /**
   * Whether the node takes a session of this virtual server at `now`. An infinite `now` disregards
   * suspensions and rests, and nothing else.
   * @param options IxpFlag bits of the session's agreed options; other bits are ignored
   */
  available(node: number, server: number, options: number, now: number): boolean {
    const { shared } = this;
    const pair = node * this.servers + server;
    return (
      this.able[node] === 1 &&
      shared.admin[node] === UP &&
      shared.lacks[pair] === 0 &&
      (shared.refused[node]! & options & NEEDED_OPTIONS) === 0 &&
      now >= shared.suspendedUntil[node]! &&
      now >= shared.restsUntil[pair]!
    );
  }

  /** Why `available` is false; undefined where it is true. Parameters as there. */
  obstacle(node: number, server: number, options: number, now: number): NodeObstacle | undefined {
    return obstacleOf(this.shared, node, node * this.servers + server, options, now);
  }

  /** IxpFlag bits of the options that the node's kernel refuses. */
  refusedOptions(node: number): number {
    return this.shared.refused[node]!;
  }

  /** Whether the node is the last choice, since several handoffs in a row have timed out. */
  isSuspended(node: number, now: number): boolean {
    return now < this.shared.suspendedUntil[node]!;
  }

  /**
   * Whether the node's last handoff timed out, or the last one of this virtual server was refused.
   */
  hasFailed(node: number, server: number): boolean {
    const { failures, refusals } = this.shared;
    return failures[node] !== 0 || refusals[node * this.servers + server] !== 0;
  }

  /** A handoff of this virtual server to the node begins. */
  handoffStarted(node: number, server: number, now: number): void {
    const { outcome, restsUntil } = this.shared;
    const pair = node * this.servers + server;
    if (outcome[pair] !== Outcome.stalled) return;
    restsUntil[pair] = now + TRIAL_MS;
    this.onRestrict();
  }

  /** The node has adopted a session of this virtual server. */
  handoffConfirmed(node: number, server: number): void {
    const { outcome, refusals, restsUntil } = this.shared;
    const pair = node * this.servers + server;
    this.clearTimeouts(node);
    // This comes with every handoff and mostly changes nothing. Then it writes nothing, so that the
    // caches of other threads stay valid. A stalled server stays stalled: the kernel adopts for it.
    if (outcome[pair] === Outcome.adopted || outcome[pair] === Outcome.stalled) return;
    outcome[pair] = Outcome.adopted;
    refusals[pair] = 0;
    restsUntil[pair] = 0;
  }

  /** The node has refused a handoff of this virtual server. @param reason IxcpReason */
  handoffRefused(node: number, server: number, reason: number, now: number): void {
    // This reason concerns one client alone.
    if (reason === IxcpReason.tupleInUse) return;
    const { outcome, refusals, restsUntil } = this.shared;
    const pair = node * this.servers + server;
    outcome[pair] = reason;
    refusals[pair] = Math.min(MOST_REFUSALS, refusals[pair]! + 1);
    if (refusals[pair]! < REFUSALS_TO_REST) return;
    restsUntil[pair] = now + REST_MS;
    this.onRestrict();
  }

  /** A handoff to the node has run out of tries. True when that suspends the node. */
  handoffTimedOut(node: number, now: number): boolean {
    const { failures, suspendedUntil } = this.shared;
    failures[node] = failures[node]! + 1;
    if (failures[node]! < TIMEOUTS_TO_SUSPEND) return false;
    const unheard = this.reportedAt[node]! < 0;
    suspendedUntil[node] = now + (unheard ? UNHEARD_SUSPENSION_MS : SUSPENSION_MS);
    this.onRestrict();
    return true;
  }

  /**
   * The node's kernel has adopted a session of this virtual server, but its web server does not
   * read the request.
   */
  serverStalled(node: number, server: number, now: number): void {
    const { outcome, restsUntil } = this.shared;
    const pair = node * this.servers + server;
    outcome[pair] = Outcome.stalled;
    restsUntil[pair] = now + STALL_MS;
    this.onRestrict();
  }

  /** The node's web server has answered, or closed, a session of this virtual server. */
  serverAnswered(node: number, server: number): void {
    const { outcome, restsUntil } = this.shared;
    const pair = node * this.servers + server;
    if (outcome[pair] !== Outcome.stalled) return;
    outcome[pair] = Outcome.adopted;
    restsUntil[pair] = 0;
  }

  /** Whether the node has reported that it can do this: a bit of IxcpFlag. */
  can(node: number, ability: number): boolean {
    return (this.shared.reported[node]! & ability) !== 0;
  }

  /** A report came under another key than ours. */
  otherKeyReported(node: number, now: number): void {
    this.shared.badKeyAt[node] = now;
  }

  /**
   * Takes in a report of the node's agent.
   *
   * @param start any number that differs between two starts of the agent
   * @param clock of the agent, s
   * @param flags IxcpFlag bits
   * @returns false for a report that is older than the last one
   */
  reported(node: number, start: number, clock: number, flags: number, now: number): boolean {
    const { shared } = this;
    const first = this.reportedAt[node]! < 0;
    const restarted = start !== shared.agentStart[node];
    const isStale = clock < shared.agentClock[node]!;
    // A machine's clock may be set back. Then a new agent counts once the reports of the old one
    // have stopped.
    const replaces = restarted && now - this.reportedAt[node]! > CLOCK_MS;
    if (!first && isStale && !replaces) return false;
    // A new agent has loaded the shim again, which may have repaired what went wrong.
    if (first || restarted) this.clear(node);
    shared.agentStart[node] = start;
    shared.agentClock[node] = clock;
    const changes = shared.reported[node] !== flags;
    shared.reported[node] = flags;
    shared.refused[node] = refusedOptions(flags);
    this.reportedAt[node] = now;
    this.setAble(node);
    if (changes) this.onRestrict();
    return true;
  }

  /** The node has reported whether it has the address of a virtual server. */
  setLacks(node: number, server: number, lacks: boolean): void {
    const pair = node * this.servers + server;
    const value = lacks ? 1 : 0;
    if (this.shared.lacks[pair] === value) return;
    this.shared.lacks[pair] = value;
    this.onRestrict();
  }

  /**
   * IxcpFlag bits of the last report of a node that takes sessions of at least one of these virtual
   * servers; 0 of any other node.
   */
  flagsInService(node: number, servers: readonly { slot: number }[]): number {
    const { shared } = this;
    if (this.able[node] === 0 || this.reportedAt[node]! < 0 || shared.admin[node] !== UP) return 0;
    const first = node * this.servers;
    const takes = servers.some(({ slot }) => shared.lacks[first + slot] === 0);
    return takes ? shared.reported[node]! : 0;
  }

  /** The health of the node at `now`. */
  health(node: number, now: number): NodeHealth {
    const { shared, servers } = this;
    const reportedAt = this.reportedAt[node]!;
    const first = node * servers;
    return {
      reportAgeMs: reportedAt < 0 ? null : Math.max(0, now - reportedAt),
      otherKey: shared.badKeyAt[node]! > reportedAt,
      flags: shared.reported[node]!,
      failed: shared.failures[node] !== 0,
      suspended: this.isSuspended(node, now),
      lacks: shared.lacks.slice(first, first + servers),
      outcomes: shared.outcome.slice(first, first + servers),
      way: shared.way[node] as WayCode,
      unadoptable: shared.unadoptable.slice(first, first + servers),
    };
  }

  /** Decides from the node's last report whether it can take sessions in its way. */
  private setAble(node: number): void {
    const { shared } = this;
    const ways = ABILITIES[shared.way[node] as WayCode];
    const flags = shared.reported[node]!;
    this.able[node] = (flags & ways) !== 0 && (flags & IxcpFlag.leaving) === 0 ? 1 : 0;
  }

  /** Clears the count of handoffs that timed out, and ends a suspension. */
  private clearTimeouts(node: number): void {
    const { failures, suspendedUntil } = this.shared;
    if (failures[node] === 0 && suspendedUntil[node] === 0) return;
    failures[node] = 0;
    suspendedUntil[node] = 0;
  }

  /** Clears the results of all handoffs to the node. */
  private clear(node: number): void {
    const { outcome, refusals, restsUntil, unadoptable } = this.shared;
    const first = node * this.servers;
    const end = first + this.servers;
    this.clearTimeouts(node);
    outcome.fill(Outcome.none, first, end);
    refusals.fill(0, first, end);
    restsUntil.fill(0, first, end);
    unadoptable.fill(0, first, end);
  }
}

/**
 * States for an engine that is the only one: of these nodes, each in the slot of its place in the
 * list.
 */
export function ownStates(nodes: readonly { readonly weight: number }[], servers = 1): NodeStates {
  const memory = nodeMemory(nodes.length, 1, servers);
  const states = new NodeStates({ memory, nodes: nodes.length, worker: 0, workers: 1, servers });
  for (const [node, { weight }] of nodes.entries()) states.setWeight(node, weight);
  return states;
}
