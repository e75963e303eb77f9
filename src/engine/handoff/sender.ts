/** Sends a handoff to a node: the kept head, in pieces that fit the link. Also withdraws it. */
import { Counter } from '../../base/counters.js';
import { IxcpFlag } from '../../wire/ixcp.js';
import { IxpFlag, IxpType } from '../../wire/ixp.js';
import { seqAdd, seqDiff } from '../../wire/seq.js';
import { TcpFlag } from '../../wire/tcp.js';
import type { Core } from '../core.js';
import { SessionFlag } from '../table/session-table.js';
import type { NodeWriter } from './node-writer.js';

/** In a SEGMENT, these flags say that a number is in place of the TSval. */
const NOT_IN_SEGMENT = IxpFlag.head | IxpFlag.tell;

export class HandoffSender {
  private readonly core: Core;
  private readonly toNode: NodeWriter;

  constructor(core: Core, toNode: NodeWriter) {
    this.core = core;
    this.toNode = toNode;
  }

  /**
   * How often a handoff is sent to a node. Twice as often if earlier transmissions may have gone to
   * a MAC address that the node has left.
   */
  triesAt(node: number): number {
    const { nodes, options, now } = this.core;
    const { limits, timeouts } = options;
    const moved = now - nodes.movedAt[node]! <= timeouts.handoff * limits.handoffTries;
    return moved ? limits.handoffTries * 2 : limits.handoffTries;
  }

  /**
   * Whether one segment held all that was handed over: a node that has any of it has all of it.
   */
  isSingle(slot: number): boolean {
    const { sessions } = this.core;
    const bytes = seqDiff(sessions.handedTo(slot), sessions.clientFirst(slot));
    return bytes <= this.toNode.pieceBytes(slot);
  }

  /**
   * Sends what the node has not acknowledged. The first segment is the one to adopt from.
   * @param flags `IxpFlag` bits for the node, other than those of the session
   * @param mayConfirm false: the node need not confirm, so the transmission cannot fail
   */
  send(slot: number, flags = 0, mayConfirm = true): void {
    const core = this.core;
    const { sessions, heads, timers, options, now } = core;
    if (mayConfirm) sessions.setTries(slot, sessions.tries(slot) + 1);
    timers.set(slot, now + options.timeouts.handoff);
    const node = sessions.node(slot);
    core.observer.handoff?.(slot, node, sessions.tries(slot), now);
    if (!core.reachable(node)) {
      core.counters.count(Counter.drop_unresolved);
      return;
    }
    const begins = sessions.nodeAck[slot] === sessions.clientFirst(slot);
    const hasSocket = sessions.has(slot, SessionFlag.adopted) || core.streams?.resumes[slot] === 1;
    const plays = begins && !hasSocket && core.states.replays(node, core.serverOf(slot));
    const room = sessions.head[slot]!;
    if (begins && room >= 0) heads.isReplayed[room] = plays ? 1 : 0;
    if (plays) {
      core.counters.count(Counter.replay_syn);
      this.toNode.sendSyn(slot, flags | this.aboutRequest(slot));
      return;
    }
    this.sendHead(slot, flags);
  }

  /** The node's listener has answered the SYN that was played to it: the kept head follows. */
  synAcked(slot: number): void {
    const { core } = this;
    core.batchHandoffs.add(slot);
    core.timers.set(slot, core.now + core.options.timeouts.handoff);
    if (core.reachable(core.sessions.node(slot))) this.sendHead(slot, 0);
  }

  private sendHead(slot: number, flags: number): void {
    const { core } = this;
    const { sessions, heads } = core;
    const room = sessions.head[slot]!;
    const filled = room < 0 ? 0 : heads.sent(room);
    const about = this.aboutRequest(slot);
    const piece = this.toNode.pieceBytes(slot);
    let at = seqDiff(sessions.nodeAck[slot]!, sessions.clientFirst(slot));
    const { streams } = core;
    // A node that has the session must not build a second socket for it.
    const builds = at === 0 && !sessions.has(slot, SessionFlag.adopted);
    const opens = streams?.resumes[slot] === 1 ? IxpType.resume : IxpType.adopt;
    let type: number = builds ? opens : IxpType.segment;
    do {
      const length = Math.min(piece, filled - at);
      const last = at + length >= filled;
      const tcpFlags = TcpFlag.ack | (last && length > 0 ? TcpFlag.psh : 0);
      const told = type === IxpType.segment ? about & ~NOT_IN_SEGMENT : about;
      if (!this.toNode.sendKept(slot, type, at, length, tcpFlags, flags | told)) return;
      at += length;
      type = IxpType.segment;
    } while (at < filled);
    const end = seqAdd(sessions.clientIsn(slot), 1 + filled);
    if (sessions.handedTo(slot) !== end) {
      this.toNode.sendKept(slot, IxpType.segment, filled, 0, TcpFlag.ack | TcpFlag.fin);
    } else if (
      !sessions.has(slot, SessionFlag.moved | SessionFlag.adopted) &&
      this.isSingle(slot)
    ) {
      // The client's acknowledgement of the answer will confirm (Handoff.confirmedByClient).
      sessions.forwardAnsweredInKernel(slot);
    }
  }

  /** IxpFlag bits that tell the node about the request. */
  private aboutRequest(slot: number): number {
    const { sessions, heads } = this.core;
    const room = sessions.head[slot]!;
    if (room < 0) return 0;
    const hold = heads.repeatable[room] === 1 ? IxpFlag.holdReset : 0;
    if (!sessions.has(slot, SessionFlag.watched)) return hold;
    return (
      hold |
      IxpFlag.follow |
      (heads.hasNoAnswerBody[room] === 1 ? IxpFlag.head : 0) |
      (this.tells(slot) ? IxpFlag.tell : 0)
    );
  }

  /**
   * Whether the node is to say when its answer has ended: a session that has moved will move again.
   * Each answer costs a notice.
   */
  private tells(slot: number): boolean {
    const { sessions, states } = this.core;
    return sessions.movesOf(slot) > 0 && states.can(sessions.node(slot), IxcpFlag.canPark);
  }

  /**
   * Resets the socket that a node may have of a session that goes elsewhere. An RST counts only at
   * exactly the node's next sequence number (RFC 5961), which is the end of some piece that we
   * sent.
   */
  withdraw(slot: number, node: number): void {
    const { sessions, heads } = this.core;
    const first = sessions.clientFirst(slot);
    const room = sessions.head[slot]!;
    const filled = room < 0 ? 0 : heads.sent(room);
    const piece = this.toNode.pieceBytes(slot);
    for (let at = piece; at < filled; at += piece)
      this.toNode.resetNode(slot, node, seqAdd(first, at));
    this.toNode.resetNode(slot, node, sessions.handedTo(slot));
    // The node may also have taken what came after the head.
    const next = sessions.receiveNext(slot);
    if (next !== sessions.handedTo(slot)) this.toNode.resetNode(slot, node, next);
    // A socket that was not resumed does not expect these numbers.
    if (this.core.streams?.resumes[slot] === 1) this.core.parking.leave(slot, node);
  }
}
