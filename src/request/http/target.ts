/**
 * The request target (RFC 9112 section 3.2), brought to the one form in which look-ups compare it
 * (RFC 3986 section 6.2.2): unreserved characters decoded, all that is beyond ASCII encoded, the
 * hex digits of what is encoded in capitals, dot segments removed. Slashes in a row count as one,
 * and do so before dot segments are looked at: "/a//../b" is "/b". nginx (merge_slashes) and Apache
 * (MergeSlashes, since 2.4.39) look files up like that; if Baton did not, "//a/" would lead past
 * the holders of "/a/". "%2F" and "%00" stay encoded: servers may tell them apart, so Baton does
 * too. The node gets the target as the client sent it.
 */
import {
  ASTERISK,
  BEYOND_ASCII,
  CASE_BIT,
  COLON,
  DOT,
  HEX_DIGIT,
  HEX_VALUE,
  NOT_HEX,
  PERCENT,
  QUESTION,
  SLASH,
  UNRESERVED,
} from './tables.js';

const SCHEME = Uint8Array.from('http', (character) => character.charCodeAt(0));
const LETTER_S = 0x73;

/**
 * One target at a time; every field is overwritten by the next. Spans are indexes in the `bytes`
 * read.
 */
export class Target {
  /** The normalised path stands in path[0, pathLength) and begins with "/". */
  readonly path: Uint8Array;
  pathLength = 0;
  /** The query without its "?"; empty when there is none. */
  queryStart = 0;
  queryEnd = 0;
  /** The authority of an absolute target; empty for the other forms. */
  authorityStart = 0;
  authorityEnd = 0;

  /** `capacity`: the longest target in bytes. */
  constructor(capacity: number) {
    // A target without a path has the path "/", which may be more than stands in it; a byte may be
    // encoded by three.
    this.path = new Uint8Array(capacity * 3 + 1);
  }

  /**
   * Reads the target bytes[start, end), which is not empty and holds only bytes of the TARGET
   * class. False when it has no valid form or a "%" without two hex digits. The asterisk is a
   * target of OPTIONS alone, and is looked up as "/". Authority form belongs to CONNECT, which the
   * caller refuses, so here it is invalid.
   */
  read(bytes: Uint8Array, start: number, end: number, isOptions: boolean): boolean {
    this.authorityStart = this.authorityEnd = start;
    this.queryStart = this.queryEnd = end;
    if (bytes[start] === SLASH) return this.readPath(bytes, start, end);
    if (bytes[start] === ASTERISK && end - start === 1) {
      this.rootPath();
      return isOptions;
    }
    return this.readAbsolute(bytes, start, end);
  }

  /**
   * absolute-form, with the schemes http and https: whether TLS was taken off before Baton is not
   * for the look-up to know. The authority is only delimited here; readHost checks it.
   */
  private readAbsolute(bytes: Uint8Array, start: number, end: number): boolean {
    let p = start;
    for (let i = 0; i < SCHEME.length; i++, p++) {
      if (p === end || (bytes[p]! | CASE_BIT) !== SCHEME[i]) return false;
    }
    if (p < end && (bytes[p]! | CASE_BIT) === LETTER_S) p++;
    if (p + 3 > end || bytes[p] !== COLON || bytes[p + 1] !== SLASH || bytes[p + 2] !== SLASH)
      return false;
    p += 3;
    this.authorityStart = p;
    while (p < end && bytes[p] !== SLASH && bytes[p] !== QUESTION) p++;
    this.authorityEnd = p;
    if (p === this.authorityStart) return false;
    if (p < end && bytes[p] === SLASH) return this.readPath(bytes, p, end);
    this.rootPath();
    this.takeQuery(p, end);
    return true;
  }

  private rootPath(): void {
    this.path[0] = SLASH;
    this.pathLength = 1;
  }

  /** Normalises the path that starts with the "/" at bytes[start], and reads the query after it. */
  private readPath(bytes: Uint8Array, start: number, end: number): boolean {
    const path = this.path;
    path[0] = SLASH;
    let length = 1;
    let segment = 1;
    let p = start + 1;
    for (; p < end; p++) {
      const byte = bytes[p]!;
      if (byte === SLASH) {
        const kept = this.withoutDots(segment, length);
        if (kept >= 0) length = kept;
        else if (length > segment) path[length++] = SLASH;
        segment = length;
      } else if (byte === PERCENT) {
        if (p + 2 >= end) return false;
        const high = HEX_VALUE[bytes[p + 1]!]!;
        const low = HEX_VALUE[bytes[p + 2]!]!;
        if ((high | low) === NOT_HEX) return false;
        const decoded = (high << 4) | low;
        if (UNRESERVED[decoded] === 1) path[length++] = decoded;
        else length = this.encode(decoded, length);
        p += 2;
      } else if (byte === QUESTION) {
        break;
      } else if (byte >= BEYOND_ASCII) {
        length = this.encode(byte, length);
      } else {
        path[length++] = byte;
      }
    }
    const kept = this.withoutDots(segment, length);
    this.pathLength = kept < 0 ? length : kept;
    this.takeQuery(p, end);
    return true;
  }

  /** Writes a byte percent-encoded at path[length]; returns the length after it. */
  private encode(byte: number, length: number): number {
    this.path[length] = PERCENT;
    this.path[length + 1] = HEX_DIGIT[byte >> 4]!;
    this.path[length + 2] = HEX_DIGIT[byte & 0xf]!;
    return length + 3;
  }

  /**
   * When path[segment, length) is "." or "..", the length that remains without it (and, for "..",
   * without the segment before it), which ends in "/"; otherwise -1. RFC 3986 section 5.2.4: ".."
   * at the root is dropped. What is stepped back over is gone, so the whole is linear in time.
   */
  private withoutDots(segment: number, length: number): number {
    const path = this.path;
    const size = length - segment;
    if (size === 0 || size > 2 || path[segment] !== DOT) return -1;
    if (size === 1) return segment;
    if (path[segment + 1] !== DOT) return -1;
    if (segment === 1) return 1;
    let kept = segment - 1;
    while (path[kept - 1] !== SLASH) kept--;
    return kept;
  }

  /**
   * Takes bytes[start, end), which is empty or begins with "?". Nothing is looked up by the query,
   * so it is not judged beyond its characters: browsers send a lone "%" in it as it was typed.
   */
  private takeQuery(start: number, end: number): void {
    if (start !== end) this.queryStart = start + 1;
  }
}
