/** IPv4 headers (RFC 791). Addresses are unsigned 32-bit numbers, as in address.ts. */
import { finish, sumBytes } from './checksum.js';

/** Byte offsets of the header's fields, from its first byte. */
export const IPV4 = {
  versionAndLength: 0,
  typeOfService: 1,
  totalLength: 2,
  identification: 4,
  flagsAndFragment: 6,
  timeToLive: 8,
  protocol: 9,
  checksum: 10,
  source: 12,
  destination: 16,
} as const;

/** Of a header without options, the only one written here. */
export const IPV4_HEADER_BYTES = 20;
/** First byte of a header without options. */
export const VERSION_4_WORDS_5 = 0x45;
const DONT_FRAGMENT = 0x4000;
const TIME_TO_LIVE = 64;

export const Protocol = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, ixp: 253, ixcp: 254 } as const;

/** More-fragments flag and fragment offset: not zero in any fragment. */
export const FRAGMENT_MASK = 0x3fff;
/** Fragment offset alone: not zero in a fragment after the first one. */
export const OFFSET_MASK = 0x1fff;

/**
 * Writes a header without options, don't-fragment set (RFC 6864: the identification may then be 0).
 */
export function writeIpv4(
  view: DataView,
  offset: number,
  totalLength: number,
  protocol: number,
  source: number,
  destination: number,
): void {
  view.setUint16(offset, VERSION_4_WORDS_5 << 8);
  view.setUint16(offset + IPV4.totalLength, totalLength);
  view.setUint32(offset + IPV4.identification, DONT_FRAGMENT);
  view.setUint16(offset + IPV4.timeToLive, (TIME_TO_LIVE << 8) | protocol);
  view.setUint16(offset + IPV4.checksum, 0);
  view.setUint32(offset + IPV4.source, source);
  view.setUint32(offset + IPV4.destination, destination);
  view.setUint16(offset + IPV4.checksum, finish(sumBytes(view, offset, IPV4_HEADER_BYTES, 0)));
}
