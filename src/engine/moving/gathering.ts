/**
 * Collects a later head that did not come in one segment, or because of which the session moves,
 * and decides where the request goes.
 *
 *     passing --a part of a head--> gathering --complete, another holder--> leaving.ts
 *                                       |
 *                                       +--- complete, the node keeps it;
 *                                            malformed; not complete in time ---> the same node
 *
 * Meanwhile the session is being handed over: nothing reaches its node but acknowledgements of the
 * answer before, in IXP. The record's numbers become those of the new head: its first byte is the
 * first of the client, and the answer begins where the client's acknowledgement ends. So the parts
 * of the engine that hand over a first request hand over this one too.
 *
 * What comes before the head has passed in plain form, and any of it may be lost on its way to the
 * node. An ACK of a part of the head covers that too, and nobody would send it again. So the node
 * is asked first: an ACK one byte before the head makes its socket answer, and the shim's notice of
 * that answer says how far the socket has got. A head that is complete in one segment needs no ACK.
 */
import { Counter } from '../../base/counters.js';
import { AT_HEAD, Pin, Verdict } from '../../directory/dispatcher.js';
import { Admin } from '../../directory/node-memory.js';
import { IxcpFlag } from '../../wire/ixcp.js';
import { IxpType } from '../../wire/ixp.js';
import { seqAdd, seqAfter, seqDiff } from '../../wire/seq.js';
import { TcpFlag } from '../../wire/tcp.js';
import {
  Acceptance,
  acceptReset,
  acknowledges,
  finEndsHead,
  isInHeadWindow,
  isKeepAliveProbe,
  isPlausibleAck,
} from '../acceptance.js';
import { noteTimestamps } from '../client-clock.js';
import type { ClientWriter } from '../client-writer.js';
import type { Collector } from '../collector.js';
import type { Core } from '../core.js';
import { Retry } from '../farm.js';
import type { NodeWriter } from '../handoff/node-writer.js';
import { HeadStep } from '../head-store.js';
import { NO_RESOURCE, SessionFlag, SessionState } from '../table/session-table.js';
import type { Following } from './following.js';
import type { Leaving } from './leaving.js';
import { Stay } from './pins.js';

export class Gathering {
  private readonly core: Core;
  private readonly toClient: ClientWriter;
  private readonly toNode: NodeWriter;
  private readonly collector: Collector;
  private readonly following: Following;
  private readonly leaving: Leaving;

  constructor(
    core: Core,
    toClient: ClientWriter,
    toNode: NodeWriter,
    collector: Collector,
    following: Following,
    leaving: Leaving,
  ) {
    this.core = core;
    this.toClient = toClient;
    this.toNode = toNode;
    this.collector = collector;
    this.following = following;
    this.leaving = leaving;
  }

  /**
   * The current segment, with ACK, has bytes of a head that begins at the next byte to be followed.
   */
  begin(slot: number): void {
    const { core } = this;
    const { sessions, heads, segment, timers, options, now } = core;
    const room = this.collector.allocate(slot);
    // The client sends the segment again.
    if (room < 0) return;
    const streams = core.streams!;
    const first = streams.next[slot]!;
    // This segment was verified; the number in the record may be that of a damaged one.
    if (isPlausibleAck(segment.acknowledgement, sessions.clientAck(slot)))
      sessions.setClientAck(slot, segment.acknowledgement);
    // A node of which the session has left another one lacks nothing: that one has said so.
    streams.unproven[slot] = streams.requests[slot] === 0 ? 0 : 1;
    streams.before[slot]! += seqDiff(first, sessions.clientFirst(slot));
    sessions.setClientIsn(slot, seqAdd(first, -1));
    sessions.setServerIsn(slot, seqAdd(sessions.clientAck(slot), -1));
    sessions.setReceiveNext(slot, first);
    sessions.setHandedTo(slot, first);
    sessions.resume[slot] = 0;
    sessions.nodeAck[slot] = first;
    sessions.setTries(slot, 0);
    heads.step[room] = HeadStep.gathering;
    sessions.setState(slot, SessionState.handing);
    core.noteClientMac(slot);
    timers.set(slot, now + options.timeouts.head);
    this.receive(slot, true);
  }

  /** Whether a session that is being handed over has a later head that its node does not know. */
  concerns(slot: number): boolean {
    return this.core.stepOf(slot) >= HeadStep.gathering;
  }

  /**
   * A segment of the client of such a session, other than a SYN.
   * @param begins the collection begins with it
   */
  receive(slot: number, begins = false): void {
    const { core } = this;
    const { sessions, segment, counters, heads } = core;
    if ((segment.flags & TcpFlag.rst) !== 0) {
      this.reset(slot);
      return;
    }
    if (!acknowledges(segment.flags)) {
      counters.count(Counter.drop_malformed_tcp);
      return;
    }
    const at = seqDiff(segment.sequence, sessions.clientFirst(slot));
    const isPlausible = isPlausibleAck(segment.acknowledgement, sessions.clientAck(slot));
    // The node may lack what comes before the head.
    const isBefore = isPlausible && at < 0 && segment.payloadLength > 0;
    if (isBefore) this.toNode.wrapBefore(slot, sessions.clientFirst(slot));
    if (!isPlausible || !isInHeadWindow(at, segment.payloadLength, heads.largeBytes)) {
      if (!isBefore) counters.count(Counter.drop_out_of_window);
      return;
    }
    if (this.isResumed(slot)) {
      this.resumed(slot);
      return;
    }
    sessions.setLastSeen(slot, core.clock);
    if (segment.sequence === sessions.receiveNext(slot)) sessions.setWindow(slot, segment.window);
    noteTimestamps(core, slot, begins);
    this.followAnswer(slot);
    const skip = at < 0 ? -at : 0;
    const length = segment.payloadLength - skip;
    if (length <= 0 && (segment.flags & TcpFlag.fin) === 0) {
      if (isKeepAliveProbe(segment.sequence, sessions.receiveNext(slot))) this.acknowledge(slot);
      return;
    }
    const took = length > 0 && this.collector.take(slot, at + skip, segment.payload + skip, length);
    const room = sessions.head[slot]!;
    const end = seqAdd(segment.sequence, segment.payloadLength);
    const filled = seqAdd(sessions.clientFirst(slot), heads.filled[room]!);
    const ends = finEndsHead(segment.flags, end, filled);
    if (ends) sessions.raise(slot, SessionFlag.clientFin);
    if (heads.step[room] === HeadStep.leaving) {
      // More than the head: the next node gets it with the head.
      if (took || ends) this.leaving.extend(slot);
    } else if (took || ends) this.look(slot, ends);
    else this.acknowledge(slot);
  }

  /**
   * Whether a head is collected only because the client repeats it after a move of the XDP program,
   * and the current segment shows that the node has got it.
   */
  private isResumed(slot: number): boolean {
    const { sessions, segment, streams } = this.core;
    return (
      streams!.requests[slot] === 0 && seqAfter(segment.acknowledgement, sessions.serverFirst(slot))
    );
  }

  /** Its node answers that head. What was collected is given up. */
  private resumed(slot: number): void {
    const { core } = this;
    const { sessions } = core;
    const streams = core.streams!;
    const end = streams.kernel!.resumedEnd(slot);
    streams.kernel!.prove(slot);
    streams.requests[slot] = 1;
    streams.next[slot] = end;
    streams.state[slot] = AT_HEAD;
    streams.left[slot] = 0;
    sessions.setHandedTo(slot, end);
    sessions.setReceiveNext(slot, end);
    sessions.setState(slot, SessionState.passing);
    this.toNode.wrap(slot);
    core.followClient(slot);
    core.waitForEnd(slot);
    core.parking.settle(slot);
  }

  /** The head was not complete in time: the node answers it. */
  expired(slot: number): void {
    const { core } = this;
    const { sessions, heads } = core;
    const room = sessions.head[slot]!;
    this.following.pin(slot, Pin.head);
    if (heads.filled[room] !== 0) {
      this.leaving.stay(slot);
      return;
    }
    // Only bytes behind a gap have come, and nothing of them was acknowledged.
    sessions.setState(slot, SessionState.passing);
    core.waitForEnd(slot);
  }

  /** Has the dispatcher inspect what has been collected so far. */
  private look(slot: number, ends: boolean): void {
    const { core, following } = this;
    const { sessions, heads, dispatcher, states } = core;
    const room = sessions.head[slot]!;
    const start = heads.start(room);
    const end = start + heads.filled[room]!;
    const server = core.serverOf(slot);
    const generation = core.judged?.generation;
    const verdict = dispatcher.inspect(heads.bytes, start, end, sessions.resume[slot]!, server);
    if (verdict === Verdict.incomplete && !ends) {
      sessions.resume[slot] = dispatcher.resume;
      this.acknowledge(slot);
      return;
    }
    if (verdict !== Verdict.found && verdict !== Verdict.notFound) {
      following.pin(slot, dispatcher.followBody(heads.bytes, start));
      this.leaving.stay(slot);
      return;
    }
    const isRepeated = core.streams!.requests[slot] === 0;
    if (!isRepeated) following.countRequest(slot, verdict, heads.bytes, start);
    const { resource } = dispatcher;
    const all = core.servers.retry[server] === Retry.all;
    heads.repeatable[room] = all || dispatcher.repeatable ? 1 : 0;
    heads.hasNoAnswerBody[room] = dispatcher.hasNoAnswerBody ? 1 : 0;
    heads.directory[room] = core.directory;
    heads.rewrites[room] = dispatcher.rewritten === 0 ? 0 : 1;
    sessions.resource[slot] = verdict === Verdict.found ? resource : NO_RESOURCE;
    sessions.tried[slot] = 0;
    following.followRoom(slot);
    if (isRepeated) {
      this.leaving.again(slot);
      return;
    }
    if (generation !== undefined && verdict === Verdict.found) {
      const sole = dispatcher.soleHolder(resource);
      const isPlain = !dispatcher.hasNoAnswerBody && dispatcher.rewritten === 0;
      if (sole >= 0 && sole !== sessions.node(slot) && isPlain && states.admin(sole) === Admin.up)
        following.offer(slot, generation, sole, heads.bytes, start, end);
    }
    const stays = following.isEnding(slot) || following.staysFor(slot, sessions.resource[slot]!);
    if (!stays && states.can(sessions.node(slot), IxcpFlag.canLeave)) this.leaving.begin(slot);
    else {
      // An agent that has not reported yet may know LEAVE.
      if (!stays && states.reportedAt[sessions.node(slot)]! >= 0) following.pin(slot, Stay.unable);
      this.leaving.stay(slot);
    }
  }

  /** The client acknowledges more of the answer before. Its node must hear that. */
  private followAnswer(slot: number): void {
    const { sessions, segment } = this.core;
    if (!seqAfter(segment.acknowledgement, sessions.clientAck(slot))) return;
    sessions.setClientAck(slot, segment.acknowledgement);
    sessions.setServerIsn(slot, seqAdd(segment.acknowledgement, -1));
    if (segment.payloadLength === 0) this.toNode.wrap(slot);
  }

  /**
   * The node of such a session has all bytes of the client up to `acknowledgement`: its notice
   * says so.
   */
  proven(slot: number, acknowledgement: number): void {
    const { core } = this;
    const { sessions } = core;
    const streams = core.streams!;
    if (streams.unproven[slot] === 0) return;
    if (seqDiff(acknowledgement, sessions.clientFirst(slot)) < 0) return;
    streams.unproven[slot] = 0;
    if (core.stepOf(slot) === HeadStep.gathering) this.toClient.ack(slot);
  }

  /**
   * Acknowledges what has been collected. That includes all bytes before it. So while the node may
   * lack some of them, the node is asked instead.
   */
  private acknowledge(slot: number): void {
    const { core } = this;
    if (core.streams!.unproven[slot] === 0) this.toClient.ack(slot);
    else if (
      core.reachable(core.sessions.node(slot)) &&
      this.toNode.sendKept(slot, IxpType.segment, -1, 0, TcpFlag.ack)
    )
      core.counters.count(Counter.node_asked);
  }

  private reset(slot: number): void {
    const { core } = this;
    const { segment, sessions, heads } = core;
    const verdict = acceptReset(segment.sequence, sessions.receiveNext(slot), heads.largeBytes);
    if (verdict === Acceptance.reset) {
      this.toNode.wrap(slot);
      core.linger(slot, 'client-reset');
    } else if (verdict === Acceptance.inexactReset) this.acknowledge(slot);
    else core.counters.count(Counter.drop_out_of_window);
  }
}
