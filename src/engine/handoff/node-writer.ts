/**
 * Builds what the engine sends to nodes: segments in IXP, and answers to reports (docs/ixp.md).
 * Each is written directly into the datapath's memory. The result says whether there was room.
 */
import { Counter } from '../../base/counters.js';
import { FrameFlags } from '../../datapath/datapath.js';
import { ETHERNET, ETHERNET_HEADER_BYTES, EtherType, writeMac } from '../../wire/ethernet.js';
import { IPV4_HEADER_BYTES, Protocol, writeIpv4 } from '../../wire/ipv4.js';
import {
  finishTcpChecksum6,
  IPV6,
  IPV6_HEADER_BYTES,
  swapAddresses6,
  writeIpv6,
} from '../../wire/ipv6.js';
import { emitIxcp, IXCP, IXCP_HEADER_BYTES } from '../../wire/ixcp.js';
import { IXP, IXP_HEADER_BYTES, IXP_VERSION, IxpFlag, IxpType, sealIxp } from '../../wire/ixp.js';
import { seqAdd, seqAfter, seqDiff } from '../../wire/seq.js';
import {
  finishTcpChecksum,
  TCP,
  TCP_HEADER_BYTES,
  TcpFlag,
  TIMESTAMPS_BYTES,
  writeSynOptions,
  writeTcp,
  writeTimestamps,
} from '../../wire/tcp.js';
import { Carrier } from '../carrier.js';
import type { Core } from '../core.js';
import { mssWith } from '../syn-ack-options.js';
import { SessionFlag } from '../table/session-table.js';

/**
 * Least MSS of an IPv4 host (RFC 9293 section 3.7.1), and the least with which the kernel adopts.
 */
const MIN_MSS = 536;
/** The smallest MTU with which that MSS can be offered to clients. */
export const LEAST_MTU =
  MIN_MSS + IPV4_HEADER_BYTES + TCP_HEADER_BYTES + TIMESTAMPS_BYTES + IXP_HEADER_BYTES;
/** MSS, SACK, timestamps and window scale, padded to words. */
const MOST_SYN_OPTIONS = 20;
const IP = ETHERNET_HEADER_BYTES;

export class NodeWriter {
  private readonly core: Core;
  private readonly carrier: Carrier;

  constructor(core: Core) {
    this.core = core;
    this.carrier = new Carrier(core);
  }

  /** Bytes of payload that fit in one IXP frame of a session. */
  pieceBytes(slot: number): number {
    const timestamps = this.core.sessions.has(slot, SessionFlag.timestampsOk);
    return mssWith(this.core.mss, this.core.ipBytesOf(slot)) - (timestamps ? TIMESTAMPS_BYTES : 0);
  }

  /**
   * Sends a segment of kept bytes, in IXP, to the session's node. `at` is the offset of the payload
   * from the first byte that the node gets. `ixpFlags` and `request` as of `wrap`.
   */
  sendKept(
    slot: number,
    type: number,
    at: number,
    length: number,
    flags: number,
    ixpFlags = 0,
    request = 0,
  ): boolean {
    const { sessions, servers, heads } = this.core;
    const timestamps = sessions.has(slot, SessionFlag.timestampsOk);
    const headerBytes = TCP_HEADER_BYTES + (timestamps ? TIMESTAMPS_BYTES : 0);
    const tcpBytes = headerBytes + length;
    const frame = this.begin(slot, tcpBytes);
    if (frame < 0) return false;
    const { view, bytes } = this.core.transmit.memory;
    const tcp = this.tcpIn(frame, slot);
    const server = this.core.serverOf(slot);
    writeTcp(
      view,
      tcp,
      sessions.portServer(slot) >>> 16,
      servers.port[server]!,
      seqAdd(sessions.clientIsn(slot), 1 + at),
      this.acknowledgement(slot),
      headerBytes,
      flags,
      sessions.window(slot),
    );
    if (timestamps)
      writeTimestamps(view, tcp + TCP.options, sessions.tsval(slot), this.core.tsvalOf(slot));
    if (length > 0) heads.copy(sessions.head[slot]!, at, length, bytes, tcp + headerBytes);
    this.finishChecksum(frame, slot, tcpBytes);
    return this.finish(frame, slot, type, tcpBytes, sessions.node(slot), ixpFlags, request);
  }

  /**
   * Plays the SYN of the session, in IXP, to the session's node. It has the number before the first
   * byte that the node gets, and the options that the handshake agreed on. Its acknowledgement
   * number is the first that the node sends. `ixpFlags` as of `wrap`.
   */
  sendSyn(slot: number, ixpFlags = 0): boolean {
    const { core } = this;
    const { sessions, servers } = core;
    const frame = this.begin(slot, TCP_HEADER_BYTES + MOST_SYN_OPTIONS);
    if (frame < 0) return false;
    const { view } = core.transmit.memory;
    const tcp = this.tcpIn(frame, slot);
    const node = sessions.node(slot);
    const server = core.serverOf(slot);
    const flags = sessions.flags(slot) & ~core.nodes.omittedOptions(node);
    const scaled = (flags & SessionFlag.windowScaleOk) !== 0;
    const end = writeSynOptions(
      view,
      tcp + TCP.options,
      Math.max(sessions.mss(slot), MIN_MSS),
      scaled ? sessions.scales(slot) >>> 4 : -1,
      (flags & SessionFlag.sackOk) !== 0,
      (flags & SessionFlag.timestampsOk) !== 0,
      sessions.tsval(slot),
      0,
    );
    const length = end - tcp;
    writeTcp(
      view,
      tcp,
      sessions.portServer(slot) >>> 16,
      servers.port[server]!,
      sessions.clientIsn(slot),
      sessions.serverFirst(slot),
      length,
      TcpFlag.syn,
      sessions.window(slot),
    );
    this.writeHeader(frame, slot, length);
    this.finishChecksum(frame, slot, length);
    return this.finish(frame, slot, IxpType.replay, length, node, ixpFlags);
  }

  /**
   * Sends the client's current segment, in IXP, to the session's node. A segment too large for the
   * link goes in pieces (after receive offload, or from a sender that leaves segmentation to
   * hardware). Of a SYN or RST only the header goes. `type` is that of the first piece; the rest
   * are SEGMENTs. `ixpFlags` are IxpFlag bits other than those of the session. `request`: its
   * number at this node, in place of the TSval; 0: none. `end`: only so many bytes of the payload
   * go.
   */
  wrap(
    slot: number,
    type: number = IxpType.segment,
    ixpFlags = 0,
    request = 0,
    end = this.core.segment.payloadLength,
  ): boolean {
    const { segment, options, counters, sessions } = this.core;
    if (!this.core.reachable(sessions.node(slot))) {
      counters.count(Counter.drop_unresolved);
      return false;
    }
    const bare = (segment.flags & (TcpFlag.syn | TcpFlag.rst)) !== 0;
    const length = bare ? 0 : end;
    const mtu = options.mtu - this.core.nodes.carryBytes;
    const piece = mtu - segment.ipBytes - IXP_HEADER_BYTES - segment.headerBytes;
    let at = 0;
    do {
      const taken = Math.min(piece, length - at);
      const ixpType = at === 0 ? type : IxpType.segment;
      const last = at + taken === length && end === segment.payloadLength;
      if (!this.wrapPiece(slot, ixpType, at, taken, last, ixpFlags, request)) return false;
      at += taken;
    } while (at < length);
    counters.count(Counter.wrapped);
    return true;
  }

  /**
   * As `wrap`, but only the bytes of the client's current segment that come before `sequence`. What
   * follows was inspected, and the node gets it as it was then.
   */
  wrapBefore(slot: number, sequence: number): boolean {
    const { segment } = this.core;
    const before = seqDiff(sequence, segment.sequence);
    return this.wrap(slot, IxpType.segment, 0, 0, Math.min(before, segment.payloadLength));
  }

  /**
   * The acknowledgement number of kept bytes. A node drops a segment whose number is much lower
   * than one that it has seen (RFC 5961 section 5.2).
   */
  private acknowledgement(slot: number): number {
    const { sessions } = this.core;
    const first = sessions.serverFirst(slot);
    const latest = sessions.clientAck(slot);
    return sessions.has(slot, SessionFlag.adopted) && seqAfter(latest, first) ? latest : first;
  }

  private wrapPiece(
    slot: number,
    type: number,
    at: number,
    length: number,
    last: boolean,
    ixpFlags: number,
    request: number,
  ): boolean {
    const { segment, sessions } = this.core;
    const { headerBytes } = segment;
    const tcpBytes = headerBytes + length;
    const frame = this.begin(slot, tcpBytes);
    if (frame < 0) return false;
    const { view, bytes } = this.core.transmit.memory;
    const tcp = this.tcpIn(frame, slot);
    let from = segment.tcp;
    for (let to = tcp; to < tcp + headerBytes; to++) bytes[to] = bytes[from++]!;
    from = segment.payload + at;
    const end = tcp + headerBytes + length;
    for (let to = tcp + headerBytes; to < end; to++) bytes[to] = bytes[from++]!;
    if (
      length !== segment.payloadLength ||
      (segment.frameFlags & FrameFlags.checksumPartial) !== 0
    ) {
      view.setUint32(tcp + TCP.sequence, seqAdd(segment.sequence, at));
      // FIN and PSH belong to the last piece.
      if (!last) view.setUint8(tcp + TCP.flags, segment.flags & ~(TcpFlag.fin | TcpFlag.psh));
      this.finishChecksum(frame, slot, tcpBytes);
    }
    return this.finish(frame, slot, type, tcpBytes, sessions.node(slot), ixpFlags, request);
  }

  /**
   * Asks the session's node, in IXP, to let the session go at the client's first byte of the
   * present head, where its answers must have ended.
   *
   * @param type IxpType.leave, or park: then the node keeps its socket
   * @param request how many requests the node has got since it adopted or resumed the session
   */
  sendLeave(slot: number, type: number, request: number): boolean {
    if (!this.core.reachable(this.core.sessions.node(slot))) return false;
    return this.sendKept(slot, type, 0, 0, TcpFlag.ack, 0, request);
  }

  /**
   * Sends an RST in IXP, exact at `sequence`, to a node that may have a socket of a session that
   * went elsewhere.
   */
  resetNode(slot: number, node: number, sequence: number): boolean {
    return this.control(slot, node, IxpType.segment, sequence, 0, TcpFlag.rst);
  }

  /**
   * Sends a segment without payload in IXP to any node.
   *
   * @param request in place of the TSval; 0: none
   */
  control(
    slot: number,
    node: number,
    type: number,
    sequence: number,
    acknowledgement: number,
    flags: number,
    request = 0,
  ): boolean {
    if (!this.core.reachable(node)) return false;
    const { sessions, servers } = this.core;
    const frame = this.begin(slot, TCP_HEADER_BYTES);
    if (frame < 0) return false;
    const server = this.core.serverOf(slot);
    const view = this.core.transmit.memory.view;
    const tcp = this.tcpIn(frame, slot);
    const port = sessions.portServer(slot) >>> 16;
    const serverPort = servers.port[server]!;
    const bytes = TCP_HEADER_BYTES;
    writeTcp(view, tcp, port, serverPort, sequence, acknowledgement, bytes, flags, 0);
    this.finishChecksum(frame, slot, bytes);
    return this.finish(frame, slot, type, bytes, node, 0, request, sequence);
  }

  /**
   * Asks the session's node, in IXP, whether it still has the session. The question is an ACK
   * before the client's next number. It changes nothing in a socket but makes it answer, as a
   * keep-alive probe does (RFC 9293 section 3.8.4).
   */
  ask(slot: number): boolean {
    const { sessions, counters } = this.core;
    if (!this.core.reachable(sessions.node(slot))) return false;
    // Two below the client's next number: the client has sent FIN, which the node may never have
    // received.
    const at = seqDiff(sessions.receiveNext(slot), sessions.clientIsn(slot)) - 3;
    if (!this.sendKept(slot, IxpType.segment, at, 0, TcpFlag.ack)) return false;
    counters.count(Counter.node_asked);
    return true;
  }

  /**
   * Sends an IXCP notice in answer to the current one, to the node that sent it. It repeats the
   * session number, so that only who saw the question can make the answer.
   */
  answerNotice(type: number): boolean {
    const { core } = this;
    const { segment, transmit } = core;
    const { ipBytes } = segment;
    const frame = this.core.reserve(IP + ipBytes + IXCP_HEADER_BYTES);
    if (frame < 0) return false;
    const view = transmit.memory.view;
    const source = segment.offset + ETHERNET.source;
    writeMac(
      view,
      frame + ETHERNET.destination,
      view.getUint16(source),
      view.getUint32(source + 2),
    );
    writeMac(view, frame + ETHERNET.source, core.nodeMacHigh, core.nodeMacLow);
    const ip = frame + IP;
    if (segment.isIpv6) {
      view.setUint16(frame + ETHERNET.type, EtherType.ipv6);
      writeIpv6(view, ip, IXCP_HEADER_BYTES, Protocol.ixcp);
      swapAddresses6(view, segment.ip, ip);
    } else {
      view.setUint16(frame + ETHERNET.type, EtherType.ipv4);
      const length = IPV4_HEADER_BYTES + IXCP_HEADER_BYTES;
      writeIpv4(view, ip, length, Protocol.ixcp, core.address, segment.source);
    }
    const session = view.getUint32(segment.tcp + IXCP.session);
    const at = ip + ipBytes;
    emitIxcp(view, at, segment.destination, segment.source, { type, session }, core.hash);
    transmit.commit(frame, at + IXCP_HEADER_BYTES - frame, core.nodePort);
    core.counters.count(Counter.sent);
    return true;
  }

  /**
   * Reserves a frame of a session for a node, with this many bytes of TCP, and writes its IP
   * header. Returns its offset, or -1.
   */
  private begin(slot: number, tcpBytes: number): number {
    const { core } = this;
    const packet = core.ipBytesOf(slot) + IXP_HEADER_BYTES + tcpBytes;
    const frame = core.reserve(IP + packet + core.nodes.carryBytes);
    if (frame >= 0) this.writeHeader(frame, slot, tcpBytes);
    return frame;
  }

  /** Writes EtherType and IP header of a frame of a session, with this many bytes of TCP. */
  private writeHeader(frame: number, slot: number, tcpBytes: number): void {
    const { core } = this;
    const { sessions, servers } = core;
    const server = core.serverOf(slot);
    const ipBytes = servers.ipBytes[server]!;
    const { view } = core.transmit.memory;
    const ip = frame + IP;
    const length = IXP_HEADER_BYTES + tcpBytes;
    if (ipBytes === IPV6_HEADER_BYTES) {
      view.setUint16(frame + ETHERNET.type, EtherType.ipv6);
      writeIpv6(view, ip, length, Protocol.ixp);
      sessions.clients.write(slot, view, ip + IPV6.source);
      servers.writeAddress(server, view, ip + IPV6.destination);
    } else {
      view.setUint16(frame + ETHERNET.type, EtherType.ipv4);
      const virtualAddress = servers.address[server]!;
      const total = IPV4_HEADER_BYTES + length;
      writeIpv4(view, ip, total, Protocol.ixp, sessions.client(slot), virtualAddress);
    }
  }

  /** Offset of the TCP header in a frame of a session. */
  private tcpIn(frame: number, slot: number): number {
    return frame + IP + this.core.ipBytesOf(slot) + IXP_HEADER_BYTES;
  }

  private finishChecksum(frame: number, slot: number, tcpBytes: number): void {
    const { core } = this;
    const { view } = core.transmit.memory;
    const tcp = this.tcpIn(frame, slot);
    if (core.ipBytesOf(slot) === IPV6_HEADER_BYTES) {
      finishTcpChecksum6(view, frame + IP, tcp, tcpBytes, Protocol.tcp);
      return;
    }
    const virtualAddress = core.servers.address[core.serverOf(slot)]!;
    finishTcpChecksum(view, tcp, tcpBytes, core.sessions.client(slot), virtualAddress);
  }

  /** Writes the rest of a frame that `begin` has begun, and sends it. */
  private finish(
    frame: number,
    slot: number,
    type: number,
    tcpBytes: number,
    node: number,
    ixpFlags = 0,
    request = 0,
    confirm = this.core.sessions.handedTo(slot),
  ): boolean {
    const core = this.core;
    const { sessions, transmit, counters } = core;
    const view = transmit.memory.view;
    const flags = sessions.flags(slot) & ~core.nodes.omittedOptions(node);
    const ixp = frame + IP + core.ipBytesOf(slot);
    view.setUint8(ixp + IXP.version, IXP_VERSION);
    view.setUint8(ixp + IXP.type, type);
    view.setUint8(ixp + IXP.length, IXP_HEADER_BYTES);
    view.setUint8(ixp + IXP.service, 0);
    view.setUint32(ixp + IXP.session, sessions.nonce(slot));
    view.setUint32(ixp + IXP.balancer, core.ownTowards(node));
    view.setUint32(ixp + IXP.confirm, confirm);
    view.setUint16(ixp + IXP.mss, Math.max(sessions.mss(slot), MIN_MSS));
    view.setUint8(
      ixp + IXP.flags,
      ixpFlags |
        ((flags & SessionFlag.windowScaleOk) !== 0 ? IxpFlag.windowScaleOk : 0) |
        ((flags & SessionFlag.sackOk) !== 0 ? IxpFlag.sackOk : 0) |
        ((flags & SessionFlag.timestampsOk) !== 0 ? IxpFlag.timestampsOk : 0),
    );
    view.setUint8(ixp + IXP.scales, sessions.scales(slot));
    view.setUint32(ixp + IXP.tsval, request === 0 ? sessions.tsval(slot) : request);
    view.setUint32(ixp + IXP.tsecr, this.core.tsvalOf(slot));
    sealIxp(view, frame + IP, ixp, core.hash);
    const length = ixp + IXP_HEADER_BYTES + tcpBytes - frame;
    if (core.nodes.carried[node] !== 0) {
      this.carrier.commit(frame, length, node, sessions.nonce(slot));
    } else {
      core.addressTo(frame, node);
      transmit.commit(frame, length, core.portTo(node));
    }
    counters.count(Counter.sent);
    return true;
  }
}
