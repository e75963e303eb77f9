/**
 * Neighbour discovery of IPv6 over Ethernet (RFC 4861, RFC 2464): solicitations, also as probes of
 * duplicate address detection (RFC 4862), and unsolicited advertisements.
 */
import { ADDRESS_6_BYTES, type Address6, addressBytes, toAddress6, wordsOf } from './address.js';
import { ETHERNET, ETHERNET_HEADER_BYTES, EtherType } from './ethernet.js';
import { Protocol } from './ipv4.js';
import { checksum6, IPV6, IPV6_HEADER_BYTES, isVersion6, writeIpv6 } from './ipv6.js';

export const NdpType = { solicitation: 135, advertisement: 136 } as const;

/** Byte offsets from the first byte of the ICMPv6 header. */
const NDP = { type: 0, code: 1, checksum: 2, flags: 4, target: 8, options: 24 } as const;
/** Of an advertisement: it answers a solicitation; it replaces what is known. */
const SOLICITED = 0x40;
const OVERRIDE = 0x20;
const Option = { sourceMac: 1, targetMac: 2 } as const;
/** Options are counted in units of this. */
const OPTION_UNIT = 8;
const MAC_BYTES = 6;
/** A packet that a router has forwarded has less (RFC 4861 section 7.1). */
const HOP_LIMIT = 255;

const IP = ETHERNET_HEADER_BYTES;
const ICMP_AT = IP + IPV6_HEADER_BYTES;

/** All hosts of the link: ff02::1. */
const ALL_NODES = [0xff02_0000, 0, 0, 1];
const UNSPECIFIED_6 = [0, 0, 0, 0];
const MULTICAST = 0xff;

/** The address to which hosts listen that may have `target` (RFC 4291 section 2.7.1). */
function solicitedNode(target: Address6): number[] {
  const last = wordsOf(target)[3];
  return [0xff02_0000, 0, 1, (0xff00_0000 | (last & 0x00ff_ffff)) >>> 0];
}

/**
 * A solicitation for `target` to its solicited-node address, from ::, as a probe.
 * @param mac of our interface, six bytes
 */
export function buildNdpProbe(mac: Uint8Array, target: Address6): Uint8Array {
  return build(mac, NdpType.solicitation, UNSPECIFIED_6, solicitedNode(target), target, 0);
}

/**
 * An advertisement to all hosts: `target` is at this MAC address now, whatever they know
 * (RFC 4861 section 7.2.6).
 */
export function buildNdpAnnouncement(mac: Uint8Array, target: Address6): Uint8Array {
  const from = wordsOf(target);
  return build(mac, NdpType.advertisement, from, ALL_NODES, target, OVERRIDE, Option.targetMac);
}

function build(
  mac: Uint8Array,
  type: number,
  source: readonly number[],
  destination: readonly number[],
  target: Address6,
  flags: number,
  option?: number,
): Uint8Array {
  const length = NDP.options + (option === undefined ? 0 : OPTION_UNIT);
  const frame = new Uint8Array(ICMP_AT + length);
  const view = new DataView(frame.buffer);
  // RFC 2464 section 7: 33:33 and the last four bytes of the group.
  view.setUint16(ETHERNET.destination, 0x3333);
  view.setUint32(ETHERNET.destination + 2, destination[3]!);
  frame.set(mac.subarray(0, MAC_BYTES), ETHERNET.source);
  view.setUint16(ETHERNET.type, EtherType.ipv6);
  writeIpv6(view, IP, length, Protocol.icmpv6);
  view.setUint8(IP + IPV6.hopLimit, HOP_LIMIT);
  for (let word = 0; word < 4; word++) {
    view.setUint32(IP + IPV6.source + word * 4, source[word]!);
    view.setUint32(IP + IPV6.destination + word * 4, destination[word]!);
  }
  view.setUint8(ICMP_AT + NDP.type, type);
  view.setUint8(ICMP_AT + NDP.flags, flags);
  frame.set(addressBytes(target), ICMP_AT + NDP.target);
  if (option !== undefined) {
    view.setUint8(ICMP_AT + NDP.options, option);
    view.setUint8(ICMP_AT + NDP.options + 1, 1);
    frame.set(mac.subarray(0, MAC_BYTES), ICMP_AT + NDP.options + 2);
  }
  const sum = checksum6(view, IP, Protocol.icmpv6, ICMP_AT, length);
  view.setUint16(ICMP_AT + NDP.checksum, sum);
  return frame;
}

export interface NdpPacket {
  /** NdpType. */
  type: number;
  source: Address6;
  target: Address6;
  /** The MAC address that it names, or else that of the frame. */
  mac: Uint8Array;
}

/**
 * Parses a solicitation or advertisement in an Ethernet frame, by the checks of RFC 4861 sections
 * 7.1.1 and 7.1.2; undefined for any other frame.
 */
export function parseNdp(frame: Uint8Array): NdpPacket | undefined {
  if (frame.length < ICMP_AT + NDP.options) return undefined;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  if (view.getUint16(ETHERNET.type) !== EtherType.ipv6) return undefined;
  if (!isVersion6(view.getUint8(IP))) return undefined;
  if (view.getUint8(IP + IPV6.nextHeader) !== Protocol.icmpv6) return undefined;
  if (view.getUint8(IP + IPV6.hopLimit) !== HOP_LIMIT) return undefined;
  const length = view.getUint16(IP + IPV6.payloadLength);
  if (length < NDP.options || ICMP_AT + length > frame.length) return undefined;
  const type = view.getUint8(ICMP_AT + NDP.type);
  if (type !== NdpType.solicitation && type !== NdpType.advertisement) return undefined;
  if (view.getUint8(ICMP_AT + NDP.code) !== 0) return undefined;
  if (view.getUint8(ICMP_AT + NDP.target) === MULTICAST) return undefined;
  if (checksum6(view, IP, Protocol.icmpv6, ICMP_AT, length) !== 0) return undefined;
  const source = addressAt(view, IP + IPV6.source);
  const toMany = view.getUint8(IP + IPV6.destination) === MULTICAST;
  const solicited = (view.getUint8(ICMP_AT + NDP.flags) & SOLICITED) !== 0;
  if (type === NdpType.advertisement && toMany && solicited) return undefined;
  let mac = frame.slice(ETHERNET.source, ETHERNET.source + MAC_BYTES);
  const wanted = type === NdpType.solicitation ? Option.sourceMac : Option.targetMac;
  const end = ICMP_AT + length;
  for (let at = ICMP_AT + NDP.options; at < end; ) {
    const units = at + 2 <= end ? view.getUint8(at + 1) : 0;
    if (units === 0 || at + units * OPTION_UNIT > end) return undefined;
    if (view.getUint8(at) === wanted) {
      // Who has no address yet does not name a MAC address.
      if (type === NdpType.solicitation && source === 0n) return undefined;
      mac = frame.slice(at + 2, at + 2 + MAC_BYTES);
    }
    at += units * OPTION_UNIT;
  }
  return { type, source, target: addressAt(view, ICMP_AT + NDP.target), mac };
}

function addressAt(view: DataView, at: number): Address6 {
  const words = Array.from({ length: ADDRESS_6_BYTES / 4 }, (_, word) =>
    view.getUint32(at + word * 4),
  );
  return toAddress6(words);
}
