/**
 * Ends the sessions of nodes in maintenance, and of virtual servers whose sessions an operator ends
 * by force. It walks the session table in pieces, one for each batch, so that packets do not wait
 * long for it.
 *
 *     session of the node         what becomes of it
 *     being handed over, GET      withdrawn from the node; the next holder gets it, or 503
 *     being handed over, POST     waits for the node's word, and ends when the node confirms
 *     passing, no answer yet      the next holder gets it, where that is sound (handoff/recall.ts)
 *     passing                     node and client get an RST; the balancer keeps the record
 *     lingering                   removed: late packets go nowhere any more
 *     parked there                its socket there ends; also while the node drains
 *
 * A session that was passing is kept for `timeouts.linger`, without a node. Data of the node may
 * have been on its way when the client got its RST. The client's next segment then gets another one
 * (`receive`), which is exact.
 */
import { Counter } from '../base/counters.js';
import { Admin } from '../directory/node-memory.js';
import { TcpFlag } from '../wire/tcp.js';
import type { ClientWriter } from './client-writer.js';
import type { Core } from './core.js';
import type { Handoff } from './handoff/handoff.js';
import type { NodeWriter } from './handoff/node-writer.js';
import { NO_NODE } from './node-table.js';
import { SessionState } from './table/session-table.js';

/** Slots that a batch looks at. */
export const SLOTS_A_BATCH = 4_096;
/** Sessions that a batch ends: each costs about 1 us, and two frames. */
export const ENDS_A_BATCH = 192;
/**
 * Time between two passes over the table while sessions are left, in ms. A request that must not be
 * repeated waits for its node.
 */
export const AGAIN_MS = 250;

const NONE = -1;

export class Sweep {
  private readonly core: Core;
  private readonly toClient: ClientWriter;
  private readonly toNode: NodeWriter;
  private readonly handoff: Handoff;
  /** Nodes in maintenance. */
  private nodes: number[] = [];
  /** By virtual server, 1: its sessions are to end. */
  private readonly isEnding: Uint8Array;
  /** Virtual servers whose sessions are to end. */
  private servers: number[] = [];
  /** The next slot of the pass that is under way. NONE: none is. */
  private at = NONE;
  /** When the next pass may begin, ms on the engine's clock. */
  private dueAt = Number.NEGATIVE_INFINITY;

  constructor(core: Core, toClient: ClientWriter, toNode: NodeWriter, handoff: Handoff) {
    this.core = core;
    this.toClient = toClient;
    this.toNode = toNode;
    this.handoff = handoff;
    this.isEnding = new Uint8Array(core.sessions.ofServer.length);
  }

  /** Whether a pass is under way. The next batch should come soon, also without frames. */
  get underway(): boolean {
    return this.at !== NONE;
  }

  /** The sessions of this node are to end, for as long as it is in maintenance. */
  endNode(node: number): void {
    if (!this.nodes.includes(node)) this.nodes.push(node);
    this.begin();
  }

  /** The sessions of this virtual server are to end. It must not get new ones. */
  endServer(server: number): void {
    if (!this.servers.includes(server)) this.servers.push(server);
    this.isEnding[server] = 1;
    this.begin();
  }

  /** To be called after a change: a virtual server that takes sessions again keeps them. */
  farmChanged(): void {
    const { servers } = this.core;
    this.servers = this.servers.filter((server) => {
      if (!servers.isOpen(server)) return true;
      this.isEnding[server] = 0;
      return false;
    });
  }

  /** Handles one piece of the table. To be called once a batch. */
  tick(): void {
    if (this.at === NONE) {
      const { now, parking } = this.core;
      const isIdle = this.nodes.length === 0 && this.servers.length === 0;
      if (now < this.dueAt || (isIdle ? !parking.hasLeft : !this.hasWork())) return;
      this.at = 0;
    }
    this.piece();
  }

  /**
   * A segment, other than a SYN, of a session that was cut: the client has not got the RST, or not
   * in time.
   */
  receive(slot: number): void {
    const { core } = this;
    core.counters.count(Counter.drop_no_session);
    if ((core.segment.flags & TcpFlag.rst) === 0) this.toClient.resetSender();
    else core.remove(slot, 'client-reset');
  }

  /** A pass from the first slot on: the part behind was looked at before there was this target. */
  private begin(): void {
    this.at = 0;
  }

  /** Forgets targets that are done, and says whether sessions of others are left. */
  private hasWork(): boolean {
    const { states, sessions } = this.core;
    this.nodes = this.nodes.filter((node) => states.admin(node) === Admin.maintenance);
    this.servers = this.servers.filter((server) => {
      const left = sessions.ofServer[server] !== 0;
      if (!left) this.isEnding[server] = 0;
      return left;
    });
    return (
      this.servers.length > 0 ||
      this.nodes.some((node) => states.heldHere[node] !== 0) ||
      this.core.parking.hasLeft
    );
  }

  private piece(): void {
    const { sessions, parking, now } = this.core;
    const used = sessions.used;
    const end = Math.min(used, this.at + SLOTS_A_BATCH);
    for (let left = ENDS_A_BATCH; this.at < end && left > 0; this.at++) {
      if (sessions.state(this.at) !== SessionState.free && parking.endLeft(this.at)) left--;
      if (!this.concerns(this.at)) continue;
      // No room for a frame: the session is met again in the next batch.
      if (!this.end(this.at)) return;
      left--;
    }
    if (this.at < used) return;
    this.at = NONE;
    this.dueAt = now + AGAIN_MS;
  }

  private concerns(slot: number): boolean {
    const { sessions, states } = this.core;
    const state = sessions.state(slot);
    if (state === SessionState.free) return false;
    if (this.isEnding[this.core.serverOf(slot)] === 1) return !this.core.isCut(slot);
    if (state < SessionState.handing) return false;
    const node = sessions.node(slot);
    return node !== NO_NODE && states.admin(node) === Admin.maintenance;
  }

  /** Ends a session. Returns false when there was no room for a frame. */
  private end(slot: number): boolean {
    const { core } = this;
    const forced = this.isEnding[core.serverOf(slot)] === 1;
    const reason = forced ? 'removed' : 'maintenance';
    switch (core.sessions.state(slot)) {
      case SessionState.lingering:
        core.remove(slot, reason);
        return true;
      case SessionState.handing:
        if (!forced && this.handoff.leave(slot)) return true;
        return this.cut(slot, reason);
      case SessionState.passing:
        if (!forced && this.handoff.leave(slot)) return true;
        return this.cut(slot, reason);
      default:
        // No node has it.
        if (this.toClient.resetSession(slot)) core.counters.count(Counter.reset_sent);
        core.remove(slot, reason);
        return true;
    }
  }

  /** Resets node and client, the node first: then it sends no more that the client must refuse. */
  private cut(slot: number, reason: 'maintenance' | 'removed'): boolean {
    const { core } = this;
    const { sessions } = core;
    // From here on the kernel forwards nothing, so the client's next number stays what it is.
    core.parking.takeFromKernel(slot);
    sessions.takeFromKernel(slot);
    const node = sessions.node(slot);
    if (core.reachable(node)) {
      if (!this.toNode.resetNode(slot, node, sessions.receiveNext(slot))) return false;
      // The node may lack what came last.
      if (sessions.state(slot) === SessionState.handing) this.handoff.withdraw(slot);
    }
    if (this.toClient.resetSession(slot)) core.counters.count(Counter.reset_sent);
    core.cut(slot, reason);
    return true;
  }
}
