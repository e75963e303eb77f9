/**
 * IXCP: notices from a node to the balancer about a session, and the reports of node agents. The
 * definition is bpf/lib/ixp.h; test/wire/ixp.test.ts checks this file against it.
 */
import type { SipHash } from './siphash.js';

/** Byte offsets of the header's fields. */
export const IXCP = {
  version: 0,
  type: 1,
  length: 2,
  reason: 3,
  session: 4,
  client: 8,
  virtualAddress: 12,
  hole: 16,
  flags: 18,
  /** The same bytes in ENDED and OWNED. */
  answers: 18,
  clientPort: 20,
  virtualPort: 22,
  sequence: 24,
  acknowledgement: 28,
  tag: 32,
} as const;

export const IXCP_VERSION = 1;
export const IXCP_HEADER_BYTES = 40;

export const IxcpType = {
  adopted: 1,
  refused: 2,
  fin: 3,
  rst: 4,
  report: 5,
  welcome: 6,
  badKey: 7,
  released: 8,
  left: 9,
  parked: 10,
  ended: 11,
  synAck: 12,
  owned: 13,
} as const;
export const IxcpReason = {
  none: 0,
  noListener: 1,
  unable: 2,
  tupleInUse: 3,
  unknownSession: 4,
  unfollowed: 5,
  unanswered: 6,
  ending: 7,
  heldBack: 8,
  parked: 9,
  closing: 10,
} as const;
/**
 * Flags of a report. `noWindowScale` to `noTimestamps` are IxpFlag bits, shifted by
 * IXCP_OPTIONS_SHIFT.
 */
export const IxcpFlag = {
  canAdopt: 0x0001,
  namesAddresses: 0x0002,
  canRelease: 0x0004,
  canLeave: 0x0008,
  noWindowScale: 0x0010,
  noSack: 0x0020,
  noTimestamps: 0x0040,
  noCookies: 0x0080,
  canPark: 0x0100,
  canReplay: 0x0400,
  canOwn: 0x0800,
  leaving: 0x8000,
} as const;

/** What every shim of this version can do, on a node and on a balancer that is one. */
export const SHIM_ABILITIES = IxcpFlag.canRelease | IxcpFlag.canReplay | IxcpFlag.canOwn;

const IXCP_OPTIONS_SHIFT = 4;
const IXCP_OPTIONS = 0x7;

/**
 * The IxpFlag bits of the options that the sender of a report does not accept.
 * @param flags of the report
 */
export function refusedOptions(flags: number): number {
  return (flags >>> IXCP_OPTIONS_SHIFT) & IXCP_OPTIONS;
}

/** Addresses (8) and the header before its tag. */
const TAGGED_BYTES = 40;

/**
 * Computes the tag of the notice at `ixcp` between two addresses, and leaves it in `hash`. IPv6
 * addresses are given by their aliases.
 */
export function hashIxcp(
  view: DataView,
  source: number,
  destination: number,
  ixcp: number,
  hash: SipHash,
): void {
  const message = hash.message;
  message.setUint32(0, source);
  message.setUint32(4, destination);
  for (let at = 0; at < IXCP.tag; at += 4) message.setUint32(8 + at, view.getUint32(ixcp + at));
  message.setUint16(8 + IXCP.hole, 0);
  hash.hash(TAGGED_BYTES);
}

/** Writes the tag. All fields that it covers must be written before. */
export function sealIxcp(
  view: DataView,
  source: number,
  destination: number,
  ixcp: number,
  hash: SipHash,
): void {
  hashIxcp(view, source, destination, ixcp, hash);
  view.setUint32(ixcp + IXCP.tag, hash.high);
  view.setUint32(ixcp + IXCP.tag + 4, hash.low);
}

/** Whether the notice at `ixcp` between two addresses has the right tag. */
export function verifyIxcp(
  view: DataView,
  source: number,
  destination: number,
  ixcp: number,
  hash: SipHash,
): boolean {
  hashIxcp(view, source, destination, ixcp, hash);
  return (
    view.getUint32(ixcp + IXCP.tag) === hash.high &&
    view.getUint32(ixcp + IXCP.tag + 4) === hash.low
  );
}

/** The content of a notice. In a report the fields about a connection are 0. */
export interface IxcpRepr {
  type: number;
  reason?: number;
  session?: number;
  client?: number;
  virtualAddress?: number;
  /**
   * Of a report. In ENDED: how many answers have ended. In RST with reason 8: 1 if the session came
   * back to that socket.
   */
  flags?: number;
  clientPort?: number;
  virtualPort?: number;
  sequence?: number;
  acknowledgement?: number;
}

/**
 * Writes a whole notice (header with tag) for source and destination address at `offset`. For rare
 * packets.
 */
export function emitIxcp(
  view: DataView,
  offset: number,
  source: number,
  destination: number,
  repr: IxcpRepr,
  hash: SipHash,
): void {
  view.setUint8(offset + IXCP.version, IXCP_VERSION);
  view.setUint8(offset + IXCP.type, repr.type);
  view.setUint8(offset + IXCP.length, IXCP_HEADER_BYTES);
  view.setUint8(offset + IXCP.reason, repr.reason ?? 0);
  view.setUint32(offset + IXCP.session, repr.session ?? 0);
  view.setUint32(offset + IXCP.client, repr.client ?? 0);
  view.setUint32(offset + IXCP.virtualAddress, repr.virtualAddress ?? 0);
  view.setUint16(offset + IXCP.hole, 0);
  view.setUint16(offset + IXCP.flags, repr.flags ?? 0);
  view.setUint16(offset + IXCP.clientPort, repr.clientPort ?? 0);
  view.setUint16(offset + IXCP.virtualPort, repr.virtualPort ?? 0);
  view.setUint32(offset + IXCP.sequence, repr.sequence ?? 0);
  view.setUint32(offset + IXCP.acknowledgement, repr.acknowledgement ?? 0);
  sealIxcp(view, source, destination, offset, hash);
}

/** Whether there is a whole notice of this version in `length` bytes at `offset`. No tag check. */
export function checkIxcp(view: DataView, offset: number, length: number): boolean {
  return (
    length >= IXCP_HEADER_BYTES &&
    view.getUint8(offset + IXCP.version) === IXCP_VERSION &&
    view.getUint8(offset + IXCP.length) === IXCP_HEADER_BYTES
  );
}
