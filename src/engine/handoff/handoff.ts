/**
 * Hands a session over: to a node that holds the content, to the next when that one refuses or
 * stays silent, in the end to a local service. Until a node has confirmed, the bytes collected
 * are ours to keep and to send again (design rules 1 to 4).
 */
import { Counter } from '../../base/counters.js';
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
import type { Inheritance } from './inheritance.js';
import type { NodeWriter } from './node-writer.js';
import type { Recall } from './recall.js';
import { HandoffSender } from './sender.js';

/** Transmissions of the rest of a long head to a node that has confirmed its beginning. */
const REST_TRIES = 10;
/**
 * A client that is this part of the time away after which a handoff is sent again acknowledges an
 * answer before.
 */
const NEAR_PART = 1 / 4;

/** By LocalService number; the first, a node's own web server, is never asked for. */
const ANSWER_COUNTERS: readonly number[] = [
  Counter.handoffs_local,
  Counter.answer_400,
  Counter.answer_404,
  Counter.answer_408,
  Counter.answer_431,
  Counter.answer_503,
  Counter.closed_silent_client,
];

export class Handoff {
  private readonly core: Core;
  private readonly toClient: ClientWriter;
  private readonly toNode: NodeWriter;
  private readonly sender: HandoffSender;
  private readonly recall: Recall;
  private readonly inheritance: Inheritance;

  constructor(
    core: Core,
    toClient: ClientWriter,
    toNode: NodeWriter,
    recall: Recall,
    inheritance: Inheritance,
  ) {
    this.core = core;
    this.toClient = toClient;
    this.toNode = toNode;
    this.sender = new HandoffSender(core, toNode);
    this.recall = recall;
    this.inheritance = inheritance;
  }

  /** The head is complete and asks for `resource`. */
  begin(slot: number, resource: number): void {
    const { sessions, dispatcher, now } = this.core;
    sessions.resource[slot] = resource;
    const server = this.core.serverOf(slot);
    const node = dispatcher.pick(resource, 0, server, sessions.flags(slot), now);
    if (node < 0) {
      this.serveLocally(slot, LocalService.unavailable);
      return;
    }
    sessions.tried[slot] = dispatcher.pickedBit;
    this.start(slot, node, LocalService.none, this.isNear(slot));
  }

  /** The balancer itself answers. */
  serveLocally(slot: number, service: LocalServiceNumber): void {
    this.core.counters.count(Counter.handoffs_local);
    this.core.counters.count(ANSWER_COUNTERS[service]!);
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
      // It may have the session, and be cut off from us alone.
      this.sender.withdraw(slot, node);
      sessions.raise(slot, SessionFlag.moved);
      this.inheritance.collectAgain(slot);
      return;
    }
    const adopted = sessions.has(slot, SessionFlag.adopted);
    // After none there was one that asked for no confirmation.
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
      // It has the beginning of the head and never took the rest: nobody else can go on with it.
      this.toNode.resetNode(slot, node, sessions.nodeAck[slot]!);
      this.fail(slot);
      return;
    }
    if (node !== LOCAL_NODE) states.handoffTimedOut(node, core.now);
    // It may have adopted, and only its notice was lost: two nodes must not answer one client.
    this.sender.withdraw(slot, node);
    sessions.raise(slot, SessionFlag.moved);
    this.next(slot);
  }

  /** The node says that it can not take the session. */
  refused(slot: number, reason: number): void {
    const core = this.core;
    if (core.sessions.has(slot, SessionFlag.adopted)) return;
    core.counters.count(Counter.handoff_refused);
    const node = core.sessions.node(slot);
    if (node !== LOCAL_NODE)
      core.states.handoffRefused(node, core.serverOf(slot), reason, core.now);
    core.observer.refused?.(slot, node, reason, core.now);
    // What stands in the way there may be gone in a moment: where nobody else can take it, it is
    // sent again then.
    const again =
      reason === IxcpReason.tupleInUse &&
      core.sessions.tries(slot) < core.options.limits.handoffTries;
    if (this.inheritance.inDoubt(slot)) this.inheritance.collectAgain(slot);
    else if (!again) this.next(slot);
    else if (core.sessions.service(slot) === LocalService.none) this.toNextHolder(slot);
  }

  /** The node has let go of the session: its server stands still. */
  released(slot: number): void {
    const { core } = this;
    const { sessions, states, counters, now } = core;
    const asking = this.recall.isAsking(slot);
    if (!asking && sessions.state(slot) !== SessionState.passing) return;
    const node = sessions.node(slot);
    states.serverStalled(node, core.serverOf(slot), now);
    core.observer.released?.(slot, node, now);
    if (!asking) {
      // It came so late that the head is gone.
      this.fail(slot);
      return;
    }
    counters.count(Counter.handoff_taken_back);
    sessions.setFlags(slot, sessions.flags(slot) & ~SessionFlag.adopted);
    this.next(slot);
  }

  /**
   * The node has the session, and has acknowledged the client's bytes up to `acknowledgement`: it
   * says so, or the client's acknowledgements do.
   */
  confirmed(slot: number, acknowledgement: number): void {
    const core = this.core;
    const { sessions, states, counters, timers, options, now } = core;
    const node = sessions.node(slot);
    // What is missing there of an earlier process's head, the client has still to send.
    const whole =
      seqDiff(acknowledgement, sessions.handedTo(slot)) >= 0 || this.inheritance.inDoubt(slot);
    if (!sessions.has(slot, SessionFlag.adopted)) {
      sessions.raise(slot, SessionFlag.adopted);
      counters.count(Counter.adopted);
      if (node !== LOCAL_NODE) states.adopted[node]! += 1;
      core.observer.adopted?.(slot, node, now);
    }
    if (whole) {
      const keeps = this.recall.keepsHead(slot);
      // From here on they count questions that the node has not answered.
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
      // What we keep, we send: a client's own copy of it might differ from what was looked at.
      if (this.inheritance.inDoubt(slot)) this.inheritance.forwardRepeatedHead(slot);
      return;
    }
    if (!this.toNode.wrap(slot)) return;
    if (core.followClient(slot) && sessions.state(slot) === SessionState.passing)
      core.waitForEnd(slot);
    this.leaveToKernel(slot);
  }

  /**
   * A client that goes on sending before the node has confirmed: the kernel can wrap that. Not
   * before the batch is over in which the handoff was sent, or it would overtake the handoff, and
   * the node drop it.
   */
  private leaveToKernel(slot: number): void {
    const { sessions, batchHandoffs } = this.core;
    if (sessions.state(slot) !== SessionState.handing) return;
    if ((sessions.action(slot) & SessionAction.wrap) !== 0) return;
    if (sessions.node(slot) !== LOCAL_NODE && !batchHandoffs.has(slot)) sessions.wrapInKernel(slot);
  }

  /** The rule for a segment of the client while the node has not confirmed. */
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
   * The client acknowledges data. We have sent none, so a node has, and its notice is not here yet.
   * False when that ends the session: it was moved on, and which node answered can not be told; a
   * second answer in the middle of the first would be worse than none.
   */
  confirmedByClient(slot: number): boolean {
    const { sessions } = this.core;
    const flags = sessions.flags(slot);
    if ((flags & SessionFlag.adopted) !== 0) return true;
    if ((flags & SessionFlag.moved) !== 0) {
      // What the node said meanwhile may have met no process: it is being asked.
      if (this.inheritance.inDoubt(slot)) return true;
      this.sender.withdraw(slot, sessions.node(slot));
      this.fail(slot);
      return false;
    }
    const node = sessions.node(slot);
    if (node !== LOCAL_NODE) this.core.states.serverAnswered(node, this.core.serverOf(slot));
    const single = this.sender.isSingle(slot);
    // There is an answer, so nothing is to be taken back.
    if (single) this.core.releaseHead(slot);
    this.confirmed(slot, single ? sessions.handedTo(slot) : sessions.nodeAck[slot]!);
    return true;
  }

  /**
   * Takes in that the kernel has forwarded a client's acknowledgement of an answer, if it has: that
   * confirms. False when it ends the session (`answered`).
   */
  confirmIfAnswered(slot: number): boolean {
    return !this.core.hasAnswer(slot) || this.confirmedByClient(slot);
  }

  /**
   * A node that is not the session's says it has it: it came too late, and must let go. Its notice
   * tells what it has of the client's bytes, and so the number that its socket waits at.
   */
  resetLateNode(slot: number, node: number, acknowledgement: number): void {
    this.toNode.resetNode(slot, node, acknowledgement);
  }

  /**
   * Whether an unconfirmed session lets go of its room, since it turns out to be confirmed, or
   * over.
   */
  freesHead(slot: number): boolean {
    return !this.confirmIfAnswered(slot) || this.core.sessions.state(slot) !== SessionState.handing;
  }

  /** Ends an unconfirmed session to make room for others. */
  evict(slot: number): void {
    this.sender.withdraw(slot, this.core.sessions.node(slot));
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
    // When the rest is written: a process that takes the record over goes by it.
    if (begins) sessions.setState(slot, SessionState.handing);
    core.attach(slot);
    if (node !== LOCAL_NODE) states.handoffStarted(node, core.serverOf(slot), core.now);
    counters.count(Counter.handoffs);
    const clientConfirms =
      near &&
      heads.halfFree &&
      !states.hasFailed(node, core.serverOf(slot)) &&
      this.sender.isSingle(slot);
    this.sender.send(slot, clientConfirms ? IxpFlag.clientConfirms : 0);
  }

  /**
   * Whether the client of the segment being worked on is near, by its timestamps: they tell when
   * the SYN/ACK was sent that it echoes.
   */
  private isNear(slot: number): boolean {
    const { core } = this;
    const { segment, options, sessions } = core;
    if (!sessions.has(slot, SessionFlag.timestampsOk)) return false;
    if (!segment.parseOptions() || !segment.options.hasTimestamps) return false;
    // The kernel, which may have sent the SYN/ACK, reads the clock later than the datapath.
    const ago = Math.abs(seqDiff(core.tsvalOf(slot), segment.options.tsecr));
    return ago <= options.timeouts.handoff * NEAR_PART;
  }

  /** On to the next holder, or to a local service, or to the end. */
  private next(slot: number): void {
    const core = this.core;
    // Not even the balancer's own service takes it.
    if (core.sessions.service(slot) !== LocalService.none) {
      this.fail(slot);
    } else if (!this.toNextHolder(slot)) {
      core.detach(slot);
      this.serveLocally(slot, LocalService.unavailable);
    }
  }

  /** On to the next holder, if there is one that can take it. */
  private toNextHolder(slot: number): boolean {
    const { sessions, dispatcher, now } = this.core;
    const server = this.core.serverOf(slot);
    const node = dispatcher.pick(
      sessions.resource[slot]!,
      sessions.tried[slot]!,
      server,
      sessions.flags(slot),
      now,
    );
    if (node < 0) return false;
    this.core.detach(slot);
    sessions.tried[slot]! |= dispatcher.pickedBit;
    this.start(slot, node, LocalService.none);
    return true;
  }

  private fail(slot: number): void {
    if (this.toClient.resetSession(slot)) this.core.counters.count(Counter.reset_sent);
    this.core.remove(slot, 'no-node');
  }
}
