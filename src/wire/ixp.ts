/**
 * IXP: the header that carries a client's segment to a node. The definition is bpf/lib/ixp.h;
 * test/wire/ixp.test.ts checks this file against it. docs/ixp.md explains it.
 */
import { IPV4, IPV4_HEADER_BYTES } from './ipv4.js';
import { IPV6, IPV6_HEADER_BYTES } from './ipv6.js';
import type { SipHash } from './siphash.js';
import { TCP } from './tcp.js';

/** Byte offsets of the header's fields. */
export const IXP = {
  version: 0,
  type: 1,
  length: 2,
  service: 3,
  session: 4,
  balancer: 8,
  confirm: 12,
  mss: 16,
  flags: 18,
  scales: 19,
  tsval: 20,
  /** The same bytes in LEAVE and PARK, and in a SEGMENT with IxpFlag.head or IxpFlag.tell. */
  request: 20,
  tsecr: 24,
  tag: 28,
} as const;

export const IXP_VERSION = 1;
export const IXP_HEADER_BYTES = 36;

export const IxpType = {
  adopt: 1,
  segment: 2,
  release: 3,
  leave: 4,
  park: 5,
  resume: 6,
  awake: 7,
  replay: 8,
  carry: 9,
  query: 10,
} as const;

/** Byte offsets in the header of IxpType.carry, which takes a packet across routers. */
export const CARRY = {
  version: 0,
  type: 1,
  length: 2,
  session: 4,
} as const;

export const CARRY_HEADER_BYTES = 8;
/** By how much a packet grows. */
export const CARRY_BYTES = IPV4_HEADER_BYTES + CARRY_HEADER_BYTES;

export const IxpFlag = {
  windowScaleOk: 0x01,
  sackOk: 0x02,
  timestampsOk: 0x04,
  clientConfirms: 0x08,
  follow: 0x10,
  head: 0x20,
  holdReset: 0x40,
  tell: 0x80,
} as const;

/** Ports (4), sequence and acknowledgement number (8), and the header before its tag. */
const TAGGED_BYTES = 40;
const ADDRESSES_BYTES = 8;
const ADDRESSES_6_BYTES = 32;

/**
 * Computes the tag of the IXP header at `ixp` of a packet whose IP header is at `ip` and whose TCP
 * header follows the IXP header; leaves it in `hash`. The tag covers both addresses first.
 */
export function hashIxp(view: DataView, ip: number, ixp: number, hash: SipHash): void {
  const message = hash.message;
  const tcp = ixp + IXP_HEADER_BYTES;
  const isIpv6 = ixp - ip === IPV6_HEADER_BYTES;
  const from = ip + (isIpv6 ? IPV6.source : IPV4.source);
  const start = isIpv6 ? ADDRESSES_6_BYTES : ADDRESSES_BYTES;
  for (let at = 0; at < start; at += 4) message.setUint32(at, view.getUint32(from + at));
  message.setUint32(start, view.getUint32(tcp + TCP.sourcePort));
  message.setUint32(start + 4, view.getUint32(tcp + TCP.sequence));
  message.setUint32(start + 8, view.getUint32(tcp + TCP.acknowledgement));
  for (let at = 0; at < IXP.tag; at += 4)
    message.setUint32(start + 12 + at, view.getUint32(ixp + at));
  hash.hash(start + TAGGED_BYTES);
}

/** Writes the tag. All fields that it covers must be written before. */
export function sealIxp(view: DataView, ip: number, ixp: number, hash: SipHash): void {
  hashIxp(view, ip, ixp, hash);
  view.setUint32(ixp + IXP.tag, hash.high);
  view.setUint32(ixp + IXP.tag + 4, hash.low);
}

/** Whether version, length and tag are right. IXP and TCP header must be within the view. */
export function verifyIxp(view: DataView, ip: number, ixp: number, hash: SipHash): boolean {
  if (view.getUint8(ixp + IXP.version) !== IXP_VERSION) return false;
  if (view.getUint8(ixp + IXP.length) !== IXP_HEADER_BYTES) return false;
  hashIxp(view, ip, ixp, hash);
  return (
    view.getUint32(ixp + IXP.tag) === hash.high && view.getUint32(ixp + IXP.tag + 4) === hash.low
  );
}
