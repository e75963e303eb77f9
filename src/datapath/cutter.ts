/**
 * Cuts TCP segments that are larger than a frame of the wire, as the sender's hardware would have
 * done. Containers and virtual machines on the same host leave this to a network card that their
 * frames never reach. GRO also merges frames of the wire into such segments.
 *
 *     | Ethernet, IP, TCP | payload 1 | payload 2 | payload 3 |
 *     | Ethernet, IP, TCP | payload 1 |   | ... | payload 2 |   | ... | payload 3 |
 *
 * Each piece gets the headers, with its own sequence number and lengths. Only the last piece keeps
 * FIN and PSH.
 */
import { fold, pseudoHeaderSum } from '../wire/checksum.js';
import { ETHERNET_HEADER_BYTES } from '../wire/ethernet.js';
import {
  FRAGMENT_MASK,
  IPV4,
  IPV4_HEADER_BYTES,
  Protocol,
  VERSION_4_WORDS_5,
} from '../wire/ipv4.js';
import { IPV6, IPV6_HEADER_BYTES, isVersion6, pseudoHeaderSum6 } from '../wire/ipv6.js';
import { TCP, TCP_HEADER_BYTES, TcpFlag, tcpHeaderBytes } from '../wire/tcp.js';

const IP = ETHERNET_HEADER_BYTES;
const LAST_ALONE = TcpFlag.fin | TcpFlag.psh;

/** One instance is reused for every segment that is cut. */
export class SegmentCutter {
  private view: DataView = new DataView(new ArrayBuffer(0));
  private bytes: Uint8Array = new Uint8Array(0);
  private frame = 0;
  private headers = 0;
  /** Offset of the TCP header in the frame. */
  private tcpAt = 0;
  /** Bytes of payload: all of it, and the part that has been cut already. */
  private payload = 0;
  private cut = 0;

  /**
   * Begins to cut a frame of `length` bytes.
   * @param from the memory that holds the frame
   * @returns false when the frame is not one whole TCP segment in IPv4 without options, or in IPv6
   *   without extension headers
   */
  take(from: Uint8Array, frame: number, length: number): boolean {
    if (this.view.buffer !== from.buffer || this.bytes !== from) {
      this.bytes = from;
      this.view = new DataView(from.buffer, from.byteOffset, from.byteLength);
    }
    const { view } = this;
    if (length < IP + IPV4_HEADER_BYTES + TCP_HEADER_BYTES) return false;
    const ip = frame + IP;
    const isIpv6 = isVersion6(view.getUint8(ip));
    const tcpAt = IP + (isIpv6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES);
    if (length < tcpAt + TCP_HEADER_BYTES) return false;
    if (!(isIpv6 ? isTcp6(view, ip) : isTcp(view, ip))) return false;
    const headers = tcpAt + tcpHeaderBytes(view, frame + tcpAt);
    const end = isIpv6
      ? tcpAt + view.getUint16(ip + IPV6.payloadLength)
      : IP + view.getUint16(ip + IPV4.totalLength);
    if (headers < tcpAt + TCP_HEADER_BYTES || headers > end || end > length) return false;
    this.frame = frame;
    this.tcpAt = tcpAt;
    this.headers = headers;
    this.payload = end - headers;
    this.cut = 0;
    return true;
  }

  /** Whether pieces are left. */
  get more(): boolean {
    return this.cut < this.payload;
  }

  /**
   * Writes the next piece. Its TCP checksum is left incomplete (FrameFlags.checksumPartial).
   * @param most bytes of the piece, headers included; must exceed the headers
   * @returns the length of the piece
   */
  next(
    into: { readonly bytes: Uint8Array; readonly view: DataView },
    at: number,
    most: number,
  ): number {
    const { frame, headers, cut } = this;
    const { bytes, view } = into;
    const taken = Math.min(most - headers, this.payload - cut);
    for (let i = 0; i < headers; i++) bytes[at + i] = this.bytes[frame + i]!;
    const from = frame + headers + cut;
    for (let i = 0; i < taken; i++) bytes[at + headers + i] = this.bytes[from + i]!;
    this.cut = cut + taken;
    const ip = at + IP;
    const tcp = at + this.tcpAt;
    const isIpv6 = this.tcpAt === IP + IPV6_HEADER_BYTES;
    const tcpBytes = headers - this.tcpAt + taken;
    if (isIpv6) view.setUint16(ip + IPV6.payloadLength, tcpBytes);
    else setLength(view, ip, IPV4_HEADER_BYTES + tcpBytes);
    view.setUint32(tcp + TCP.sequence, (view.getUint32(tcp + TCP.sequence) + cut) >>> 0);
    if (this.more) view.setUint8(tcp + TCP.flags, view.getUint8(tcp + TCP.flags) & ~LAST_ALONE);
    const sum = isIpv6
      ? pseudoHeaderSum6(view, ip, Protocol.tcp, tcpBytes)
      : pseudoHeaderSum(
          view.getUint32(ip + IPV4.source),
          view.getUint32(ip + IPV4.destination),
          Protocol.tcp,
          tcpBytes,
        );
    view.setUint16(tcp + TCP.checksum, fold(sum));
    return headers + taken;
  }
}

function isTcp(view: DataView, ip: number): boolean {
  return (
    view.getUint8(ip) === VERSION_4_WORDS_5 &&
    view.getUint8(ip + IPV4.protocol) === Protocol.tcp &&
    (view.getUint16(ip + IPV4.flagsAndFragment) & FRAGMENT_MASK) === 0
  );
}

function isTcp6(view: DataView, ip: number): boolean {
  return view.getUint8(ip + IPV6.nextHeader) === Protocol.tcp;
}

/**
 * Sets the total length, and updates the header checksum for it (RFC 1624 equation 3). A checksum
 * that was wrong stays wrong.
 */
function setLength(view: DataView, ip: number, total: number): void {
  const before = view.getUint16(ip + IPV4.totalLength);
  const checksum = view.getUint16(ip + IPV4.checksum);
  view.setUint16(ip + IPV4.totalLength, total);
  view.setUint16(
    ip + IPV4.checksum,
    ~fold((~checksum & 0xffff) + (~before & 0xffff) + total) & 0xffff,
  );
}
