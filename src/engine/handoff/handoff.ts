/**
 * Hands a session over to a node that holds the content, then to the next holder if that node
 * refuses or stays silent, and in the end to a local service. Until a node has confirmed, the
 * engine keeps the collected bytes and sends them again.
 */
import { Counter } from '../../base/counters.js';
import { NodeCounter, ServerCounter } from '../../base/object-counters.js';
import { IxcpReason } from '../../wire/ixcp.js';
import { IxpFlag, LocalService, type LocalServiceNumber } from '../../wire/ixp.js';
import { seqAdd, seqAfter, seqBefore, seqDiff } from '../../wire/seq.js';
import {
  Acceptance,
  type AcceptanceCode,
  acceptHandedOver,
  acknowledgesAnswer,
} from '../acceptance.js';
import type { ClientWriter } from '../client-writer.js';
import type { Core } from '../core.js';
import { LOCAL_NODE } from '../node-table.js';
import { SessionAction } from '../table/session-record.js';
import { SessionFlag, SessionState } from '../table/session-table.js';
import type { Choice } from './choice.js';
import { countAnswer, noteTimeToHandoff } from './figures.js';
import type { Inheritance } from './inheritance.js';
import type { NodeWriter } from './node-writer.js';
import type { Recall } from './recall.js';
import { HandoffSender } from './sender.js';

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

  constructor(
    core: Core,
    toClient: ClientWriter,
    toNode: NodeWriter,
    recall: Recall,
    inheritance: Inheritance,
    choice: Choice,
  ) {
    this.core = core;
    this.choice = choice;
    this.toClient = toClient;
    this.toNode = toNode;
    this.sender = new HandoffSender(core, toNode);
    this.recall = recall;
    this.inheritance = inheritance;
  }

  /** The head is complete and asks for `resource` of the current directory. */
  begin(slot: number, resource: number): void {
    const node = this.choice.first(slot, resource);
    if (node < 0) {
      this.serveLocally(slot, LocalService.unavailable);
      return;
    }
    this.choice.take(slot);
    noteTimeToHandoff(this.core, slot);
    this.start(slot, node, LocalService.none, this.isNear(slot));
  }

  /** Hands the session over to a local service. */
  serveLocally(slot: number, service: LocalServiceNumber): void {
    countAnswer(this.core, slot, service);
    this.start(slot, LOCAL_NODE, service);
  }

  /** The node did not confirm in time. */
  expired(slot: number): void {
    const core = this.core;
    if (this.recall.isAsking(slot)) {
      this.recall.expired(slot);
      return;
    }
    const { sessions, counters, states } = core;
    if (!this.confirmIfAnswered(slot)) return;
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
    if (unconfirmed && node !== LOCAL_NODE) core.observer.unconfirmed?.(slot, node, core.now);
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
      this.fail(slot);
      return;
    }
    if (node !== LOCAL_NODE) {
      states.handoffTimedOut(node, core.now);
      core.objects.countNode(node, NodeCounter.silent);
    }
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
    core.counters.count(Counter.handoff_refused);
    const node = core.sessions.node(slot);
    if (node !== LOCAL_NODE) {
      core.states.handoffRefused(node, core.serverOf(slot), reason, core.now);
      core.objects.countNode(node, NodeCounter.refused);
    }
    core.observer.refused?.(slot, node, reason, core.now);
    // The older connection at the node may be gone in a moment. If no other holder can take the
    // session, the handoff is sent there again then.
    const again =
      reason === IxcpReason.tupleInUse &&
      core.sessions.tries(slot) < core.options.limits.handoffTries;
    if (this.inheritance.inDoubt(slot)) this.inheritance.collectAgain(slot);
    else if (!again) this.next(slot);
    else if (core.sessions.service(slot) === LocalService.none) this.toNextHolder(slot);
  }

  /** The node has removed its socket again: its web server stands still. */
  released(slot: number): void {
    const { core } = this;
    const { sessions, states, counters, now } = core;
    const asking = this.recall.isAsking(slot);
    if (!asking && sessions.state(slot) !== SessionState.passing) return;
    const node = sessions.node(slot);
    states.serverStalled(node, core.serverOf(slot), now);
    core.observer.released?.(slot, node, now);
    if (!asking) {
      // The notice came so late that the head is gone.
      this.fail(slot);
      return;
    }
    counters.count(Counter.handoff_taken_back);
    core.objects.countNode(node, NodeCounter.taken_back);
    sessions.setFlags(slot, sessions.flags(slot) & ~SessionFlag.adopted);
    this.next(slot);
  }

  /**
   * The node has the session, and has acknowledged the client's bytes up to `acknowledgement`. Its
   * notice says so, or the client's acknowledgement does.
   */
  confirmed(slot: number, acknowledgement: number): void {
    const core = this.core;
    const { sessions, states, counters, timers, options, now } = core;
    const node = sessions.node(slot);
    // If part of an earlier process's head is missing at the node, the client still has to send it.
    const whole =
      seqDiff(acknowledgement, sessions.handedTo(slot)) >= 0 || this.inheritance.inDoubt(slot);
    if (!sessions.has(slot, SessionFlag.adopted)) {
      sessions.raise(slot, SessionFlag.adopted);
      counters.count(Counter.adopted);
      if (node !== LOCAL_NODE) {
        states.adopted[node]! += 1;
        core.objects.countNode(node, NodeCounter.adopted);
      }
      core.observer.adopted?.(slot, node, now);
    }
    if (whole) {
      const keeps = this.recall.keepsHead(slot);
      // From here on `tries` counts questions that the node has not answered.
      sessions.setTries(slot, 0);
      sessions.setState(slot, SessionState.passing);
      if (!keeps) core.waitForEnd(slot);
    } else if (seqAfter(acknowledgement, sessions.nodeAck[slot]!)) {
      sessions.nodeAck[slot] = acknowledgement;
      sessions.setTries(slot, 0);
      timers.set(slot, now + options.timeouts.handoff);
    }
  }

  /** A segment, other than a SYN, of the client while the node has not confirmed. */
  receive(slot: number): void {
    const core = this.core;
    const { segment, sessions, counters } = core;
    const acceptance = this.acceptance(slot);
    if (acceptance !== Acceptance.accepted && acceptance !== Acceptance.reset) {
      const malformed = acceptance === Acceptance.noAck;
      counters.count(malformed ? Counter.drop_malformed_tcp : Counter.drop_out_of_window);
      return;
    }
    if (this.inheritance.inDoubt(slot)) core.noteClientMac(slot);
    sessions.setLastSeen(slot, core.clock);
    if (acceptance === Acceptance.reset) {
      this.toNode.wrap(slot);
      core.linger(slot, 'client-reset');
      return;
    }
    if (
      acknowledgesAnswer(segment.acknowledgement, sessions.serverFirst(slot)) &&
      !this.confirmedByClient(slot)
    )
      return;
    if (segment.span > 0 && seqBefore(segment.sequence, sessions.handedTo(slot))) {
      // The engine sends the bytes that it keeps. The client's own copy might differ from what was
      // inspected.
      if (this.inheritance.inDoubt(slot)) this.inheritance.forwardRepeatedHead(slot);
      return;
    }
    if (!this.toNode.wrap(slot)) return;
    if (core.followClient(slot) && sessions.state(slot) === SessionState.passing)
      core.waitForEnd(slot);
    this.leaveToKernel(slot);
  }

  /**
   * The kernel can wrap what a client sends before the node has confirmed. It must not begin in the
   * batch in which the handoff was sent: the segment would overtake the handoff, and the node would
   * drop it.
   */
  private leaveToKernel(slot: number): void {
    const { sessions, batchHandoffs } = this.core;
    if (sessions.state(slot) !== SessionState.handing) return;
    if ((sessions.action(slot) & SessionAction.wrap) !== 0) return;
    if (sessions.node(slot) !== LOCAL_NODE && !batchHandoffs.has(slot)) sessions.wrapInKernel(slot);
  }

  /** The acceptance rule for a segment of the client while the node has not confirmed. */
  private acceptance(slot: number): AcceptanceCode {
    const { segment, sessions } = this.core;
    return acceptHandedOver(
      segment.flags,
      segment.sequence,
      segment.acknowledgement,
      sessions.clientFirst(slot),
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
    if (node !== LOCAL_NODE) this.core.states.serverAnswered(node, this.core.serverOf(slot));
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
   * A node that no longer is the session's says that it has the session. It came too late, and its
   * socket must be reset. Its notice tells which of the client's bytes it has, and so the number at
   * which the socket accepts an RST.
   */
  resetLateNode(slot: number, node: number, acknowledgement: number): void {
    this.toNode.resetNode(slot, node, acknowledgement);
  }

  /**
   * Whether an unconfirmed session gives up its room, because it turns out to be confirmed or
   * ended.
   */
  freesHead(slot: number): boolean {
    return !this.confirmIfAnswered(slot) || this.core.sessions.state(slot) !== SessionState.handing;
  }

  /**
   * The session's node is to get nothing any more, and has not confirmed. Hands the session to the
   * next holder, or to the local service. A request that may change something waits for the node's
   * word instead: the node may have it. Returns false when the session can only end.
   */
  leave(slot: number): boolean {
    if (!this.confirmIfAnswered(slot)) return true;
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

  private start(slot: number, node: number, service: LocalServiceNumber, near = false): void {
    const core = this.core;
    const { sessions, heads, counters, states } = core;
    const room = sessions.head[slot]!;
    const first = sessions.clientFirst(slot);
    const fin = sessions.has(slot, SessionFlag.clientFin) ? 1 : 0;
    const begins = sessions.state(slot) === SessionState.collecting;
    if (begins) {
      sessions.setHandedTo(slot, seqAdd(first, (room < 0 ? 0 : heads.filled[room]!) + fin));
      sessions.setReceiveNext(slot, sessions.handedTo(slot));
    }
    sessions.takeFromKernel(slot);
    core.batchHandoffs.add(slot);
    sessions.nodeAck[slot] = first;
    sessions.setNode(slot, node);
    sessions.setService(slot, service);
    sessions.setTries(slot, 0);
    // Written last: a process that takes the record over relies on it.
    if (begins) sessions.setState(slot, SessionState.handing);
    core.attach(slot);
    const server = core.serverOf(slot);
    if (node !== LOCAL_NODE) {
      states.handoffStarted(node, server, core.now);
      core.objects.countNode(node, NodeCounter.handoffs);
      core.objects.countServer(server, ServerCounter.handoffs);
    }
    counters.count(Counter.handoffs);
    const clientConfirms =
      near && heads.halfFree && !states.hasFailed(node, server) && this.sender.isSingle(slot);
    this.sender.send(slot, clientConfirms ? IxpFlag.clientConfirms : 0);
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

  /** Goes on to the next holder, or to a local service, or ends the session. */
  private next(slot: number): void {
    const core = this.core;
    // Even the balancer's own service does not take the session.
    if (core.sessions.service(slot) !== LocalService.none) {
      this.fail(slot);
    } else if (!this.toNextHolder(slot)) {
      core.detach(slot);
      this.serveLocally(
        slot,
        this.choice.isGone(slot) ? LocalService.notFound : LocalService.unavailable,
      );
    }
  }

  /** Goes on to the next holder, if one can take the session. */
  private toNextHolder(slot: number): boolean {
    const node = this.choice.next(slot);
    if (node < 0) return false;
    this.core.detach(slot);
    this.choice.take(slot);
    this.start(slot, node, LocalService.none);
    return true;
  }

  private fail(slot: number): void {
    if (this.toClient.resetSession(slot)) this.core.counters.count(Counter.reset_sent);
    this.core.remove(slot, 'no-node');
  }
}
