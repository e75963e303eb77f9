/**
 * Builds IPv6 frames of tests from literal descriptions, as packet.ts does for IPv4. Nothing here
 * uses the codecs of src/wire.
 */
import { isIPv6 } from 'node:net';
import { build, type PacketSpec, sum16, type TcpSpec } from './packet.js';

export interface Packet6Spec {
  ethernet?: PacketSpec['ethernet'];
  source: string;
  destination: string;
  version?: number;
  /** Default: the right one. */
  payloadLength?: number;
  /** Default: that of `tcp` or `icmp`, or of `extension`. */
  nextHeader?: number;
  hopLimit?: number;
  /** An extension header of 8 bytes of this type stands before TCP. */
  extension?: number;
  tcp?: TcpSpec;
  /** ICMPv6: type, code, the four bytes behind the checksum, and the rest. */
  icmp?: { type: number; code?: number; rest?: number; quoted?: Uint8Array };
  /** In place of both: the bytes behind the IPv6 header. */
  raw?: Uint8Array;
  payload?: Uint8Array | string;
  trailer?: Uint8Array;
}

const ETHERNET = 14;
const IPV4 = 20;
const IPV6 = 40;
const ETHERTYPE_IPV6 = 0x86dd;
const TCP = 6;
const ICMPV6 = 58;
const EXTENSION_BYTES = 8;

/** The 16 bytes of an address, parsed by the URL parser of Node.js and not by ours. */
export function bytes6(text: string): Uint8Array {
  if (!isIPv6(text)) throw new Error(`${text} is not an IPv6 address`);
  const usual = new URL(`http://[${text}]/`).hostname.slice(1, -1);
  const [head = '', tail] = usual.split('::');
  const groups = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const all = [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
  return Uint8Array.from(all.flatMap((group) => [group >>> 8, group & 255]));
}

/** The frame that `spec` describes. */
export function build6(spec: Packet6Spec): Uint8Array {
  const { ethernet = {}, tcp, icmp, payload, raw } = spec;
  // The Ethernet header, the TCP header and the payload are those of the same IPv4 packet.
  const model = build({
    ethernet: { type: ETHERTYPE_IPV6, ...ethernet },
    ...(tcp === undefined ? {} : { tcp }),
    ...(payload === undefined ? {} : { payload }),
  });
  const quoted = icmp?.quoted ?? new Uint8Array(0);
  const body = raw ?? (icmp === undefined ? model.slice(ETHERNET + IPV4) : icmpBytes(icmp, quoted));
  const protocol = icmp === undefined ? TCP : ICMPV6;
  const extra = spec.extension === undefined ? 0 : EXTENSION_BYTES;
  const trailer = spec.trailer ?? new Uint8Array(0);
  const length = extra + body.length;
  const frame = new Uint8Array(ETHERNET + IPV6 + length + trailer.length);
  const view = new DataView(frame.buffer);
  frame.set(model.subarray(0, ETHERNET));
  view.setUint32(ETHERNET, (spec.version ?? 6) << 28);
  view.setUint16(ETHERNET + 4, spec.payloadLength ?? length);
  frame[ETHERNET + 6] = spec.nextHeader ?? spec.extension ?? protocol;
  frame[ETHERNET + 7] = spec.hopLimit ?? 64;
  frame.set(bytes6(spec.source), ETHERNET + 8);
  frame.set(bytes6(spec.destination), ETHERNET + 24);
  const at = ETHERNET + IPV6 + extra;
  if (extra > 0) frame[ETHERNET + IPV6] = protocol;
  frame.set(body, at);
  frame.set(trailer, at + body.length);
  const field = at + (icmp === undefined ? 16 : 2);
  if (raw === undefined && tcp?.checksum === undefined) {
    view.setUint16(field, 0);
    const pseudo = sum16(frame, ETHERNET + 8, ETHERNET + IPV6, protocol + body.length);
    view.setUint16(field, ~sum16(frame, at, at + body.length, pseudo) & 0xffff);
  }
  return frame;
}

function icmpBytes(
  { type, code = 0, rest = 0 }: NonNullable<Packet6Spec['icmp']>,
  quoted: Uint8Array,
): Uint8Array {
  const bytes = new Uint8Array(8 + quoted.length);
  bytes[0] = type;
  bytes[1] = code;
  new DataView(bytes.buffer).setUint32(4, rest);
  bytes.set(quoted, 8);
  return bytes;
}
