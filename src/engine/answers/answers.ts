/**
 * Answers a client without a node. Until the connection is closed, the engine is its other end.
 *
 *     collecting, handing
 *          |  begin: the answer and FIN go out, as far as the client's window allows
 *          v
 *     answering --- not acknowledged: sent again with back-off, then given up
 *          |    --- the client sends more: acknowledged and thrown away
 *          |
 *          |  both sides have sent FIN, and the client has acknowledged ours
 *          v
 *     lingering --- the client's FIN again: acknowledged again (TIME-WAIT)
 *
 * A server that closes with unread bytes makes its kernel send an RST, which can destroy the answer
 * before the client has read it (RFC 9112 section 9.6). So the engine accepts what the client still
 * sends, for a limited time.
 */
import { elapsed } from '../../base/clock.js';
import { Counter } from '../../base/counters.js';
import { Answer, type AnswerNumber, answerIn } from '../../directory/answers.js';
import { seqAdd, seqAfter, seqDiff } from '../../wire/seq.js';
import { TcpFlag } from '../../wire/tcp.js';
import { Acceptance, acceptAnswered, acceptReset } from '../acceptance.js';
import { takeTimestamp } from '../client-clock.js';
import type { ClientWriter } from '../client-writer.js';
import type { Core } from '../core.js';
import { NO_NODE } from '../node-table.js';
import { SessionFlag, SessionState } from '../table/session-table.js';
import { AnswerSender } from './answer-sender.js';
import { countAnswer } from './figures.js';

/** How often an answer is sent before it is given up. */
export const ANSWER_TRIES = 6;
/** How long a client that has the answer may be silent, in ms. Then the session is removed. */
export const SILENT_MS = 5_000;
/** How long an answered client may go on sending, from the beginning of the answer, in ms. */
export const DISCARD_MS = 30_000;

/** What the flags of a session say about its node. */
const OF_NODE = SessionFlag.adopted | SessionFlag.nodeFin | SessionFlag.watched;

export class Answers {
  private readonly core: Core;
  private readonly writer: ClientWriter;
  private readonly sender: AnswerSender;

  constructor(core: Core, writer: ClientWriter) {
    this.core = core;
    this.writer = writer;
    this.sender = new AnswerSender(core, writer);
  }

  /**
   * Answers the client of a session that no node has. The answer begins at the number that the
   * client has acknowledged: the client has all that was sent before.
   *
   * @param wanted as it is in HTTP; the client gets what this means in its protocol
   */
  begin(slot: number, wanted: AnswerNumber): void {
    const { core } = this;
    const { sessions, servers } = core;
    const answer = answerIn(servers.protocol[core.serverOf(slot)]!, wanted);
    if (answer === Answer.none) {
      this.refuse(slot);
      return;
    }
    // The FIN of a session that was handed over has been counted.
    const collecting = sessions.state(slot) === SessionState.collecting;
    if (collecting && sessions.has(slot, SessionFlag.clientFin))
      sessions.setReceiveNext(slot, seqAdd(sessions.receiveNext(slot), 1));
    sessions.takeFromKernel(slot);
    // Nothing that a node has done counts any more.
    sessions.setFlags(slot, sessions.flags(slot) & ~OF_NODE);
    this.sender.prepare(slot, answer);
    core.releaseHead(slot);
    sessions.setNode(slot, NO_NODE);
    sessions.setAnswer(slot, answer);
    sessions.setTries(slot, 1);
    sessions.setState(slot, SessionState.answering);
    countAnswer(core, slot, answer);
    core.observer.answered?.(slot, answer, core.now);
    this.sender.send(slot);
    this.waitForAcknowledgement(slot);
  }

  /** Resets a client to which nothing can be said in its protocol. */
  private refuse(slot: number): void {
    const { core } = this;
    if (this.writer.resetSession(slot)) core.counters.count(Counter.reset_sent);
    // The session has left its node, if it had one.
    core.sessions.setNode(slot, NO_NODE);
    core.remove(slot, 'no-node');
  }

  /**
   * Continues the answer of an earlier process, whose record was copied to `slot`. Returns false if
   * the client lacks bytes of the answer, and this process would answer with other ones.
   */
  resume(slot: number, answer: number): boolean {
    const { core, sender } = this;
    const { sessions } = core;
    sessions.setNode(slot, NO_NODE);
    sessions.setAnswer(slot, answer);
    sessions.setTries(slot, 1);
    sessions.setState(slot, SessionState.answering);
    if (!sender.resume(slot)) return false;
    if (sender.isAcknowledged(slot)) core.timers.set(slot, core.now + SILENT_MS);
    else this.waitForAcknowledgement(slot);
    return true;
  }

  /** A segment, other than a SYN, of a session that is being answered. */
  receive(slot: number): void {
    const { core, sender } = this;
    const { segment, sessions } = core;
    if ((segment.flags & TcpFlag.rst) !== 0) {
      this.reset(slot);
      return;
    }
    if (!this.accepts(slot)) return;
    if (!takeTimestamp(core, slot)) {
      core.counters.count(Counter.drop_out_of_window);
      sender.acknowledge(slot);
      return;
    }
    sessions.setLastSeen(slot, core.clock);
    // Of a session of an earlier process it is not known yet.
    if (!this.writer.knowsMac(slot)) core.noteClientMac(slot);
    const before = sessions.receiveNext(slot);
    const progress = this.takeAcknowledgement(slot);
    this.discard(slot);
    // A keep-alive probe is answered like bytes that come again.
    const asksForAck = segment.span > 0 || segment.sequence !== before;
    if (sender.isAcknowledged(slot)) {
      if (asksForAck) sender.acknowledge(slot);
      if (sessions.has(slot, SessionFlag.clientFin)) core.linger(slot, 'fin');
      else if (progress) core.timers.set(slot, core.now + SILENT_MS);
      return;
    }
    if (progress) this.waitForAcknowledgement(slot);
    // What we have acknowledged comes again, so our segments were lost, and the answer with them.
    const lost = segment.span > 0 && seqAdd(segment.sequence, segment.span) === before;
    const sent = lost ? sender.sendAgain(slot) : sender.send(slot);
    if (asksForAck && !sent) sender.acknowledge(slot);
  }

  /** The kernel has acknowledged the FIN of a client that has all of the answer. */
  closed(slot: number): void {
    const { core, sender } = this;
    sender.acknowledged(slot, core.sessions.handedTo(slot));
    core.linger(slot, 'fin');
  }

  /** The timer of a session that is being answered. */
  expired(slot: number): void {
    const { core, sender } = this;
    const { sessions, counters } = core;
    if (sender.isAcknowledged(slot)) {
      this.waitForEnd(slot);
      return;
    }
    const tries = sessions.tries(slot);
    if (tries >= ANSWER_TRIES) {
      counters.count(Counter.answers_unacknowledged);
      core.remove(slot, 'idle');
      return;
    }
    sessions.setTries(slot, tries + 1);
    counters.count(Counter.answers_retransmitted);
    sender.probe(slot);
    this.waitForAcknowledgement(slot);
  }

  /** A SYN inside a session that is being answered: a challenge ACK (RFC 5961 section 4.2). */
  challenge(slot: number): void {
    this.sender.acknowledge(slot);
  }

  /** Whether `begin` has answered a session that lingers now. */
  hasAnswered(slot: number): boolean {
    const { sessions } = this.core;
    return sessions.node(slot) === NO_NODE && sessions.answer(slot) !== Answer.none;
  }

  /**
   * A segment, other than a SYN, of an answered session that lingers. Its FIN is acknowledged again
   * (RFC 9293 section 3.10.7.4, TIME-WAIT).
   */
  receiveLate(slot: number): void {
    const { core, sender } = this;
    const { segment, sessions } = core;
    if ((segment.flags & TcpFlag.rst) !== 0 || segment.span === 0) return;
    if (seqAdd(segment.sequence, segment.span) === sessions.receiveNext(slot))
      sessions.setLastSeen(slot, core.clock);
    sender.acknowledge(slot);
  }

  private reset(slot: number): void {
    const { core } = this;
    const { segment, sessions, heads } = core;
    switch (acceptReset(segment.sequence, sessions.receiveNext(slot), heads.largeBytes)) {
      case Acceptance.reset:
        core.remove(slot, 'client-reset');
        return;
      case Acceptance.inexactReset:
        this.sender.acknowledge(slot);
        return;
      default:
        core.counters.count(Counter.drop_out_of_window);
    }
  }

  /**
   * Whether the current segment is the client's. Any other is counted, and answered with an ACK.
   */
  private accepts(slot: number): boolean {
    const { core } = this;
    const { segment, sessions, counters, heads } = core;
    switch (
      acceptAnswered(
        segment.flags,
        segment.sequence,
        segment.acknowledgement,
        sessions.receiveNext(slot),
        heads.largeBytes,
        sessions.handedTo(slot),
      )
    ) {
      case Acceptance.noAck:
        counters.count(Counter.drop_malformed_tcp);
        return false;
      case Acceptance.outOfWindow:
        counters.count(Counter.drop_out_of_window);
        break;
      case Acceptance.badAck:
        counters.count(Counter.drop_bad_ack);
        // A node was given this session before. The client has more of an answer than we have sent,
        // so that node has answered it after all.
        if (sessions.has(slot, SessionFlag.moved)) {
          if (this.writer.resetSession(slot)) counters.count(Counter.reset_sent);
          core.remove(slot, 'no-node');
          return false;
        }
        break;
      default:
        return true;
    }
    this.sender.acknowledge(slot);
    return false;
  }

  /**
   * Takes acknowledgement number and window of the current segment. Returns whether the client has
   * acknowledged more.
   */
  private takeAcknowledgement(slot: number): boolean {
    const { segment, sessions } = this.core;
    const { acknowledgement } = segment;
    const ahead = seqDiff(acknowledgement, sessions.clientAck(slot));
    if (ahead < 0) return false;
    sessions.setWindow(slot, segment.window);
    if (ahead > 0) this.sender.acknowledged(slot, acknowledgement);
    return ahead > 0;
  }

  /**
   * Takes the bytes and the FIN of the current segment that are next, and keeps nothing of them.
   */
  private discard(slot: number): void {
    const { segment, sessions, counters } = this.core;
    const next = sessions.receiveNext(slot);
    const end = seqAdd(segment.sequence, segment.payloadLength);
    if (sessions.has(slot, SessionFlag.clientFin) || seqAfter(segment.sequence, next)) return;
    const fresh = seqDiff(end, next);
    if (fresh > 0) {
      counters.add(Counter.discarded_bytes, fresh);
      sessions.setReceiveNext(slot, end);
    }
    if ((segment.flags & TcpFlag.fin) === 0 || fresh < 0) return;
    sessions.setReceiveNext(slot, seqAdd(end, 1));
    sessions.raise(slot, SessionFlag.clientFin);
  }

  /** RFC 6298 section 2: one second while no round trip has been measured, then twice as long. */
  private waitForAcknowledgement(slot: number): void {
    const { sessions, timers, options, now } = this.core;
    timers.set(slot, now + options.timeouts.synAck * 2 ** (sessions.tries(slot) - 1));
  }

  /** The client has the answer and does not close. Its time is limited. */
  private waitForEnd(slot: number): void {
    const { core } = this;
    const { sessions, clock } = core;
    const silent = elapsed(clock, sessions.lastSeen(slot));
    const lasted = elapsed(clock, this.sender.begunAt(slot));
    if (silent < SILENT_MS && lasted < DISCARD_MS) {
      core.timers.set(slot, core.now + Math.min(SILENT_MS - silent, DISCARD_MS - lasted));
      return;
    }
    if (silent < SILENT_MS && this.writer.resetSession(slot))
      core.counters.count(Counter.reset_sent);
    core.remove(slot, 'answered');
  }
}
