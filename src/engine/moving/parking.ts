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
import { Admin } from '../../directory/node-memory.js';
import { IxcpFlag, IxcpReason, IxcpType } from '../../wire/ixcp.js';
import { IxpType } from '../../wire/ixp.js';
import { TcpFlag } from '../../wire/tcp.js';
import type { Core } from '../core.js';
import type { NodeWriter } from '../handoff/node-writer.js';
import { NO_NODE } from '../node-table.js';
import { MOST_PARKED } from './streams.js';

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
    const first = slot * MOST_PARKED;
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
    const end = (slot + 1) * MOST_PARKED;
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
    const first = slot * MOST_PARKED;
    while (streams.parked[first] !== NO_NODE) this.end(slot, streams.parked[first]!);
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
    if (streams === undefined || this.total === 0) return false;
    let ended = false;
    for (let at = (slot + 1) * MOST_PARKED - 1; at >= slot * MOST_PARKED; at--) {
      const node = streams.parked[at]!;
      if (node === NO_NODE || !this.isLeft(node)) continue;
      this.end(slot, node);
      ended = true;
    }
    return ended;
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

  private indexOf(slot: number, node: number): number {
    const { streams } = this.core;
    if (streams === undefined) return -1;
    for (let at = slot * MOST_PARKED; at < (slot + 1) * MOST_PARKED; at++)
      if (streams.parked[at] === node) return at;
    return -1;
  }
}
