/**
 * Reads a request head as it grows, strictly by RFC 9112. The result is one reused object of spans
 * and scratch buffers: no strings, and no allocation per request.
 *
 *     bytes so far ──scan.ts──> whole request line ──target.ts, host.ts──> its parts
 *                      │
 *                      └──────> whole head ──fields.ts──> Host and the length fields ──> complete
 *
 * A head that arrives in one piece is read in one pass. A head in several pieces is scanned as it
 * arrives, and read once more when it is complete. So each byte is examined a bounded number of
 * times. Both ways give the same result, since only the code that reads complete lines judges them.
 */
import { BatonError } from '../../base/errors.js';
import { Fields } from './fields.js';
import { readHost } from './host.js';
import {
  HeadScanner,
  isInFields,
  LINE_TAIL_BYTES,
  leadingBytes,
  MAX_HEAD_BYTES,
  MINOR_FROM_LINE_END,
  Scan,
} from './scan.js';
import { LF, SP, ZERO } from './tables.js';
import { Target } from './target.js';

/** Results of `read`. Values from 400 up are the HTTP status of the answer. */
export const HeadStatus = {
  incomplete: 0,
  complete: 1,
  badRequest: 400,
  tooLarge: 431,
} as const;
export type HeadStatusCode = (typeof HeadStatus)[keyof typeof HeadStatus];

const bytesOf = (name: string) => Uint8Array.from(name, (character) => character.charCodeAt(0));
const OPTIONS = bytesOf('OPTIONS');
const CONNECT = bytesOf('CONNECT');

/**
 * The result for one head; the next call of `read` overwrites it. Positions count from the head's
 * start.
 */
export class HeadReader {
  /** Size limit of a head in bytes, including the empty line that ends it. */
  readonly headBytes: number;
  /** After `incomplete`: `resume` for the next call. An unsigned 32-bit number. */
  resume = 0;

  /** After `complete`, and after a refusal whose request line was valid; otherwise all are 0. */
  methodStart = 0;
  methodEnd = 0;
  targetStart = 0;
  targetEnd = 0;
  /** The x of HTTP/1.x. */
  minorVersion = 0;
  /** After the refusal of a valid request line: the method is CONNECT. */
  isConnect = false;

  /** After `complete`: where the body begins. */
  headEnd = 0;
  /**
   * After `complete`: the host in host[0, hostLength), in lower case, without port and trailing
   * dot. hostLength 0: the request names no host.
   */
  readonly host: Uint8Array;
  hostLength = 0;
  /** After `complete`: the query without its "?". It is empty when there is no query. */
  queryStart = 0;
  queryEnd = 0;
  /**
   * After `complete`: the path as it was sent, without the query. It is empty when an absolute
   * target has none. pathEnd is below pathStart when the target is the asterisk.
   */
  pathStart = 0;
  pathEnd = 0;

  private readonly scanner = new HeadScanner();
  private readonly target: Target;
  /** After `complete`: what the fields say about the body and the connection. */
  readonly fields = new Fields();

  /** @throws BatonError BATON_CONFIG when `headBytes` is not within 1 to 65,535 */
  constructor(headBytes: number) {
    if (!Number.isInteger(headBytes) || headBytes < 1 || headBytes > MAX_HEAD_BYTES) {
      throw new BatonError(
        'BATON_CONFIG',
        `the size limit of a request head cannot be ${headBytes} bytes`,
        {
          hint: `1 to ${MAX_HEAD_BYTES}`,
        },
      );
    }
    this.headBytes = headBytes;
    this.host = new Uint8Array(headBytes);
    this.target = new Target(headBytes);
  }

  /** After `complete`: the normalised path in path[0, pathLength). */
  get path(): Uint8Array {
    return this.target.path;
  }

  get pathLength(): number {
    return this.target.pathLength;
  }

  /** After `complete`: Content-Length in bytes; -1: there is none. */
  get contentLength(): number {
    return this.fields.contentLength;
  }

  /** After `complete`: the body is chunked. */
  get isChunked(): boolean {
    return this.fields.isChunked;
  }

  /**
   * Reads the head that starts at bytes[start], as far as it has arrived: up to `end`. Bytes after
   * the head are ignored. `resume` is 0 at the first call, then `this.resume` of the last call for
   * the same head. The bytes may have moved in memory between the calls.
   */
  read(bytes: Uint8Array, start: number, end: number, resume: number): HeadStatusCode {
    const limit = end - start > this.headBytes ? start + this.headBytes : end;
    const scanner = this.scanner;
    let from = HeadScanner.positionOf(start, resume);
    let isFresh = false;

    this.methodStart = this.methodEnd = this.targetStart = this.targetEnd = 0;
    this.isConnect = false;
    if (!isInFields(resume)) {
      const line = scanner.scanLine(bytes, start, limit, resume);
      if (line === Scan.incomplete) return this.suspend(limit - start);
      if (line === Scan.bad || !this.readLine(bytes, start, scanner.position))
        return HeadStatus.badRequest;
      isFresh = true;
      from = scanner.position;
      const headEnd = this.fields.read(bytes, from, limit);
      if (headEnd >= 0) return this.conclude(bytes, start, headEnd);
    }
    // Either the head is incomplete, or it is complete and malformed. The scan decides which.
    const section = scanner.scanFields(bytes, start, limit, from);
    const status =
      section === Scan.incomplete ? this.suspend(limit - start) : HeadStatus.badRequest;
    if (isFresh || status === HeadStatus.incomplete) return status;

    // The head came in pieces, so the request line must be read again: for the look-up, or after a
    // refusal for display.
    const lineEnd = this.rereadLine(bytes, start);
    if (lineEnd < 0 || section !== Scan.complete) return status;
    const headEnd = this.fields.read(bytes, lineEnd, scanner.position);
    return headEnd < 0 ? HeadStatus.badRequest : this.conclude(bytes, start, headEnd);
  }

  /**
   * Reads a complete request line again. Returns the index after it, or -1 when it is invalid.
   */
  private rereadLine(bytes: Uint8Array, start: number): number {
    let lineEnd = start + leadingBytes(bytes, start);
    while (bytes[lineEnd] !== LF) lineEnd++;
    lineEnd++;
    return this.readLine(bytes, start, lineEnd) ? lineEnd : -1;
  }

  private suspend(present: number): HeadStatusCode {
    if (present >= this.headBytes) return HeadStatus.tooLarge;
    this.resume = this.scanner.resume;
    return HeadStatus.incomplete;
  }

  /**
   * Reads the parts of a request line that ends at index `lineEnd` and whose bytes the scanner has
   * accepted.
   */
  private readLine(bytes: Uint8Array, start: number, lineEnd: number): boolean {
    const method = start + leadingBytes(bytes, start);
    let methodEnd = method;
    while (bytes[methodEnd] !== SP) methodEnd++;
    const target = methodEnd + 1;
    const targetEnd = lineEnd - LINE_TAIL_BYTES;
    this.methodStart = method - start;
    this.methodEnd = methodEnd - start;
    this.targetStart = target - start;
    this.targetEnd = targetEnd - start;
    this.minorVersion = bytes[lineEnd - MINOR_FROM_LINE_END]! - ZERO;

    const mayBeSpecial = methodEnd - method === OPTIONS.length;
    this.isConnect = mayBeSpecial && equals(bytes, method, CONNECT);
    if (this.isConnect) return false;
    const isOptions = mayBeSpecial && equals(bytes, method, OPTIONS);
    if (!this.target.read(bytes, target, targetEnd, isOptions)) return false;
    this.queryStart = this.target.queryStart - start;
    this.queryEnd = this.target.queryEnd - start;
    this.pathStart = this.target.pathStart - start;
    this.pathEnd = this.target.pathEnd - start;
    return (
      !this.hasAuthority() ||
      this.takeHost(bytes, this.target.authorityStart, this.target.authorityEnd)
    );
  }

  private hasAuthority(): boolean {
    return this.target.authorityEnd > this.target.authorityStart;
  }

  private takeHost(bytes: Uint8Array, start: number, end: number): boolean {
    const length = readHost(bytes, start, end, this.host);
    this.hostLength = Math.max(length, 0);
    return length >= 0;
  }

  /** Checks the rules between request line and fields, once both were read. */
  private conclude(bytes: Uint8Array, start: number, headEnd: number): HeadStatusCode {
    const fields = this.fields;
    if (fields.hasHost) {
      if (!this.takeHost(bytes, fields.hostStart, fields.hostEnd)) return HeadStatus.badRequest;
    } else {
      // RFC 9112 section 3.2: HTTP/1.1 requires Host, even with an absolute target.
      if (this.minorVersion > 0) return HeadStatus.badRequest;
      this.hostLength = 0;
    }
    // RFC 9112 section 3.2.2: the authority of an absolute target replaces Host.
    if (this.hasAuthority())
      this.takeHost(bytes, this.target.authorityStart, this.target.authorityEnd);

    // RFC 9112 sections 6.1 and 6.3: two recipients could find different ends of such a request.
    if (
      fields.hasTransferEncoding &&
      (!fields.isChunked || fields.contentLength >= 0 || this.minorVersion === 0)
    ) {
      return HeadStatus.badRequest;
    }
    this.headEnd = headEnd - start;
    return HeadStatus.complete;
  }
}

function equals(bytes: Uint8Array, start: number, name: Uint8Array): boolean {
  for (let i = 0; i < name.length; i++) {
    if (bytes[start + i] !== name[i]) return false;
  }
  return true;
}
