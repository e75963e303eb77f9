/**
 * Cuts TCP segments that are larger than a frame of the wire, as the sender's hardware would have:
 * senders on the same machine (containers, virtual machines) leave that to a card which their
 * frames never see, and GRO makes such frames of what came by the wire.
 *
 *     | Ethernet, IPv4, TCP | payload 1 | payload 2 | payload 3 |
 *     | Ethernet, IPv4, TCP | payload 1 |   | ... | payload 2 |   | ... | payload 3 |
 *
 * Each piece has the headers, with its own sequence number and lengths; FIN and PSH belong to the
 * last one.
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
import { TCP, TCP_HEADER_BYTES, TcpFlag, tcpHeaderBytes } from '../wire/tcp.js';

const IP = ETHERNET_HEADER_BYTES;
const TCP_AT = IP + IPV4_HEADER_BYTES;
const LAST_ALONE = TcpFlag.fin | TcpFlag.psh;

/** One instance is reused for every segment that is cut. */
export class SegmentCutter {
  private view: DataView = new DataView(new ArrayBuffer(0));
  private bytes: Uint8Array = new Uint8Array(0);
  private frame = 0;
  private headers = 0;
  /** Of the payload, in bytes: all of it, and what lies in pieces already. */
  private payload = 0;
  private cut = 0;

  /**
   * Takes a frame of `length` bytes to be cut.
   * @param from the memory that it lies in
   * @returns false for what is no whole TCP segment in IPv4 without options
   */
  take(from: Uint8Array, frame: number, length: number): boolean {
    if (this.view.buffer !== from.buffer || this.bytes !== from) {
      this.bytes = from;
      this.view = new DataView(from.buffer, from.byteOffset, from.byteLength);
    }
    const { view } = this;
    if (length < TCP_AT + TCP_HEADER_BYTES) return false;
    const ip = frame + IP;
    if (
      view.getUint8(ip) !== VERSION_4_WORDS_5 ||
      view.getUint8(ip + IPV4.protocol) !== Protocol.tcp
    ) {
      return false;
    }
    if ((view.getUint16(ip + IPV4.flagsAndFragment) & FRAGMENT_MASK) !== 0) return false;
    const headers = TCP_AT + tcpHeaderBytes(view, frame + TCP_AT);
    const end = IP + view.getUint16(ip + IPV4.totalLength);
    if (headers < TCP_AT + TCP_HEADER_BYTES || headers > end || end > length) return false;
    this.frame = frame;
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
   * Writes the next piece, its TCP checksum left unfinished.
   * @param most bytes of the piece, headers included; more than those
   * @returns its length
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
    const tcp = at + TCP_AT;
    const total = headers - IP + taken;
    setLength(view, ip, total);
    view.setUint32(tcp + TCP.sequence, (view.getUint32(tcp + TCP.sequence) + cut) >>> 0);
    if (this.more) view.setUint8(tcp + TCP.flags, view.getUint8(tcp + TCP.flags) & ~LAST_ALONE);
    const sum = pseudoHeaderSum(
      view.getUint32(ip + IPV4.source),
      view.getUint32(ip + IPV4.destination),
      Protocol.tcp,
      total - IPV4_HEADER_BYTES,
    );
    view.setUint16(tcp + TCP.checksum, fold(sum));
    return headers + taken;
  }
}

/**
 * Another total length, and the header's checksum for it (RFC 1624 equation 3): a wrong one stays
 * wrong.
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
