/**
 * The look ahead over a capture, before its frames go to the engine. It finds what the engine can not
 * know by itself:
 *
 * - The initial sequence number of the server that the client really spoke to: its acknowledgements
 *   follow that one. It stands in the SYN/ACK; in a capture of the client's direction alone, the first
 *   ACK after the SYN tells it.
 * - Which machines left their TCP checksums to hardware. A capture taken on the sending machine has its
 *   frames before they were finished, so nearly all of them are wrong, where damage on the way would
 *   hit few. A machine is taken for such a one when more than half of its segments are wrong.
 */
import { openCapture } from '../wire/capture-file.js';
import { FRAGMENT_MASK, formatIpv4, IPV4, IPV4_HEADER_BYTES, Protocol } from '../wire/ipv4.js';
import { ipv4Offset, NoIpv4 } from '../wire/link.js';
import type { CaptureFault, CaptureReader } from '../wire/pcap.js';
import { seqAdd } from '../wire/seq.js';
import { TCP, TCP_HEADER_BYTES, TcpFlag, verifyTcpChecksum } from '../wire/tcp.js';

/** Servers beyond the config that are remembered. */
const OTHER_SERVERS = 8;

/** A time of a capture, since 1970. */
export interface CaptureTime {
  seconds: number;
  nanoseconds: number;
}

/** Which way a segment goes, seen from the virtual servers. */
export const Direction = { other: 0, toServer: 1, fromServer: 2 } as const;

/**
 * Where a TCP segment lies in a view, and what of it is of interest here. One instance is filled anew
 * for each frame.
 */
export class RecordedSegment {
  ip = 0;
  tcp = 0;
  /** First byte after the packet as its header has it, and whether it was captured that far. */
  end = 0;
  whole = false;
  source = 0;
  sourcePort = 0;
  destination = 0;
  destinationPort = 0;
  sequence = 0;
  acknowledgement = 0;
  flags = 0;

  /**
   * Reads the packet whose IPv4 header is at `ip`, of which `end` is the end of what was captured. False
   * when it is no unfragmented TCP or its headers were not captured.
   */
  parse(view: DataView, ip: number, end: number): boolean {
    if (end - ip < IPV4_HEADER_BYTES) return false;
    if (view.getUint8(ip + IPV4.protocol) !== Protocol.tcp) return false;
    if ((view.getUint16(ip + IPV4.flagsAndFragment) & FRAGMENT_MASK) !== 0) return false;
    const headerBytes = (view.getUint8(ip) & 0x0f) * 4;
    const total = view.getUint16(ip + IPV4.totalLength);
    if (headerBytes < IPV4_HEADER_BYTES || total < headerBytes + TCP_HEADER_BYTES) return false;
    if (ip + headerBytes + TCP_HEADER_BYTES > end) return false;
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

  /** Of a whole segment: whether its TCP checksum is right. */
  checksumRight(view: DataView): boolean {
    return verifyTcpChecksum(view, this.tcp, this.end - this.tcp, this.source, this.destination);
  }
}

/** "client:port>server:port", from either direction. */
export function flowKey(client: number, clientPort: number, server: number, serverPort: number): string {
  return `${client}:${clientPort}>${server}:${serverPort}`;
}

export interface VirtualServerAddress {
  address: number;
  port: number;
}

/** What the look ahead found. */
export class CaptureScan {
  /** Frames in the file, and those among them that hold no IPv4. */
  frames = 0;
  notIpv4 = 0;
  /** SYNs to a virtual server: no more sessions can come of it. */
  syns = 0;
  /** Link types of the file that nothing is known of: their frames count as `notIpv4`. */
  readonly unknownLinkTypes = new Set<number>();
  /** Where else SYNs went, as "address:port": a few, to tell an operator. */
  readonly otherServers = new Set<string>();
  fault: CaptureFault | undefined;
  readonly first: CaptureTime = { seconds: 0, nanoseconds: 0 };
  private readonly servers: ReadonlySet<number>;
  /** Server's initial sequence number by flow and client's initial sequence number. */
  private readonly initial = new Map<string, number>();
  /** Sender's address: segments with a right and with a wrong checksum. */
  private readonly checksums = new Map<number, { right: number; wrong: number }>();

  /** @param bytes of a whole file. `undefined` instead of a scan: neither pcap nor pcapng. */
  static of(bytes: Uint8Array, servers: readonly VirtualServerAddress[]): CaptureScan | undefined {
    const reader = openCapture(bytes);
    return reader === undefined ? undefined : new CaptureScan(reader, servers);
  }

  private constructor(reader: CaptureReader, servers: readonly VirtualServerAddress[]) {
    this.servers = new Set(servers.map((server) => serverNumber(server.address, server.port)));
    const view = new DataView(reader.bytes.buffer, reader.bytes.byteOffset, reader.bytes.length);
    const segment = new RecordedSegment();
    /** By flow: initial sequence number of a client whose first ACK is still awaited. */
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
      else if (segment.parse(view, ip, reader.offset + reader.capturedLength))
        this.look(view, segment, awaited);
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

  /** The recorded server's initial sequence number for a connection, or -1. Ports are used again: `clientIsn` tells. */
  initialSequence(flow: string, clientIsn: number): number {
    return this.initial.get(`${flow}/${clientIsn}`) ?? -1;
  }

  /** Whether the machine with this address left its checksums to hardware. */
  leavesChecksums(address: number): boolean {
    const seen = this.checksums.get(address);
    return seen !== undefined && seen.wrong > seen.right;
  }

  private look(view: DataView, segment: RecordedSegment, awaited: Map<string, number>): void {
    const direction = this.direction(segment);
    if (direction === Direction.other) {
      const isOpening = (segment.flags & (TcpFlag.syn | TcpFlag.ack)) === TcpFlag.syn;
      if (isOpening && this.otherServers.size < OTHER_SERVERS) {
        this.otherServers.add(`${formatIpv4(segment.destination)}:${segment.destinationPort}`);
      }
      return;
    }
    if (segment.whole) {
      let seen = this.checksums.get(segment.source);
      if (seen === undefined) {
        seen = { right: 0, wrong: 0 };
        this.checksums.set(segment.source, seen);
      }
      if (segment.checksumRight(view)) seen.right += 1;
      else seen.wrong += 1;
    }
    const { flags } = segment;
    const isSyn = (flags & TcpFlag.syn) !== 0;
    const isAck = (flags & TcpFlag.ack) !== 0;
    if (direction === Direction.fromServer) {
      if (!isSyn || !isAck) return;
      const flow = flowKey(segment.destination, segment.destinationPort, segment.source, segment.sourcePort);
      this.learn(flow, seqAdd(segment.acknowledgement, -1), segment.sequence);
      return;
    }
    const flow = flowKey(segment.source, segment.sourcePort, segment.destination, segment.destinationPort);
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

  /** The first word counts: a client ignores a second SYN/ACK. */
  private learn(flow: string, clientIsn: number, serverIsn: number): void {
    const key = `${flow}/${clientIsn}`;
    if (!this.initial.has(key)) this.initial.set(key, serverIsn);
  }
}

/** Address and port in one number: 48 bits are exact in a double. */
function serverNumber(address: number, port: number): number {
  return address * 0x1_0000 + port;
}
