/**
 * Reads the field section of a head (RFC 9112 section 5). It checks every line, and reads the
 * fields that decide where a request goes and where it ends.
 */
import {
  CASE_BIT,
  COLON,
  COMMA,
  CR,
  FIELD_VALUE,
  HTAB,
  LF,
  NINE,
  SP,
  TOKEN,
  ZERO,
} from './tables.js';

const bytesOf = (name: string) => Uint8Array.from(name, (character) => character.charCodeAt(0));
const HOST = bytesOf('host');
const CONTENT_LENGTH = bytesOf('content-length');
const TRANSFER_ENCODING = bytesOf('transfer-encoding');
const CHUNKED = bytesOf('chunked');
const CONNECTION = bytesOf('connection');
const CLOSE = bytesOf('close');
const KEEP_ALIVE = bytesOf('keep-alive');
const UPGRADE = bytesOf('upgrade');
const EXPECT = bytesOf('expect');
const AUTHORIZATION = bytesOf('authorization');
const PROXY_AUTHORIZATION = bytesOf('proxy-authorization');
/** Authentication schemes that are valid for the connection, not for one request (RFC 4559). */
const NTLM = bytesOf('ntlm');
const NEGOTIATE = bytesOf('negotiate');

/** A number of more digits may not fit a double exactly. No body is that long. */
const MAX_LENGTH_DIGITS = 15;

/**
 * The result for one field section; the next call of `read` overwrites it. Spans are indexes in
 * `bytes`.
 */
export class Fields {
  /** The value of Host without the whitespace around it. */
  hostStart = 0;
  hostEnd = 0;
  hasHost = false;
  /** In bytes; -1: there is no Content-Length. */
  contentLength = -1;
  hasTransferEncoding = false;
  /** "chunked" is the last transfer coding, and only the last. */
  isChunked = false;
  /**
   * The fields that decide about the body are valid, but nginx or Apache refuses them: more than
   * one Content-Length, a coding before "chunked", an empty list element, a tab beside the value.
   */
  isDisputed = false;
  /** Connection has "close", also as a part of another word: nginx closes then, too. */
  closes = false;
  /** Connection has the option "keep-alive". */
  keepsAlive = false;
  hasUpgrade = false;
  hasExpect = false;
  /** A field of authentication has the scheme NTLM or Negotiate. */
  authenticatesConnection = false;

  /**
   * Reads the field lines from bytes[start] and the empty line after them. Returns the index after
   * the empty line. Returns -1 when a line is malformed, when two fields contradict each other, or
   * when the section does not end before `limit`.
   */
  read(bytes: Uint8Array, start: number, limit: number): number {
    this.hasHost = false;
    this.hostStart = this.hostEnd = start;
    this.contentLength = -1;
    this.hasTransferEncoding = false;
    this.isChunked = false;
    this.isDisputed = this.closes = this.keepsAlive = false;
    this.hasUpgrade = this.hasExpect = this.authenticatesConnection = false;

    let p = start;
    for (;;) {
      const name = p;
      while (p < limit && TOKEN[bytes[p]!] === 1) p++;
      const nameEnd = p;
      if (p + 1 >= limit) return -1;
      if (p === name) return bytes[p] === CR && bytes[p + 1] === LF ? p + 2 : -1;
      // RFC 9112 section 5.1: no whitespace between field name and colon.
      if (bytes[p] !== COLON) return -1;
      p++;
      const value = p;
      while (p < limit && FIELD_VALUE[bytes[p]!] === 1) p++;
      if (p + 1 >= limit || bytes[p] !== CR || bytes[p + 1] !== LF) return -1;
      const valueEnd = p;
      p += 2;

      switch (nameEnd - name) {
        case HOST.length:
          if (matches(bytes, name, HOST) && !this.takeHost(bytes, value, valueEnd)) return -1;
          break;
        case CONTENT_LENGTH.length:
          if (matches(bytes, name, CONTENT_LENGTH) && !this.takeLength(bytes, value, valueEnd))
            return -1;
          break;
        case TRANSFER_ENCODING.length:
          if (matches(bytes, name, TRANSFER_ENCODING) && !this.takeCodings(bytes, value, valueEnd))
            return -1;
          break;
        case CONNECTION.length:
          if (matches(bytes, name, CONNECTION)) this.takeConnection(bytes, value, valueEnd);
          break;
        case UPGRADE.length:
          if (matches(bytes, name, UPGRADE)) this.hasUpgrade = true;
          break;
        case EXPECT.length:
          if (matches(bytes, name, EXPECT)) this.hasExpect = true;
          break;
        case AUTHORIZATION.length:
          if (matches(bytes, name, AUTHORIZATION)) this.takeCredentials(bytes, value, valueEnd);
          break;
        case PROXY_AUTHORIZATION.length:
          if (matches(bytes, name, PROXY_AUTHORIZATION))
            this.takeCredentials(bytes, value, valueEnd);
          break;
      }
    }
  }

  /** RFC 9112 section 3.2: more than one Host is an error, in any version. */
  private takeHost(bytes: Uint8Array, start: number, end: number): boolean {
    if (this.hasHost) return false;
    this.hasHost = true;
    this.hostStart = skipSpace(bytes, start, end);
    this.hostEnd = dropSpace(bytes, this.hostStart, end);
    return true;
  }

  /**
   * RFC 9112 section 6.3, rule 5. A list is refused, even when all its values agree, and so is a
   * number of more than 15 digits. A second field with the same number is accepted.
   */
  private takeLength(bytes: Uint8Array, start: number, end: number): boolean {
    const first = skipSpace(bytes, start, end);
    const last = dropSpace(bytes, first, end);
    if (first === last || last - first > MAX_LENGTH_DIGITS) return false;
    let length = 0;
    for (let p = first; p < last; p++) {
      const byte = bytes[p]!;
      if (byte < ZERO || byte > NINE) return false;
      length = length * 10 + (byte - ZERO);
    }
    if (this.contentLength >= 0 && this.contentLength !== length) return false;
    if (this.contentLength >= 0 || hasTabOrComma(bytes, start, end)) this.isDisputed = true;
    this.contentLength = length;
    return true;
  }

  /**
   * The transfer codings of one field, added to those of earlier fields of this name (RFC 9112
   * section 6.1): "chunked" must be the last one and may occur once. Empty elements are ignored
   * (RFC 9110 section 5.6.1.2). Parameters are refused, since no registered coding has any.
   */
  private takeCodings(bytes: Uint8Array, start: number, end: number): boolean {
    if (this.hasTransferEncoding || hasTabOrComma(bytes, start, end)) this.isDisputed = true;
    this.hasTransferEncoding = true;
    let p = start;
    while (p < end) {
      p = skipSpace(bytes, p, end);
      const coding = p;
      while (p < end && TOKEN[bytes[p]!] === 1) p++;
      if (p > coding) {
        if (this.isChunked) return false;
        this.isChunked = p - coding === CHUNKED.length && matches(bytes, coding, CHUNKED);
      }
      p = skipSpace(bytes, p, end);
      if (p < end && bytes[p++] !== COMMA) return false;
    }
    return true;
  }

  /**
   * The options of one Connection field (RFC 9110 section 7.6.1), added to those of earlier ones.
   */
  private takeConnection(bytes: Uint8Array, start: number, end: number): void {
    let option = skipSpace(bytes, start, end);
    // Browsers send this, and nothing else.
    if (end - option === KEEP_ALIVE.length && matches(bytes, option, KEEP_ALIVE)) {
      this.keepsAlive = true;
      return;
    }
    for (let p = option; p <= end; p++) {
      const byte = p < end ? bytes[p]! : SP;
      if ((byte | CASE_BIT) === CLOSE[0]) {
        if (end - p >= CLOSE.length && matches(bytes, p, CLOSE)) this.closes = true;
        continue;
      }
      if (TOKEN[byte] === 1) continue;
      if (p - option === KEEP_ALIVE.length && matches(bytes, option, KEEP_ALIVE))
        this.keepsAlive = true;
      option = p + 1;
    }
  }

  /** The scheme of one Authorization or Proxy-Authorization field (RFC 9110 section 11.4). */
  private takeCredentials(bytes: Uint8Array, start: number, end: number): void {
    const scheme = skipSpace(bytes, start, end);
    let p = scheme;
    while (p < end && TOKEN[bytes[p]!] === 1) p++;
    const length = p - scheme;
    if (
      (length === NTLM.length && matches(bytes, scheme, NTLM)) ||
      (length === NEGOTIATE.length && matches(bytes, scheme, NEGOTIATE))
    )
      this.authenticatesConnection = true;
  }
}

/** Whether the token at bytes[start], which is as long as `name`, equals it in any case. */
function matches(bytes: Uint8Array, start: number, name: Uint8Array): boolean {
  for (let i = 0; i < name.length; i++) {
    const byte = bytes[start + i]!;
    const wanted = name[i]!;
    // "-" has the case bit already. 0x0d with the case bit becomes "-", but it is no token byte.
    if ((byte | CASE_BIT) !== wanted) return false;
  }
  return true;
}

function hasTabOrComma(bytes: Uint8Array, start: number, end: number): boolean {
  for (let p = start; p < end; p++) if (bytes[p] === HTAB || bytes[p] === COMMA) return true;
  return false;
}

function skipSpace(bytes: Uint8Array, start: number, end: number): number {
  let p = start;
  while (p < end && (bytes[p] === SP || bytes[p] === HTAB)) p++;
  return p;
}

function dropSpace(bytes: Uint8Array, start: number, end: number): number {
  let p = end;
  while (p > start && (bytes[p - 1] === SP || bytes[p - 1] === HTAB)) p--;
  return p;
}
