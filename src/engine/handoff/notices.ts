/**
 * Handles what comes from nodes: notices about sessions, and the reports of their agents
 * (docs/ixp.md).
 */
import { Counter } from '../../base/counters.js';
import { TokenBucket } from '../../base/token-bucket.js';
import { checkIxcp, IXCP, IxcpFlag, IxcpReason, IxcpType, verifyIxcp } from '../../wire/ixcp.js';
import { seqBefore } from '../../wire/seq.js';
import type { Core } from '../core.js';
import type { Gathering } from '../moving/gathering.js';
import type { Leaving } from '../moving/leaving.js';
import type { ParkingNotice } from '../moving/parking.js';
import { NodeAddresses } from '../node-addresses.js';
import type { Search } from '../search/search.js';
import { PORT_OF_IPV6 } from '../segment.js';
import { KERNEL_EVENT, noticeType } from '../table/kernel-event.js';
import { SessionFlag, SessionState } from '../table/session-table.js';
import type { Confirmation } from './confirmation.js';
import type { Handoff } from './handoff.js';
import type { Inheritance } from './inheritance.js';
import type { NodeWriter } from './node-writer.js';

/** Answers a second to reports with a wrong key: anyone can cause them. */
const BAD_KEY_ANSWERS_PER_SECOND = 5;

/** A node whose report verified within this time, in ms, has our key. */
const REPORTS_ARRIVE_MS = 3_000;

export class Notices {
  private readonly core: Core;
  private readonly writer: NodeWriter;
  private readonly handoff: Handoff;
  private readonly confirmation: Confirmation;
  private readonly inheritance: Inheritance;
  private readonly leaving: Leaving;
  private readonly gathering: Gathering;
  private readonly search: Search;
  /** The notice that is being handled. */
  private readonly said: ParkingNotice = {
    type: 0,
    reason: 0,
    sequence: 0,
    acknowledgement: 0,
    answers: 0,
  };
  private readonly addresses = new NodeAddresses();
  private readonly badKeyAnswers = new TokenBucket(
    BAD_KEY_ANSWERS_PER_SECOND,
    BAD_KEY_ANSWERS_PER_SECOND,
  );

  constructor(
    core: Core,
    writer: NodeWriter,
    handoff: Handoff,
    confirmation: Confirmation,
    inheritance: Inheritance,
    leaving: Leaving,
    gathering: Gathering,
    search: Search,
  ) {
    this.core = core;
    this.writer = writer;
    this.handoff = handoff;
    this.confirmation = confirmation;
    this.inheritance = inheritance;
    this.leaving = leaving;
    this.gathering = gathering;
    this.search = search;
  }

  /** An IXCP packet for us, whose IP header is parsed. */
  receive(): void {
    const { segment, nodes, counters, hash } = this.core;
    const view = segment.view;
    const at = segment.tcp;
    if (!checkIxcp(view, at, segment.end - at)) {
      counters.count(Counter.drop_malformed_ixcp);
      return;
    }
    const node = nodes.find(segment.source);
    if (node < 0) {
      counters.count(Counter.drop_ixcp_unknown_node);
      return;
    }
    const type = view.getUint8(at + IXCP.type);
    if (!verifyIxcp(view, segment.source, segment.destination, at, hash)) {
      counters.count(Counter.drop_ixcp_tag);
      if (type === IxcpType.report) this.refuseKey(node);
      return;
    }
    if (type === IxcpType.report) {
      this.report(node, at);
      return;
    }
    this.notice(node, type, at);
  }

  private refuseKey(node: number): void {
    const { core } = this;
    // The node's own reports arrive, so this one is forged or comes from another sender.
    const heard = core.states.reportedAt[node]!;
    if (heard >= 0 && core.now - heard < REPORTS_ARRIVE_MS) return;
    core.states.otherKeyReported(node, core.now);
    if (!this.badKeyAnswers.take(core.now)) return;
    core.observer.badKey?.(node, core.now);
    this.writer.answerNotice(IxcpType.badKey);
  }

  private report(node: number, at: number): void {
    const { segment, states, counters, observer, now } = this.core;
    const view = segment.view;
    const flags = view.getUint16(at + IXCP.flags);
    const start = view.getUint32(at + IXCP.session);
    const clock = view.getUint32(at + IXCP.sequence);
    if (!states.reported(node, start, clock, flags, now)) {
      counters.count(Counter.drop_ixcp_stale);
      return;
    }
    counters.count(Counter.report);
    if ((flags & IxcpFlag.namesAddresses) !== 0) this.named(node, start, clock, at);
    observer.reported?.(node, flags, now);
    this.writer.answerNotice(IxcpType.welcome);
  }

  /** A report that names one of the node's virtual addresses. */
  private named(node: number, start: number, clock: number, at: number): void {
    const { segment, servers, states } = this.core;
    const count = segment.view.getUint16(at + IXCP.clientPort);
    const address = segment.view.getUint32(at + IXCP.virtualAddress);
    const has = this.addresses.add(node, start, clock, count, address);
    if (has === undefined) return;
    for (const server of servers.slots) {
      states.setLacks(node, server, !has.has(servers.address[server]!));
    }
  }

  private notice(node: number, type: number, at: number): void {
    const { segment, servers } = this.core;
    const view = segment.view;
    // The number does not tell its family. No IPv6 virtual server has the alias of another one.
    const address = view.getUint32(at + IXCP.virtualAddress);
    const port = view.getUint16(at + IXCP.virtualPort);
    const ipv4 = servers.find(address, port);
    const server = ipv4 >= 0 ? ipv4 : servers.find(address, port | PORT_OF_IPV6);
    const key = ((view.getUint16(at + IXCP.clientPort) << 16) | server) >>> 0;
    const client = view.getUint32(at + IXCP.client);
    const nonce = view.getUint32(at + IXCP.session);
    const { said } = this;
    said.type = type;
    said.reason = view.getUint8(at + IXCP.reason);
    said.sequence = view.getUint32(at + IXCP.sequence);
    said.acknowledgement = view.getUint32(at + IXCP.acknowledgement);
    said.answers = view.getUint16(at + IXCP.answers);
    if (server < 0) this.core.counters.count(Counter.drop_ixcp_stale);
    else if (type === IxcpType.owned) this.search.owned(node, client, key, nonce, said);
    else this.take(node, client, key, nonce);
  }

  /**
   * Handles a notice that the XDP program has checked and reported as the kernel event at `at`.
   */
  receiveChecked(words: Uint32Array, at: number): void {
    const { nodes, counters } = this.core;
    const address = words[at + KERNEL_EVENT.tsOffset]!;
    const node = nodes.find(address);
    if (node < 0) {
      counters.count(Counter.drop_ixcp_unknown_node);
      return;
    }
    const { said } = this;
    said.type = noticeType(words, at);
    said.reason = IxcpReason.none;
    said.sequence = 0;
    said.acknowledgement = words[at + KERNEL_EVENT.clientIsn]!;
    said.answers = 0;
    const client = words[at + KERNEL_EVENT.client]!;
    const nonce = words[at + KERNEL_EVENT.serverIsn]!;
    const key = words[at + KERNEL_EVENT.portServer]!;
    this.take(node, client, key, nonce);
  }

  /** A verified notice of a node, which is in `said`. */
  private take(node: number, client: number, portServer: number, nonce: number): void {
    const { sessions, counters, parking } = this.core;
    const slot = sessions.find(client, portServer);
    const isKnown =
      slot >= 0 && sessions.nonce(slot) === nonce && sessions.state(slot) >= SessionState.handing;
    if (!isKnown) {
      counters.count(Counter.drop_ixcp_stale);
      return;
    }
    const { type, reason } = this.said;
    // What is said about parked sockets must not meet a move of the XDP program.
    const isAboutParked =
      type === IxcpType.ended ||
      reason === IxcpReason.parked ||
      reason === IxcpReason.heldBack ||
      this.core.streams?.isUnproven(slot) === true;
    if (isAboutParked) parking.takeFromKernel(slot);
    if (sessions.node(slot) === node) this.apply(slot);
    else if (!this.isOfFormer(slot, node)) counters.count(Counter.drop_ixcp_stale);
    if (isAboutParked) parking.settle(slot);
  }

  /**
   * Whether this notice ends nothing, because the XDP program has moved the session, and its node
   * may not have got the head: the node may have said it before. If the node has no socket any
   * more, the client repeats the head, and the engine hands it over.
   */
  private endsNothing(slot: number): boolean {
    const { type, reason } = this.said;
    const { streams, parking } = this.core;
    if (streams?.isUnproven(slot) !== true) return false;
    if (type === IxcpType.rst && reason === IxcpReason.heldBack) {
      parking.closedUnseen(slot);
      return true;
    }
    return type === IxcpType.refused || reason === IxcpReason.parked;
  }

  /** A notice of a node that is not the session's. Returns whether it was to be expected. */
  private isOfFormer(slot: number, node: number): boolean {
    const { type, reason, acknowledgement } = this.said;
    const { parking } = this.core;
    if (type === IxcpType.ended || reason === IxcpReason.parked) {
      parking.receive(slot, node, this.said);
      return true;
    }
    // The answer to a LEAVE that was not a question, or a late word about the request that it had.
    if (type === IxcpType.left || parking.has(slot, node)) return true;
    // An open handshake also gets the RST.
    const has = type === IxcpType.adopted || type === IxcpType.fin || type === IxcpType.synAck;
    if (has) this.handoff.resetLateNode(slot, node, acknowledgement);
    return false;
  }

  /** A notice about a session, from the node that has it. */
  private apply(slot: number): void {
    const { core, handoff, confirmation } = this;
    const { type, reason, acknowledgement } = this.said;
    const { sessions } = core;
    const handing = sessions.state(slot) === SessionState.handing;
    const passing = sessions.state(slot) === SessionState.passing;
    // This answers a question of ours: nothing has happened to the session.
    const answers = passing && type === IxcpType.adopted && core.isHalfClosed(slot);
    if (!answers) sessions.setLastSeen(slot, core.clock);
    const node = sessions.node(slot);
    const isEnded = type === IxcpType.ended;
    const isIdle = isEnded || reason === IxcpReason.parked;
    const isHeldBack = reason === IxcpReason.heldBack;
    if (
      (isIdle && this.isOld(slot)) ||
      (isHeldBack && seqBefore(this.said.sequence, sessions.serverFirst(slot))) ||
      this.isOfParked(slot)
    ) {
      core.counters.count(Counter.drop_ixcp_stale);
      return;
    }
    // Counts even if the client's acknowledgement was faster: that says nothing about a node.
    const has = type === IxcpType.adopted || type === IxcpType.fin || isEnded;
    if (has) core.states.handoffConfirmed(node, core.serverOf(slot));
    if (passing && has && reason === IxcpReason.none) core.parking.prove(slot, acknowledgement);
    if (this.endsNothing(slot)) return;
    if (isEnded || reason === IxcpReason.parked) {
      // Only a socket that has all of the request is idle.
      if (handing) confirmation.confirmed(slot, acknowledgement);
      if (isEnded && reason === IxcpReason.none) this.ended(slot);
      else this.closedIdle(slot);
      return;
    }
    switch (type) {
      case IxcpType.adopted:
        if (this.gathering.concerns(slot)) this.gathering.proven(slot, acknowledgement);
        else if (handing) confirmation.confirmed(slot, acknowledgement);
        else if (answers) sessions.setTries(slot, 0);
        return;
      case IxcpType.refused:
        if (this.leaving.isAsking(slot)) this.leaving.refused(slot, reason);
        else if (handing) handoff.refused(slot, reason);
        return;
      case IxcpType.synAck:
        if (handing) handoff.synAcked(slot);
        return;
      case IxcpType.left:
      case IxcpType.parked:
        if (this.leaving.isAsking(slot)) this.leaving.left(slot, type === IxcpType.parked);
        return;
      case IxcpType.fin:
        // A FIN comes from a socket, so it confirms as well if the notice before it was lost. And a
        // server closed the socket.
        if (!sessions.has(slot, SessionFlag.nodeFin)) {
          core.states.serverAnswered(node, core.serverOf(slot));
        }
        sessions.raise(slot, SessionFlag.nodeFin);
        if (handing) confirmation.confirmed(slot, acknowledgement);
        else if (passing) core.waitForEnd(slot);
        return;
      case IxcpType.rst: {
        if (reason === IxcpReason.heldBack) {
          // A socket that the session came back to ends in several segments. Another one has taken
          // its place.
          const isReplaced = this.said.answers === 1 && core.streams?.resumes[slot] !== 1;
          if (isReplaced) core.counters.count(Counter.drop_ixcp_stale);
          else handoff.resetUnseen(slot);
          return;
        }
        if (handoff.isRecalling(slot)) {
          handoff.goneWhileRecalled(slot);
          return;
        }
        // A SYN that overtook the handoff reaches a node that does not know the session yet.
        const unknown = reason === IxcpReason.unknownSession;
        if (handing && unknown && !this.inheritance.inDoubt(slot)) return;
        // The node had a socket, so it answers what the client still sends.
        if (handing && !unknown) confirmation.confirmed(slot, sessions.handedTo(slot));
        core.linger(slot, 'node-reset');
        return;
      }
      case IxcpType.released:
        handoff.released(slot);
        return;
      default:
        core.counters.count(Counter.drop_malformed_ixcp);
    }
  }

  /**
   * Whether a notice about an idle socket was sent before the session came back to its node with
   * the present request.
   */
  private isOld(slot: number): boolean {
    const { sessions } = this.core;
    return (
      sessions.state(slot) === SessionState.handing &&
      !sessions.has(slot, SessionFlag.adopted) &&
      seqBefore(this.said.acknowledgement, sessions.handedTo(slot))
    );
  }

  /**
   * Whether an ADOPTED is about a parked socket to which the session is to come back: the socket
   * repeats what it has sent, and does not have the first byte of the present request.
   */
  private isOfParked(slot: number): boolean {
    const { core } = this;
    const { sessions, streams } = core;
    return (
      this.said.type === IxcpType.adopted &&
      streams?.resumes[slot] === 1 &&
      sessions.state(slot) === SessionState.handing &&
      !sessions.has(slot, SessionFlag.adopted) &&
      !seqBefore(core.clientFirst(slot), this.said.acknowledgement)
    );
  }

  /** The session's node has answered all of its requests, and keeps its socket if it is left. */
  private ended(slot: number): void {
    const { streams } = this.core;
    const { sequence, acknowledgement, answers } = this.said;
    if (streams === undefined) return;
    streams.isEnded[slot] = 1;
    streams.endedAnswers[slot] = answers;
    streams.endedNext[slot] = acknowledgement;
    streams.endedAt[slot] = sequence;
  }

  /**
   * The socket of the session's node was idle, and has closed or sent something of its own accord.
   * The client does not know.
   */
  private closedIdle(slot: number): void {
    const { core, leaving, handoff } = this;
    const { type } = this.said;
    const state = core.sessions.state(slot);
    if (leaving.isAsking(slot)) {
      // A request of the client has crossed that, and can still go elsewhere.
      if (type !== IxcpType.rst) core.parking.leave(slot, core.sessions.node(slot));
      leaving.left(slot, false);
    } else if (type === IxcpType.rst) handoff.resetIdle(slot);
    else if (state === SessionState.handing || state === SessionState.passing)
      core.parking.wake(slot, this.said);
  }
}
