/**
 * Follows a request head while it arrives, in whatever pieces, and finds its end. Each byte is
 * looked at once; what must be remembered between two calls is one unsigned 32-bit number:
 *
 *      31      24 23     20 19    16 15                   0
 *     +----------+---------+--------+----------------------+
 *     |    0     | version |  part  | position             |
 *     +----------+---------+--------+----------------------+
 *       position  of the next byte to look at, from the head's start: heads are shorter than 64 KiB
 *       part      of the head in which it lies
 *       version   bytes of " HTTP/1.x" CR LF seen so far, in part `version`
 *
 * The request line is checked byte by byte, so that what never was HTTP (a TLS hello, say) is
 * refused at its first byte. Field lines are only counted off here and read by fields.ts when
 * the head is whole. The grammar is that of RFC 9112 sections 2 and 3, without its leniencies
 * (bare LF, other whitespace), but for a few empty lines before the request line.
 */
import { CR, LF, NINE, SP, TARGET, TOKEN, ZERO } from './tables.js';

/** What a scan came to. */
export const Scan = {
  /** All bytes were looked at, and more are needed: `resume` says where to go on. */
  incomplete: 0,
  /** What was looked for ends at `position`. */
  complete: 1,
  /** No continuation can make this a request head. */
  bad: 2,
} as const;
export type ScanResult = (typeof Scan)[keyof typeof Scan];

/** Longest head whose positions fit, in bytes. */
export const MAX_HEAD_BYTES = 0xffff;

const POSITION_MASK = 0xffff;
const PART_SHIFT = 16;
const PART_MASK = 0xf;
const VERSION_SHIFT = 20;
const VERSION_MASK = 0xf;

const Part = { beginning: 0, method: 1, target: 2, version: 3, fields: 4 } as const;

/** The version up to its minor digit; then DIGIT CR LF. */
const VERSION = Uint8Array.from('HTTP/1.', (character) => character.charCodeAt(0));
const VERSION_CR = VERSION.length + 1;
const VERSION_LF = VERSION.length + 2;

/** From the space before the version to the end of the request line, in bytes. */
export const LINE_TAIL_BYTES = 1 + VERSION_LF + 1;
/** Where the minor version's digit stands, counted back from the end of the request line. */
export const MINOR_FROM_LINE_END = 3;

/**
 * RFC 9112 section 2.2 wants "at least one empty line" before the request line ignored (old clients
 * send one after a POST's body). So many are: fewer than common servers take.
 */
const MOST_EMPTY_LINES = 8;
const EMPTY_LINE_BYTES = 2;
export const MOST_EMPTY_BYTES = MOST_EMPTY_LINES * EMPTY_LINE_BYTES;

/**
 * Bytes of the empty lines before the request line in a head whose request line the scanner found
 * good so far.
 */
export function leadingBytes(bytes: Uint8Array, start: number): number {
  let length = 0;
  while (bytes[start + length] === CR) length += EMPTY_LINE_BYTES;
  return length;
}

/** Whether the request line of a head scanned so far is complete. */
export function isInFields(resume: number): boolean {
  return ((resume >>> PART_SHIFT) & PART_MASK) === Part.fields;
}

export class HeadScanner {
  /** After `incomplete`: for the next call. */
  resume = 0;
  /** After `complete`: index in `bytes` just past what was looked for. */
  position = 0;

  /**
   * Scans the request line of the head that starts at bytes[start]; `limit` is the end of the bytes
   * that are there and may belong to the head. `complete` leaves `position` past its CR LF.
   */
  scanLine(bytes: Uint8Array, start: number, limit: number, resume: number): ScanResult {
    let p = start + (resume & POSITION_MASK);
    let part = (resume >>> PART_SHIFT) & PART_MASK;

    if (part === Part.beginning) {
      for (; p < limit && bytes[p] === CR; p += EMPTY_LINE_BYTES) {
        if (p - start === MOST_EMPTY_BYTES) return Scan.bad;
        if (p + 1 === limit) break;
        if (bytes[p + 1] !== LF) return Scan.bad;
      }
      if (p === limit || bytes[p] === CR) return this.suspend(Part.beginning, p - start, 0);
      part = Part.method;
    }
    if (part === Part.method) {
      while (p < limit && TOKEN[bytes[p]!] === 1) p++;
      if (p === limit) return this.suspend(part, p - start, 0);
      if (bytes[p] !== SP || p === start + leadingBytes(bytes, start)) return Scan.bad;
      p++;
      part = Part.target;
    }
    if (part === Part.target) {
      while (p < limit && TARGET[bytes[p]!] === 1) p++;
      if (p === limit) return this.suspend(part, p - start, 0);
      // The space before is still there when the target is empty.
      if (bytes[p] !== SP || bytes[p - 1] === SP) return Scan.bad;
      p++;
      part = Part.version;
    }
    let seen = (resume >>> VERSION_SHIFT) & VERSION_MASK;
    for (; p < limit; p++, seen++) {
      const byte = bytes[p]!;
      if (seen < VERSION.length) {
        if (byte !== VERSION[seen]) return Scan.bad;
      } else if (seen === VERSION.length) {
        if (byte < ZERO || byte > NINE) return Scan.bad;
      } else if (seen === VERSION_CR) {
        if (byte !== CR) return Scan.bad;
      } else {
        if (byte !== LF) return Scan.bad;
        this.position = p + 1;
        return Scan.complete;
      }
    }
    return this.suspend(part, p - start, seen);
  }

  /**
   * Scans field lines up to the empty line that ends the head. Only the line ends are checked: a LF
   * without its CR is refused. Call after scanLine, with its `position` or the `resume` of this.
   * `complete` leaves `position` past the head.
   */
  scanFields(bytes: Uint8Array, start: number, limit: number, from: number): ScanResult {
    let p = from;
    for (; p < limit; p++) {
      if (bytes[p] !== LF) continue;
      // Two bytes back are always there: a request line comes before the first field.
      if (bytes[p - 1] !== CR) return Scan.bad;
      if (bytes[p - 2] === LF) {
        this.position = p + 1;
        return Scan.complete;
      }
    }
    return this.suspend(Part.fields, p - start, 0);
  }

  /** Where scanFields goes on, given the `resume` of the last call. */
  static positionOf(start: number, resume: number): number {
    return start + (resume & POSITION_MASK);
  }

  private suspend(part: number, position: number, seen: number): ScanResult {
    this.resume = position | (part << PART_SHIFT) | (seen << VERSION_SHIFT);
    return Scan.incomplete;
  }
}
