/**
 * Hands a session over to a node that holds the content, then to the next holder if that node
 * refuses or stays silent. In the end the balancer answers itself. Until a node has confirmed, the
 * engine keeps the collected bytes and sends them again.
 */
import { Counter } from '../../base/counters.js';
import { NodeCounter, ServerCounter } from '../../base/object-counters.js';
import { Answer } from '../../directory/answers.js';
import { IxcpReason } from '../../wire/ixcp.js';
import { IxpFlag } from '../../wire/ixp.js';
import { seqAdd, seqDiff } from '../../wire/seq.js';
import { TcpFlag } from '../../wire/tcp.js';
import { acknowledges } from '../acceptance.js';
import type { Answers } from '../answers/answers.js';
import type { ClientWriter } from '../client-writer.js';
import type { Core } from '../core.js';
import { HeadStep } from '../head-store.js';
import { SessionFlag, SessionState } from '../table/session-table.js';
import type { Choice } from './choice.js';
import type { Confirmation } from './confirmation.js';
import { noteTimeToHandoff } from './figures.js';
import type { Inheritance } from './inheritance.js';
import type { NodeWriter } from './node-writer.js';
import type { Recall } from './recall.js';
import type { HandoffSender } from './sender.js';

/** Transmissions of the rest of a long head to a node that has confirmed its beginning. */
const REST_TRIES = 10;
/**
 * Part of timeouts.handoff. A client no further away than this acknowledges an answer before a
 * handoff would be sent again.
 */
const NEAR_PART = 1 / 4;

export class Handoff {
  private readonly core: Core;
  private readonly toClient: ClientWriter;
  private readonly toNode: NodeWriter;
  private readonly sender: HandoffSender;
  private readonly recall: Recall;
  private readonly inheritance: Inheritance;
  private readonly choice: Choice;
  private readonly confirmation: Confirmation;
  private readonly answers: Answers;

  constructor(
    core: Core,
    toClient: ClientWriter,
    toNode: NodeWriter,
    sender: HandoffSender,
    recall: Recall,
    inheritance: Inheritance,
    choice: Choice,
    confirmation: Confirmation,
    answers: Answers,
  ) {
    this.core = core;
    this.answers = answers;
    this.choice = choice;
    this.toClient = toClient;
    this.toNode = toNode;
    this.sender = sender;
    this.recall = recall;
    this.inheritance = inheritance;
    this.confirmation = confirmation;
  }

  /**
   * The head is complete and asks for `resource` of the current directory.
   * @param near whether the client of the session is near; by default its current segment tells
   */
  begin(slot: number, resource: number, near = this.isNear(slot)): void {
    const node = this.choice.first(slot, resource);
    if (node < 0) {
      this.answers.begin(slot, Answer.unavailable);
      return;
    }
    this.choice.take(slot);
    noteTimeToHandoff(this.core, slot);
    this.start(slot, node, near);
  }

  /** The node did not confirm in time. */
  expired(slot: number): void {
    const core = this.core;
    if (this.recall.isRecalling(slot)) {
      this.recall.expired(slot);
      return;
    }
    const { sessions, counters, states } = core;
    if (!this.confirmation.confirmIfAnswered(slot)) return;
    if (sessions.state(slot) !== SessionState.handing) return;
    const node = sessions.node(slot);
    if (this.inheritance.inDoubt(slot)) {
      if (this.inheritance.ask(slot)) return;
      // The node may have the session and only be cut off from us.
      this.sender.withdraw(slot, node);
      sessions.raise(slot, SessionFlag.moved);
      this.inheritance.collectAgain(slot);
      return;
    }
    const adopted = sessions.has(slot, SessionFlag.adopted);
    // With no tries, the last transmission asked for no confirmation.
    const unconfirmed = sessions.tries(slot) > 0;
    if (unconfirmed) core.observer.unconfirmed?.(slot, node, core.now);
    if (sessions.tries(slot) < (adopted ? REST_TRIES : this.sender.triesAt(node))) {
      counters.count(unconfirmed ? Counter.handoff_retransmitted : Counter.handoff_asked);
      this.sender.send(slot);
      return;
    }
    counters.count(Counter.handoff_silent);
    core.observer.silent?.(slot, node, core.now);
    if (adopted) {
      // The node has the beginning of the head and never took the rest. No other node can continue
      // the session.
      this.toNode.resetNode(slot, node, sessions.nodeAck[slot]!);
      this.confirmation.fail(slot);
      return;
    }
    states.handoffTimedOut(node, core.now);
    core.objects.countNode(node, NodeCounter.silent);
    // The node may have adopted, and only its notice was lost. Two nodes must not answer one
    // client.
    this.sender.withdraw(slot, node);
    sessions.raise(slot, SessionFlag.moved);
    this.next(slot);
  }

  /** The node says that it cannot take the session. */
  refused(slot: number, reason: number): void {
    const core = this.core;
    if (core.sessions.has(slot, SessionFlag.adopted)) return;
    if (core.streams?.resumes[slot] === 1) {
      core.counters.count(Counter.resumes_refused);
      this.buildInstead(slot);
      return;
    }
    // A late answer to LEAVE, PARK or RESUME.
    if (reason >= IxcpReason.unknownSession) return;
    core.counters.count(Counter.handoff_refused);
    const node = core.sessions.node(slot);
    if (
      reason === IxcpReason.unable &&
      !this.isReplayed(slot, node) &&
      core.states.fallsBack(node, core.serverOf(slot))
    ) {
      core.counters.count(Counter.replay_fallback);
      if (this.inheritance.inDoubt(slot)) this.inheritance.collectAgain(slot);
      else {
        core.sessions.setTries(slot, 0);
        this.sender.send(slot);
      }
      return;
    }
    core.states.handoffRefused(node, core.serverOf(slot), reason, core.now);
    core.objects.countNode(node, NodeCounter.refused);
    core.observer.refused?.(slot, node, reason, core.now);
    // The older connection at the node may be gone in a moment. If no other holder can take the
    // session, the handoff is sent there again then.
    const again =
      reason === IxcpReason.tupleInUse &&
      core.sessions.tries(slot) < core.options.limits.handoffTries;
    if (this.inheritance.inDoubt(slot)) this.inheritance.collectAgain(slot);
    else if (!again) this.next(slot);
    else this.toNextHolder(slot);
  }

  /** The listener of the session's node has answered the SYN that was played to it. */
  synAcked(slot: number): void {
    const { sessions } = this.core;
    // Its node does not count any more, or the socket is there already.
    if (this.core.stepOf(slot) !== HeadStep.none || sessions.has(slot, SessionFlag.adopted)) return;
    if (!this.inheritance.inDoubt(slot)) this.sender.synAcked(slot);
  }

  /** Whether the session is being taken back from its node. */
  isRecalling(slot: number): boolean {
    return this.recall.isRecalling(slot);
  }

  /** Whether its client is being fenced off from the node: `receiveFenced` gets its segments. */
  isFencing(slot: number): boolean {
    return this.recall.isFencing(slot);
  }

  /** The node has removed its socket again: its web server stands still. */
  released(slot: number): void {
    const { core } = this;
    const { sessions, states, counters, now } = core;
    const passing = sessions.state(slot) === SessionState.passing;
    const recalling = passing ? this.recall.isHeld(slot) : this.recall.isRecalling(slot);
    if (!recalling && !passing) return;
    const node = sessions.node(slot);
    states.serverStalled(node, core.serverOf(slot), now);
    core.observer.released?.(slot, node, now);
    if (!recalling) {
      // The notice came so late that the head is gone.
      this.confirmation.fail(slot);
      return;
    }
    counters.count(Counter.handoff_taken_back);
    this.recall.takeBack(slot);
    this.next(slot);
  }

  /**
   * The socket of the session's node was closed or reset before it sent any byte of an answer. Only
   * we know. Without another holder the client gets an RST.
   */
  resetUnseen(slot: number): void {
    const { core } = this;
    const { sessions, counters } = core;
    const state = sessions.state(slot);
    if (state !== SessionState.handing && state !== SessionState.passing) return;
    // A socket that was closed still exists.
    this.withdraw(slot);
    if (this.recall.isHeld(slot)) {
      counters.count(Counter.retried_after_reset);
      this.recall.takeBack(slot);
      // A server may close an idle connection at any time. That says nothing about the next one.
      if (core.streams?.resumes[slot] === 1) this.buildInstead(slot);
      else this.next(slot);
      return;
    }
    this.resetIdle(slot);
  }

  /** The socket of the session's node was reset while it was idle. Only we know. */
  resetIdle(slot: number): void {
    const { core } = this;
    const state = core.sessions.state(slot);
    if (state !== SessionState.handing && state !== SessionState.passing) return;
    if (this.toClient.resetSession(slot)) core.counters.count(Counter.reset_sent);
    core.linger(slot, 'node-reset');
  }

  /**
   * The node of a recalled session has no socket of it any more, and did not say that the client
   * knows nothing of that.
   */
  goneWhileRecalled(slot: number): void {
    this.core.counters.count(Counter.retried_after_reset);
    this.recall.takeBack(slot);
    this.next(slot);
  }

  /** A segment, other than a SYN, of a client that is being fenced off from its node. */
  receiveFenced(slot: number): void {
    const { core } = this;
    if ((core.segment.flags & TcpFlag.rst) !== 0) {
      this.confirmation.receive(slot);
      return;
    }
    if (!acknowledges(core.segment.flags)) return;
    core.sessions.setLastSeen(slot, core.clock);
    if (this.confirmation.showsAnswer(slot)) {
      // The node has answered after all, and the client takes no more of it.
      this.withdraw(slot);
      this.confirmation.fail(slot);
      return;
    }
    if (!this.recall.isFenced(slot)) return;
    core.counters.count(Counter.retried_after_fence);
    this.recall.takeBack(slot);
    this.next(slot);
  }

  /**
   * A node that no longer is the session's says that it has the session. It came too late, and its
   * socket must be reset. Its notice tells which of the client's bytes it has, and so the number at
   * which the socket accepts an RST.
   */
  resetLateNode(slot: number, node: number, acknowledgement: number): void {
    this.toNode.resetNode(slot, node, acknowledgement);
  }

  /**
   * The session's node is to get nothing any more. Hands a session that the node has not confirmed
   * to the next holder, or answers itself. A request that may change something waits for the node's
   * word instead: the node may have it. A session that the node has confirmed is recalled. Returns
   * false when the session can only end.
   */
  leave(slot: number): boolean {
    if (!this.confirmation.confirmIfAnswered(slot)) return true;
    if (this.recall.leave(slot)) return true;
    const { sessions, heads } = this.core;
    const handing = sessions.state(slot) === SessionState.handing;
    // The node has at least a part of the head, so no other node can continue.
    if (!handing || sessions.has(slot, SessionFlag.adopted)) return false;
    const inDoubt = this.inheritance.inDoubt(slot);
    if (!inDoubt && heads.repeatable[sessions.head[slot]!] === 0) return true;
    sessions.takeFromKernel(slot);
    this.withdraw(slot);
    sessions.raise(slot, SessionFlag.moved);
    if (inDoubt) this.inheritance.collectAgain(slot);
    else this.next(slot);
    return true;
  }

  /** Resets the socket that the session's node may have. */
  withdraw(slot: number): void {
    this.sender.withdraw(slot, this.core.sessions.node(slot));
  }

  /** Ends an unconfirmed session to free its room for others. */
  evict(slot: number): void {
    this.withdraw(slot);
    this.toClient.resetSession(slot);
    this.core.remove(slot, 'evicted-head');
  }

  private start(slot: number, node: number, near = false): void {
    const core = this.core;
    const { sessions, heads, counters, states } = core;
    const room = sessions.head[slot]!;
    const first = sessions.clientFirst(slot);
    const fin = sessions.has(slot, SessionFlag.clientFin) ? 1 : 0;
    const begins = sessions.state(slot) === SessionState.collecting;
    if (begins) {
      sessions.setHandedTo(slot, seqAdd(first, (room < 0 ? 0 : heads.sent(room)) + fin));
      sessions.setReceiveNext(slot, sessions.handedTo(slot));
    }
    sessions.takeFromKernel(slot);
    core.batchHandoffs.add(slot);
    sessions.nodeAck[slot] = first;
    sessions.setNode(slot, node);
    if (core.streams !== undefined) {
      core.streams.requests[slot] = 1;
      core.streams.unproven[slot] = 0;
      core.streams.isEnded[slot] = 0;
      core.streams.resumes[slot] = core.parking.take(slot, node) ? 1 : 0;
      if (core.streams.resumes[slot] === 1) counters.count(Counter.resumed);
    }
    sessions.setTries(slot, 0);
    // Written last: a process that takes the record over relies on it.
    if (begins) sessions.setState(slot, SessionState.handing);
    core.attach(slot);
    const server = core.serverOf(slot);
    states.handoffStarted(node, server, core.now);
    core.objects.countNode(node, NodeCounter.handoffs);
    core.objects.countServer(server, ServerCounter.handoffs);
    counters.count(Counter.handoffs);
    const clientConfirms =
      near && heads.halfFree && !states.hasFailed(node, server) && this.sender.isSingle(slot);
    // Without a byte to acknowledge, the new socket sends nothing until its server speaks.
    const mayConfirm = !clientConfirms && sessions.handedTo(slot) !== first;
    this.sender.send(slot, clientConfirms ? IxpFlag.clientConfirms : 0, mayConfirm);
  }

  /**
   * Whether the client of the current segment is near. Its timestamps echo the time at which the
   * SYN/ACK was sent.
   */
  private isNear(slot: number): boolean {
    const { core } = this;
    const { segment, options, sessions } = core;
    if (!sessions.has(slot, SessionFlag.timestampsOk)) return false;
    if (!segment.parseOptions() || !segment.options.hasTimestamps) return false;
    // If the kernel sent the SYN/ACK, it read the clock later than the datapath did.
    const ago = Math.abs(seqDiff(core.tsvalOf(slot), segment.options.tsecr));
    return ago <= options.timeouts.handoff * NEAR_PART;
  }

  /** The session has left its node because of a later request: the next holder gets it. */
  goOn(slot: number): void {
    if (this.choice.renew(slot)) this.next(slot);
    else {
      this.core.detach(slot);
      this.answers.begin(slot, Answer.unavailable);
    }
  }

  /**
   * The XDP program has brought the session to a socket that waits at its node, and nothing shows
   * that the node has the head, which is in the session's room. The node gets it again: by RESUME,
   * or by ADOPT if that socket was closed.
   */
  resumeAgain(slot: number): void {
    const { core } = this;
    const { sessions, states, counters } = core;
    const streams = core.streams!;
    core.batchHandoffs.add(slot);
    sessions.nodeAck[slot] = sessions.clientFirst(slot);
    streams.requests[slot] = 1;
    streams.unproven[slot] = 0;
    streams.isEnded[slot] = 0;
    streams.kernel?.prove(slot);
    sessions.setTries(slot, 0);
    states.handoffStarted(sessions.node(slot), core.serverOf(slot), core.now);
    counters.count(Counter.handoff_retransmitted);
    this.sender.send(slot);
  }

  /** The session's node, which has the session, gets a later head from the session's room. */
  sendOn(slot: number): void {
    this.core.batchHandoffs.add(slot);
    this.sender.send(slot);
  }

  /** Whether the node has got the SYN of the session, not an ADOPT. */
  private isReplayed(slot: number, node: number): boolean {
    const { sessions, heads, states } = this.core;
    const room = sessions.head[slot]!;
    if (room >= 0) return heads.isReplayed[room] === 1;
    // Without a head nothing was noted. It may have been an ADOPT before the node fell back.
    return states.replays(node, this.core.serverOf(slot));
  }

  /** Nothing waits at the session's node any more. It builds a socket, as for any session. */
  private buildInstead(slot: number): void {
    const { sessions, streams } = this.core;
    streams!.resumes[slot] = 0;
    sessions.nodeAck[slot] = sessions.clientFirst(slot);
    sessions.setTries(slot, 0);
    this.sender.send(slot);
  }

  /** Goes on to the next holder, or answers the client. */
  private next(slot: number): void {
    if (this.toNextHolder(slot)) return;
    this.core.detach(slot);
    this.answers.begin(slot, this.choice.isGone(slot) ? Answer.notFound : Answer.unavailable);
  }

  /** Goes on to the next holder, if one can take the session. */
  private toNextHolder(slot: number): boolean {
    const node = this.choice.next(slot);
    if (node < 0) return false;
    this.core.detach(slot);
    this.choice.take(slot);
    this.start(slot, node);
    return true;
  }
}
