/**
 * An IP address as a value. Text becomes an address once, where it enters: in the config loader and
 * in the command line. It becomes text again only in messages, in documents of the API and in
 * calls of `ip`. The addon and packet headers use the same value.
 *
 * Today an address is IPv4: an unsigned 32-bit number in host byte order, of a type of its own. A
 * number costs nothing to copy, compare or send to a thread. With IPv6 the representation changes
 * only in this module, in the codecs and in the layouts of BPF maps. Code that just passes an
 * `Address` on stays as it is.
 */
import { BatonError } from '../base/errors.js';

declare const ADDRESS: unique symbol;

/**
 * An IPv4 address. `toAddress` makes one from the field of a header; a plain number is not
 * accepted.
 */
export type Address = number & { readonly [ADDRESS]: true };

/** The largest TCP port. */
export const MOST_PORT = 65_535;

/** An address and a TCP port. */
export interface Endpoint {
  readonly address: Address;
  readonly port: number;
}

/** 0.0.0.0: no address, or any. */
export const UNSPECIFIED = 0 as Address;
/** 127.0.0.1 */
export const LOCALHOST = 0x7f00_0001 as Address;

const ADDRESS_BYTES = 4;
const ADDRESS_BITS = 32;
const LOOPBACK_NETWORK = 127;

/** The address that a field of a header holds: 32 bits, unsigned. */
export function toAddress(field: number): Address {
  return field as Address;
}

/** Parses a strict dotted quad (no leading zeros, no shorthand); undefined for any other text. */
export function parseAddress(text: string): Address | undefined {
  const parts = text.split('.');
  if (parts.length !== ADDRESS_BYTES) return undefined;
  let address = 0;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part)) return undefined;
    const byte = Number(part);
    if (byte > 255) return undefined;
    address = address * 256 + byte;
  }
  return address as Address;
}

/**
 * The address in a text that must be one: a checked config, or the answer of a tool.
 * @throws BatonError BATON_SYSTEM when it is none
 */
export function requireAddress(text: string): Address {
  const address = parseAddress(text);
  if (address === undefined) throw new BatonError('BATON_SYSTEM', `not an IPv4 address: ${text}`);
  return address;
}

/** "10.99.0.1" */
export function formatAddress(address: Address): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** "10.99.0.1:80" */
export function formatEndpoint({ address, port }: Endpoint): string {
  return `${formatAddress(address)}:${port}`;
}

/** The address as it is in a header and in keys of BPF maps: four bytes, network byte order. */
export function addressBytes(address: Address): Uint8Array {
  const bytes = new Uint8Array(ADDRESS_BYTES);
  new DataView(bytes.buffer).setUint32(0, address);
  return bytes;
}

/** Whether no frame on a link ever has this address (127.0.0.0/8). */
export function isLoopback(address: Address): boolean {
  return address >>> 24 === LOOPBACK_NETWORK;
}

/** Whether the first `prefix` bits of both are the same. */
export function sameNetwork(one: Address, other: Address, prefix: number): boolean {
  // In JavaScript a shift by 32 is a shift by 0.
  const mask = prefix === 0 ? 0 : -1 << (ADDRESS_BITS - prefix);
  return ((one ^ other) & mask) === 0;
}
