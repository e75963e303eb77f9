/**
 * Handles what comes from nodes: notices about sessions, and the reports of their agents
 * (docs/ixp.md).
 */
import { Counter } from '../../base/counters.js';
import { TokenBucket } from '../../base/token-bucket.js';
import { checkIxcp, IXCP, IxcpFlag, IxcpReason, IxcpType, verifyIxcp } from '../../wire/ixcp.js';
import type { Core } from '../core.js';
import type { Gathering } from '../moving/gathering.js';
import type { Leaving } from '../moving/leaving.js';
import { NodeAddresses } from '../node-addresses.js';
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
  ) {
    this.core = core;
    this.writer = writer;
    this.handoff = handoff;
    this.confirmation = confirmation;
    this.inheritance = inheritance;
    this.leaving = leaving;
    this.gathering = gathering;
  }

  /** An IXCP packet for us, whose IPv4 header is parsed. */
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
    if (!verifyIxcp(view, segment.ip, at, hash)) {
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
    const server = servers.find(
      view.getUint32(at + IXCP.virtualAddress),
      view.getUint16(at + IXCP.virtualPort),
    );
    const key = ((view.getUint16(at + IXCP.clientPort) << 16) | server) >>> 0;
    const client = view.getUint32(at + IXCP.client);
    const nonce = view.getUint32(at + IXCP.session);
    const acknowledgement = view.getUint32(at + IXCP.acknowledgement);
    const slot = server < 0 ? -1 : this.find(node, client, key, nonce, type, acknowledgement);
    if (slot >= 0) this.apply(slot, type, view.getUint8(at + IXCP.reason), acknowledgement);
    else this.core.counters.count(Counter.drop_ixcp_stale);
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
    const type = noticeType(words, at);
    const client = words[at + KERNEL_EVENT.client]!;
    const nonce = words[at + KERNEL_EVENT.serverIsn]!;
    const acknowledgement = words[at + KERNEL_EVENT.clientIsn]!;
    const key = words[at + KERNEL_EVENT.portServer]!;
    const slot = this.find(node, client, key, nonce, type, acknowledgement);
    if (slot >= 0) this.apply(slot, type, IxcpReason.none, acknowledgement);
    else counters.count(Counter.drop_ixcp_stale);
  }

  /** The session of a node's notice; -1 if the node does not have that session now. */
  private find(
    node: number,
    client: number,
    portServer: number,
    nonce: number,
    type: number,
    acknowledgement: number,
  ): number {
    const { sessions } = this.core;
    const slot = sessions.find(client, portServer);
    if (slot < 0 || sessions.nonce(slot) !== nonce) return -1;
    if (sessions.state(slot) < SessionState.handing) return -1;
    if (sessions.node(slot) === node) return slot;
    // An open handshake also gets the RST.
    const has = type === IxcpType.adopted || type === IxcpType.fin || type === IxcpType.synAck;
    if (has) this.handoff.resetLateNode(slot, node, acknowledgement);
    return -1;
  }

  /** A verified notice about a session, from the node that has it. */
  private apply(slot: number, type: number, reason: number, acknowledgement: number): void {
    const { core, handoff, confirmation } = this;
    const { sessions } = core;
    const handing = sessions.state(slot) === SessionState.handing;
    const passing = sessions.state(slot) === SessionState.passing;
    // This answers a question of ours: nothing has happened to the session.
    const answers = passing && type === IxcpType.adopted && core.isHalfClosed(slot);
    if (!answers) sessions.setLastSeen(slot, core.clock);
    const node = sessions.node(slot);
    // Counts even if the client's acknowledgement was faster: that says nothing about a node.
    const has = type === IxcpType.adopted || type === IxcpType.fin;
    if (has) core.states.handoffConfirmed(node, core.serverOf(slot));
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
        if (this.leaving.isAsking(slot)) this.leaving.left(slot);
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
          handoff.resetUnseen(slot);
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
}
