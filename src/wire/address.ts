/**
 * An IP address as a value. Text becomes an address once, where it enters: in the config loader and
 * in the command line. It becomes text again only in messages, in documents of the API and in
 * calls of `ip`. The addon and packet headers use the same value.
 *
 * An IPv4 address is an unsigned 32-bit number in host byte order, an IPv6 address a bigint of 128
 * bits, each of a type of its own. Both can be copied, compared with `===`, used as keys of a Map
 * and sent to a thread. Code that just passes an `Address` on does not see which one it is. Nothing
 * makes a bigint for a packet: the engine knows IPv6 addresses by their aliases (alias.ts).
 */
import { BatonError } from '../base/errors.js';

declare const ADDRESS_4: unique symbol;
declare const ADDRESS_6: unique symbol;

/**
 * An IPv4 address. `toAddress` makes one from the field of a header; a plain number is not
 * accepted.
 */
export type Address4 = number & { readonly [ADDRESS_4]: true };
/** An IPv6 address. `toAddress6` makes one from the words of a header. */
export type Address6 = bigint & { readonly [ADDRESS_6]: true };
export type Address = Address4 | Address6;

/** The largest TCP port. */
export const MOST_PORT = 65_535;

/** The text of an IPv4 address, as far as the compiler can tell. */
export type QuadText = `${number}.${number}.${number}.${number}`;

/** An address and a TCP port. */
export interface Endpoint {
  readonly address: Address;
  readonly port: number;
}

/** The addresses of one machine on one of its links, at most one of each family. */
export interface OwnAddresses {
  readonly ipv4: Address4 | undefined;
  readonly ipv6: Address6 | undefined;
}

/** The address that a machine uses towards `peer`: one of its family. Undefined: it has none. */
export function ownTowards(own: OwnAddresses, peer: Address): Address | undefined {
  return isAddress6(peer) ? own.ipv6 : own.ipv4;
}

/** Those of a machine's own addresses that it uses towards these peers. */
export function ownInUse(own: OwnAddresses, peers: readonly Address[]): Address[] {
  const used = [own.ipv4, own.ipv6].filter((address) =>
    peers.some((peer) => ownTowards(own, peer) === address),
  );
  return used.flatMap((address) => (address === undefined ? [] : [address]));
}

/** 0.0.0.0: no address, or any. */
export const UNSPECIFIED = 0 as Address4;
/** 127.0.0.1 */
export const LOCALHOST = 0x7f00_0001 as Address4;
/**
 * Address of the node that is the balancer itself. Its notices come from there, and no machine on a
 * link has it.
 */
export const LOCAL_NODE = LOCALHOST;
/** What people write for it. */
export const LOCAL_NAME = 'local';

const ADDRESS_BYTES = 4;
const ADDRESS_BITS = 32;
export const ADDRESS_6_BYTES = 16;
const ADDRESS_6_BITS = 128;
const WORD_BITS = 32n;
const WORD_MASK = 0xffff_ffffn;
const WORDS = 4;
const GROUP_BITS = 16n;
const GROUPS = 8;
const LOOPBACK_NETWORK = 127;
const LOOPBACK_6 = 1n;

/** The address that a field of an IPv4 header holds: 32 bits, unsigned. */
export function toAddress(field: number): Address4 {
  return field as Address4;
}

/** The address that four words of an IPv6 header hold, each of 32 bits, unsigned. */
export function toAddress6(words: ArrayLike<number>, at = 0): Address6 {
  let address = 0n;
  for (let i = 0; i < WORDS; i++) address = (address << WORD_BITS) | BigInt(words[at + i]!);
  return address as Address6;
}

export function isAddress6(address: Address): address is Address6 {
  return typeof address === 'bigint';
}

/**
 * The number of an IPv4 address.
 * @throws BatonError BATON_SYSTEM for an IPv6 address: the caller has no use for one
 */
export function ipv4Number(address: Address): Address4 {
  if (isAddress6(address))
    throw new BatonError('BATON_SYSTEM', `not an IPv4 address: ${formatAddress(address)}`);
  return address;
}

/** The four words of an IPv6 address as in a header, unsigned. */
export function wordsOf(address: Address6): [number, number, number, number] {
  const word = (from: bigint): number => Number((address >> (WORD_BITS * from)) & WORD_MASK);
  return [word(3n), word(2n), word(1n), word(0n)];
}

/**
 * Parses a strict dotted quad (no leading zeros, no shorthand), or an IPv6 address in any form of
 * RFC 4291 section 2.2, without a zone; undefined for any other text.
 */
export function parseAddress(text: QuadText): Address4 | undefined;
export function parseAddress(text: string): Address | undefined;
export function parseAddress(text: string): Address | undefined {
  return text.includes(':') ? parseAddress6(text) : parseAddress4(text);
}

export function parseAddress4(text: string): Address4 | undefined {
  const parts = text.split('.');
  if (parts.length !== ADDRESS_BYTES) return undefined;
  let address = 0;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part)) return undefined;
    const byte = Number(part);
    if (byte > 255) return undefined;
    address = address * 256 + byte;
  }
  return address as Address4;
}

function parseAddress6(text: string): Address6 | undefined {
  // The last 32 bits may be written as IPv4.
  const quad = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  const low = quad === null ? undefined : parseAddress4(quad[2]!);
  const plain =
    quad === null || low === undefined
      ? text
      : `${quad[1]!}${(low >>> 16).toString(16)}:${(low & 0xffff).toString(16)}`;
  const parts = plain.split('::');
  const [before = [], after = []] = parts.map((part) => (part === '' ? [] : part.split(':')));
  // "::" stands for at least one group.
  const missing = GROUPS - before.length - after.length;
  if (parts.length > 2 || (parts.length === 2 ? missing < 1 : missing !== 0)) return undefined;
  let address = 0n;
  for (const group of [...before, ...Array<string>(missing).fill('0'), ...after]) {
    if (!/^[0-9a-f]{1,4}$/i.test(group)) return undefined;
    address = (address << GROUP_BITS) | BigInt(Number.parseInt(group, 16));
  }
  return address as Address6;
}

/**
 * The address in a text that must be one: a checked config, or the answer of a tool.
 * @throws BatonError BATON_SYSTEM when it is none
 */
export function requireAddress(text: QuadText): Address4;
export function requireAddress(text: string): Address;
export function requireAddress(text: string): Address {
  const address = parseAddress(text);
  if (address === undefined) throw new BatonError('BATON_SYSTEM', `not an IP address: ${text}`);
  return address;
}

/** "10.99.0.1", or "fd99::1" (RFC 5952). */
export function formatAddress(address: Address): string {
  if (isAddress6(address)) return formatAddress6(address);
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

function formatAddress6(address: Address6): string {
  const groups = wordsOf(address)
    .flatMap((word) => [word >>> 16, word & 0xffff])
    .map((group) => group.toString(16));
  // The longest run of two or more zeros becomes "::", the first of equal ones.
  let best = { start: 0, length: 1 };
  for (let start = 0; start < GROUPS; start++) {
    let length = 0;
    while (groups[start + length] === '0') length += 1;
    if (length > best.length) best = { start, length };
  }
  if (best.length < 2) return groups.join(':');
  const end = best.start + best.length;
  return `${groups.slice(0, best.start).join(':')}::${groups.slice(end).join(':')}`;
}

/** The address of a node in a checked config: an IP address, or "local". */
export function nodeAddress(text: string): Address {
  return text === LOCAL_NAME ? LOCAL_NODE : requireAddress(text);
}

/** The same as text. */
export function formatNodeAddress(address: Address): string {
  return address === LOCAL_NODE ? LOCAL_NAME : formatAddress(address);
}

/** "10.99.0.1:80", or "[fd99::1]:80" (RFC 3986 section 3.2.2). */
export function formatEndpoint({ address, port }: Endpoint): string {
  const text = formatAddress(address);
  return isAddress6(address) ? `[${text}]:${port}` : `${text}:${port}`;
}

/** The address as it is in a header: four or sixteen bytes, network byte order. */
export function addressBytes(address: Address): Uint8Array {
  const words = isAddress6(address) ? wordsOf(address) : [address];
  const bytes = new Uint8Array(words.length * ADDRESS_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [index, word] of words.entries()) view.setUint32(index * ADDRESS_BYTES, word);
  return bytes;
}

/** Bits of an address of this family: the prefix length of a route to it alone. */
export function addressBits(address: Address): number {
  return isAddress6(address) ? ADDRESS_6_BITS : ADDRESS_BITS;
}

/** Whether no frame on a link ever has this address (127.0.0.0/8, ::1). */
export function isLoopback(address: Address): boolean {
  return isAddress6(address) ? address === LOOPBACK_6 : address >>> 24 === LOOPBACK_NETWORK;
}

/** Whether the first `prefix` bits of both are the same, and both are of one family. */
export function sameNetwork(one: Address, other: Address, prefix: number): boolean {
  if (isAddress6(one) || isAddress6(other)) {
    if (!isAddress6(one) || !isAddress6(other)) return false;
    return (one ^ other) >> BigInt(ADDRESS_6_BITS - prefix) === 0n;
  }
  // In JavaScript a shift by 32 is a shift by 0.
  const mask = prefix === 0 ? 0 : -1 << (ADDRESS_BITS - prefix);
  return ((one ^ other) & mask) === 0;
}
