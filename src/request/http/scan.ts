/**
 * Scans a request head while it arrives in pieces of any size, and finds its end. Each byte is
 * examined once. The state between two calls is one unsigned 32-bit number:
 *
 *      31      24 23     20 19    16 15                   0
 *     +----------+---------+--------+----------------------+
 *     |    0     | version |  part  | position             |
 *     +----------+---------+--------+----------------------+
 *       position  of the next byte to scan, from the head's start: heads are shorter than 64 KiB
 *       part      of the head at this position
 *       version   bytes of "HTTP/1.x" CR LF seen so far, in part `version`
 *
 * The request line is checked byte by byte, so that another protocol (a TLS ClientHello, for
 * example) is refused at its first byte. Of field lines, only the ends are checked here; fields.ts
 * reads them when the head is complete. The grammar is that of RFC 9112 sections 2 and 3. Its
 * leniencies (bare LF, other whitespace) are not allowed, except a few empty lines before the
 * request line.
 */
import { CR, LF, NINE, SP, TARGET, TOKEN, ZERO } from './tables.js';

/** Results of a scan. */
export const Scan = {
  /** All bytes were scanned, and more are needed. `resume` says where to continue. */
  incomplete: 0,
  /** The request line, or the head, ends at `position`. */
  complete: 1,
  /** This cannot become a valid request head, whatever follows. */
  bad: 2,
} as const;
export type ScanResult = (typeof Scan)[keyof typeof Scan];

/** Size of the longest head whose positions fit, in bytes. */
export const MAX_HEAD_BYTES = 0xffff;

const POSITION_MASK = 0xffff;
const PART_SHIFT = 16;
const PART_MASK = 0xf;
const VERSION_SHIFT = 20;
const VERSION_MASK = 0xf;

const Part = { beginning: 0, method: 1, target: 2, version: 3, fields: 4 } as const;

/** The version before its minor digit. DIGIT CR LF follow. */
const VERSION = Uint8Array.from('HTTP/1.', (character) => character.charCodeAt(0));
const VERSION_CR = VERSION.length + 1;
const VERSION_LF = VERSION.length + 2;

/** Length from the space before the version to the end of the request line, in bytes. */
export const LINE_TAIL_BYTES = 1 + VERSION_LF + 1;
/** Distance of the minor version's digit from the end of the request line, in bytes. */
export const MINOR_FROM_LINE_END = 3;

/**
 * How many empty lines before the request line are ignored. RFC 9112 section 2.2 asks for "at least
 * one", since old clients send one after the body of a POST. Common servers accept more than this.
 */
const MOST_EMPTY_LINES = 8;
const EMPTY_LINE_BYTES = 2;
export const MOST_EMPTY_BYTES = MOST_EMPTY_LINES * EMPTY_LINE_BYTES;

/**
 * Bytes of the empty lines before the request line. The scanner must have accepted the request line
 * so far.
 */
export function leadingBytes(bytes: Uint8Array, start: number): number {
  let length = 0;
  while (bytes[start + length] === CR) length += EMPTY_LINE_BYTES;
  return length;
}

/** Whether the request line is complete in a head whose scan ended with this `resume`. */
export function isInFields(resume: number): boolean {
  return ((resume >>> PART_SHIFT) & PART_MASK) === Part.fields;
}

export class HeadScanner {
  /** After `incomplete`: `resume` for the next call. */
  resume = 0;
  /** After `complete`: the index in `bytes` after the request line, or after the head. */
  position = 0;

  /**
   * Scans the request line of the head that starts at bytes[start]. `limit` is the end of the bytes
   * that have arrived and may belong to the head. After `complete`, `position` is after the CR LF.
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
      // A space directly before this one means that the target is empty.
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
   * Scans field lines up to the empty line that ends the head. Only line ends are checked: LF
   * without CR is refused. `from` is the `position` of scanLine, or positionOf the last `resume`.
   * After `complete`, `position` is after the head.
   */
  scanFields(bytes: Uint8Array, start: number, limit: number, from: number): ScanResult {
    let p = from;
    for (; p < limit; p++) {
      if (bytes[p] !== LF) continue;
      // Two earlier bytes exist, since the request line comes before the first field.
      if (bytes[p - 1] !== CR) return Scan.bad;
      if (bytes[p - 2] === LF) {
        this.position = p + 1;
        return Scan.complete;
      }
    }
    return this.suspend(Part.fields, p - start, 0);
  }

  /** Where scanFields continues, given the `resume` of the last call. */
  static positionOf(start: number, resume: number): number {
    return start + (resume & POSITION_MASK);
  }

  private suspend(part: number, position: number, seen: number): ScanResult {
    this.resume = position | (part << PART_SHIFT) | (seen << VERSION_SHIFT);
    return Scan.incomplete;
  }
}
