/**
 * A received frame, parsed. One instance is filled again for every frame, so no object is made.
 *
 * The parse methods check every length once. After they return PARSED, all bytes up to `end` may be
 * read freely, until the frame is given back to the datapath.
 */
import { Counter } from '../base/counters.js';
import { FrameFlags } from '../datapath/datapath.js';
import type { Aliases } from '../wire/alias.js';
import { finish, sumBytes } from '../wire/checksum.js';
import { ETHERNET, ETHERNET_HEADER_BYTES, EtherType } from '../wire/ethernet.js';
import {
  FRAGMENT_MASK,
  IPV4,
  IPV4_HEADER_BYTES,
  Protocol,
  VERSION_4_WORDS_5,
} from '../wire/ipv4.js';
import {
  checksum6,
  IPV6,
  IPV6_DEFAULT_MSS,
  IPV6_HEADER_BYTES,
  isExtension,
  isVersion6,
} from '../wire/ipv6.js';
import {
  TCP,
  TCP_HEADER_BYTES,
  TcpFlag,
  TcpOptions,
  tcpHeaderBytes,
  verifyTcpChecksum,
} from '../wire/tcp.js';

/** Distinguishes ports of IPv6 virtual servers: an alias may be the number of an IPv4 address. */
export const PORT_OF_IPV6 = 0x1_0000;

/** Result of a parse that succeeded. It is not the index of any drop counter. */
export const PARSED = -1;

export class Segment {
  /** Where the frame lies in memory. */
  offset = 0;
  length = 0;
  frameFlags = 0;
  view: DataView;
  /** Offset of the IP header, and of the first byte after the packet (padding excluded). */
  ip = 0;
  end = 0;
  /** Bytes of the IP header, which tell the family: 20 or 40. */
  ipBytes = IPV4_HEADER_BYTES;
  protocol = 0;
  /** The numbers of the addresses: IPv4, or aliases of IPv6 (wire/alias.ts). */
  source = 0;
  destination = 0;
  /** Offset of the transport header. */
  tcp = 0;
  sourcePort = 0;
  destinationPort = 0;
  sequence = 0;
  acknowledgement = 0;
  headerBytes = 0;
  flags = 0;
  window = 0;
  payload = 0;
  payloadLength = 0;
  readonly options = new TcpOptions();
  private readonly aliases: Aliases | undefined;

  /** @param aliases of the engine's key; without them IPv6 is not parsed */
  constructor(view: DataView, aliases?: Aliases) {
    this.view = view;
    this.aliases = aliases;
  }

  /** Whether the packet is IPv6. */
  get isIpv6(): boolean {
    return this.ipBytes === IPV6_HEADER_BYTES;
  }

  /** The destination port as `VirtualServerTable.find` takes it. */
  get placePort(): number {
    return this.isIpv6 ? this.destinationPort | PORT_OF_IPV6 : this.destinationPort;
  }

  /** Sequence numbers that the segment occupies: payload, SYN and FIN (SEG.LEN of RFC 9293). */
  get span(): number {
    return this.payloadLength + ((this.flags & (TcpFlag.syn | TcpFlag.fin)) === 0 ? 0 : 1);
  }

  /** Parses the IP header. Returns PARSED, or the index of the counter that names the fault. */
  parseIp(offset: number, length: number, frameFlags: number): number {
    const view = this.view;
    this.offset = offset;
    this.length = length;
    this.frameFlags = frameFlags;
    if ((frameFlags & FrameFlags.truncated) !== 0) return Counter.drop_truncated;
    if (length < ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES) return Counter.drop_malformed_ethernet;
    if (view.getUint16(offset + ETHERNET.type) !== EtherType.ipv4) return this.parseIpv6();
    const ip = offset + ETHERNET_HEADER_BYTES;
    const versionAndLength = view.getUint8(ip);
    if (versionAndLength !== VERSION_4_WORDS_5) {
      return versionAndLength > VERSION_4_WORDS_5 && versionAndLength <= 0x4f
        ? Counter.drop_ipv4_options
        : Counter.drop_malformed_ipv4;
    }
    const totalLength = view.getUint16(ip + IPV4.totalLength);
    if (totalLength < IPV4_HEADER_BYTES || totalLength > length - ETHERNET_HEADER_BYTES) {
      return Counter.drop_malformed_ipv4;
    }
    if ((view.getUint16(ip + IPV4.flagsAndFragment) & FRAGMENT_MASK) !== 0)
      return Counter.drop_ipv4_fragment;
    this.ip = ip;
    this.ipBytes = IPV4_HEADER_BYTES;
    this.end = ip + totalLength;
    this.protocol = view.getUint8(ip + IPV4.protocol);
    this.source = view.getUint32(ip + IPV4.source);
    this.destination = view.getUint32(ip + IPV4.destination);
    this.tcp = ip + IPV4_HEADER_BYTES;
    return PARSED;
  }

  /** The same for a frame that is not IPv4. wire/ipv6.ts has the rule of extension headers. */
  private parseIpv6(): number {
    const { view, offset, length, aliases } = this;
    if (aliases === undefined || view.getUint16(offset + ETHERNET.type) !== EtherType.ipv6)
      return Counter.drop_malformed_ethernet;
    const ip = offset + ETHERNET_HEADER_BYTES;
    if (length < ETHERNET_HEADER_BYTES + IPV6_HEADER_BYTES || !isVersion6(view.getUint8(ip)))
      return Counter.drop_malformed_ipv6;
    const total = IPV6_HEADER_BYTES + view.getUint16(ip + IPV6.payloadLength);
    if (total > length - ETHERNET_HEADER_BYTES) return Counter.drop_malformed_ipv6;
    this.ip = ip;
    this.ipBytes = IPV6_HEADER_BYTES;
    this.end = ip + total;
    this.protocol = view.getUint8(ip + IPV6.nextHeader);
    this.source = aliases.at(view, ip + IPV6.source);
    this.destination = aliases.at(view, ip + IPV6.destination);
    this.tcp = ip + IPV6_HEADER_BYTES;
    return isExtension(this.protocol) ? Counter.drop_ipv6_extension : PARSED;
  }

  /** Parses the TCP header without its options. Returns PARSED, or the index of a counter. */
  parseTcp(): number {
    const view = this.view;
    const tcp = this.tcp;
    if (this.end - tcp < TCP_HEADER_BYTES) return Counter.drop_malformed_tcp;
    const headerBytes = tcpHeaderBytes(view, tcp);
    if (headerBytes < TCP_HEADER_BYTES || headerBytes > this.end - tcp)
      return Counter.drop_malformed_tcp;
    this.headerBytes = headerBytes;
    this.sourcePort = view.getUint16(tcp + TCP.sourcePort);
    this.destinationPort = view.getUint16(tcp + TCP.destinationPort);
    this.sequence = view.getUint32(tcp + TCP.sequence);
    this.acknowledgement = view.getUint32(tcp + TCP.acknowledgement);
    this.flags = view.getUint8(tcp + TCP.offsetAndFlags + 1);
    this.window = view.getUint16(tcp + TCP.window);
    this.payload = tcp + headerBytes;
    this.payloadLength = this.end - this.payload;
    return PARSED;
  }

  parseOptions(): boolean {
    const start = this.tcp + TCP_HEADER_BYTES;
    if (this.ipBytes === IPV4_HEADER_BYTES)
      return this.options.parse(this.view, start, this.payload);
    return this.options.parse(this.view, start, this.payload, IPV6_DEFAULT_MSS);
  }

  /**
   * Verifies both checksums. Skips the TCP one if the kernel has verified it, or if the sender left
   * it to hardware.
   */
  verifyChecksums(): number {
    if (this.isIpv6) return this.verifyChecksum6();
    if (finish(sumBytes(this.view, this.ip, IPV4_HEADER_BYTES, 0)) !== 0)
      return Counter.drop_ipv4_checksum;
    if (this.protocol !== Protocol.tcp) return PARSED;
    if ((this.frameFlags & (FrameFlags.checksumPartial | FrameFlags.checksumValid)) !== 0)
      return PARSED;
    return verifyTcpChecksum(
      this.view,
      this.tcp,
      this.end - this.tcp,
      this.source,
      this.destination,
    )
      ? PARSED
      : Counter.drop_tcp_checksum;
  }

  /** IPv6 has no checksum of its header. */
  private verifyChecksum6(): number {
    const { view, ip, tcp, end, protocol } = this;
    if (protocol !== Protocol.tcp) return PARSED;
    if ((this.frameFlags & (FrameFlags.checksumPartial | FrameFlags.checksumValid)) !== 0)
      return PARSED;
    return checksum6(view, ip, protocol, tcp, end - tcp) === 0 ? PARSED : Counter.drop_tcp_checksum;
  }
}
