/**
 * IPv6 headers (RFC 8200).
 *
 * Extension headers: a packet to a virtual server must have its TCP or UDP header directly behind
 * the IPv6 header. One with any other header in between (hop-by-hop options, routing, fragment,
 * destination options, authentication, mobility, HIP, shim6) is dropped and counted. TCP needs none
 * of them, a receiver may refuse them (RFC 7045, RFC 9098), and a chain of them would cost each
 * packet a search.
 */
import { ADDRESS_6_BYTES } from './address.js';
import { finish, sumBytes } from './checksum.js';
import { TCP } from './tcp.js';

/** Byte offsets of the header's fields, from its first byte. */
export const IPV6 = {
  versionAndFlow: 0,
  payloadLength: 4,
  nextHeader: 6,
  hopLimit: 7,
  source: 8,
  destination: 24,
} as const;

export const IPV6_HEADER_BYTES = 40;
/** Both addresses, which follow each other. */
const ADDRESSES_BYTES = 32;
const VERSION_6 = 0x6000_0000;
const HOP_LIMIT = 64;

/** Least MTU of a link (RFC 8200 section 5). */
export const IPV6_LEAST_MTU = 1_280;
/** MSS of a host that names none (RFC 9293 section 3.7.1). */
export const IPV6_DEFAULT_MSS = 1_220;

/**
 * The numbers of extension headers (IANA "IPv6 Extension Header Types"), without 253 and 254, which
 * are IXP and IXCP here.
 */
const EXTENSIONS = [0, 43, 44, 50, 51, 60, 135, 139, 140];

/** Whether this next header is an extension header. */
export function isExtension(nextHeader: number): boolean {
  return EXTENSIONS.includes(nextHeader);
}

/** Whether it is the version in the first byte of a header. */
export function isVersion6(firstByte: number): boolean {
  return firstByte >>> 4 === 6;
}

/** Writes a header whose addresses are written by the caller. */
export function writeIpv6(
  view: DataView,
  offset: number,
  payloadLength: number,
  nextHeader: number,
): void {
  view.setUint32(offset, VERSION_6);
  view.setUint16(offset + IPV6.payloadLength, payloadLength);
  view.setUint16(offset + IPV6.nextHeader, (nextHeader << 8) | HOP_LIMIT);
}

/** Writes the addresses of the header at `from` into the header at `to`, in the other order. */
export function swapAddresses6(view: DataView, from: number, to: number): void {
  for (let at = 0; at < ADDRESS_6_BYTES; at += 4) {
    view.setUint32(to + IPV6.source + at, view.getUint32(from + IPV6.destination + at));
    view.setUint32(to + IPV6.destination + at, view.getUint32(from + IPV6.source + at));
  }
}

/** Sum of the pseudo-header (RFC 8200 section 8.1) of the packet whose header is at `ip`. */
export function pseudoHeaderSum6(
  view: DataView,
  ip: number,
  protocol: number,
  length: number,
): number {
  return sumBytes(view, ip + IPV6.source, ADDRESSES_BYTES, protocol + length);
}

/** The checksum over `length` bytes at `offset` in the packet whose header is at `ip`. */
export function checksum6(
  view: DataView,
  ip: number,
  protocol: number,
  offset: number,
  length: number,
): number {
  return finish(sumBytes(view, offset, length, pseudoHeaderSum6(view, ip, protocol, length)));
}

/** Computes and writes the checksum of a TCP segment. The addresses of its IPv6 header are set. */
export function finishTcpChecksum6(
  view: DataView,
  ip: number,
  tcp: number,
  length: number,
  protocol: number,
): void {
  view.setUint16(tcp + TCP.checksum, 0);
  view.setUint16(tcp + TCP.checksum, checksum6(view, ip, protocol, tcp, length));
}
