/**
 * Follows the client of a session that may move, request by request, while the session passes.
 *
 *     client's segment            what happens
 *     no payload                  forwarded; with `datapath: xdp` by the kernel
 *     body, its length is known   forwarded up to `handedTo`, in the kernel too; nothing is read
 *     body in chunks              read to know where it ends, and forwarded
 *     a whole head                looked up: the node keeps it, and it is forwarded as it is;
 *                                 or the session moves (leaving.ts)
 *     a part of a head            collected first (gathering.ts)
 *
 * A session that cannot be followed is pinned: from there on its node gets everything unread.
 */
import { Counter } from '../../base/counters.js';
import { ServerCounter } from '../../base/object-counters.js';
import { AT_HEAD, Follow, Pin, Verdict } from '../../directory/dispatcher.js';
import { Admin } from '../../directory/node-memory.js';
import { IxpFlag, IxpType } from '../../wire/ixp.js';
import { seqAdd, seqAfter, seqDiff } from '../../wire/seq.js';
import { acknowledges, isPlausibleAck } from '../acceptance.js';
import type { Core } from '../core.js';
import { KeepAlive, Retry } from '../farm.js';
import type { NodeWriter } from '../handoff/node-writer.js';
import type { PassThrough } from '../pass-through.js';
import { PARSED } from '../segment.js';
import { NO_RESOURCE, SessionFlag, SessionState } from '../table/session-table.js';
import type { Gathering } from './gathering.js';
import { pinCounter, Stay } from './pins.js';
import type { Streams } from './streams.js';

/** The kernel compares sequence numbers, which may differ by less than 2^31. */
const MOST_UNREAD = 0x4000_0000;
/** All options that a session can have: IxpFlag bits. */
const ANY_OPTIONS = IxpFlag.windowScaleOk | IxpFlag.sackOk | IxpFlag.timestampsOk;

export class Following {
  private readonly core: Core;
  private readonly toNode: NodeWriter;
  private readonly passThrough: PassThrough;

  constructor(core: Core, toNode: NodeWriter, passThrough: PassThrough) {
    this.core = core;
    this.toNode = toNode;
    this.passThrough = passThrough;
  }

  /**
   * The first head of a session was read, and the dispatcher has just inspected it in the session's
   * room. From here on the session is followed, if its virtual server says so.
   */
  begin(slot: number): void {
    const { core } = this;
    const { streams, sessions } = core;
    if (streams === undefined) return;
    if (core.servers.keepAlive[core.serverOf(slot)] !== KeepAlive.migrate) return;
    sessions.raise(slot, SessionFlag.watched);
    this.followRoom(slot);
  }

  /** Whether the engine must read the current segment of a session that passes. */
  concerns(slot: number): boolean {
    const { sessions, segment, streams } = this.core;
    if (streams?.isUnproven(slot) === true && sessions.state(slot) === SessionState.passing)
      return true;
    return (
      sessions.has(slot, SessionFlag.watched) &&
      segment.payloadLength > 0 &&
      seqDiff(seqAdd(segment.sequence, segment.payloadLength), sessions.handedTo(slot)) > 0
    );
  }

  /**
   * Whether the current segment, of a session that is being handed over, goes to the node unread.
   * It pins the session if it has bytes of a later request. If the client has bytes of an answer,
   * it waits instead: the node has confirmed a part of the request ahead, and its word about the
   * rest is on the way. The client sends the segment again.
   */
  passesUnread(slot: number, isAnswered: boolean): boolean {
    const { core } = this;
    if (!this.concerns(slot)) return true;
    const { segment, dispatcher } = core;
    const streams = core.streams!;
    const end = seqAdd(segment.sequence, segment.payloadLength);
    dispatcher.follower.state = streams.state[slot]!;
    dispatcher.follower.left = streams.left[slot]!;
    if (seqDiff(end, streams.next[slot]!) <= dispatcher.follower.unread) return true;
    if (isAnswered) {
      core.counters.count(Counter.requests_early);
      return false;
    }
    this.pin(slot, Stay.pipelining);
    return true;
  }

  /** A segment that `concerns` the engine. */
  receive(slot: number, gathering: Gathering): void {
    const { core } = this;
    const { sessions, segment, counters, dispatcher } = core;
    const streams = core.streams!;
    const damaged = segment.verifyChecksums();
    if (damaged !== PARSED) {
      counters.count(damaged);
      return;
    }
    if (!acknowledges(segment.flags)) {
      counters.count(Counter.drop_malformed_tcp);
      return;
    }
    // Whoever does not see the connection cannot pin it. The node refuses such a segment.
    if (!isPlausibleAck(segment.acknowledgement, sessions.clientAck(slot))) {
      // A node that may lack the head would take its numbers for others.
      if (streams.isUnproven(slot)) counters.count(Counter.drop_out_of_window);
      else this.passThrough.forward(slot);
      return;
    }
    // The client sends on, so what was kept for another node is not all that it has sent.
    if (sessions.head[slot]! >= 0) core.waitForEnd(slot);
    core.parking.takeFromKernel(slot);
    if (streams.isUnproven(slot) && !this.isProven(slot, streams, gathering)) return;
    if (segment.payloadLength === 0) {
      this.pass(slot);
      return;
    }
    const { follower } = dispatcher;
    const { bytes } = core.transmit.memory;
    const gap = this.skipUnread(slot, streams, seqDiff(segment.sequence, streams.next[slot]!));
    const from = segment.payload - gap;
    const end = segment.payload + segment.payloadLength;
    if (gap <= 0 && from >= end) {
      this.pass(slot);
      return;
    }
    if (follower.state === AT_HEAD) {
      if (gap <= 0 && this.keeps(slot, from, end)) return;
      if (!sessions.has(slot, SessionFlag.clientFin)) {
        gathering.begin(slot);
        return;
      }
      // A FIN has overtaken the head. Its node has it, and gets the rest.
      this.pin(slot, Pin.last);
      this.pass(slot);
      return;
    }
    if (gap > 0) this.pin(slot, Stay.gap);
    else {
      const result = follower.advance(bytes, from, end);
      this.note(slot, result, end, seqAdd(segment.sequence, segment.payloadLength));
    }
    this.pass(slot);
  }

  /**
   * The XDP program has moved the session, and its node may not have got the head. Whether the
   * current segment shows that the node has. Otherwise it is not for the node yet, which would
   * misunderstand its numbers: either the client repeats the head, or the node is asked.
   */
  private isProven(slot: number, streams: Streams, gathering: Gathering): boolean {
    const { core } = this;
    const { sessions, segment } = core;
    const first = sessions.clientFirst(slot);
    if (seqAfter(segment.acknowledgement, sessions.serverFirst(slot))) {
      streams.kernel!.prove(slot);
      return true;
    }
    if (segment.payloadLength > 0 && segment.sequence === first) {
      streams.next[slot] = first;
      streams.requests[slot] = 0;
      gathering.begin(slot);
      if (sessions.state(slot) !== SessionState.passing || !streams.isUnproven(slot)) return false;
      // There was no room for it. The client repeats it again.
      streams.requests[slot] = 1;
      streams.next[slot] = sessions.handedTo(slot);
    }
    sessions.setLastSeen(slot, core.clock);
    // A socket that has the head answers.
    this.toNode.ask(slot);
    core.parking.settle(slot);
    return false;
  }

  /**
   * The dispatcher has just inspected the head in the session's room, or `inspectRoom` has. Follows
   * the body as far as it is in the room.
   */
  followRoom(slot: number): void {
    const { sessions, heads } = this.core;
    const room = sessions.head[slot]!;
    const start = heads.start(room);
    const end = start + heads.filled[room]!;
    this.follow(slot, heads.bytes, start, end, seqAdd(this.core.clientFirst(slot), end - start));
  }

  /** From here on the session's node gets everything. @param reason Pin or Stay */
  pin(slot: number, reason: number): void {
    const { sessions, counters } = this.core;
    if (!sessions.has(slot, SessionFlag.watched)) return;
    sessions.watch(slot, false);
    const counter = pinCounter(reason);
    if (counter !== undefined) counters.count(counter);
  }

  /**
   * Whether the session stays with its node for this resource of the current directory, as the
   * dispatcher has just found: the node holds it, and takes sessions. A request with another path
   * for the node never stays. Its head may become longer, and the numbers before it are used.
   */
  staysFor(slot: number, resource: number): boolean {
    const { sessions, nodes, states, dispatcher, now } = this.core;
    const node = sessions.node(slot);
    if (dispatcher.rewritten !== 0) return false;
    if (resource === NO_RESOURCE || dispatcher.holderBit(resource, node) === 0) return false;
    return (
      states.admin(node) === Admin.up &&
      nodes.takesHandoffs(node, this.core.serverOf(slot), sessions.flags(slot), now)
    );
  }

  /** Counts and shows the request that the dispatcher has just inspected at `start`. */
  countRequest(slot: number, verdict: number, bytes: Uint8Array, start: number): void {
    const { core } = this;
    const { dispatcher, sessions } = core;
    core.counters.count(Counter.requests);
    core.objects.countServer(core.serverOf(slot), ServerCounter.requests);
    if (verdict === Verdict.found) dispatcher.countRequest(dispatcher.resource);
    const length = dispatcher.requestEnd - dispatcher.requestStart;
    sessions.keepRequest(slot, bytes, start + dispatcher.requestStart, length);
  }

  /**
   * Looks at the head in bytes[from, end) of the current segment. If the node keeps the session,
   * forwards the segment and returns true. Returns false if the head must be collected.
   */
  private keeps(slot: number, from: number, end: number): boolean {
    const { core } = this;
    const { sessions, segment, dispatcher } = core;
    const { bytes } = core.transmit.memory;
    const streams = core.streams!;
    const generation = core.judged?.generation;
    const verdict = dispatcher.inspect(bytes, from, end, 0, core.serverOf(slot));
    if (verdict === Verdict.incomplete) return false;
    if (verdict !== Verdict.found && verdict !== Verdict.notFound) {
      this.pin(slot, dispatcher.followBody(bytes, from));
      this.pass(slot);
      return true;
    }
    const stays = verdict === Verdict.found && this.staysFor(slot, dispatcher.resource);
    if (!stays && !this.isEnding(slot)) return false;
    this.countRequest(slot, verdict, bytes, from);
    streams.requests[slot]! += 1;
    const wraps = dispatcher.hasNoAnswerBody;
    this.follow(slot, bytes, from, end, seqAdd(segment.sequence, segment.payloadLength));
    if (wraps && sessions.has(slot, SessionFlag.watched)) this.wrapHead(slot);
    else this.pass(slot);
    if (stays && !wraps && generation !== undefined && from === segment.payload)
      this.offer(slot, generation, sessions.node(slot), bytes, from, end);
    return true;
  }

  /**
   * The kernel may forward this head next time: it is the whole segment, and what was found out
   * about it holds for every session at this node. With one holder, the kernel may also bring a
   * session to it.
   * @param node the session's, or the sole holder to which it moves
   * @param generation JudgedHeads.generation before the head was inspected
   */
  offer(
    slot: number,
    generation: number,
    node: number,
    bytes: Uint8Array,
    from: number,
    end: number,
  ): void {
    const { core } = this;
    const { sessions, dispatcher, nodes, judged } = core;
    const streams = core.streams!;
    if (judged === undefined || !sessions.has(slot, SessionFlag.watched)) return;
    if (streams.state[slot] !== AT_HEAD || dispatcher.headBytes !== end - from) return;
    const server = core.serverOf(slot);
    if (!nodes.takesHandoffs(node, server, ANY_OPTIONS, core.now)) return;
    const { resource, requestStart, requestEnd } = dispatcher;
    const repeats = dispatcher.repeatable || core.servers.retry[server] === Retry.all;
    judged.offer(
      generation,
      server,
      node,
      resource,
      bytes,
      from,
      end,
      requestStart,
      requestEnd,
      core.clock,
      repeats && dispatcher.soleHolder(resource) === node,
    );
  }

  /** Whether one side of the session has ended: the request goes where the last one went. */
  isEnding(slot: number): boolean {
    return this.core.sessions.has(slot, SessionFlag.clientFin | SessionFlag.nodeFin);
  }

  /** The node must know that the answer to this request has no body. */
  private wrapHead(slot: number): void {
    const { core } = this;
    core.sessions.setLastSeen(slot, core.clock);
    core.sessions.countPacket(slot);
    this.toNode.wrap(slot, IxpType.segment, IxpFlag.head, core.streams!.requests[slot]!);
    if (core.followClient(slot)) core.waitForEnd(slot);
    this.setUntil(slot);
  }

  /** Begins with the request at bytes[start, end) that was just inspected. */
  private follow(
    slot: number,
    bytes: Uint8Array,
    start: number,
    end: number,
    sequence: number,
  ): void {
    const { dispatcher } = this.core;
    const reason = dispatcher.followBody(bytes, start);
    if (reason !== Pin.none) {
      this.pin(slot, reason);
      return;
    }
    const result = dispatcher.follower.advance(bytes, start + dispatcher.headBytes, end);
    this.note(slot, result, end, sequence);
  }

  /** Stores where the follower is after bytes up to `end`, whose sequence number is `sequence`. */
  private note(slot: number, result: number, end: number, sequence: number): void {
    const { follower } = this.core.dispatcher;
    const streams = this.core.streams!;
    if (result === Follow.pinned) this.pin(slot, Pin.body);
    else if (result === Follow.ended && follower.position < end) this.pin(slot, Stay.pipelining);
    else {
      streams.state[slot] = follower.state;
      streams.left[slot] = follower.left;
      streams.next[slot] = sequence;
    }
  }

  /**
   * Loads the follower's state, and skips what was forwarded unread. Returns how far the current
   * segment begins behind the next byte to be followed.
   */
  private skipUnread(slot: number, streams: Streams, gap: number): number {
    const { follower } = this.core.dispatcher;
    follower.state = streams.state[slot]!;
    follower.left = streams.left[slot]!;
    const skipped = Math.min(gap, follower.unread);
    if (skipped <= 0) return gap;
    follower.skip(skipped);
    streams.state[slot] = follower.state;
    streams.left[slot] = follower.left;
    streams.next[slot] = seqAdd(streams.next[slot]!, skipped);
    return gap - skipped;
  }

  private pass(slot: number): void {
    this.passThrough.forward(slot);
    this.setUntil(slot);
  }

  /**
   * What passes unread is forwarded without the engine: up to `handedTo`. Where a head begins
   * there, the kernel looks for it.
   */
  private setUntil(slot: number): void {
    const { core } = this;
    const { sessions, dispatcher } = core;
    if (!sessions.has(slot, SessionFlag.watched)) return;
    const streams = core.streams!;
    const unread = Math.min(MOST_UNREAD, dispatcher.follower.unread);
    // The kernel may have forwarded a copy of the segment that the engine has just counted.
    streams.kernel?.skipRequests(slot);
    sessions.setHandedTo(slot, seqAdd(streams.next[slot]!, unread));
    if (sessions.state(slot) !== SessionState.passing) return;
    core.parking.settle(slot);
  }
}
