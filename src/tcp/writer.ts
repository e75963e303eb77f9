/**
 * Builds the frames that the engine itself sends: SYN/ACK, ACK and RST to clients, segments in IXP
 * to nodes. Each writes straight into the datapath's memory and returns whether there was room.
 */
import { Counter } from '../base/counters.js';
import { TokenBucket } from '../base/token-bucket.js';
import { FrameFlags, Port } from '../datapath/datapath.js';
import { ETHERNET, ETHERNET_HEADER_BYTES, EtherType, writeMac } from '../wire/ethernet.js';
import { IPV4, IPV4_HEADER_BYTES, Protocol, writeIpv4 } from '../wire/ipv4.js';
import { emitIxcp, IXCP, IXCP_HEADER_BYTES } from '../wire/ixcp.js';
import { IXP, IXP_HEADER_BYTES, IXP_VERSION, IxpFlag, IxpType, sealIxp } from '../wire/ixp.js';
import { seqAdd } from '../wire/seq.js';
import {
  finishTcpChecksum,
  TCP,
  TCP_HEADER_BYTES,
  TcpFlag,
  writeSynAckOptions,
  writeTcp,
  writeTimestamps,
} from '../wire/tcp.js';
import type { Core } from './core.js';
import { SessionFlag } from './session-table.js';

/**
 * Window shift that every SYN/ACK offers: one for all nodes, since whichever adopts must go on
 * with it. 2^7 lets a receive buffer of 8 MiB be offered.
 */
export const WINDOW_SHIFT = 7;
const TIMESTAMPS_BYTES = 12;
/** RSTs to clients of connections that we do not know: anybody can cause them. */
const RESETS_PER_SECOND = 1000;
/** Least MSS of an IPv4 host (RFC 9293 section 3.7.1), and least that the kernel adopts with. */
const MIN_MSS = 536;
const MAX_SYN_ACK_BYTES = ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES + TCP_HEADER_BYTES + 20;
const IP = ETHERNET_HEADER_BYTES;
/** Offset of the TCP header in a plain frame and in one with IXP. */
const PLAIN_TCP = IP + IPV4_HEADER_BYTES;
const IXP_AT = IP + IPV4_HEADER_BYTES;
const WRAPPED_TCP = IXP_AT + IXP_HEADER_BYTES;

export class Writer {
  private readonly core: Core;
  /** What is offered to clients: room for IXP stays below the MTU. */
  readonly mss: number;
  private readonly resets = new TokenBucket(RESETS_PER_SECOND, RESETS_PER_SECOND);

  constructor(core: Core) {
    this.core = core;
    this.mss = core.options.mtu - IPV4_HEADER_BYTES - TCP_HEADER_BYTES - IXP_HEADER_BYTES;
  }

  /** Bytes of payload that fit in one IXP frame for a session. */
  pieceBytes(slot: number): number {
    const timestamps = (this.core.sessions.flags[slot]! & SessionFlag.timestampsOk) !== 0;
    return this.mss - (timestamps ? TIMESTAMPS_BYTES : 0);
  }

  /** Our timestamp clock for a session (RFC 7323 section 5.4): 1 ms a tick, from an offset of its own. */
  tsvalOf(slot: number): number {
    return seqAdd(this.core.sessions.tsOffset[slot]!, this.core.clock);
  }

  /** SYN/ACK of a session. */
  synAck(slot: number): boolean {
    const { sessions, servers, heads } = this.core;
    const frame = this.reserve(MAX_SYN_ACK_BYTES);
    if (frame < 0) return false;
    const view = this.core.transmit.memory.view;
    const flags = sessions.flags[slot]!;
    const tcp = frame + PLAIN_TCP;
    const end = writeSynAckOptions(
      view,
      tcp + TCP.options,
      this.mss,
      (flags & SessionFlag.windowScaleOk) !== 0 ? WINDOW_SHIFT : -1,
      (flags & SessionFlag.sackOk) !== 0,
      (flags & SessionFlag.timestampsOk) !== 0,
      this.tsvalOf(slot),
      sessions.tsval[slot]!,
    );
    // The window of a SYN/ACK is never scaled (RFC 7323 section 2.2).
    const window = Math.min(heads.largeBytes, 0xffff);
    this.sessionHeaders(frame, slot, end - tcp);
    writeTcp(
      view,
      tcp,
      servers.port[this.serverOf(slot)]!,
      sessions.portAndServer[slot]! >>> 16,
      sessions.serverIsn[slot]!,
      seqAdd(sessions.clientIsn[slot]!, 1),
      end - tcp,
      TcpFlag.syn | TcpFlag.ack,
      window,
    );
    return this.finishPlain(frame, end - tcp);
  }

  /** Bare ACK of what has been collected. */
  ack(slot: number): boolean {
    const { sessions, servers, heads } = this.core;
    const frame = this.reserve(PLAIN_TCP + TCP_HEADER_BYTES + TIMESTAMPS_BYTES);
    if (frame < 0) return false;
    const view = this.core.transmit.memory.view;
    const flags = sessions.flags[slot]!;
    const tcp = frame + PLAIN_TCP;
    let headerBytes = TCP_HEADER_BYTES;
    if ((flags & SessionFlag.timestampsOk) !== 0) {
      writeTimestamps(view, tcp + TCP.options, this.tsvalOf(slot), sessions.tsval[slot]!);
      headerBytes += TIMESTAMPS_BYTES;
    }
    const room = sessions.head[slot]!;
    const left = heads.largeBytes - (room < 0 ? 0 : heads.filled[room]!);
    const shift = (flags & SessionFlag.windowScaleOk) !== 0 ? WINDOW_SHIFT : 0;
    this.sessionHeaders(frame, slot, headerBytes);
    writeTcp(
      view,
      tcp,
      servers.port[this.serverOf(slot)]!,
      sessions.portAndServer[slot]! >>> 16,
      seqAdd(sessions.serverIsn[slot]!, 1),
      sessions.receiveNext[slot]!,
      headerBytes,
      TcpFlag.ack,
      Math.min(left >>> shift, 0xffff),
    );
    return this.finishPlain(frame, headerBytes);
  }

  /** RST in answer to the frame being worked on (RFC 9293 section 3.10.7.1), within a rate. */
  resetAnswer(): void {
    const { segment, counters, now } = this.core;
    if (!this.resets.take(now)) {
      counters.count(Counter.drop_reset_limit);
      return;
    }
    const acknowledges = (segment.flags & TcpFlag.ack) !== 0;
    const sent = acknowledges
      ? this.reset(segment.acknowledgement, 0, TcpFlag.rst)
      : this.reset(0, seqAdd(segment.sequence, segment.span), TcpFlag.rst | TcpFlag.ack);
    if (sent) counters.count(Counter.reset_sent);
  }

  /** RST to the client of a session that has to be given up. */
  resetSession(slot: number): boolean {
    const { sessions, servers } = this.core;
    const frame = this.reserve(PLAIN_TCP + TCP_HEADER_BYTES);
    if (frame < 0) return false;
    const server = this.serverOf(slot);
    this.sessionHeaders(frame, slot, TCP_HEADER_BYTES);
    writeTcp(
      this.core.transmit.memory.view,
      frame + PLAIN_TCP,
      servers.port[server]!,
      sessions.portAndServer[slot]! >>> 16,
      seqAdd(sessions.serverIsn[slot]!, 1),
      sessions.receiveNext[slot]!,
      TCP_HEADER_BYTES,
      TcpFlag.rst | TcpFlag.ack,
      0,
    );
    return this.finishPlain(frame, TCP_HEADER_BYTES);
  }

  /**
   * A segment of kept bytes, in IXP, to the session's node. `at` is the offset of the payload from
   * the head's first byte.
   */
  kept(slot: number, type: number, at: number, length: number, flags: number): boolean {
    const { sessions, servers, heads } = this.core;
    const timestamps = (sessions.flags[slot]! & SessionFlag.timestampsOk) !== 0;
    const headerBytes = TCP_HEADER_BYTES + (timestamps ? TIMESTAMPS_BYTES : 0);
    const frame = this.reserve(WRAPPED_TCP + headerBytes + length);
    if (frame < 0) return false;
    const { view, bytes } = this.core.transmit.memory;
    const tcp = frame + WRAPPED_TCP;
    const client = sessions.client[slot]!;
    const server = this.serverOf(slot);
    const virtualAddress = servers.address[server]!;
    writeTcp(
      view,
      tcp,
      sessions.portAndServer[slot]! >>> 16,
      servers.port[server]!,
      seqAdd(sessions.clientIsn[slot]!, 1 + at),
      seqAdd(sessions.serverIsn[slot]!, 1),
      headerBytes,
      flags,
      sessions.window[slot]!,
    );
    if (timestamps) writeTimestamps(view, tcp + TCP.options, sessions.tsval[slot]!, this.tsvalOf(slot));
    if (length > 0) {
      let from = heads.start(sessions.head[slot]!) + at;
      const end = tcp + headerBytes + length;
      for (let to = tcp + headerBytes; to < end; to++) bytes[to] = heads.bytes[from++]!;
    }
    finishTcpChecksum(view, tcp, headerBytes + length, client, virtualAddress);
    return this.finishWrapped(
      frame,
      slot,
      type,
      client,
      virtualAddress,
      headerBytes + length,
      sessions.node[slot]!,
    );
  }

  /**
   * The client's segment being worked on, in IXP, to the session's node: in pieces that fit the link when
   * it is larger than that (a receiver that merges segments, a sender that leaves them to be cut). Of a
   * SYN or RST the header alone.
   */
  wrap(slot: number): boolean {
    const { segment, options } = this.core;
    const bare = (segment.flags & (TcpFlag.syn | TcpFlag.rst)) !== 0;
    const length = bare ? 0 : segment.payloadLength;
    const piece = options.mtu - IPV4_HEADER_BYTES - IXP_HEADER_BYTES - segment.headerBytes;
    let at = 0;
    do {
      const taken = Math.min(piece, length - at);
      if (!this.wrapPiece(slot, at, taken, at + taken === length)) return false;
      at += taken;
    } while (at < length);
    return true;
  }

  private wrapPiece(slot: number, at: number, length: number, last: boolean): boolean {
    const { segment, sessions } = this.core;
    const { headerBytes } = segment;
    const frame = this.reserve(WRAPPED_TCP + headerBytes + length);
    if (frame < 0) return false;
    const { view, bytes } = this.core.transmit.memory;
    const tcp = frame + WRAPPED_TCP;
    let from = segment.tcp;
    for (let to = tcp; to < tcp + headerBytes; to++) bytes[to] = bytes[from++]!;
    from = segment.payload + at;
    const end = tcp + headerBytes + length;
    for (let to = tcp + headerBytes; to < end; to++) bytes[to] = bytes[from++]!;
    if (length !== segment.payloadLength || (segment.frameFlags & FrameFlags.checksumPartial) !== 0) {
      view.setUint32(tcp + TCP.sequence, seqAdd(segment.sequence, at));
      // What ends the segment ends its last piece.
      if (!last) view.setUint8(tcp + TCP.flags, segment.flags & ~(TcpFlag.fin | TcpFlag.psh));
      finishTcpChecksum(view, tcp, headerBytes + length, segment.source, segment.destination);
    }
    const node = sessions.node[slot]!;
    const tcpBytes = headerBytes + length;
    return this.finishWrapped(
      frame,
      slot,
      IxpType.segment,
      segment.source,
      segment.destination,
      tcpBytes,
      node,
    );
  }

  /** An RST in IXP, exact at `sequence`, to a node that may have a socket of a session that went elsewhere. */
  resetNode(slot: number, node: number, sequence: number): boolean {
    const { sessions, servers } = this.core;
    const frame = this.reserve(WRAPPED_TCP + TCP_HEADER_BYTES);
    if (frame < 0) return false;
    const client = sessions.client[slot]!;
    const server = this.serverOf(slot);
    const virtualAddress = servers.address[server]!;
    const view = this.core.transmit.memory.view;
    const tcp = frame + WRAPPED_TCP;
    const port = sessions.portAndServer[slot]! >>> 16;
    writeTcp(view, tcp, port, servers.port[server]!, sequence, 0, TCP_HEADER_BYTES, TcpFlag.rst, 0);
    finishTcpChecksum(view, tcp, TCP_HEADER_BYTES, client, virtualAddress);
    return this.finishWrapped(frame, slot, IxpType.segment, client, virtualAddress, TCP_HEADER_BYTES, node);
  }

  /**
   * An IXCP notice in answer to the one being worked on, to the node that sent it. It repeats the
   * session number: who did not see the question can not make up the answer.
   */
  answerNotice(type: number): boolean {
    const { core } = this;
    const { segment, options, transmit } = core;
    const frame = this.reserve(IXP_AT + IXCP_HEADER_BYTES);
    if (frame < 0) return false;
    const view = transmit.memory.view;
    const source = segment.offset + ETHERNET.source;
    writeMac(view, frame + ETHERNET.destination, view.getUint16(source), view.getUint32(source + 2));
    writeMac(view, frame + ETHERNET.source, core.macHigh, core.macLow);
    view.setUint16(frame + ETHERNET.type, EtherType.ipv4);
    const length = IPV4_HEADER_BYTES + IXCP_HEADER_BYTES;
    writeIpv4(view, frame + IP, length, Protocol.ixcp, options.address, segment.source);
    const session = view.getUint32(segment.tcp + IXCP.session);
    emitIxcp(view, frame + IXP_AT, options.address, segment.source, { type, session }, core.hash);
    transmit.commit(frame, ETHERNET_HEADER_BYTES + length, Port.wire);
    core.counters.count(Counter.sent);
    return true;
  }

  private serverOf(slot: number): number {
    return this.core.sessions.portAndServer[slot]! & 0xffff;
  }

  private reserve(length: number): number {
    const frame = this.core.transmit.reserve(length);
    if (frame < 0) this.core.counters.count(Counter.drop_transmit_full);
    return frame;
  }

  private reset(sequence: number, acknowledgement: number, flags: number): boolean {
    const { segment } = this.core;
    const frame = this.reserve(PLAIN_TCP + TCP_HEADER_BYTES);
    if (frame < 0) return false;
    this.answerHeaders(frame, TCP_HEADER_BYTES);
    writeTcp(
      this.core.transmit.memory.view,
      frame + PLAIN_TCP,
      segment.destinationPort,
      segment.sourcePort,
      sequence,
      acknowledgement,
      TCP_HEADER_BYTES,
      flags,
      0,
    );
    return this.finishPlain(frame, TCP_HEADER_BYTES);
  }

  /** Ethernet and IPv4 header of an answer to the frame being worked on. */
  private answerHeaders(frame: number, tcpBytes: number): void {
    const { segment } = this.core;
    const source = segment.offset + ETHERNET.source;
    const high = segment.view.getUint16(source);
    const low = segment.view.getUint32(source + 2);
    this.toClientHeaders(frame, high, low, tcpBytes, segment.source, segment.destination);
  }

  /** Ethernet and IPv4 header of a frame to a session's client. */
  private sessionHeaders(frame: number, slot: number, tcpBytes: number): void {
    const { sessions, servers } = this.core;
    const virtualAddress = servers.address[this.serverOf(slot)]!;
    const high = sessions.macHigh[slot]!;
    this.toClientHeaders(
      frame,
      high,
      sessions.macLow[slot]!,
      tcpBytes,
      sessions.client[slot]!,
      virtualAddress,
    );
  }

  private toClientHeaders(
    frame: number,
    macHigh: number,
    macLow: number,
    tcpBytes: number,
    client: number,
    virtualAddress: number,
  ): void {
    const view = this.core.transmit.memory.view;
    writeMac(view, frame + ETHERNET.destination, macHigh, macLow);
    writeMac(view, frame + ETHERNET.source, this.core.macHigh, this.core.macLow);
    view.setUint16(frame + ETHERNET.type, EtherType.ipv4);
    writeIpv4(view, frame + IP, IPV4_HEADER_BYTES + tcpBytes, Protocol.tcp, virtualAddress, client);
  }

  private finishPlain(frame: number, tcpBytes: number): boolean {
    const { transmit, counters } = this.core;
    const view = transmit.memory.view;
    const source = view.getUint32(frame + IP + IPV4.source);
    const destination = view.getUint32(frame + IP + IPV4.destination);
    finishTcpChecksum(view, frame + PLAIN_TCP, tcpBytes, source, destination);
    transmit.commit(frame, PLAIN_TCP + tcpBytes, Port.wire);
    counters.count(Counter.sent);
    return true;
  }

  private finishWrapped(
    frame: number,
    slot: number,
    type: number,
    client: number,
    virtualAddress: number,
    tcpBytes: number,
    node: number,
  ): boolean {
    const core = this.core;
    const { sessions, options, transmit, counters } = core;
    const view = transmit.memory.view;
    const flags = sessions.flags[slot]!;
    core.addressTo(frame, node);
    view.setUint16(frame + ETHERNET.type, EtherType.ipv4);
    const totalLength = IPV4_HEADER_BYTES + IXP_HEADER_BYTES + tcpBytes;
    writeIpv4(view, frame + IP, totalLength, Protocol.ixp, client, virtualAddress);
    const ixp = frame + IXP_AT;
    view.setUint8(ixp + IXP.version, IXP_VERSION);
    view.setUint8(ixp + IXP.type, type);
    view.setUint8(ixp + IXP.length, IXP_HEADER_BYTES);
    view.setUint8(ixp + IXP.service, sessions.service[slot]!);
    view.setUint32(ixp + IXP.session, sessions.nonce[slot]!);
    view.setUint32(ixp + IXP.balancer, options.address);
    view.setUint32(ixp + IXP.confirm, sessions.handedTo[slot]!);
    view.setUint16(ixp + IXP.mss, Math.max(sessions.mss[slot]!, MIN_MSS));
    view.setUint8(
      ixp + IXP.flags,
      ((flags & SessionFlag.windowScaleOk) !== 0 ? IxpFlag.windowScaleOk : 0) |
        ((flags & SessionFlag.sackOk) !== 0 ? IxpFlag.sackOk : 0) |
        ((flags & SessionFlag.timestampsOk) !== 0 ? IxpFlag.timestampsOk : 0),
    );
    view.setUint8(ixp + IXP.scales, sessions.scales[slot]!);
    view.setUint32(ixp + IXP.tsval, sessions.tsval[slot]!);
    view.setUint32(ixp + IXP.tsecr, this.tsvalOf(slot));
    sealIxp(view, frame + IP, ixp, core.hash);
    transmit.commit(frame, WRAPPED_TCP + tcpBytes, core.portOf(node));
    counters.count(Counter.sent);
    return true;
  }
}
