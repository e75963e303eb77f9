/**
 * Sessions that were handed over and wait for the word of their node: what confirms them, and what
 * becomes of the client's segments meanwhile. The node's notice confirms, and so does a client that
 * acknowledges an answer.
 */
import { Counter } from '../../base/counters.js';
import { NodeCounter } from '../../base/object-counters.js';
import { seqAfter, seqBefore, seqDiff } from '../../wire/seq.js';
import { SACK_BLOCK_BYTES, TcpFlag } from '../../wire/tcp.js';
import {
  Acceptance,
  type AcceptanceCode,
  acceptHandedOver,
  acknowledgesAnswer,
} from '../acceptance.js';
import { noteTimestamps } from '../client-clock.js';
import type { ClientWriter } from '../client-writer.js';
import type { Core } from '../core.js';
import { HeadStep } from '../head-store.js';
import type { Following } from '../moving/following.js';
import { SessionAction } from '../table/session-record.js';
import { SessionFlag, SessionState } from '../table/session-table.js';
import type { Inheritance } from './inheritance.js';
import type { NodeWriter } from './node-writer.js';
import type { Recall } from './recall.js';
import type { HandoffSender } from './sender.js';

export class Confirmation {
  private readonly core: Core;
  private readonly toClient: ClientWriter;
  private readonly toNode: NodeWriter;
  private readonly sender: HandoffSender;
  private readonly recall: Recall;
  private readonly inheritance: Inheritance;
  private readonly following: Following;

  constructor(
    core: Core,
    toClient: ClientWriter,
    toNode: NodeWriter,
    sender: HandoffSender,
    recall: Recall,
    inheritance: Inheritance,
    following: Following,
  ) {
    this.core = core;
    this.toClient = toClient;
    this.toNode = toNode;
    this.sender = sender;
    this.recall = recall;
    this.inheritance = inheritance;
    this.following = following;
  }

  /**
   * The node has the session, and has acknowledged the client's bytes up to `acknowledgement`. Its
   * notice says so, or the client's acknowledgement does.
   */
  confirmed(slot: number, acknowledgement: number): void {
    const core = this.core;
    const { sessions, states, counters, timers, options, now } = core;
    // Its node does not count any more, or it does not know the head yet.
    if (core.stepOf(slot) > HeadStep.asking) return;
    const node = sessions.node(slot);
    // If the node misses part of an earlier process's head, or of a later head of which nothing was
    // acknowledged, the client still has to send it.
    const whole =
      seqDiff(acknowledgement, sessions.handedTo(slot)) >= 0 ||
      this.inheritance.inDoubt(slot) ||
      (core.streams !== undefined && core.streams.unproven[slot] !== 0);
    if (!sessions.has(slot, SessionFlag.adopted)) {
      sessions.raise(slot, SessionFlag.adopted);
      counters.count(Counter.adopted);
      states.adopted[node]! += 1;
      core.objects.countNode(node, NodeCounter.adopted);
      core.observer.adopted?.(slot, node, now);
    }
    if (whole) {
      const keeps = this.recall.keepsHead(slot);
      // From here on `tries` counts questions that the node has not answered.
      sessions.setTries(slot, 0);
      sessions.setState(slot, SessionState.passing);
      if (core.streams !== undefined) core.parking.settle(slot);
      if (!keeps) core.waitForEnd(slot);
    } else if (seqAfter(acknowledgement, sessions.nodeAck[slot]!)) {
      sessions.nodeAck[slot] = acknowledgement;
      sessions.setTries(slot, 0);
      timers.set(slot, now + options.timeouts.handoff);
    }
  }

  /**
   * A segment, other than a SYN, of the client while the node has not confirmed. Returns true if
   * the session passes now and its client is followed: then the segment is still to be handled.
   */
  receive(slot: number): boolean {
    const core = this.core;
    const { segment, sessions, counters } = core;
    if (this.isBeforeHead(slot)) {
      this.toNode.wrapBefore(slot, sessions.clientFirst(slot));
      return false;
    }
    const acceptance = this.acceptance(slot);
    if (acceptance !== Acceptance.accepted && acceptance !== Acceptance.reset) {
      const malformed = acceptance === Acceptance.noAck;
      counters.count(malformed ? Counter.drop_malformed_tcp : Counter.drop_out_of_window);
      return false;
    }
    if (this.inheritance.inDoubt(slot)) core.noteClientMac(slot);
    sessions.setLastSeen(slot, core.clock);
    if (sessions.has(slot, SessionFlag.adopted)) noteTimestamps(core, slot, false);
    if (acceptance === Acceptance.reset) {
      this.toNode.wrap(slot);
      core.linger(slot, 'client-reset');
      return false;
    }
    const isAnswered = this.showsAnswer(slot);
    if (isAnswered && !this.confirmedByClient(slot)) return false;
    if (sessions.state(slot) === SessionState.passing && this.following.concerns(slot)) return true;
    if (segment.span > 0 && seqBefore(segment.sequence, sessions.handedTo(slot))) {
      // The engine sends the bytes that it keeps. The client's own copy might differ from what was
      // inspected.
      if (this.inheritance.inDoubt(slot)) this.inheritance.forwardRepeatedHead(slot);
      return false;
    }
    if (!this.following.passesUnread(slot, isAnswered) || !this.toNode.wrap(slot)) return false;
    if (core.followClient(slot) && sessions.state(slot) === SessionState.passing)
      core.waitForEnd(slot);
    this.leaveToKernel(slot);
    return false;
  }

  /**
   * Whether the current segment shows that its client has bytes of an answer: it acknowledges them,
   * or has them behind a gap.
   */
  showsAnswer(slot: number): boolean {
    const { segment, sessions } = this.core;
    const first = sessions.serverFirst(slot);
    if (acknowledgesAnswer(segment.acknowledgement, first)) return true;
    if (!sessions.has(slot, SessionFlag.sackOk) || !segment.parseOptions()) return false;
    // A repeated SYN/ACK makes a client report the number of our SYN (RFC 2883).
    const { sackStart, sackEnd } = segment.options;
    for (let edge = sackStart + 4; edge < sackEnd; edge += SACK_BLOCK_BYTES)
      if (acknowledgesAnswer(segment.view.getUint32(edge), first)) return true;
    return false;
  }

  /**
   * The kernel can wrap what a client sends before the node has confirmed. It must not begin in the
   * batch in which the handoff was sent: the segment would overtake the handoff, and the node would
   * drop it.
   */
  private leaveToKernel(slot: number): void {
    const { sessions, batchHandoffs } = this.core;
    if (sessions.state(slot) !== SessionState.handing) return;
    if (sessions.has(slot, SessionFlag.watched)) return;
    if ((sessions.action(slot) & SessionAction.wrap) !== 0) return;
    if (!batchHandoffs.has(slot)) sessions.wrapInKernel(slot);
  }

  /**
   * Whether the current segment repeats bytes before a later head, of which the node may lack some:
   * nobody else keeps them.
   */
  private isBeforeHead(slot: number): boolean {
    const { segment, sessions, streams } = this.core;
    return (
      streams !== undefined &&
      streams.unproven[slot] !== 0 &&
      segment.payloadLength > 0 &&
      (segment.flags & (TcpFlag.syn | TcpFlag.rst)) === 0 &&
      seqBefore(segment.sequence, sessions.clientFirst(slot))
    );
  }

  /** The acceptance rule for a segment of the client while the node has not confirmed. */
  private acceptance(slot: number): AcceptanceCode {
    const { segment, sessions } = this.core;
    return acceptHandedOver(
      segment.flags,
      segment.sequence,
      segment.acknowledgement,
      this.core.clientFirst(slot),
      sessions.serverFirst(slot),
      sessions.handedTo(slot),
      sessions.receiveNext(slot),
    );
  }

  /**
   * The client acknowledges bytes of an answer. We have sent none, so a node has, and its notice
   * has not arrived yet. Returns false when that ends the session: the session was moved on, and it
   * is not known which node answered. A second answer in the middle of the first would be worse
   * than none.
   */
  confirmedByClient(slot: number): boolean {
    const { sessions } = this.core;
    const flags = sessions.flags(slot);
    if ((flags & SessionFlag.adopted) !== 0) return true;
    if ((flags & SessionFlag.moved) !== 0) {
      // The node may have confirmed while no process was running. It is being asked.
      if (this.inheritance.inDoubt(slot)) return true;
      this.sender.withdraw(slot, sessions.node(slot));
      this.fail(slot);
      return false;
    }
    const node = sessions.node(slot);
    this.core.states.serverAnswered(node, this.core.serverOf(slot));
    const single = this.sender.isSingle(slot);
    // There is an answer, so nothing will be recalled.
    if (single) this.core.releaseHead(slot);
    this.confirmed(slot, single ? sessions.handedTo(slot) : sessions.nodeAck[slot]!);
    return true;
  }

  /**
   * Confirms the handoff if the client has acknowledged bytes of an answer; the kernel may have
   * forwarded that segment. Returns false when it ends the session (`confirmedByClient`).
   */
  confirmIfAnswered(slot: number): boolean {
    return !this.core.hasAnswer(slot) || this.confirmedByClient(slot);
  }

  /**
   * Whether an unconfirmed session gives up its room, because it turns out to be confirmed or
   * ended.
   */
  freesHead(slot: number): boolean {
    return !this.confirmIfAnswered(slot) || this.core.sessions.state(slot) !== SessionState.handing;
  }

  /** Ends a session that no node can continue. */
  fail(slot: number): void {
    if (this.toClient.resetSession(slot)) this.core.counters.count(Counter.reset_sent);
    this.core.remove(slot, 'no-node');
  }
}
