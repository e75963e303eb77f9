/**
 * Sockets that sessions have left at nodes, and may come back to (docs/ixp.md, "Parked sockets").
 * Each session that moves has a list of the nodes where it is parked, the oldest first:
 *
 *     the session leaves its node ---> remember   a fifth node: the oldest socket is ended
 *     it comes back ---------------> take       RESUME in place of ADOPT
 *     the session ends, or the node
 *     takes no sessions any more ----> LEAVE      its server sees the client close
 *     the server closes first -------> forgotten  the shim has held its FIN
 *
 * A node that is in such a list counts as one that holds the session: until the list is empty it
 * must not be switched off.
 */
import { Counter } from '../../base/counters.js';
import { MOST_PARKED } from '../../datapath/heads-layout.js';
import { Admin } from '../../directory/node-memory.js';
import { IxcpFlag, IxcpReason, IxcpType } from '../../wire/ixcp.js';
import { IxpType } from '../../wire/ixp.js';
import { seqAdd, seqDiff } from '../../wire/seq.js';
import { TcpFlag } from '../../wire/tcp.js';
import type { Core } from '../core.js';
import type { NodeWriter } from '../handoff/node-writer.js';
import { NO_NODE } from '../node-table.js';
import { SessionState } from '../table/session-table.js';
import type { KernelMoves } from './kernel-moves.js';
import type { Streams } from './streams.js';

/** How old, in ms, the load of a node may be that the XDP program changes. */
const AGAIN_MS = 100;

/** In ms: a client repeats a segment of which nothing was acknowledged earlier (RFC 6298). */
const REPEATED_MS = 3_000;

/** What a node says about a session that is not at this node, or is idle there. */
export interface ParkingNotice {
  type: number;
  reason: number;
  /** A and S of the notice. */
  sequence: number;
  acknowledgement: number;
  /** Of ENDED. */
  answers: number;
}

export class Parking {
  private readonly core: Core;
  private readonly toNode: NodeWriter;
  /** Sockets that wait at each node, of all sessions of this engine. */
  private readonly waiting: Uint32Array;
  private total = 0;
  /** When `tick` calls `takeNodes` again. */
  private dueAt = 0;

  constructor(core: Core, toNode: NodeWriter) {
    this.core = core;
    this.toNode = toNode;
    this.waiting = new Uint32Array(core.nodes.count);
  }

  /** Whether this node keeps sockets of sessions that leave it, and may have them. */
  parks(node: number): boolean {
    return this.core.states.can(node, IxcpFlag.canPark) && !this.isLeft(node);
  }

  /** Whether a socket of the session waits at this node. */
  has(slot: number, node: number): boolean {
    return this.indexOf(slot, node) >= 0;
  }

  /** The session leaves this node, which keeps its socket. */
  remember(slot: number, node: number): void {
    const { core } = this;
    const { parked } = core.streams!;
    const first = core.streams!.firstParked(slot);
    if (this.has(slot, node)) return;
    if (parked[first + MOST_PARKED - 1] !== NO_NODE) {
      core.counters.count(Counter.parked_evicted);
      this.end(slot, parked[first]!);
    }
    let at = first;
    while (parked[at] !== NO_NODE) at++;
    parked[at] = node;
    core.states.heldHere[node]! += 1;
    this.waiting[node]! += 1;
    this.total += 1;
    core.counters.count(Counter.parked);
  }

  /** Removes a node from the list. Returns whether it was there. */
  take(slot: number, node: number): boolean {
    const at = this.indexOf(slot, node);
    if (at < 0) return false;
    const { parked } = this.core.streams!;
    const end = this.core.streams!.firstParked(slot) + MOST_PARKED;
    for (let each = at; each < end - 1; each++) parked[each] = parked[each + 1]!;
    parked[end - 1] = NO_NODE;
    this.core.states.heldHere[node]! -= 1;
    this.waiting[node]! -= 1;
    this.total -= 1;
    return true;
  }

  /** The session has ended, or must not come back to any socket. */
  endAll(slot: number): void {
    const { streams } = this.core;
    if (streams === undefined) return;
    this.takeFromKernel(slot);
    // The node may not have heard of the last head, and still keep a parked socket.
    if (streams.isUnproven(slot)) this.leave(slot, this.core.sessions.node(slot));
    const first = streams.firstParked(slot);
    while (streams.parked[first] !== NO_NODE) this.end(slot, streams.parked[first]!);
  }

  /**
   * The XDP program works on the session no more, until `settle`. Takes over what it has done.
   * `takeNodes` counts its moves.
   */
  takeFromKernel(slot: number): void {
    const { sessions, streams } = this.core;
    if (streams === undefined) return;
    const followed = sessions.takeHeadsFromKernel(slot);
    const { kernel } = streams;
    if (kernel !== undefined) {
      kernel.wait(slot);
      this.takeMoves(slot, streams, kernel);
    }
    if (followed) streams.takeOver(slot, sessions.handedTo(slot), sessions.node(slot));
    kernel?.forbid(slot);
  }

  /** The same, and the XDP program goes on from where the session is. */
  settle(slot: number): void {
    const { sessions, streams, judged } = this.core;
    if (streams === undefined) return;
    this.takeFromKernel(slot);
    if (sessions.state(slot) !== SessionState.passing) return;
    // Only a session that has moved gets ENDED. An unproven one is to be seen by the engine first.
    const moves = sessions.movesOf(slot) > 0 && !streams.isUnproven(slot);
    if (judged !== undefined && moves && this.allPark(slot))
      streams.allow(slot, sessions.node(slot), judged.generation);
    sessions.renewAction(slot);
  }

  /**
   * The session's node has the client's bytes up to `acknowledgement`: it says so. It may be the
   * node to which the XDP program has moved the session. The engine has the session.
   */
  prove(slot: number, acknowledgement: number): void {
    const { streams, sessions } = this.core;
    if (streams?.isUnproven(slot) !== true) return;
    if (seqDiff(acknowledgement, sessions.clientFirst(slot)) <= 0) return;
    streams.kernel?.prove(slot);
    streams.resumes[slot] = 1;
  }

  /**
   * The socket to which the XDP program has brought the session was closed without an answer, and
   * the client does not know. It repeats the head, and the engine asks for a new socket. A client
   * whose head was acknowledged before does not: `isForsaken` then.
   */
  closedUnseen(slot: number): void {
    const { streams, timers, now } = this.core;
    streams!.resumes[slot] = 0;
    timers.set(slot, now + REPEATED_MS);
  }

  /** The timer of a session that passes: whether its client waits for an answer in vain. */
  isForsaken(slot: number): boolean {
    const { streams } = this.core;
    if (streams?.isUnproven(slot) !== true) return false;
    this.takeFromKernel(slot);
    const forsaken = streams.isUnproven(slot) && streams.resumes[slot] === 0;
    this.settle(slot);
    return forsaken;
  }

  /**
   * Counts what the XDP program has moved, and to which nodes. The set of the session's node and
   * its parked ones is what it was, so `heldHere` stays right.
   */
  takeNodes(): void {
    const { streams, states, counters, now } = this.core;
    this.dueAt = now + AGAIN_MS;
    streams?.kernel?.takeNodes((node, came, went) => {
      states.active[node]! += came - went;
      this.waiting[node]! += went - came;
      counters.add(Counter.moved, came);
      counters.add(Counter.parked, came);
      counters.add(Counter.resumed, came);
    });
  }

  /** To be called once a batch. */
  tick(): void {
    if (this.core.now >= this.dueAt) this.takeNodes();
  }

  /** The record's numbers become those of the head with which the XDP program moved the session. */
  private takeMoves(slot: number, streams: Streams, kernel: KernelMoves): void {
    const { core } = this;
    const moves = kernel.takeMoves(slot);
    if (moves === 0) return;
    const { sessions } = core;
    // Its node must have been counted before the session leaves it.
    if (core.states.active[sessions.node(slot)] === 0) this.takeNodes();
    streams.moves[slot]! += moves;
    streams.resumes[slot] = 1;
    // The client has an answer to what is kept.
    core.releaseHead(slot);
    const first = kernel.resumedSeq(slot);
    streams.before[slot]! += seqDiff(first, sessions.clientFirst(slot));
    sessions.setClientIsn(slot, seqAdd(first, -1));
    sessions.setServerIsn(slot, seqAdd(kernel.resumedAck(slot), -1));
  }

  /** Whether the session's node and all where it is parked may keep sockets. */
  private allPark(slot: number): boolean {
    const { streams, sessions } = this.core;
    if (streams === undefined || !this.parks(sessions.node(slot))) return false;
    const first = streams.firstParked(slot);
    for (let at = first; at < first + MOST_PARKED; at++) {
      const node = streams.parked[at]!;
      if (node !== NO_NODE && !this.parks(node)) return false;
    }
    return true;
  }

  /** Whether sockets wait at nodes that take no sessions any more. */
  get hasLeft(): boolean {
    if (this.total === 0) return false;
    for (let node = 0; node < this.waiting.length; node++)
      if (this.waiting[node] !== 0 && this.isLeft(node)) return true;
    return false;
  }

  /** Ends the sockets of a session at such nodes. Returns whether there were any. */
  endLeft(slot: number): boolean {
    const { streams } = this.core;
    if (streams === undefined || this.total === 0 || !this.isParkedAtLeft(slot, streams))
      return false;
    this.takeFromKernel(slot);
    const first = streams.firstParked(slot);
    for (let at = first + MOST_PARKED - 1; at >= first; at--) {
      const node = streams.parked[at]!;
      if (node !== NO_NODE && this.isLeft(node)) this.end(slot, node);
    }
    this.settle(slot);
    return true;
  }

  /**
   * Has a node end the socket that it may have of the session. It is as if the client had closed.
   */
  leave(slot: number, node: number): void {
    const { core } = this;
    // The session was parked there, or at an earlier place.
    const at = core.clientFirst(slot);
    this.toNode.control(slot, node, IxpType.leave, at, core.sessions.clientAck(slot), TcpFlag.ack);
  }

  /** A notice of a node that is not the session's, about the socket that it may still have. */
  receive(slot: number, node: number, notice: Readonly<ParkingNotice>): void {
    const { core } = this;
    if (notice.type === IxcpType.ended && notice.reason === IxcpReason.none) {
      // The socket repeats what it has sent: it has not got the client's acknowledgement.
      if (this.has(slot, node)) this.acknowledge(slot, node, notice);
      else this.leave(slot, node);
      return;
    }
    if (this.take(slot, node)) core.counters.count(Counter.parked_closed);
    if (notice.type !== IxcpType.rst) this.leave(slot, node);
  }

  /**
   * The session's own node has held back what its idle socket sent of its own accord: the client is
   * to get it after all.
   */
  wake(slot: number, { sequence, acknowledgement }: Readonly<ParkingNotice>): void {
    const { sessions, streams, counters } = this.core;
    if (streams !== undefined) streams.isEnded[slot] = 0;
    counters.count(Counter.parked_woken);
    this.toNode.control(
      slot,
      sessions.node(slot),
      IxpType.awake,
      acknowledgement,
      sequence,
      TcpFlag.ack,
    );
  }

  /** PARK at the numbers of a notice says that the client has acknowledged the answers. */
  private acknowledge(slot: number, node: number, notice: Readonly<ParkingNotice>): void {
    const { sequence, acknowledgement, answers } = notice;
    const { park } = IxpType;
    this.toNode.control(slot, node, park, acknowledgement, sequence, TcpFlag.ack, answers);
  }

  private end(slot: number, node: number): void {
    this.take(slot, node);
    this.leave(slot, node);
  }

  /** Whether the node takes no sessions any more: an operator or the config says so. */
  private isLeft(node: number): boolean {
    const { states } = this.core;
    return states.admin(node) !== Admin.up || states.weight[node] === 0;
  }

  private isParkedAtLeft(slot: number, streams: Streams): boolean {
    const first = streams.firstParked(slot);
    for (let at = first; at < first + MOST_PARKED; at++) {
      const node = streams.parked[at]!;
      if (node !== NO_NODE && this.isLeft(node)) return true;
    }
    return false;
  }

  private indexOf(slot: number, node: number): number {
    const { streams } = this.core;
    if (streams === undefined) return -1;
    const first = streams.firstParked(slot);
    for (let at = first; at < first + MOST_PARKED; at++) if (streams.parked[at] === node) return at;
    return -1;
  }
}
