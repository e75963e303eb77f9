/**
 * The datapath of capture files. It gives the engine the frames that clients sent to virtual
 * servers, at their recorded times, on a virtual clock that begins at 0 with the first frame.
 *
 *     memory  [ one received frame | one frame to be sent ]
 *
 * Frames of the recorded server do not reach the engine: a node would have sent them directly to
 * the client. Its FIN and RST become the notices that a node would have sent. Its initial sequence
 * number becomes the engine's, because the recorded client acknowledges that number.
 *
 * Every frame gets an Ethernet header for the balancer, whatever its link layer was. Between frames
 * the clock moves in steps of 10 ms, or of a thousandth of the time that has passed if that is
 * more. A timer is late by one step at most, and a gap of a day costs few more ticks than a gap of
 * a minute.
 */
import { openCapture } from '../../wire/capture-file.js';
import { finish, fold, pseudoHeaderSum, sumBytes } from '../../wire/checksum.js';
import { ETHERNET, ETHERNET_HEADER_BYTES, EtherType, writeMac } from '../../wire/ethernet.js';
import { IPV4, IPV4_HEADER_BYTES, Protocol } from '../../wire/ipv4.js';
import { IXCP, IXCP_HEADER_BYTES, IxcpType } from '../../wire/ixcp.js';
import { ipv4Offset, LinkType } from '../../wire/link.js';
import type { CaptureReader } from '../../wire/pcap.js';
import type { PcapWriter } from '../../wire/pcap-writer.js';
import { finishTcpChecksum, TCP, TcpFlag } from '../../wire/tcp.js';
import {
  FrameFlags,
  type FrameMemory,
  type FrameSink,
  Port,
  type PortNumber,
  type TransmitQueue,
} from '../datapath.js';
import { AnsweredClients } from './answered-clients.js';
import type { ChecksumPolicy } from './checksums.js';
import { type NodeCounts, NodePlayer } from './nodes.js';
import {
  CaptureScan,
  type CaptureTime,
  Direction,
  flowKey,
  MAX_PACKET_BYTES,
  RecordedSegment,
  type VirtualServerAddress,
} from './scan.js';

const STEP_MS = 10;
const GAP_PARTS = 1000;
/** From a handoff to its confirmation, ms: a round trip in one machine room. */
const NODE_LATENCY_MS = 0.1;

/**
 * A larger step between two frames, in ms, means that somebody set the recording machine's clock.
 * Smaller steps back occur: frames of a capture may be slightly out of order. No timer of the
 * engine runs for longer than a day.
 */
const CLOCK_SET_BACK_MS = 1_000;
const CLOCK_SET_FORWARD_MS = 2 * 86_400_000;

/** Bytes of room for one frame, received or to be sent. */
const ROOM_BYTES = ETHERNET_HEADER_BYTES + MAX_PACKET_BYTES;
/** Source MAC address of frames that were recorded without one. */
const CLIENT_MAC_HIGH = 0x0200;
const CLIENT_MAC_LOW = 0x0000fffe;

export interface CaptureOptions {
  virtualServers: readonly VirtualServerAddress[];
  /** In the order of the engine's node table. Their MAC addresses are those of `replayNodeMac`. */
  nodes: readonly { address: number }[];
  balancerMac: Uint8Array;
  /** The key of IXP and IXCP, 16 bytes. */
  key: Uint8Array;
  /** Called for every recorded frame that the engine forwards to a node: its offset in `memory`. */
  forwarded?: (offset: number) => void;
  /**
   * Called for every segment of a client that the engine will drop, because it is damaged or
   * truncated.
   */
  unusable?: (segment: RecordedSegment) => void;
  /** How wrong checksums are treated; default: 'detect'. */
  checksums?: ChecksumPolicy;
}

/** Numbers of frames in a file, and of frames that the engine sent. */
export interface CaptureCounts {
  /** Given to the engine. */
  delivered: number;
  /** Sent by recorded servers. */
  fromServers: number;
  /** Neither to nor from a virtual server, or not IPv4. */
  others: number;
  /** Given to the engine as truncated, because the file has only their beginning. */
  truncated: number;
  /** Given to the engine as if their wrong checksums were only incomplete. */
  unfinished: number;
  /** Given to the engine with wrong checksums, so that it drops them. */
  damaged: number;
  /**
   * Not given to the engine: a balancer had forwarded them, and the capture also has them as that
   * balancer received them.
   */
  sentOn: number;
  /** Sent by the engine to clients. */
  toClients: number;
}

export class CaptureDatapath implements TransmitQueue {
  readonly memory: FrameMemory;
  readonly counts: CaptureCounts = {
    delivered: 0,
    fromServers: 0,
    others: 0,
    truncated: 0,
    unfinished: 0,
    damaged: 0,
    sentOn: 0,
    toClients: 0,
  };
  readonly scan: CaptureScan;
  /** Gets every frame that the engine sends, with the time at which it would have been sent. */
  writer: PcapWriter | undefined = undefined;
  private readonly file: Uint8Array;
  private readonly fileView: DataView;
  private readonly options: CaptureOptions;
  private readonly player: NodePlayer;
  private readonly answered = new AnsweredClients(NODE_LATENCY_MS);
  private readonly segment = new RecordedSegment();
  private readonly macHigh: number;
  private readonly macLow: number;
  private readonly virtualAddresses: ReadonlySet<number>;
  /** ms since the first frame. */
  private now = 0;
  /** How far the virtual clock is ahead of the recorded clock since the first frame, ms. */
  private clockShift = 0;
  /** When the last frame was recorded. */
  private readonly recorded: CaptureTime = { seconds: 0, nanoseconds: 0 };
  /** The virtual clock at that frame, ms. */
  private recordedAt = 0;
  /** The client's initial sequence number in the SYN being delivered. */
  private clientIsn = 0;

  /** Opens the capture in `file` (all its bytes). Returns undefined if it is no pcap or pcapng. */
  static open(file: Uint8Array, options: CaptureOptions): CaptureDatapath | undefined {
    const scan = CaptureScan.of(file, options.virtualServers);
    return scan === undefined ? undefined : new CaptureDatapath(file, scan, options);
  }

  private constructor(file: Uint8Array, scan: CaptureScan, options: CaptureOptions) {
    const memory = new ArrayBuffer(ROOM_BYTES * 2);
    this.memory = { bytes: new Uint8Array(memory), view: new DataView(memory) };
    this.file = file;
    this.fileView = new DataView(file.buffer, file.byteOffset, file.length);
    this.scan = scan;
    this.options = options;
    this.player = new NodePlayer({ ...options, latencyMs: NODE_LATENCY_MS });
    const mac = new DataView(options.balancerMac.buffer, options.balancerMac.byteOffset, 6);
    this.macHigh = mac.getUint16(0);
    this.macLow = mac.getUint32(2);
    this.virtualAddresses = new Set(options.virtualServers.map((server) => server.address));
  }

  get nodeCounts(): NodeCounts {
    return this.player.counts;
  }

  /** The virtual clock as ms since 1970: the time at which the first frame was recorded, and on. */
  get timeOfDay(): number {
    const { seconds, nanoseconds } = this.scan.first;
    return seconds * 1000 + nanoseconds / 1e6 + this.now;
  }

  /**
   * For the engine's options: the recorded server's initial sequence number for the SYN being
   * delivered, or -1.
   */
  readonly initialSequence = (
    client: number,
    clientPort: number,
    virtualServer: number,
  ): number => {
    const server = this.options.virtualServers[virtualServer];
    if (server === undefined) return -1;
    return this.scan.initialSequence(
      flowKey(client, clientPort, server.address, server.port),
      this.clientIsn,
    );
  };

  /**
   * Gives all frames to `sink`, then calls `ended`. After that the clock runs for `restMs` more, so
   * that every session can expire, or until `finished` returns true.
   */
  run(
    sink: FrameSink,
    restMs: number,
    ended: (now: number) => void,
    finished: () => boolean,
  ): void {
    const reader = openCapture(this.file);
    if (reader === undefined) return;
    while (reader.next()) {
      this.passTime(sink, this.virtualTime(reader), neverFinished);
      this.recorded.seconds = reader.seconds;
      this.recorded.nanoseconds = reader.nanoseconds;
      this.recordedAt = this.now;
      this.deliver(sink, reader);
      sink.tick(this.now);
    }
    const last = this.now;
    // The last notices of the nodes are still on their way.
    while (this.due < Number.POSITIVE_INFINITY) this.passTime(sink, this.due, neverFinished);
    ended(last);
    this.passTime(sink, this.now + restMs, finished);
  }

  reserve(length: number): number {
    return length <= ROOM_BYTES ? ROOM_BYTES : -1;
  }

  commit(offset: number, length: number, port: PortNumber): void {
    this.send(offset, length, port);
  }

  forward(offset: number, length: number, flags: number, port: PortNumber): void {
    if ((flags & FrameFlags.checksumPartial) !== 0) this.finishChecksum(offset);
    this.options.forwarded?.(offset);
    this.send(offset, length, port);
  }

  /** The time of a frame on the virtual clock, which never steps back. */
  private virtualTime(reader: CaptureReader): number {
    const { first } = this.scan;
    const recorded =
      (reader.seconds - first.seconds) * 1000 + (reader.nanoseconds - first.nanoseconds) / 1e6;
    const step = recorded + this.clockShift - this.now;
    if (step < -CLOCK_SET_BACK_MS) this.clockShift -= step;
    else if (step > CLOCK_SET_FORWARD_MS) this.clockShift -= step - CLOCK_SET_FORWARD_MS;
    return Math.max(recorded + this.clockShift, this.now);
  }

  /** Moves the clock to `until`, with all ticks and notices that are due before. */
  private passTime(sink: FrameSink, until: number, finished: () => boolean): void {
    const from = this.now;
    for (;;) {
      const step = this.now + Math.max(STEP_MS, (this.now - from) / GAP_PARTS);
      const next = Math.min(step, until, this.due);
      if (next >= until && this.due > until) break;
      this.now = Math.max(next, this.now);
      if (this.player.due <= this.now) this.deliverNotice(sink);
      if (this.answered.due <= this.now) this.deliverClose(sink);
      sink.tick(this.now);
      if (finished()) return;
    }
    this.now = until;
    sink.tick(until);
  }

  /** When the next frame arrives that is not in the file, in ms; or Infinity. */
  private get due(): number {
    return Math.min(this.player.due, this.answered.due);
  }

  private deliverClose(sink: FrameSink): void {
    const { view, bytes } = this.memory;
    const length = this.answered.write(view, bytes, 0);
    if (length > 0) sink.receive(0, length, 0, this.now);
  }

  private deliverNotice(sink: FrameSink): void {
    const length = this.player.writeNotice(this.memory.view, 0);
    if (length > 0) sink.receive(0, length, 0, this.now);
  }

  /** Classifies one recorded frame, and gives it to the engine if a client sent it. */
  private deliver(
    sink: FrameSink,
    { linkType, offset, capturedLength, originalLength }: CaptureReader,
  ): void {
    const ip = ipv4Offset(this.fileView, linkType, offset, capturedLength);
    const end = Math.min(offset + capturedLength, ip + MAX_PACKET_BYTES);
    if (ip < 0 || end - ip < IPV4_HEADER_BYTES) {
      this.counts.others += 1;
      return;
    }
    const isTcp = this.segment.parse(this.fileView, ip, end, offset + originalLength);
    const direction = isTcp ? this.scan.direction(this.segment) : this.directionOfOther(ip);
    if (direction === Direction.toServer && this.scan.isSentOn(this.fileView, linkType, offset)) {
      this.counts.sentOn += 1;
    } else if (direction === Direction.toServer) {
      this.copy(linkType, offset, ip, end);
      const flags = this.prepare(isTcp, ip, end);
      this.counts.delivered += 1;
      sink.receive(0, ETHERNET_HEADER_BYTES + end - ip, flags, this.now);
    } else if (direction === Direction.fromServer) {
      this.counts.fromServers += 1;
      if ((this.segment.flags & (TcpFlag.fin | TcpFlag.rst)) !== 0) {
        this.player.serverEnds(this.segment, this.now);
      }
    } else {
      this.counts.others += 1;
      this.noteNotice(ip, end);
    }
  }

  /** Takes a recorded notice of a node whose web server ended its direction. */
  private noteNotice(ip: number, end: number): void {
    const { fileView } = this;
    const ixcp = ip + IPV4_HEADER_BYTES;
    if (fileView.getUint8(ip + IPV4.protocol) !== Protocol.ixcp || ixcp + IXCP_HEADER_BYTES > end)
      return;
    const type = fileView.getUint8(ixcp + IXCP.type);
    if (type !== IxcpType.fin && type !== IxcpType.rst) return;
    const flow = flowKey(
      fileView.getUint32(ixcp + IXCP.client),
      fileView.getUint16(ixcp + IXCP.clientPort),
      fileView.getUint32(ixcp + IXCP.virtualAddress),
      fileView.getUint16(ixcp + IXCP.virtualPort),
    );
    const sequence = fileView.getUint32(ixcp + IXCP.sequence);
    const acknowledgement = fileView.getUint32(ixcp + IXCP.acknowledgement);
    this.player.serverEnded(flow, { type, sequence, acknowledgement }, this.now);
  }

  /** ICMP packets and TCP fragments go to the engine if they are for a virtual address. */
  private directionOfOther(ip: number): number {
    const protocol = this.fileView.getUint8(ip + IPV4.protocol);
    if (protocol !== Protocol.icmp && protocol !== Protocol.tcp) return Direction.other;
    const destination = this.fileView.getUint32(ip + IPV4.destination);
    return this.virtualAddresses.has(destination) ? Direction.toServer : Direction.other;
  }

  /** Copies the packet into the memory, behind an Ethernet header for the balancer. */
  private copy(linkType: number, offset: number, ip: number, end: number): void {
    const { bytes, view } = this.memory;
    writeMac(view, ETHERNET.destination, this.macHigh, this.macLow);
    if (linkType === LinkType.ethernet) {
      const source = offset + ETHERNET.source;
      bytes.set(this.file.subarray(source, source + 6), ETHERNET.source);
    } else {
      writeMac(view, ETHERNET.source, CLIENT_MAC_HIGH, CLIENT_MAC_LOW);
    }
    view.setUint16(ETHERNET.type, EtherType.ipv4);
    bytes.set(this.file.subarray(ip, end), ETHERNET_HEADER_BYTES);
  }

  /** Returns the flags of the frame just copied, and makes its checksums agree with them. */
  private prepare(isTcp: boolean, ip: number, end: number): number {
    const { segment } = this;
    const packetEnd = isTcp ? segment.end : ip + this.fileView.getUint16(ip + IPV4.totalLength);
    if (packetEnd > end) {
      this.counts.truncated += 1;
      if (isTcp) this.options.unusable?.(segment);
      return FrameFlags.truncated;
    }
    if (!isTcp) return 0;
    if ((segment.flags & (TcpFlag.syn | TcpFlag.ack)) === TcpFlag.syn) {
      this.clientIsn = segment.sequence;
      this.player.clientBegins(
        flowKey(segment.source, segment.sourcePort, segment.destination, segment.destinationPort),
        segment.sequence,
      );
    }
    if (segment.checksumsRight(this.fileView)) return 0;
    if (!this.scan.checksums.ignores(segment.source, this.options.checksums ?? 'detect')) {
      this.counts.damaged += 1;
      this.options.unusable?.(segment);
      return 0;
    }
    this.repair(ip);
    this.counts.unfinished += 1;
    return FrameFlags.checksumPartial;
  }

  /**
   * Turns the segment just copied into one whose TCP checksum was left to hardware. Senders leave
   * different values in the field: the pseudo-header's sum with or without the length, or 0. The
   * flag promises the sum with the length.
   */
  private repair(ip: number): void {
    const { segment } = this;
    const { view } = this.memory;
    const copy = ETHERNET_HEADER_BYTES;
    const headerBytes = segment.tcp - ip;
    view.setUint16(copy + IPV4.totalLength, segment.end - ip);
    view.setUint16(copy + IPV4.checksum, 0);
    view.setUint16(copy + IPV4.checksum, finish(sumBytes(view, copy, headerBytes, 0)));
    const sum = pseudoHeaderSum(
      segment.source,
      segment.destination,
      Protocol.tcp,
      segment.end - segment.tcp,
    );
    view.setUint16(copy + headerBytes + TCP.checksum, fold(sum));
  }

  private finishChecksum(offset: number): void {
    const { view } = this.memory;
    const ip = offset + ETHERNET_HEADER_BYTES;
    const tcp = ip + IPV4_HEADER_BYTES;
    const length = view.getUint16(ip + IPV4.totalLength) - IPV4_HEADER_BYTES;
    finishTcpChecksum(
      view,
      tcp,
      length,
      view.getUint32(ip + IPV4.source),
      view.getUint32(ip + IPV4.destination),
    );
  }

  private send(offset: number, length: number, port: PortNumber): void {
    const { view, bytes } = this.memory;
    this.write(bytes, offset, length);
    if (port === Port.wire && this.isToClient(offset)) {
      this.counts.toClients += 1;
      this.answered.take(view, bytes, offset, this.now);
    } else this.player.take(view, offset, length, this.now);
  }

  /** Addresses alone do not decide: in a loopback capture they are all the same. */
  private isToClient(offset: number): boolean {
    const { view } = this.memory;
    const ip = offset + ETHERNET_HEADER_BYTES;
    if (view.getUint8(ip + IPV4.protocol) !== Protocol.tcp) return false;
    return this.scan.isServer(
      view.getUint32(ip + IPV4.source),
      view.getUint16(ip + IPV4_HEADER_BYTES + TCP.sourcePort),
    );
  }

  private write(bytes: Uint8Array, offset: number, length: number): void {
    const { writer } = this;
    if (writer === undefined) return;
    const since = this.now - this.recordedAt;
    const nanoseconds = this.recorded.nanoseconds + Math.round((since % 1000) * 1e6);
    const seconds =
      this.recorded.seconds + Math.floor(since / 1000) + Math.floor(nanoseconds / 1e9);
    writer.frame(bytes, offset, length, seconds, nanoseconds % 1e9);
  }
}

function neverFinished(): boolean {
  return false;
}
