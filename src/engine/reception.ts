/**
 * Takes in frames: finds the session of each, and gives it to the part of the engine that handles
 * the session's state.
 */
import { Counter } from '../base/counters.js';
import { Protocol } from '../wire/ipv4.js';
import { IPV6 } from '../wire/ipv6.js';
import { TcpFlag } from '../wire/tcp.js';
import { acceptSyn, acknowledges, hasOneControlAtMost, SynAcceptance } from './acceptance.js';
import type { Answers } from './answers/answers.js';
import type { ClientWriter } from './client-writer.js';
import type { Collector } from './collector.js';
import type { Core } from './core.js';
import type { Confirmation } from './handoff/confirmation.js';
import type { Handoff } from './handoff/handoff.js';
import type { NodeWriter } from './handoff/node-writer.js';
import type { Notices } from './handoff/notices.js';
import { type Handshake, NO_CONNECTION } from './handshake.js';
import { IcmpErrors } from './icmp-errors.js';
import type { Following } from './moving/following.js';
import type { Gathering } from './moving/gathering.js';
import type { PassThrough } from './pass-through.js';
import type { Search } from './search/search.js';
import { PARSED } from './segment.js';
import type { Sweep } from './sweep.js';
import { SessionFlag, SessionState } from './table/session-table.js';

// A plain constant: the index of a counter of the fast path.
const FRAMES = Counter.frames;

/** The parts of the engine that handle frames. */
export interface Receivers {
  readonly toClient: ClientWriter;
  readonly toNode: NodeWriter;
  readonly handshake: Handshake;
  readonly collector: Collector;
  readonly handoff: Handoff;
  readonly confirmation: Confirmation;
  readonly answers: Answers;
  readonly passThrough: PassThrough;
  readonly following: Following;
  readonly gathering: Gathering;
  readonly notices: Notices;
  readonly sweep: Sweep;
  readonly search: Search;
}

export class Reception {
  private readonly core: Core;
  private readonly toClient: ClientWriter;
  private readonly toNode: NodeWriter;
  private readonly handshake: Handshake;
  private readonly collector: Collector;
  private readonly handoff: Handoff;
  private readonly confirmation: Confirmation;
  private readonly answers: Answers;
  private readonly passThrough: PassThrough;
  private readonly following: Following;
  private readonly gathering: Gathering;
  private readonly notices: Notices;
  private readonly sweep: Sweep;
  private readonly search: Search;
  private readonly icmpErrors: IcmpErrors;

  constructor(core: Core, parts: Receivers) {
    this.core = core;
    this.toClient = parts.toClient;
    this.toNode = parts.toNode;
    this.handshake = parts.handshake;
    this.collector = parts.collector;
    this.handoff = parts.handoff;
    this.confirmation = parts.confirmation;
    this.answers = parts.answers;
    this.passThrough = parts.passThrough;
    this.following = parts.following;
    this.gathering = parts.gathering;
    this.notices = parts.notices;
    this.sweep = parts.sweep;
    this.search = parts.search;
    this.icmpErrors = new IcmpErrors(core);
  }

  /** A frame in the datapath's memory. Parameters as in FrameSink. */
  receive(offset: number, length: number, flags: number, now: number): void {
    const core = this.core;
    const { segment, counters } = core;
    core.setNow(now);
    counters.count(FRAMES);
    const malformed = segment.parseIp(offset, length, flags);
    if (malformed !== PARSED) {
      // With mode forward, options and fragments go on to the node.
      const isUnusual =
        malformed === Counter.drop_ipv4_options || malformed === Counter.drop_ipv4_fragment;
      if (!isUnusual || core.forwarding?.receive(offset, length, flags) !== true)
        counters.count(malformed);
      return;
    }
    if (segment.protocol === Protocol.tcp) this.receiveTcp();
    else if (segment.protocol === Protocol.ixcp && this.isForUs()) this.receiveIxcp();
    else if (segment.protocol === Protocol.icmp && !segment.isIpv6) this.icmpErrors.receive();
    else if (segment.protocol === Protocol.icmpv6 && segment.isIpv6) this.icmpErrors.receive6();
    else this.receiveOther();
  }

  private receiveTcp(): void {
    const core = this.core;
    const { segment, sessions, servers, counters } = core;
    const malformed = segment.parseTcp();
    if (malformed !== PARSED) {
      counters.count(malformed);
      return;
    }
    const server = servers.find(segment.destination, segment.placePort);
    if (server < 0) {
      this.receiveOther();
      return;
    }
    const key = ((segment.sourcePort << 16) | server) >>> 0;
    const slot = sessions.find(segment.source, key);
    if (segment.isIpv6 && !this.isNamed(server, slot)) return;
    const notable = segment.flags & (TcpFlag.syn | TcpFlag.fin | TcpFlag.rst);
    if (slot >= 0 && notable === 0 && sessions.state(slot) === SessionState.passing) {
      if (this.following.concerns(slot)) this.following.receive(slot, this.gathering);
      else this.passThrough.forward(slot);
      return;
    }
    // The rest changes the state of a session, so the segment must be as the client sent it.
    const damaged = segment.verifyChecksums();
    if (damaged !== PARSED) counters.count(damaged);
    else if (!hasOneControlAtMost(notable)) counters.count(Counter.drop_malformed_tcp);
    else if (slot < 0 && core.isOtherWorkers(segment.source, key))
      counters.count(Counter.drop_other_worker);
    else if ((notable & TcpFlag.syn) !== 0) this.receiveSyn(slot, server);
    else if (slot < 0) this.receiveFirst(server);
    else this.receiveText(slot);
  }

  /**
   * Whether the current IPv6 segment has the addresses for which their aliases stand: that of the
   * virtual server, and that of the session's client if there is a session.
   */
  private isNamed(server: number, slot: number): boolean {
    const { segment, sessions, servers, counters } = this.core;
    const { view, ip } = segment;
    if (!servers.isAt(server, view, ip + IPV6.destination)) {
      this.receiveOther();
      return false;
    }
    if (slot < 0 || sessions.clients.is(slot, view, ip + IPV6.source)) return true;
    counters.count(Counter.drop_alias_in_use);
    return false;
  }

  /** A packet for no virtual server with mode handoff. */
  private receiveOther(): void {
    const { segment, forwarding, counters } = this.core;
    if (forwarding?.receive(segment.offset, segment.length, segment.frameFlags) !== true)
      counters.count(Counter.drop_not_ours);
  }

  /** A SYN, with or without a session. */
  private receiveSyn(slot: number, server: number): void {
    const core = this.core;
    const { sessions, segment } = core;
    const isSynAck = (segment.flags & TcpFlag.ack) !== 0;
    if (slot < 0) {
      // We open no connections, so a SYN/ACK answers nothing of ours.
      if (isSynAck) this.receiveUnknown();
      else this.openOrRefuse(server);
      return;
    }
    if (sessions.state(slot) === SessionState.synReceived) this.handshake.completedByKernel(slot);
    const isSame = segment.sequence === sessions.clientIsn(slot);
    switch (acceptSyn(sessions.state(slot), isSame, isSynAck)) {
      case SynAcceptance.repeated:
        this.handshake.repeat(slot);
        return;
      case SynAcceptance.challenged:
        if (sessions.state(slot) === SessionState.answering) this.answers.challenge(slot);
        else this.toClient.ack(slot);
        return;
      case SynAcceptance.forNode:
        // Never in plain form: if the node had no socket, its listener would open a connection that
        // the balancer does not know.
        this.toNode.wrap(slot);
        return;
      case SynAcceptance.refused:
        this.receiveUnknown();
        return;
      case SynAcceptance.late:
        return;
      case SynAcceptance.replaces:
        core.remove(slot, 'replaced');
        this.openOrRefuse(server);
    }
  }

  /** A SYN that opens a session, unless the virtual server is closed to new ones. */
  private openOrRefuse(server: number): void {
    if (this.core.servers.isOpen(server)) this.handshake.open(server);
    else this.receiveUnknown();
  }

  /** A segment of a session that is not simply passed through. */
  private receiveText(slot: number): void {
    const { sessions } = this.core;
    // A client that has acknowledged an answer belongs to the node at once, and not only when the
    // engine would next have asked.
    if (sessions.state(slot) === SessionState.handing && !this.confirmation.confirmIfAnswered(slot))
      return;
    switch (sessions.state(slot)) {
      case SessionState.synReceived:
        if (this.handshake.completedByKernel(slot) || this.handshake.complete(slot))
          this.collector.receive(slot);
        return;
      case SessionState.collecting:
        this.collector.receive(slot);
        return;
      case SessionState.handing:
        if (this.gathering.concerns(slot)) this.gathering.receive(slot);
        else if (this.handoff.isFencing(slot)) this.handoff.receiveFenced(slot);
        else if (this.confirmation.receive(slot)) this.following.receive(slot, this.gathering);
        return;
      case SessionState.passing:
        if ((this.core.segment.flags & TcpFlag.rst) !== 0) this.passThrough.forwardReset(slot);
        else if (this.following.concerns(slot)) this.following.receive(slot, this.gathering);
        else this.passThrough.forward(slot);
        return;
      case SessionState.answering:
        this.answers.receive(slot);
        return;
      default:
        // The session has ended. Only a node that has confirmed gets the segment in plain form:
        // another may not know the session.
        if (sessions.has(slot, SessionFlag.adopted)) this.passThrough.forward(slot);
        else if (this.answers.hasAnswered(slot)) this.answers.receiveLate(slot);
        else if (this.core.isCut(slot)) this.sweep.receive(slot);
        else this.core.counters.count(Counter.drop_no_session);
    }
  }

  /**
   * A segment without a session, other than a SYN. It may be the first one that acknowledges a
   * cookie, or of a connection that a node has.
   */
  private receiveFirst(server: number): void {
    const { core, handshake } = this;
    let slot: number = NO_CONNECTION;
    if (
      acknowledges(core.segment.flags) &&
      handshake.cookiesOutstanding &&
      core.servers.isOpen(server)
    )
      slot = handshake.acceptCookie(server);
    if (slot >= 0) {
      this.collector.receive(slot);
      return;
    }
    const isReset = (core.segment.flags & TcpFlag.rst) !== 0;
    const isUnknown = slot === NO_CONNECTION;
    if (!isReset && this.search.receive(server, isUnknown)) return;
    // After TRY_LATER the client sends its segment again. An RST would end its connection.
    if (isUnknown) this.receiveUnknown();
  }

  /** A segment of no session (RFC 9293 section 3.10.7.1). */
  private receiveUnknown(): void {
    this.core.counters.count(Counter.drop_no_session);
    if ((this.core.segment.flags & TcpFlag.rst) === 0) this.toClient.resetAnswer();
  }

  /** Whether the current packet is for our own address of its family. */
  private isForUs(): boolean {
    const { segment, address, address6 } = this.core;
    return segment.destination === (segment.isIpv6 ? address6 : address);
  }

  private receiveIxcp(): void {
    const { segment, counters } = this.core;
    const damaged = segment.verifyChecksums();
    if (damaged !== PARSED) counters.count(damaged);
    else this.notices.receive();
  }
}
