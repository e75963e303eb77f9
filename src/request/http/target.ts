/**
 * Reads a request target (RFC 9112 section 3.2) and brings its path to normal form, the one form
 * that look-ups compare (RFC 3986 section 6.2.2):
 *
 *   - Unreserved characters are decoded, bytes beyond ASCII are encoded, and the hex digits of
 *     encoded bytes are capitals.
 *   - Consecutive slashes become one. Then dot segments are removed: "/a//../b" is "/b". nginx
 *     (merge_slashes) and Apache (MergeSlashes, since 2.4.39) find files in this way. If Baton did
 *     not, "//a/" would not find the holders of "/a/".
 *   - "%2F" and "%00" remain encoded. Servers may distinguish them from the plain bytes, so Baton
 *     does, too.
 *
 * The node gets the target as the client sent it, unless the resource says otherwise
 * (directory/rewrite.ts).
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
 * The result for one target; the next call of `read` overwrites it. Spans are indexes in `bytes`.
 */
export class Target {
  /** The normalised path is path[0, pathLength) and begins with "/". */
  readonly path: Uint8Array;
  pathLength = 0;
  /**
   * The path as it was sent. It is empty when an absolute target has none, and ends before it
   * begins when the target is the asterisk, which is no path.
   */
  pathStart = 0;
  pathEnd = 0;
  /** The query without its "?". It is empty when there is no query. */
  queryStart = 0;
  queryEnd = 0;
  /** The authority of an absolute target. It is empty for the other forms. */
  authorityStart = 0;
  authorityEnd = 0;

  /** `capacity`: the longest target in bytes. */
  constructor(capacity: number) {
    // Three bytes for each, since a byte may become a percent-encoding. One more, since a target
    // without a path gets the path "/".
    this.path = new Uint8Array(capacity * 3 + 1);
  }

  /**
   * Reads the target bytes[start, end), which is not empty and has only bytes of the TARGET class.
   * False when it has no valid form or a "%" without two hex digits. The asterisk is a target of
   * OPTIONS only, and its path is "/". Authority form is invalid here: it is the form of CONNECT,
   * which the caller refuses.
   */
  read(bytes: Uint8Array, start: number, end: number, isOptions: boolean): boolean {
    this.authorityStart = this.authorityEnd = start;
    this.queryStart = this.queryEnd = end;
    if (bytes[start] === SLASH) return this.readPath(bytes, start, end);
    if (bytes[start] === ASTERISK && end - start === 1) {
      this.rootPath(start);
      this.pathEnd = start - 1;
      return isOptions;
    }
    return this.readAbsolute(bytes, start, end);
  }

  /**
   * Reads absolute-form with the scheme http or https: the look-up does not depend on whether a
   * TLS proxy is in front of Baton. The authority is only delimited here; readHost checks it.
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
    this.rootPath(p);
    this.takeQuery(p, end);
    return true;
  }

  /** @param at where the path would be */
  private rootPath(at: number): void {
    this.pathStart = this.pathEnd = at;
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
    this.pathStart = start;
    this.pathEnd = p;
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
   * Removes the segment path[segment, length) when it is "." or "..", and for ".." also the segment
   * before it. Returns the length that remains, at which the path ends in "/"; -1: it is another
   * segment. RFC 3986 section 5.2.4: ".." at the root is removed, too. A byte that is stepped back
   * over is gone, so the time is linear in the length.
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
   * Takes the query bytes[start, end), which is empty or begins with "?". The look-up does not use
   * the query, so its escapes are not checked: browsers send a single "%" in it as it was typed.
   */
  private takeQuery(start: number, end: number): void {
    if (start !== end) this.queryStart = start + 1;
  }
}
