/**
 * A first pass over a capture, before its frames go to the engine. It finds what the engine cannot
 * know:
 *
 * - The initial sequence number of the recorded server, which the client acknowledges. It is in the
 *   SYN/ACK. In a capture of the client's direction alone, the first ACK after the SYN shows it.
 * - The clients whose checksums mean nothing (checksums.ts).
 * - The frames that a balancer forwarded: a capture taken on a balancer has them twice. SYNs are
 *   addressed to its MAC address, and the frames that it forwards have that address as source.
 */

import { formatEndpoint, toAddress } from '../../wire/address.js';
import { openCapture } from '../../wire/capture-file.js';
import { finish, sumBytes } from '../../wire/checksum.js';
import { ETHERNET } from '../../wire/ethernet.js';
import { FRAGMENT_MASK, IPV4, IPV4_HEADER_BYTES, Protocol } from '../../wire/ipv4.js';
import { ipv4Offset, LinkType, NoIpv4 } from '../../wire/link.js';
import type { CaptureFault, CaptureReader } from '../../wire/pcap.js';
import { seqAdd } from '../../wire/seq.js';
import { TCP, TCP_HEADER_BYTES, TcpFlag, verifyTcpChecksum } from '../../wire/tcp.js';
import { ChecksumTally } from './checksums.js';

/** Most servers outside the config that are remembered. */
const OTHER_SERVERS = 8;
export const MAX_PACKET_BYTES = 0xffff;

/** A time of a capture, since 1970. */
export interface CaptureTime {
  seconds: number;
  nanoseconds: number;
}

/** The direction of a segment, seen from the virtual servers. */
export const Direction = { other: 0, toServer: 1, fromServer: 2 } as const;

/**
 * A TCP segment in a view: its place and the fields that are needed here. One instance is reused
 * for all frames.
 */
export class RecordedSegment {
  ip = 0;
  tcp = 0;
  /** Offset behind the packet, by the length in its header. */
  end = 0;
  /** The packet was captured up to there. */
  whole = false;
  /** The header has no length: hardware was to write it when it cut the packet into segments. */
  lengthLeft = false;
  source = 0;
  sourcePort = 0;
  destination = 0;
  destinationPort = 0;
  sequence = 0;
  acknowledgement = 0;
  flags = 0;

  /**
   * Reads the packet whose IPv4 header is at `ip`. Returns false if it is not unfragmented TCP, or
   * if its headers were not captured.
   * @param end of the captured bytes
   * @param wireEnd end of the frame as it was on the wire
   */
  parse(view: DataView, ip: number, end: number, wireEnd: number): boolean {
    if (end - ip < IPV4_HEADER_BYTES) return false;
    if (view.getUint8(ip + IPV4.protocol) !== Protocol.tcp) return false;
    if ((view.getUint16(ip + IPV4.flagsAndFragment) & FRAGMENT_MASK) !== 0) return false;
    const headerBytes = (view.getUint8(ip) & 0x0f) * 4;
    const written = view.getUint16(ip + IPV4.totalLength);
    const total = written === 0 ? Math.min(wireEnd - ip, MAX_PACKET_BYTES) : written;
    if (headerBytes < IPV4_HEADER_BYTES || total < headerBytes + TCP_HEADER_BYTES) return false;
    if (ip + headerBytes + TCP_HEADER_BYTES > end) return false;
    this.lengthLeft = written === 0;
    this.ip = ip;
    this.tcp = ip + headerBytes;
    this.end = ip + total;
    this.whole = this.end <= end;
    this.source = view.getUint32(ip + IPV4.source);
    this.destination = view.getUint32(ip + IPV4.destination);
    this.sourcePort = view.getUint16(this.tcp + TCP.sourcePort);
    this.destinationPort = view.getUint16(this.tcp + TCP.destinationPort);
    this.sequence = view.getUint32(this.tcp + TCP.sequence);
    this.acknowledgement = view.getUint32(this.tcp + TCP.acknowledgement);
    this.flags = view.getUint8(this.tcp + TCP.offsetAndFlags + 1);
    return true;
  }

  /** Whether both checksums of a whole segment are right. */
  checksumsRight(view: DataView): boolean {
    return (
      !this.lengthLeft &&
      finish(sumBytes(view, this.ip, this.tcp - this.ip, 0)) === 0 &&
      verifyTcpChecksum(view, this.tcp, this.end - this.tcp, this.source, this.destination)
    );
  }
}

/** "client:port>server:port", from either direction. */
export function flowKey(
  client: number,
  clientPort: number,
  server: number,
  serverPort: number,
): string {
  return `${client}:${clientPort}>${server}:${serverPort}`;
}

export interface VirtualServerAddress {
  address: number;
  port: number;
}

/** The results of the first pass. */
export class CaptureScan {
  /** Frames in the file, and how many of them are not IPv4. */
  frames = 0;
  notIpv4 = 0;
  /** SYNs to a virtual server: there cannot be more sessions than these. */
  syns = 0;
  /** Unknown link types in the file. Their frames count as `notIpv4`. */
  readonly unknownLinkTypes = new Set<number>();
  /** Other destinations of SYNs, as "address:port". Only a few, as a hint for the operator. */
  readonly otherServers = new Set<string>();
  /** There were more other destinations. */
  moreServers = false;
  fault: CaptureFault | undefined;
  readonly first: CaptureTime = { seconds: 0, nanoseconds: 0 };
  private readonly servers: ReadonlySet<number>;
  /** The server's initial sequence number, by flow and the client's initial sequence number. */
  private readonly initial = new Map<string, number>();
  readonly checksums = new ChecksumTally();
  /** The MAC addresses to which SYNs were sent, as numbers. */
  private readonly balancerMacs = new Set<number>();

  /** @param bytes of a whole file. Returns undefined if it is no pcap or pcapng. */
  static of(bytes: Uint8Array, servers: readonly VirtualServerAddress[]): CaptureScan | undefined {
    const reader = openCapture(bytes);
    return reader === undefined ? undefined : new CaptureScan(reader, servers);
  }

  private constructor(reader: CaptureReader, servers: readonly VirtualServerAddress[]) {
    this.servers = new Set(servers.map((server) => serverNumber(server.address, server.port)));
    const view = new DataView(reader.bytes.buffer, reader.bytes.byteOffset, reader.bytes.length);
    const segment = new RecordedSegment();
    /** By flow, the initial sequence number of a client whose first ACK has not come yet. */
    const awaited = new Map<string, number>();
    while (reader.next()) {
      if (this.frames === 0) {
        this.first.seconds = reader.seconds;
        this.first.nanoseconds = reader.nanoseconds;
      }
      this.frames += 1;
      const ip = ipv4Offset(view, reader.linkType, reader.offset, reader.capturedLength);
      if (ip < 0) this.notIpv4 += 1;
      if (ip === NoIpv4.unknownLink) this.unknownLinkTypes.add(reader.linkType);
      if (ip < 0) continue;
      const { offset, capturedLength, originalLength } = reader;
      if (!segment.parse(view, ip, offset + capturedLength, offset + originalLength)) continue;
      if (reader.linkType === LinkType.ethernet) this.learnBalancerMac(view, offset, segment);
      if (!this.isSentOn(view, reader.linkType, offset)) this.scanSegment(view, segment, awaited);
    }
    this.fault = reader.fault;
  }

  direction(segment: RecordedSegment): number {
    if (this.isServer(segment.destination, segment.destinationPort)) return Direction.toServer;
    if (this.isServer(segment.source, segment.sourcePort)) return Direction.fromServer;
    return Direction.other;
  }

  isServer(address: number, port: number): boolean {
    return this.servers.has(serverNumber(address, port));
  }

  /**
   * The recorded server's initial sequence number for a connection, or -1. Clients reuse ports:
   * `clientIsn` tells their connections apart.
   */
  initialSequence(flow: string, clientIsn: number): number {
    return this.initial.get(`${flow}/${clientIsn}`) ?? -1;
  }

  /**
   * Whether a balancer forwarded the frame at `offset`, which goes to a virtual server: its source
   * is a MAC address to which SYNs were sent.
   */
  isSentOn(view: DataView, linkType: number, offset: number): boolean {
    if (linkType !== LinkType.ethernet) return false;
    const source = macNumber(view, offset + ETHERNET.source);
    return (
      this.balancerMacs.has(source) && source !== macNumber(view, offset + ETHERNET.destination)
    );
  }

  private learnBalancerMac(view: DataView, offset: number, segment: RecordedSegment): void {
    const isSyn = (segment.flags & (TcpFlag.syn | TcpFlag.ack)) === TcpFlag.syn;
    if (!isSyn || this.direction(segment) !== Direction.toServer) return;
    if (this.isSentOn(view, LinkType.ethernet, offset)) return;
    this.balancerMacs.add(macNumber(view, offset + ETHERNET.destination));
  }

  private scanSegment(
    view: DataView,
    segment: RecordedSegment,
    awaited: Map<string, number>,
  ): void {
    const direction = this.direction(segment);
    if (direction === Direction.other) {
      const isOpening = (segment.flags & (TcpFlag.syn | TcpFlag.ack)) === TcpFlag.syn;
      if (isOpening)
        this.noteOther(
          formatEndpoint({
            address: toAddress(segment.destination),
            port: segment.destinationPort,
          }),
        );
      return;
    }
    if (segment.whole && direction === Direction.toServer) {
      this.checksums.note(segment.source, segment.checksumsRight(view));
    }
    const { flags } = segment;
    const isSyn = (flags & TcpFlag.syn) !== 0;
    const isAck = (flags & TcpFlag.ack) !== 0;
    if (direction === Direction.fromServer) {
      if (!isSyn || !isAck) return;
      const flow = flowKey(
        segment.destination,
        segment.destinationPort,
        segment.source,
        segment.sourcePort,
      );
      this.learn(flow, seqAdd(segment.acknowledgement, -1), segment.sequence);
      return;
    }
    const flow = flowKey(
      segment.source,
      segment.sourcePort,
      segment.destination,
      segment.destinationPort,
    );
    if (isSyn && !isAck) {
      this.syns += 1;
      awaited.set(flow, segment.sequence);
      return;
    }
    const clientIsn = awaited.get(flow);
    if (clientIsn === undefined || !isAck || segment.sequence !== seqAdd(clientIsn, 1)) return;
    awaited.delete(flow);
    this.learn(flow, clientIsn, seqAdd(segment.acknowledgement, -1));
  }

  private noteOther(server: string): void {
    if (this.otherServers.size < OTHER_SERVERS) this.otherServers.add(server);
    else if (!this.otherServers.has(server)) this.moreServers = true;
  }

  /** The first SYN/ACK counts: a client ignores a second one. */
  private learn(flow: string, clientIsn: number, serverIsn: number): void {
    const key = `${flow}/${clientIsn}`;
    if (!this.initial.has(key)) this.initial.set(key, serverIsn);
  }
}

/** Six bytes as a number: exact in a double. */
function macNumber(view: DataView, at: number): number {
  return view.getUint16(at) * 0x1_0000_0000 + view.getUint32(at + 2);
}

/** Address and port in one number: 48 bits are exact in a double. */
function serverNumber(address: number, port: number): number {
  return address * 0x1_0000 + port;
}
