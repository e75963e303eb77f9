/**
 * Reads uri-host [ ":" port ], the value of Host and the authority of an absolute target
 * (RFC 9110 section 7.2, RFC 3986 section 3.2).
 */
import {
  BRACKET_CLOSE,
  BRACKET_OPEN,
  CASE_BIT,
  COLON,
  DOT,
  HEX_VALUE,
  HOST_LOWER,
  NINE,
  NOT_HEX,
  PERCENT,
  ZERO,
} from './tables.js';

const LETTER_V = 0x76;
const MAX_PORT = 0xffff;
const IPV6_GROUPS = 8;

/**
 * Reads bytes[start, end) and writes the host to `into` in the form that look-ups compare: lower
 * case, without port and trailing dot. Returns its length, or -1 when it is invalid. An empty host
 * is invalid, since http URIs must have one (RFC 9110 section 4.2.1), and so is user information
 * (section 4.2.4). `into` must have room for end - start bytes.
 */
export function readHost(bytes: Uint8Array, start: number, end: number, into: Uint8Array): number {
  if (start < end && bytes[start] === BRACKET_OPEN) return readLiteral(bytes, start, end, into);
  let length = 0;
  let p = start;
  for (; p < end; p++) {
    const byte = bytes[p]!;
    const lower = HOST_LOWER[byte]!;
    if (lower !== 0) {
      into[length++] = lower;
    } else if (byte === PERCENT) {
      if (p + 2 >= end || (HEX_VALUE[bytes[p + 1]!]! | HEX_VALUE[bytes[p + 2]!]!) === NOT_HEX)
        return -1;
      into[length++] = byte;
    } else {
      break;
    }
  }
  if (length === 0 || !isPort(bytes, p, end)) return -1;
  return into[length - 1] === DOT ? length - 1 : length;
}

/**
 * Whether bytes[start, end), which follow the host, are empty or ":" and a port. The port may be
 * empty (RFC 3986 section 3.2.3).
 */
function isPort(bytes: Uint8Array, start: number, end: number): boolean {
  if (start === end) return true;
  if (bytes[start] !== COLON) return false;
  let port = 0;
  for (let p = start + 1; p < end; p++) {
    const byte = bytes[p]!;
    if (byte < ZERO || byte > NINE) return false;
    port = port * 10 + (byte - ZERO);
    if (port > MAX_PORT) return false;
  }
  return true;
}

/** IP-literal: "[" ( IPv6address / IPvFuture ) "]". The brackets remain part of the host. */
function readLiteral(bytes: Uint8Array, start: number, end: number, into: Uint8Array): number {
  let close = start + 1;
  while (close < end && bytes[close] !== BRACKET_CLOSE) close++;
  if (close === end || !isPort(bytes, close + 1, end)) return -1;
  const isFuture = (bytes[start + 1]! | CASE_BIT) === LETTER_V;
  if (!(isFuture ? isFutureAddress(bytes, start + 2, close) : isIpv6(bytes, start + 1, close)))
    return -1;
  for (let p = start; p <= close; p++) {
    const byte = bytes[p]!;
    into[p - start] = HOST_LOWER[byte] === 0 ? byte : HOST_LOWER[byte]!;
  }
  return close + 1 - start;
}

/** The rest of IPvFuture after its "v": 1*HEXDIG "." 1*( unreserved / sub-delims / ":" ). */
function isFutureAddress(bytes: Uint8Array, start: number, end: number): boolean {
  let p = start;
  while (p < end && HEX_VALUE[bytes[p]!] !== NOT_HEX) p++;
  if (p === start || p === end || bytes[p] !== DOT) return false;
  const address = ++p;
  while (p < end && (HOST_LOWER[bytes[p]!] !== 0 || bytes[p] === COLON)) p++;
  return p === end && p > address;
}

/**
 * IPv6address: eight groups. "::" replaces one or more of them, and an IPv4 address the last two.
 */
function isIpv6(bytes: Uint8Array, start: number, end: number): boolean {
  let groups = 0;
  let elided = false;
  let p = start;
  if (p + 1 < end && bytes[p] === COLON && bytes[p + 1] === COLON) {
    elided = true;
    p += 2;
  }
  while (p < end) {
    const group = p;
    while (p < end && HEX_VALUE[bytes[p]!] !== NOT_HEX) p++;
    if (p < end && bytes[p] === DOT) {
      if (!isIpv4(bytes, group, end)) return false;
      groups += 2;
      p = end;
      break;
    }
    if (p === group || p - group > 4) return false;
    groups++;
    if (p === end) break;
    if (bytes[p] !== COLON || ++p === end) return false;
    if (bytes[p] === COLON) {
      if (elided) return false;
      elided = true;
      p++;
    }
  }
  return elided ? groups < IPV6_GROUPS : groups === IPV6_GROUPS;
}

function isIpv4(bytes: Uint8Array, start: number, end: number): boolean {
  let p = start;
  for (let octets = 1; octets <= 4; octets++) {
    const first = p;
    let value = 0;
    while (p < end && p - first < 3 && bytes[p]! >= ZERO && bytes[p]! <= NINE) {
      value = value * 10 + (bytes[p]! - ZERO);
      p++;
    }
    if (p === first || value > 255 || (p - first > 1 && bytes[first] === ZERO)) return false;
    if (octets < 4 && (p === end || bytes[p++] !== DOT)) return false;
  }
  return p === end;
}
