/**
 * Builds the frames of tests from literal descriptions, and says how a frame differs from one.
 *
 * A description is one object with a member per header. A field that is not there means a sensible
 * default when the frame is built, and "anything" when a frame is compared with it: the same
 * literal serves both. A field that is there is written as it stands, however wrong, so that
 * malformed frames need no other tool.
 *
 * Nothing here uses the code of src/wire: a fault there would otherwise be on both sides and cancel
 * out.
 */
import type { Address4 } from '../src/wire/address.js';
import { referenceSipHash } from './siphash.js';

export interface EthernetSpec {
  source?: string;
  destination?: string;
  type?: number;
}

export interface Ipv4Spec {
  source?: string;
  destination?: string;
  version?: number;
  /** Of the header, in 32-bit words. */
  words?: number;
  tos?: number;
  totalLength?: number;
  id?: number;
  dontFragment?: boolean;
  moreFragments?: boolean;
  /** In units of 8 bytes. */
  fragmentOffset?: number;
  ttl?: number;
  protocol?: number;
  checksum?: number;
  /** Raw bytes, a multiple of 4. */
  options?: Uint8Array;
}

export interface TcpOptionsSpec {
  mss?: number;
  windowScale?: number;
  sackPermitted?: boolean;
  /** [TSval, TSecr] */
  timestamps?: readonly [number, number];
  /** Blocks of [left, right). */
  sack?: readonly (readonly [number, number])[];
  /** Instead of all others: these bytes, as they are. */
  raw?: Uint8Array;
}

export interface TcpSpec {
  sourcePort?: number;
  destinationPort?: number;
  seq?: number;
  ack?: number;
  /** Letters of 'FSRPAUEC'. */
  flags?: string;
  window?: number;
  /** Of the header, in 32-bit words. */
  words?: number;
  urgent?: number;
  checksum?: number;
  options?: TcpOptionsSpec;
}

export interface IcmpSpec {
  type?: number;
  code?: number;
  /** The four bytes after the checksum: for "fragmentation needed" the next hop's MTU. */
  rest?: number;
  checksum?: number;
  /** The quoted datagram, from its IPv4 header on. */
  quoted?: Uint8Array;
}

export interface IxpSpec {
  version?: number;
  type?: number;
  length?: number;
  service?: number;
  session?: number;
  balancer?: string;
  confirm?: number;
  mss?: number;
  flags?: number;
  /** Window shifts: high nibble the client's, low nibble the balancer's. */
  scales?: number;
  tsval?: number;
  /** In the place of tsval: of LEAVE, and with flag 32. */
  request?: number;
  tsecr?: number;
  /** Default: the right tag under the key given to `build`. */
  tag?: bigint;
}

export interface IxcpSpec {
  version?: number;
  type?: number;
  length?: number;
  reason?: number;
  session?: number;
  client?: string;
  virtualAddress?: string;
  hole?: number;
  flags?: number;
  clientPort?: number;
  virtualPort?: number;
  seq?: number;
  ack?: number;
  /** Default: the right tag under the key given to `build`. */
  tag?: bigint;
}

export interface PacketSpec {
  ethernet?: EthernetSpec;
  ip?: Ipv4Spec;
  ixp?: IxpSpec;
  ixcp?: IxcpSpec;
  tcp?: TcpSpec;
  icmp?: IcmpSpec;
  /** After the last header; a string is taken as Latin-1. */
  payload?: Uint8Array | string;
  /** After the end of the datagram, as Ethernet pads short frames. */
  trailer?: Uint8Array;
}

export const ETHERNET = 14;
export const IPV4 = 20;
export const TCP = 20;
export const ICMP = 8;
export const IXP = { length: 36, tagged: 28, protocol: 253 } as const;
export const IXCP = { length: 40, tagged: 32, protocol: 254 } as const;
export const ETHERTYPE_IPV4 = 0x0800;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_ICMP = 1;
const FLAG_LETTERS = 'FSRPAUEC';
const NO_BYTES = new Uint8Array(0);

/** Frames of a simulation name the same machines again and again. */
const addresses = new Map<string, Address4>();
const macs = new Map<string, Uint8Array>();
/** A simulated attacker invents some. */
const MOST_KNOWN = 10_000;

export function addressNumber(dotted: string): Address4 {
  const known = addresses.get(dotted);
  if (known !== undefined) return known;
  const parts = dotted.split('.').map(Number);
  const number = ((parts[0]! << 24) | (parts[1]! << 16) | (parts[2]! << 8) | parts[3]!) >>> 0;
  if (addresses.size >= MOST_KNOWN) addresses.clear();
  addresses.set(dotted, number as Address4);
  return number as Address4;
}

export function addressText(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

export function macBytes(mac: string): Uint8Array {
  const known = macs.get(mac);
  if (known !== undefined) return known.slice();
  const bytes = new Uint8Array(6);
  for (let i = 0; i < bytes.length; i++)
    bytes[i] = Number.parseInt(mac.slice(i * 3, i * 3 + 2), 16);
  if (macs.size >= MOST_KNOWN) macs.clear();
  macs.set(mac, bytes);
  return bytes.slice();
}

export function latin1(payload: Uint8Array | string | undefined): Uint8Array {
  if (payload === undefined) return NO_BYTES;
  return typeof payload === 'string' ? Uint8Array.from(Buffer.from(payload, 'latin1')) : payload;
}

export function flagBits(letters: string): number {
  let bits = 0;
  for (const letter of letters) {
    const bit = FLAG_LETTERS.indexOf(letter);
    if (bit < 0) throw new Error(`no TCP flag is called ${letter}`);
    bits |= 1 << bit;
  }
  return bits;
}

export function flagLetters(bits: number): string {
  let letters = '';
  for (let bit = 0; bit < 8; bit++) if (bits & (1 << bit)) letters += FLAG_LETTERS[bit];
  return letters;
}

/** One's complement sum of 16-bit words (RFC 1071), not folded into a checksum yet. */
export function sum16(bytes: Uint8Array, start: number, end: number, sum = 0): number {
  const even = end - ((end - start) & 1);
  for (let i = start; i < even; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!;
  if (even < end) sum += bytes[even]! << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

/** Sum of the TCP pseudo header of a frame whose IPv4 addresses stand at `ip` + 12. */
export function pseudoHeader(
  frame: Uint8Array,
  ip: number,
  protocol: number,
  length: number,
): number {
  return sum16(frame, ip + 12, ip + 20, protocol + length);
}

/** What the tag of an IXP header at `ixp` covers (bpf/lib/ixp.h). */
export function ixpTag(key: Uint8Array, frame: Uint8Array, ip: number, ixp: number): bigint {
  const tcp = ixp + IXP.length;
  const covered = new Uint8Array(48);
  covered.set(frame.subarray(ip + 12, ip + 20), 0);
  covered.set(frame.subarray(tcp, tcp + 12), 8);
  covered.set(frame.subarray(ixp, ixp + IXP.tagged), 20);
  return referenceSipHash(key, covered);
}

/** What the tag of an IXCP header at `ixcp` covers: its `hole` counts as 0. */
export function ixcpTag(key: Uint8Array, frame: Uint8Array, ip: number, ixcp: number): bigint {
  const covered = new Uint8Array(40);
  covered.set(frame.subarray(ip + 12, ip + 20), 0);
  covered.set(frame.subarray(ixcp, ixcp + IXCP.tagged), 8);
  covered.fill(0, 8 + 16, 8 + 18);
  return referenceSipHash(key, covered);
}

function optionBytes(options: TcpOptionsSpec | undefined): Uint8Array {
  if (options === undefined) return NO_BYTES;
  if (options.raw !== undefined) return options.raw;
  const bytes: number[] = [];
  const word = (value: number): void => {
    bytes.push((value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);
  };
  if (options.mss !== undefined) bytes.push(2, 4, options.mss >>> 8, options.mss & 255);
  if (options.sackPermitted) bytes.push(4, 2);
  if (options.timestamps !== undefined) {
    bytes.push(8, 10);
    word(options.timestamps[0]);
    word(options.timestamps[1]);
  }
  if (options.windowScale !== undefined) bytes.push(1, 3, 3, options.windowScale);
  if (options.sack !== undefined && options.sack.length > 0) {
    bytes.push(5, 2 + 8 * options.sack.length);
    for (const [left, right] of options.sack) {
      word(left);
      word(right);
    }
  }
  while (bytes.length % 4 !== 0) bytes.push(1);
  return Uint8Array.from(bytes);
}

function writeIxp(view: DataView, at: number, ixp: IxpSpec): void {
  view.setUint8(at, ixp.version ?? 1);
  view.setUint8(at + 1, ixp.type ?? 1);
  view.setUint8(at + 2, ixp.length ?? IXP.length);
  view.setUint8(at + 3, ixp.service ?? 0);
  view.setUint32(at + 4, ixp.session ?? 0);
  view.setUint32(at + 8, addressNumber(ixp.balancer ?? '0.0.0.0'));
  view.setUint32(at + 12, ixp.confirm ?? 0);
  view.setUint16(at + 16, ixp.mss ?? 1460);
  view.setUint8(at + 18, ixp.flags ?? 0);
  view.setUint8(at + 19, ixp.scales ?? 0);
  view.setUint32(at + 20, ixp.request ?? ixp.tsval ?? 0);
  view.setUint32(at + 24, ixp.tsecr ?? 0);
}

function writeIxcp(view: DataView, at: number, ixcp: IxcpSpec): void {
  view.setUint8(at, ixcp.version ?? 1);
  view.setUint8(at + 1, ixcp.type ?? 1);
  view.setUint8(at + 2, ixcp.length ?? IXCP.length);
  view.setUint8(at + 3, ixcp.reason ?? 0);
  view.setUint32(at + 4, ixcp.session ?? 0);
  view.setUint32(at + 8, addressNumber(ixcp.client ?? '0.0.0.0'));
  view.setUint32(at + 12, addressNumber(ixcp.virtualAddress ?? '0.0.0.0'));
  view.setUint16(at + 16, ixcp.hole ?? 0);
  view.setUint16(at + 18, ixcp.flags ?? 0);
  view.setUint16(at + 20, ixcp.clientPort ?? 0);
  view.setUint16(at + 22, ixcp.virtualPort ?? 0);
  view.setUint32(at + 24, ixcp.seq ?? 0);
  view.setUint32(at + 28, ixcp.ack ?? 0);
}

function defaultProtocol(spec: PacketSpec): number {
  if (spec.ixp !== undefined) return IXP.protocol;
  if (spec.ixcp !== undefined) return IXCP.protocol;
  if (spec.icmp !== undefined) return PROTOCOL_ICMP;
  return PROTOCOL_TCP;
}

/** The frame that `spec` describes. `key` (16 bytes) is for the tags of IXP and IXCP. */
export function build(spec: PacketSpec, key: Uint8Array = new Uint8Array(16)): Uint8Array {
  const ipOptions = spec.ip?.options ?? NO_BYTES;
  const tcpOptions = optionBytes(spec.tcp?.options);
  const payload = latin1(spec.payload);
  const quoted = spec.icmp?.quoted ?? NO_BYTES;
  const trailer = spec.trailer ?? NO_BYTES;

  const ip = ETHERNET;
  const ixpAt = ip + IPV4 + ipOptions.length;
  const ixcpAt = ixpAt + (spec.ixp === undefined ? 0 : IXP.length);
  const icmpAt = ixcpAt + (spec.ixcp === undefined ? 0 : IXCP.length);
  const tcpAt = icmpAt + (spec.icmp === undefined ? 0 : ICMP + quoted.length);
  const payloadAt = tcpAt + (spec.tcp === undefined ? 0 : TCP + tcpOptions.length);
  const end = payloadAt + payload.length;
  const frame = new Uint8Array(end + trailer.length);
  const view = new DataView(frame.buffer);

  frame.set(macBytes(spec.ethernet?.destination ?? '02:00:00:00:00:02'), 0);
  frame.set(macBytes(spec.ethernet?.source ?? '02:00:00:00:00:01'), 6);
  view.setUint16(12, spec.ethernet?.type ?? ETHERTYPE_IPV4);

  const i = spec.ip ?? {};
  frame[ip] = ((i.version ?? 4) << 4) | (i.words ?? (IPV4 + ipOptions.length) / 4);
  frame[ip + 1] = i.tos ?? 0;
  view.setUint16(ip + 2, i.totalLength ?? end - ip);
  view.setUint16(ip + 4, i.id ?? 0);
  view.setUint16(
    ip + 6,
    ((i.dontFragment ?? true) ? 0x4000 : 0) |
      (i.moreFragments ? 0x2000 : 0) |
      (i.fragmentOffset ?? 0),
  );
  frame[ip + 8] = i.ttl ?? 64;
  frame[ip + 9] = i.protocol ?? defaultProtocol(spec);
  view.setUint32(ip + 12, addressNumber(i.source ?? '0.0.0.0'));
  view.setUint32(ip + 16, addressNumber(i.destination ?? '0.0.0.0'));
  frame.set(ipOptions, ip + IPV4);
  view.setUint16(ip + 10, i.checksum ?? ~sum16(frame, ip, ixpAt) & 0xffff);

  frame.set(payload, payloadAt);
  frame.set(trailer, end);
  if (spec.tcp !== undefined) {
    const t = spec.tcp;
    view.setUint16(tcpAt, t.sourcePort ?? 0);
    view.setUint16(tcpAt + 2, t.destinationPort ?? 0);
    view.setUint32(tcpAt + 4, t.seq ?? 0);
    view.setUint32(tcpAt + 8, t.ack ?? 0);
    frame[tcpAt + 12] = (t.words ?? (TCP + tcpOptions.length) / 4) << 4;
    frame[tcpAt + 13] = flagBits(t.flags ?? 'A');
    view.setUint16(tcpAt + 14, t.window ?? 65_535);
    view.setUint16(tcpAt + 18, t.urgent ?? 0);
    frame.set(tcpOptions, tcpAt + TCP);
    const sum = sum16(frame, tcpAt, end, pseudoHeader(frame, ip, PROTOCOL_TCP, end - tcpAt));
    view.setUint16(tcpAt + 16, t.checksum ?? ~sum & 0xffff);
  }
  if (spec.icmp !== undefined) {
    frame[icmpAt] = spec.icmp.type ?? 3;
    frame[icmpAt + 1] = spec.icmp.code ?? 4;
    view.setUint32(icmpAt + 4, spec.icmp.rest ?? 0);
    frame.set(quoted, icmpAt + ICMP);
    view.setUint16(icmpAt + 2, spec.icmp.checksum ?? ~sum16(frame, icmpAt, end) & 0xffff);
  }
  if (spec.ixp !== undefined) {
    writeIxp(view, ixpAt, spec.ixp);
    const tag = spec.ixp.tag ?? (spec.tcp === undefined ? 0n : ixpTag(key, frame, ip, ixpAt));
    view.setBigUint64(ixpAt + IXP.tagged, tag);
  }
  if (spec.ixcp !== undefined) {
    writeIxcp(view, ixcpAt, spec.ixcp);
    view.setBigUint64(ixcpAt + IXCP.tagged, spec.ixcp.tag ?? ixcpTag(key, frame, ip, ixcpAt));
  }
  return frame;
}
