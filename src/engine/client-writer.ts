/**
 * Builds the segments that the engine itself sends to clients: SYN/ACK, ACK, answers and RST. Each
 * is written directly into the datapath's memory. The result says whether there was room.
 */
import { Counter } from '../base/counters.js';
import { TokenBucket } from '../base/token-bucket.js';
import { Port } from '../datapath/datapath.js';
import { ETHERNET, ETHERNET_HEADER_BYTES, EtherType, writeMac } from '../wire/ethernet.js';
import { IPV4, IPV4_HEADER_BYTES, Protocol, writeIpv4 } from '../wire/ipv4.js';
import {
  finishTcpChecksum6,
  IPV6,
  IPV6_HEADER_BYTES,
  swapAddresses6,
  writeIpv6,
} from '../wire/ipv6.js';
import { seqAdd, seqAfter } from '../wire/seq.js';
import {
  finishTcpChecksum,
  TCP,
  TCP_HEADER_BYTES,
  TcpFlag,
  TIMESTAMPS_BYTES,
  writeSynOptions,
  writeTcp,
  writeTimestamps,
} from '../wire/tcp.js';
import type { Core } from './core.js';
import { mssWith, offeredWindow, WINDOW_SHIFT } from './syn-ack-options.js';
import { SessionFlag } from './table/session-table.js';

/** RSTs a second for unknown connections: anyone can cause them. */
const RESETS_PER_SECOND = 1000;
/** Bytes of a SYN/ACK without its IP header. */
const MAX_SYN_ACK_BYTES = ETHERNET_HEADER_BYTES + TCP_HEADER_BYTES + 20;
const IP = ETHERNET_HEADER_BYTES;
const NO_BYTES = new Uint8Array(0);

export class ClientWriter {
  private readonly core: Core;
  private readonly resets = new TokenBucket(RESETS_PER_SECOND, RESETS_PER_SECOND);

  constructor(core: Core) {
    this.core = core;
  }

  /** The SYN/ACK of a session. */
  synAck(slot: number): boolean {
    const { sessions, servers } = this.core;
    const ipBytes = this.core.ipBytesOf(slot);
    const frame = this.core.reserve(MAX_SYN_ACK_BYTES + ipBytes);
    if (frame < 0) return false;
    const flags = sessions.flags(slot);
    const length = this.synAckOptions(
      frame,
      ipBytes,
      flags,
      this.core.tsvalOf(slot),
      sessions.tsval(slot),
    );
    this.sessionHeaders(frame, slot, length);
    writeTcp(
      this.core.transmit.memory.view,
      frame + IP + ipBytes,
      servers.port[this.core.serverOf(slot)]!,
      sessions.portServer(slot) >>> 16,
      sessions.serverIsn(slot),
      sessions.clientFirst(slot),
      length,
      TcpFlag.syn | TcpFlag.ack,
      offeredWindow(this.core.options.limits.headBytes),
    );
    return this.finishPlain(frame, ipBytes, length);
  }

  /**
   * A SYN/ACK for the current SYN, which has no session.
   *
   * @param sequence our initial sequence number
   * @param flags SessionFlag: the options that both sides have
   * @param tsval our timestamp, if both sides use timestamps
   */
  answerSyn(sequence: number, flags: number, tsval: number): boolean {
    const { segment } = this.core;
    const { ipBytes } = segment;
    const frame = this.core.reserve(MAX_SYN_ACK_BYTES + ipBytes);
    if (frame < 0) return false;
    const length = this.synAckOptions(frame, ipBytes, flags, tsval, segment.options.tsval);
    this.answerHeaders(frame, length);
    writeTcp(
      this.core.transmit.memory.view,
      frame + IP + ipBytes,
      segment.destinationPort,
      segment.sourcePort,
      sequence,
      seqAdd(segment.sequence, 1),
      length,
      TcpFlag.syn | TcpFlag.ack,
      offeredWindow(this.core.options.limits.headBytes),
    );
    return this.finishPlain(frame, ipBytes, length);
  }

  /** Whether frames reach the client: its MAC address is known. */
  knowsMac(slot: number): boolean {
    const { macHigh, macLow } = this.core.sessions;
    return macHigh[slot] !== 0 || macLow[slot] !== 0;
  }

  /** A bare ACK of the bytes that have been collected. */
  ack(slot: number): boolean {
    return this.segment(slot, this.core.sessions.serverFirst(slot), TcpFlag.ack, NO_BYTES, 0, 0);
  }

  /**
   * A bare ACK one byte before our next number. It changes nothing at the client but makes it
   * answer, as a keep-alive probe does (RFC 9293 section 3.8.4).
   */
  probe(slot: number): boolean {
    return this.segment(slot, this.core.sessions.serverIsn(slot), TcpFlag.ack, NO_BYTES, 0, 0);
  }

  /**
   * A segment of a session, with the payload bytes[from, from + length). It acknowledges what the
   * client has sent, and offers the room that is left for a head as the window.
   */
  segment(
    slot: number,
    sequence: number,
    tcpFlags: number,
    bytes: Uint8Array,
    from: number,
    length: number,
  ): boolean {
    const { sessions, servers, heads } = this.core;
    if (!this.knowsMac(slot)) return false;
    const flags = sessions.flags(slot);
    const timestamps = (flags & SessionFlag.timestampsOk) !== 0;
    const headerBytes = TCP_HEADER_BYTES + (timestamps ? TIMESTAMPS_BYTES : 0);
    const ipBytes = this.core.ipBytesOf(slot);
    const frame = this.core.reserve(IP + ipBytes + headerBytes + length);
    if (frame < 0) return false;
    const { view, bytes: memory } = this.core.transmit.memory;
    const tcp = frame + IP + ipBytes;
    if (timestamps)
      writeTimestamps(view, tcp + TCP.options, this.core.tsvalOf(slot), sessions.tsval(slot));
    const room = sessions.head[slot]!;
    const left = heads.largeBytes - (room < 0 ? 0 : heads.filled[room]!);
    const shift = (flags & SessionFlag.windowScaleOk) !== 0 ? WINDOW_SHIFT : 0;
    this.sessionHeaders(frame, slot, headerBytes + length);
    writeTcp(
      view,
      tcp,
      servers.port[this.core.serverOf(slot)]!,
      sessions.portServer(slot) >>> 16,
      sequence,
      sessions.receiveNext(slot),
      headerBytes,
      tcpFlags,
      // Rounded up: the right edge of the window never moves to the left (RFC 7323 section 2.4).
      Math.min((left + (1 << shift) - 1) >>> shift, 0xffff),
    );
    let to = tcp + headerBytes;
    for (let at = from; at < from + length; at++) memory[to++] = bytes[at]!;
    return this.finishPlain(frame, ipBytes, headerBytes + length);
  }

  /**
   * An RST in answer to the current frame of no session (RFC 9293 section 3.10.7.1), within a rate
   * limit.
   */
  resetAnswer(): void {
    const { counters, now } = this.core;
    if (this.resets.take(now)) this.resetSender();
    else counters.count(Counter.drop_reset_limit);
  }

  /** An RST in answer to the current frame, whose sender has proved its address. */
  resetSender(): void {
    const { segment, counters } = this.core;
    const acknowledges = (segment.flags & TcpFlag.ack) !== 0;
    const sent = acknowledges
      ? this.reset(segment.acknowledgement, 0, TcpFlag.rst)
      : this.reset(0, seqAdd(segment.sequence, segment.span), TcpFlag.rst | TcpFlag.ack);
    if (sent) counters.count(Counter.reset_sent);
  }

  /**
   * An RST to the client of a session that has to be given up. Its number is the one that the
   * client expects next, as far as its acknowledgements say. Returns false when the client's MAC
   * address is unknown: the session came from an earlier process.
   */
  resetSession(slot: number): boolean {
    const { sessions, servers } = this.core;
    if (!this.knowsMac(slot)) return false;
    const ipBytes = this.core.ipBytesOf(slot);
    const frame = this.core.reserve(IP + ipBytes + TCP_HEADER_BYTES);
    if (frame < 0) return false;
    const server = this.core.serverOf(slot);
    const first = sessions.serverFirst(slot);
    this.sessionHeaders(frame, slot, TCP_HEADER_BYTES);
    writeTcp(
      this.core.transmit.memory.view,
      frame + IP + ipBytes,
      servers.port[server]!,
      sessions.portServer(slot) >>> 16,
      seqAfter(sessions.clientAck(slot), first) ? sessions.clientAck(slot) : first,
      sessions.receiveNext(slot),
      TCP_HEADER_BYTES,
      TcpFlag.rst | TcpFlag.ack,
      0,
    );
    return this.finishPlain(frame, ipBytes, TCP_HEADER_BYTES);
  }

  /** Writes the options of a SYN/ACK. Returns the bytes of its TCP header. */
  private synAckOptions(
    frame: number,
    ipBytes: number,
    flags: number,
    tsval: number,
    tsecr: number,
  ): number {
    const tcp = frame + IP + ipBytes;
    const end = writeSynOptions(
      this.core.transmit.memory.view,
      tcp + TCP.options,
      mssWith(this.core.mss, ipBytes),
      (flags & SessionFlag.windowScaleOk) !== 0 ? WINDOW_SHIFT : -1,
      (flags & SessionFlag.sackOk) !== 0,
      (flags & SessionFlag.timestampsOk) !== 0,
      tsval,
      tsecr,
    );
    return end - tcp;
  }

  private reset(sequence: number, acknowledgement: number, flags: number): boolean {
    const { segment } = this.core;
    const { ipBytes } = segment;
    const frame = this.core.reserve(IP + ipBytes + TCP_HEADER_BYTES);
    if (frame < 0) return false;
    this.answerHeaders(frame, TCP_HEADER_BYTES);
    writeTcp(
      this.core.transmit.memory.view,
      frame + IP + ipBytes,
      segment.destinationPort,
      segment.sourcePort,
      sequence,
      acknowledgement,
      TCP_HEADER_BYTES,
      flags,
      0,
    );
    return this.finishPlain(frame, ipBytes, TCP_HEADER_BYTES);
  }

  /** Ethernet and IP header of an answer to the current frame. */
  private answerHeaders(frame: number, tcpBytes: number): void {
    const { segment } = this.core;
    const { view } = segment;
    const source = segment.offset + ETHERNET.source;
    this.writeMacs(frame, view.getUint16(source), view.getUint32(source + 2));
    if (!segment.isIpv6) {
      this.writeIpv4(frame, tcpBytes, segment.source, segment.destination);
      return;
    }
    this.writeIpv6(frame, tcpBytes);
    swapAddresses6(view, segment.ip, frame + IP);
  }

  /** Ethernet and IP header of a frame to a session's client. */
  private sessionHeaders(frame: number, slot: number, tcpBytes: number): void {
    const { sessions, servers } = this.core;
    const server = this.core.serverOf(slot);
    this.writeMacs(frame, sessions.macHigh[slot]!, sessions.macLow[slot]!);
    if (servers.ipBytes[server] === IPV4_HEADER_BYTES) {
      this.writeIpv4(frame, tcpBytes, sessions.client(slot), servers.address[server]!);
      return;
    }
    this.writeIpv6(frame, tcpBytes);
    const { view } = this.core.transmit.memory;
    servers.writeAddress(server, view, frame + IP + IPV6.source);
    sessions.clients.write(slot, view, frame + IP + IPV6.destination);
  }

  private writeMacs(frame: number, high: number, low: number): void {
    const { view } = this.core.transmit.memory;
    writeMac(view, frame + ETHERNET.destination, high, low);
    writeMac(view, frame + ETHERNET.source, this.core.macHigh, this.core.macLow);
  }

  private writeIpv4(frame: number, tcpBytes: number, client: number, virtualAddress: number): void {
    const { view } = this.core.transmit.memory;
    view.setUint16(frame + ETHERNET.type, EtherType.ipv4);
    writeIpv4(view, frame + IP, IPV4_HEADER_BYTES + tcpBytes, Protocol.tcp, virtualAddress, client);
  }

  /** The caller writes the addresses. */
  private writeIpv6(frame: number, tcpBytes: number): void {
    const { view } = this.core.transmit.memory;
    view.setUint16(frame + ETHERNET.type, EtherType.ipv6);
    writeIpv6(view, frame + IP, tcpBytes, Protocol.tcp);
  }

  private finishPlain(frame: number, ipBytes: number, tcpBytes: number): boolean {
    const { transmit, counters } = this.core;
    const { view } = transmit.memory;
    const ip = frame + IP;
    const tcp = ip + ipBytes;
    if (ipBytes === IPV6_HEADER_BYTES) finishTcpChecksum6(view, ip, tcp, tcpBytes, Protocol.tcp);
    else {
      const source = view.getUint32(ip + IPV4.source);
      finishTcpChecksum(view, tcp, tcpBytes, source, view.getUint32(ip + IPV4.destination));
    }
    transmit.commit(frame, IP + ipBytes + tcpBytes, Port.wire);
    counters.count(Counter.sent);
    return true;
  }
}
