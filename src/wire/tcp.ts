/**
 * TCP headers (RFC 9293 section 3.1) and the options agreed in a handshake (RFC 7323, RFC 2018).
 */
import { finish, pseudoHeaderSum, sumBytes } from './checksum.js';
import { Protocol } from './ipv4.js';

/** Byte offsets of the header's fields, from its first byte. */
export const TCP = {
  sourcePort: 0,
  destinationPort: 2,
  sequence: 4,
  acknowledgement: 8,
  offsetAndFlags: 12,
  flags: 13,
  window: 14,
  checksum: 16,
  urgent: 18,
  options: 20,
} as const;

/** Of a header without options. */
export const TCP_HEADER_BYTES = 20;

export const TcpFlag = {
  fin: 0x01,
  syn: 0x02,
  rst: 0x04,
  psh: 0x08,
  ack: 0x10,
  urg: 0x20,
} as const;

const OptionKind = {
  end: 0,
  noOperation: 1,
  mss: 2,
  windowScale: 3,
  sackPermitted: 4,
  sack: 5,
  timestamps: 8,
} as const;
const MAX_WINDOW_SHIFT = 14; // RFC 7323 section 2.3
const DEFAULT_MSS = 536; // RFC 9293 section 3.7.1

/** Header length in bytes from the data offset field, without a check. */
export function tcpHeaderBytes(view: DataView, offset: number): number {
  return (view.getUint8(offset + TCP.offsetAndFlags) >>> 4) << 2;
}

/**
 * The options of one segment. One instance is reused for all parsed segments. Unknown options are
 * skipped. For a malformed list `parse` returns false.
 */
export class TcpOptions {
  mss = DEFAULT_MSS;
  /** Window shift count, or -1 when not offered. */
  windowScale = -1;
  sackPermitted = false;
  /** Where the blocks of SACK begin and end in the view (RFC 2018 section 3); equal: none. */
  sackStart = 0;
  sackEnd = 0;
  hasTimestamps = false;
  tsval = 0;
  tsecr = 0;

  /**
   * Reads view[start, end). The lengths of options must fit exactly (RFC 9293 section 3.1, MUST-7).
   * @param mss of a client that names none
   */
  parse(view: DataView, start: number, end: number, mss = DEFAULT_MSS): boolean {
    this.mss = mss;
    this.windowScale = -1;
    this.sackPermitted = false;
    this.sackStart = 0;
    this.sackEnd = 0;
    this.hasTimestamps = false;
    this.tsval = 0;
    this.tsecr = 0;
    let at = start;
    while (at < end) {
      const kind = view.getUint8(at);
      if (kind === OptionKind.end) return true;
      if (kind === OptionKind.noOperation) {
        at += 1;
        continue;
      }
      if (at + 2 > end) return false;
      const length = view.getUint8(at + 1);
      if (length < 2 || at + length > end) return false;
      if (kind === OptionKind.mss && length === 4) this.mss = view.getUint16(at + 2);
      else if (kind === OptionKind.windowScale && length === 3) {
        this.windowScale = Math.min(view.getUint8(at + 2), MAX_WINDOW_SHIFT);
      } else if (kind === OptionKind.sackPermitted && length === 2) this.sackPermitted = true;
      else if (kind === OptionKind.sack && (length - 2) % SACK_BLOCK_BYTES === 0) {
        this.sackStart = at + 2;
        this.sackEnd = at + length;
      } else if (kind === OptionKind.timestamps && length === 10) {
        this.hasTimestamps = true;
        this.tsval = view.getUint32(at + 2);
        this.tsecr = view.getUint32(at + 6);
      }
      at += length;
    }
    return true;
  }
}

/** A block of SACK: its left and right edge. */
export const SACK_BLOCK_BYTES = 8;

/** Bytes of the timestamps option with the padding before it. */
export const TIMESTAMPS_BYTES = 12;

/** Writes NOP NOP timestamps at `offset`. */
export function writeTimestamps(
  view: DataView,
  offset: number,
  tsval: number,
  tsecr: number,
): number {
  view.setUint32(offset, 0x0101080a);
  view.setUint32(offset + 4, tsval);
  view.setUint32(offset + 8, tsecr);
  return offset + TIMESTAMPS_BYTES;
}

/**
 * Writes the options of a SYN or SYN/ACK, padded to words, and returns their end. `windowScale` is
 * -1 without window scaling.
 */
export function writeSynOptions(
  view: DataView,
  offset: number,
  mss: number,
  windowScale: number,
  sackPermitted: boolean,
  hasTimestamps: boolean,
  tsval: number,
  tsecr: number,
): number {
  view.setUint32(offset, 0x02040000 | mss);
  let at = offset + 4;
  if (hasTimestamps) {
    view.setUint32(at, sackPermitted ? 0x0402080a : 0x0101080a);
    view.setUint32(at + 4, tsval);
    view.setUint32(at + 8, tsecr);
    at += 12;
  } else if (sackPermitted) {
    view.setUint32(at, 0x01010402);
    at += 4;
  }
  if (windowScale >= 0) {
    view.setUint32(at, 0x01030300 | windowScale);
    at += 4;
  }
  return at;
}

/** Writes the fixed header. The checksum stays 0 for `finishTcpChecksum`. */
export function writeTcp(
  view: DataView,
  offset: number,
  sourcePort: number,
  destinationPort: number,
  sequence: number,
  acknowledgement: number,
  headerBytes: number,
  flags: number,
  window: number,
): void {
  view.setUint16(offset, sourcePort);
  view.setUint16(offset + TCP.destinationPort, destinationPort);
  view.setUint32(offset + TCP.sequence, sequence);
  view.setUint32(offset + TCP.acknowledgement, acknowledgement);
  view.setUint16(offset + TCP.offsetAndFlags, (headerBytes << 10) | flags);
  view.setUint16(offset + TCP.window, window);
  view.setUint32(offset + TCP.checksum, 0);
}

/** Computes and writes the checksum of the segment view[offset, offset + length). */
export function finishTcpChecksum(
  view: DataView,
  offset: number,
  length: number,
  source: number,
  destination: number,
): void {
  view.setUint16(offset + TCP.checksum, 0);
  const sum = sumBytes(
    view,
    offset,
    length,
    pseudoHeaderSum(source, destination, Protocol.tcp, length),
  );
  view.setUint16(offset + TCP.checksum, finish(sum));
}

/** Whether the segment view[offset, offset + length) has the right checksum. */
export function verifyTcpChecksum(
  view: DataView,
  offset: number,
  length: number,
  source: number,
  destination: number,
): boolean {
  return (
    finish(
      sumBytes(view, offset, length, pseudoHeaderSum(source, destination, Protocol.tcp, length)),
    ) === 0
  );
}
