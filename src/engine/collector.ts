/**
 * Collects a request head from segments in any order, and has the dispatcher read it as it grows.
 */
import { Counter } from '../base/counters.js';
import { ServerCounter } from '../base/object-counters.js';
import { Answer, answerOf } from '../directory/answers.js';
import { Verdict } from '../directory/dispatcher.js';
import { seqAdd, seqDiff } from '../wire/seq.js';
import { TcpFlag } from '../wire/tcp.js';
import {
  Acceptance,
  acceptAckOfSyn,
  acceptReset,
  finEndsHead,
  isInHeadWindow,
  isKeepAliveProbe,
} from './acceptance.js';
import type { Answers } from './answers/answers.js';
import { takeTimestamp } from './client-clock.js';
import type { ClientWriter } from './client-writer.js';
import type { Core } from './core.js';
import { Retry } from './farm.js';
import type { Confirmation } from './handoff/confirmation.js';
import type { Handoff } from './handoff/handoff.js';
import type { Following } from './moving/following.js';
import { SessionFlag, SessionState } from './table/session-table.js';

const CR = 13;
const LF = 10;

/** How many rooms are examined to find one that can be freed. */
const EVICTION_LOOKS = 32;

export class Collector {
  private readonly core: Core;
  private readonly writer: ClientWriter;
  private readonly handoff: Handoff;
  private readonly confirmation: Confirmation;
  private readonly answers: Answers;
  private readonly following: Following;

  constructor(
    core: Core,
    writer: ClientWriter,
    handoff: Handoff,
    confirmation: Confirmation,
    answers: Answers,
    following: Following,
  ) {
    this.core = core;
    this.writer = writer;
    this.handoff = handoff;
    this.confirmation = confirmation;
    this.answers = answers;
    this.following = following;
  }

  /** A segment, other than a SYN, of a session whose head is being collected. */
  receive(slot: number): void {
    const core = this.core;
    const { segment, sessions, counters } = core;
    const first = sessions.clientFirst(slot);
    let at = seqDiff(segment.sequence, first);
    if ((segment.flags & TcpFlag.rst) !== 0) {
      this.reset(slot);
      return;
    }
    const { flags, acknowledgement } = segment;
    switch (acceptAckOfSyn(flags, acknowledgement, sessions.serverFirst(slot))) {
      case Acceptance.noAck:
        counters.count(Counter.drop_malformed_tcp);
        return;
      case Acceptance.badAck:
        counters.count(Counter.drop_bad_ack);
        this.writer.ack(slot);
        return;
    }
    if (core.isHeadLost(slot)) {
      if (at !== 0 || segment.payloadLength === 0) {
        this.writer.resetAnswer();
        core.remove(slot, 'lost');
        return;
      }
      // The head comes again from its first byte: no acknowledgement of it has reached the client.
      sessions.setReceiveNext(slot, first);
      core.noteClientMac(slot);
    }
    sessions.setLastSeen(slot, core.clock);
    if (!isInHeadWindow(at, segment.payloadLength, core.heads.largeBytes)) {
      counters.count(Counter.drop_out_of_window);
      this.writer.ack(slot);
      return;
    }
    if (!takeTimestamp(core, slot)) {
      counters.count(Counter.drop_out_of_window);
      this.writer.ack(slot);
      return;
    }
    if (segment.sequence === sessions.receiveNext(slot)) sessions.setWindow(slot, segment.window);
    const skip = at < 0 ? -at : 0;
    const length = segment.payloadLength - skip;
    at += skip;
    if (length <= 0 && (segment.flags & TcpFlag.fin) === 0) {
      if (isKeepAliveProbe(segment.sequence, sessions.receiveNext(slot))) this.writer.ack(slot);
      return;
    }
    if (length > 0 && !this.take(slot, at, segment.payload + skip, length)) {
      this.writer.ack(slot);
      return;
    }
    this.look(slot, first);
  }

  /**
   * The head was not complete in time, or the client has not sent a byte where the server may speak
   * first.
   */
  expired(slot: number): void {
    const { core } = this;
    const { sessions, heads } = core;
    if (core.isHeadLost(slot)) {
      core.remove(slot, 'lost');
      return;
    }
    if (core.readsNothing(slot)) {
      this.handOverEmpty(slot);
      return;
    }
    const room = sessions.head[slot]!;
    const empty = room < 0 || heads.filled[room] === 0;
    this.answers.begin(slot, empty ? Answer.silentClose : Answer.timeout);
  }

  private reset(slot: number): void {
    const { core } = this;
    const { segment, sessions, heads } = core;
    switch (acceptReset(segment.sequence, sessions.receiveNext(slot), heads.largeBytes)) {
      case Acceptance.reset:
        core.remove(slot, 'client-reset');
        return;
      case Acceptance.inexactReset:
        this.writer.ack(slot);
        return;
      default:
        core.counters.count(Counter.drop_out_of_window);
    }
  }

  /** Puts payload into the session's room. Returns false when nothing new was taken. */
  take(slot: number, at: number, from: number, length: number): boolean {
    const { sessions, heads, segment, counters, transmit } = this.core;
    let room = sessions.head[slot]!;
    if (room < 0) {
      room = this.allocate(slot);
      if (room < 0) return false;
    }
    let taken = length;
    if (at + taken > heads.size(room)) {
      const large = this.grow(slot, room);
      if (large >= 0) room = large;
      taken = Math.min(taken, heads.size(room) - at);
      if (taken < length) counters.count(Counter.drop_head_room);
      if (taken <= 0) return false;
    }
    if (!heads.write(room, at, transmit.memory.bytes, from, taken)) {
      counters.count(Counter.drop_out_of_order_full);
      return false;
    }
    const next = seqAdd(sessions.clientIsn(slot), 1 + heads.filled[room]!);
    // A FIN that was not taken, or lies past a gap, comes again: it was not acknowledged.
    if (next === sessions.receiveNext(slot)) return false;
    if (taken < length) segment.flags &= ~TcpFlag.fin;
    sessions.setReceiveNext(slot, next);
    return true;
  }

  /** A room for the session's head; -1: there is none. */
  allocate(slot: number): number {
    const { sessions, heads } = this.core;
    let room = heads.allocate(slot);
    if (room < 0) {
      this.evict(slot, false);
      room = heads.allocate(slot);
    }
    sessions.head[slot] = room;
    return room;
  }

  private grow(slot: number, room: number): number {
    const { sessions, heads } = this.core;
    if (heads.size(room) === heads.largeBytes) return room;
    let large = heads.grow(room);
    if (large < 0) {
      this.evict(slot, true);
      large = heads.grow(room);
    }
    if (large >= 0) sessions.head[slot] = large;
    return large;
  }

  /** Frees the room of some other session, so that slow clients cannot keep all rooms. */
  private evict(slot: number, large: boolean): void {
    const { core } = this;
    let victim = -1;
    // The best choice is a session that no longer needs its room: its client has acknowledged an
    // answer, or its node has confirmed.
    const { inState } = core.sessions;
    const others = inState[SessionState.handing]! + inState[SessionState.passing]!;
    for (let look = 0; look < EVICTION_LOOKS && others > 0; look++) {
      const met = core.heads.nextOwner(large);
      if (met < 0) return;
      if (core.sessions.state(met) === SessionState.passing) {
        this.giveUpKept(met);
        return;
      }
      if (core.sessions.state(met) === SessionState.handing && this.confirmation.freesHead(met))
        return;
    }
    // The next choice is a session that is still collecting, if one is near: the others are nearly
    // done.
    for (let look = 0; look < EVICTION_LOOKS; look++) {
      const met = core.heads.victim(large);
      if (met < 0) return;
      if (met === slot) continue;
      victim = met;
      const state = core.sessions.state(met);
      if (state === SessionState.collecting || state === SessionState.passing) break;
    }
    if (victim < 0) return;
    if (core.sessions.state(victim) === SessionState.passing) {
      this.giveUpKept(victim);
      return;
    }
    if (core.sessions.state(victim) === SessionState.handing) {
      this.handoff.evict(victim);
      return;
    }
    this.writer.resetSession(victim);
    core.remove(victim, 'evicted-head');
  }

  /** A session that passes gives up its head, which could have gone to another node. */
  private giveUpKept(slot: number): void {
    const { core } = this;
    if (!core.hasAnswer(slot)) core.counters.count(Counter.evicted_kept_head);
    core.waitForEnd(slot);
  }

  /** Has the dispatcher inspect what has been collected so far. */
  private look(slot: number, first: number): void {
    const core = this.core;
    const { sessions, heads, segment, dispatcher, counters, objects } = core;
    const room = sessions.head[slot]!;
    const filled = room < 0 ? 0 : heads.filled[room]!;
    const end = seqAdd(segment.sequence, segment.payloadLength);
    const endsHere = finEndsHead(segment.flags, end, seqAdd(first, filled));
    if (endsHere) sessions.raise(slot, SessionFlag.clientFin);
    if (filled === 0) {
      // The client has closed without sending a byte: there is nothing to wait for.
      if (!endsHere) {
        this.writer.ack(slot);
        return;
      }
      if (core.readsNothing(slot)) this.handOverEmpty(slot);
      else this.answers.begin(slot, Answer.silentClose);
      return;
    }
    const start = heads.start(room);
    const server = core.serverOf(slot);
    const verdict = dispatcher.inspect(
      heads.bytes,
      start,
      start + filled,
      sessions.resume[slot]!,
      server,
    );
    if (verdict === Verdict.incomplete && !endsHere) {
      sessions.resume[slot] = dispatcher.resume;
      this.writer.ack(slot);
      return;
    }
    if (verdict === Verdict.found) {
      counters.count(Counter.requests);
      objects.countServer(server, ServerCounter.requests);
      this.noteRequest(slot, start, start + filled, verdict);
      this.handOver(slot, room);
      return;
    }
    const status = verdict === Verdict.incomplete ? Verdict.badRequest : verdict;
    if (status === Verdict.notFound) {
      counters.count(Counter.requests);
      objects.countServer(server, ServerCounter.requests);
    }
    this.noteRequest(slot, start, start + filled, status);
    this.answers.begin(slot, answerOf(status));
  }

  private firstLineEnd(start: number, end: number): number {
    const { bytes } = this.core.heads;
    for (let at = start; at < end; at++) if (bytes[at] === CR || bytes[at] === LF) return at;
    return end;
  }

  /** Hands over what the dispatcher has found for the session. */
  private handOver(slot: number, room: number): void {
    const { core } = this;
    const { dispatcher, heads } = core;
    dispatcher.countRequest(dispatcher.resource);
    const all = core.servers.retry[core.serverOf(slot)] === Retry.all;
    heads.repeatable[room] = all || dispatcher.repeatable ? 1 : 0;
    heads.hasNoAnswerBody[room] = dispatcher.hasNoAnswerBody ? 1 : 0;
    this.following.begin(slot);
    if (heads.filled[room] === 0) this.handoff.begin(slot, dispatcher.resource, false);
    else this.handoff.begin(slot, dispatcher.resource);
  }

  /** The client waits for the server to speak, or has closed: hands over without a byte. */
  private handOverEmpty(slot: number): void {
    const { core } = this;
    const { heads, dispatcher, counters, objects } = core;
    // A session that is being handed over has a room.
    const room = this.allocate(slot);
    if (room < 0) {
      this.writer.resetSession(slot);
      core.remove(slot, 'evicted-head');
      return;
    }
    const start = heads.start(room);
    const server = core.serverOf(slot);
    const verdict = dispatcher.inspect(heads.bytes, start, start, 0, server);
    counters.count(Counter.requests);
    counters.count(Counter.handed_without_bytes);
    objects.countServer(server, ServerCounter.requests);
    this.noteRequest(slot, start, start, verdict);
    this.handOver(slot, room);
  }

  /**
   * Keeps and reports what the client asks for: method and target if the dispatcher has read them,
   * else the first line of bytes[start, end), or what the dispatcher says in place of these bytes.
   */
  private noteRequest(slot: number, start: number, end: number, verdict: number): void {
    const { dispatcher, heads } = this.core;
    const { text, requestStart, requestEnd } = dispatcher;
    if (text !== undefined)
      this.keepRequest(slot, text, requestStart, requestEnd, verdict, dispatcher.textEnd);
    else if (verdict === Verdict.found || verdict === Verdict.notFound)
      this.keepRequest(slot, heads.bytes, start + requestStart, start + requestEnd, verdict, end);
    else this.keepRequest(slot, heads.bytes, start, this.firstLineEnd(start, end), verdict, end);
  }

  private keepRequest(
    slot: number,
    bytes: Uint8Array,
    start: number,
    end: number,
    verdict: number,
    filled: number,
  ): void {
    const { sessions, observer, now } = this.core;
    sessions.keepRequest(slot, bytes, start, end - start);
    observer.request?.(slot, verdict, bytes, start, end, now, filled);
  }
}
