/**
 * Follows the requests of one client through its stream (RFC 9112 sections 6, 7 and 9), so that it
 * is known where the next head begins. It reads what the client sends and never sees an answer.
 *
 *     head, as head.ts read it ──begin──> where the body ends ──advance, for the bytes that come
 *                                                               after the head──> the next head
 *
 * Two numbers are the whole state of a stream, so that an engine keeps them in typed arrays. Set
 * both before a call and store both after it:
 *
 *     state   31          20 19           4 3    0
 *            +--------------+--------------+------+
 *            |      0       | count        | part |   an unsigned 32-bit number
 *            +--------------+--------------+------+
 *              part    of the message at the next byte: see Part. 0: a head begins here.
 *              count   digits of a chunk size, or bytes of an extension or of trailers, so far
 *     left    bytes of the body, or of a chunk, that come next and need not be read. A double: a
 *             body has up to 10^15 bytes. While a chunk size is read: its value so far.
 *
 * The follower is strict. What RFC 9112 forbids, what nginx and Apache read in different ways, and
 * what exceeds a limit below pins the connection: the stream is not followed from there on, and its
 * node, which has the connection, decides what it means. A pin is no error of the client.
 * test/fixtures/request-framing.txt has the cases; nginx and Apache are asked about each of them.
 */
import type { HeadReader } from './head.js';
import { isUsualMethod } from './method.js';
import {
  ASTERISK,
  COLON,
  CR,
  FIELD_VALUE,
  HEX_VALUE,
  LF,
  NOT_HEX,
  SEMICOLON,
  TOKEN,
} from './tables.js';

/** Results of `advance`. */
export const Follow = {
  /** All bytes belong to the body, and more of it must come. */
  body: 0,
  /** The request ends at `position`, and a head begins there. `state` and `left` are 0. */
  ended: 1,
  /** The stream cannot be followed any more. `state` is PINNED. */
  pinned: 2,
} as const;
export type FollowResult = (typeof Follow)[keyof typeof Follow];

/** Why a connection stays with its node from a request on. The numbers are those of counters. */
export const Pin = {
  /** It is not pinned. */
  none: 0,
  /** The client wants no further request (Connection: close, or HTTP/1.0 without keep-alive). */
  last: 1,
  /** The connection may become another protocol (RFC 9110 section 7.8). */
  upgrade: 2,
  /** CONNECT: what follows is a tunnel (RFC 9110 section 9.3.6). */
  connect: 3,
  /** Expect: the client waits for an interim answer before its body (RFC 9110 section 10.1.1). */
  expect: 4,
  /** NTLM or Negotiate: the connection is authenticated, not the request (RFC 4559 section 6). */
  authentication: 5,
  /** Servers do not agree where the body ends, or it is malformed. */
  body: 6,
  /** A head after the first one is malformed or too large. */
  head: 7,
  /** A method, or the target "*", that some servers refuse by closing the connection. */
  method: 8,
} as const;
export type PinReason = (typeof Pin)[keyof typeof Pin];

/** `state` where a head begins. */
export const AT_HEAD = 0;
/** `state` of a stream that is not followed. */
export const PINNED = 15;

/** Digits of a chunk size, leading zeros included: a chunk has up to 2^48 - 1 bytes. */
export const MOST_SIZE_DIGITS = 12;
/** Bytes of the extensions of one chunk. A signature of 64 hex digits with its name fits. */
export const MOST_EXTENSION_BYTES = 256;
/** Bytes of the trailer section, without the empty line at its end. */
export const MOST_TRAILER_BYTES = 4096;

/** The part of a message to which the next byte belongs. */
const Part = {
  head: AT_HEAD,
  /** A body with Content-Length, of which `left` bytes are missing. */
  length: 1,
  /** The digits of a chunk size. */
  size: 2,
  /** After the ";" behind a chunk size. */
  extension: 3,
  /** The LF of the line with the chunk size. */
  sizeLf: 4,
  /** A chunk, of which `left` bytes are missing. */
  data: 5,
  /** The CR, and the LF, after a chunk. */
  dataCr: 6,
  dataLf: 7,
  /** The beginning of a trailer field, or of the empty line at the end. */
  trailer: 8,
  /** A trailer field: its name and colon, its value, the LF at its end. */
  trailerName: 9,
  trailerValue: 10,
  trailerLf: 11,
  /** The last LF of the message. */
  endLf: 12,
  pinned: PINNED,
} as const;

const PART_MASK = 0xf;
const COUNT_SHIFT = 4;
const HEX_RADIX = 16;

export class RequestFollower {
  state: number = AT_HEAD;
  left = 0;
  /** After `ended`: the index in `bytes` at which the next head begins. */
  position = 0;

  /**
   * Begins with the body of a request. `head` has just read its complete head, which starts at
   * bytes[start]. Sets `state` and `left`; `state` is AT_HEAD when there is no body. Returns why
   * the connection stays with its node from this request on; `state` is PINNED then.
   */
  begin(head: HeadReader, bytes: Uint8Array, start: number): PinReason {
    const fields = head.fields;
    const pin = pinOf(head, bytes, start);
    this.left = 0;
    if (pin !== Pin.none) this.state = PINNED;
    else if (fields.isChunked) this.state = Part.size;
    else if (fields.contentLength > 0) {
      this.state = Part.length;
      this.left = fields.contentLength;
    } else this.state = AT_HEAD;
    return pin;
  }

  /**
   * Reads body bytes, bytes[start, end), which follow those of the last call. It stops where the
   * body ends. A call with `state` AT_HEAD reads nothing and returns `ended`.
   */
  advance(bytes: Uint8Array, start: number, end: number): FollowResult {
    let part = this.state & PART_MASK;
    let count = this.state >>> COUNT_SHIFT;
    let p = start;
    while (p < end) {
      const byte = bytes[p]!;
      switch (part) {
        case Part.length:
        case Part.data: {
          const present = Math.min(this.left, end - p);
          p += present;
          this.left -= present;
          if (this.left > 0) break;
          if (part === Part.length) return this.end(p);
          part = Part.dataCr;
          break;
        }
        case Part.size: {
          const digit = HEX_VALUE[byte]!;
          if (digit !== NOT_HEX) {
            if (++count > MOST_SIZE_DIGITS) return this.pin();
            this.left = this.left * HEX_RADIX + digit;
          } else {
            if (count === 0) return this.pin();
            count = 0;
            if (byte === CR) part = Part.sizeLf;
            else if (byte === SEMICOLON) part = Part.extension;
            else return this.pin();
          }
          p++;
          break;
        }
        case Part.extension:
          if (byte === CR) part = Part.sizeLf;
          else if (FIELD_VALUE[byte] !== 1 || ++count > MOST_EXTENSION_BYTES) return this.pin();
          p++;
          break;
        case Part.sizeLf:
          if (byte !== LF) return this.pin();
          part = this.left > 0 ? Part.data : Part.trailer;
          count = 0;
          p++;
          break;
        case Part.dataCr:
          if (byte !== CR) return this.pin();
          part = Part.dataLf;
          p++;
          break;
        case Part.dataLf:
          if (byte !== LF) return this.pin();
          part = Part.size;
          p++;
          break;
        case Part.trailer:
          if (byte === CR) part = Part.endLf;
          else if (TOKEN[byte] !== 1 || ++count > MOST_TRAILER_BYTES) return this.pin();
          else part = Part.trailerName;
          p++;
          break;
        case Part.trailerName:
          if (byte === COLON) part = Part.trailerValue;
          else if (TOKEN[byte] !== 1) return this.pin();
          if (++count > MOST_TRAILER_BYTES) return this.pin();
          p++;
          break;
        case Part.trailerValue:
          if (byte === CR) part = Part.trailerLf;
          else if (FIELD_VALUE[byte] !== 1) return this.pin();
          if (++count > MOST_TRAILER_BYTES) return this.pin();
          p++;
          break;
        case Part.trailerLf:
          if (byte !== LF || ++count > MOST_TRAILER_BYTES) return this.pin();
          part = Part.trailer;
          p++;
          break;
        case Part.endLf:
          return byte === LF ? this.end(p + 1) : this.pin();
        case Part.head:
          return this.end(p);
        default:
          return this.pin();
      }
    }
    this.state = part | (count << COUNT_SHIFT);
    if (part === Part.pinned) return Follow.pinned;
    if (part === Part.head) return this.end(p);
    return Follow.body;
  }

  /**
   * Bytes that may pass unread from here on: the rest of a body with Content-Length, or of a chunk.
   * Who knows that n of them have passed, n at most this, calls `skip`.
   */
  get unread(): number {
    const part = this.state & PART_MASK;
    return part === Part.length || part === Part.data ? this.left : 0;
  }

  /** n bytes have passed: 0 <= n <= `unread`. Returns `ended` when the request ends with them. */
  skip(n: number): FollowResult {
    const part = this.state & PART_MASK;
    if (part === Part.pinned) return Follow.pinned;
    this.left -= n;
    if (this.left > 0) return Follow.body;
    if (part === Part.length) this.state = AT_HEAD;
    else if (part === Part.data) this.state = Part.dataCr;
    return this.state === AT_HEAD ? Follow.ended : Follow.body;
  }

  private end(position: number): FollowResult {
    this.position = position;
    this.state = AT_HEAD;
    this.left = 0;
    return Follow.ended;
  }

  private pin(): FollowResult {
    this.state = PINNED;
    this.left = 0;
    return Follow.pinned;
  }
}

/** Why the connection of a request stays with its node. Parameters as those of `begin`. */
function pinOf(head: HeadReader, bytes: Uint8Array, start: number): PinReason {
  const fields = head.fields;
  if (fields.hasUpgrade) return Pin.upgrade;
  if (fields.hasExpect) return Pin.expect;
  if (fields.authenticatesConnection) return Pin.authentication;
  if (
    bytes[start + head.targetStart] === ASTERISK ||
    !isUsualMethod(bytes, start + head.methodStart, start + head.methodEnd)
  )
    return Pin.method;
  // RFC 9112 section 9.3: HTTP/1.0 persists only on request.
  if (fields.closes || (head.minorVersion === 0 && !fields.keepsAlive)) return Pin.last;
  if (fields.isDisputed) return Pin.body;
  return Pin.none;
}

/** Why the connection is pinned after `head` has refused a head that is not the first. */
export function pinOfRefused(head: HeadReader): PinReason {
  return head.isConnect ? Pin.connect : Pin.head;
}
