/**
 * Reads pcapng files (draft-ietf-opsawg-pcapng): sections in either byte order, any number of
 * interfaces with their own link type and clock; enhanced, simple and obsolete packet blocks. Other
 * blocks and unknown options are skipped.
 *
 *     block   type  total length  body, padded to words  total length
 */
import { CaptureReader, MAX_SNAP_LENGTH } from './pcap.js';

const NANOSECONDS = 1_000_000_000;
const TWO_32 = 0x1_0000_0000;

export const BlockType = {
  interface: 1,
  packet: 2,
  simplePacket: 3,
  statistics: 5,
  enhancedPacket: 6,
  section: 0x0a0d0d0a,
} as const;

/** Byte offsets from a block's first byte. */
const BLOCK = { type: 0, totalLength: 4, body: 8 } as const;
export const BLOCK_OVERHEAD_BYTES = 12;
const SECTION = { byteOrder: 8, major: 12, minor: 14, options: 24 } as const;
const INTERFACE = { linkType: 8, snapLength: 12, options: 16 } as const;
const ENHANCED = {
  interface: 8,
  timeHigh: 12,
  timeLow: 16,
  captured: 20,
  original: 24,
  data: 28,
} as const;
/** The obsolete block has an interface index of 16 bits, followed by a drop count. */
const PACKET = ENHANCED;
const SIMPLE = { original: 8, data: 12 } as const;

export const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
export const MAJOR = 1;

const OPTION_HEADER_BYTES = 4;
const OptionCode = { end: 0, timeResolution: 9, timeOffset: 14 } as const;
const POWER_OF_TWO = 0x80;
const MICROSECONDS = 6;

/** An interface of the current section. */
interface Interface {
  linkType: number;
  /** Bytes; 0 for no limit. */
  snapLength: number;
  unitsPerSecond: number;
  /** Seconds to add to each timestamp. */
  offsetSeconds: number;
}

/**
 * Whether the file begins with a section header block. The type reads the same in both byte orders.
 */
export function isPcapng(bytes: Uint8Array): boolean {
  return (
    bytes.length >= 4 &&
    new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0) === BlockType.section
  );
}

export class PcapngReader extends CaptureReader {
  private at = 0;
  private littleEndian = true;
  private interfaces: Interface[] = [];

  override next(): boolean {
    while (this.fault === undefined && this.at < this.bytes.length) {
      const at = this.at;
      const length = this.blockLength(at);
      if (length < 0) return false;
      this.at = at + length;
      const end = this.at - 4;
      switch (this.view.getUint32(at + BLOCK.type, this.littleEndian)) {
        case BlockType.interface:
          if (!this.readInterface(at, end)) return false;
          break;
        case BlockType.enhancedPacket:
        case BlockType.packet:
          return this.readPacket(at, end);
        case BlockType.simplePacket:
          return this.readSimplePacket(at, end);
        default:
          break;
      }
    }
    return false;
  }

  /** Checks the bounds of the block at `at`. Returns its length, or -1. Begins a new section. */
  private blockLength(at: number): number {
    const left = this.bytes.length - at;
    if (left < BLOCK_OVERHEAD_BYTES) {
      this.fail(at, `a block is cut off after ${left} bytes`);
      return -1;
    }
    const isSection = this.view.getUint32(at + BLOCK.type) === BlockType.section;
    if (isSection && !this.beginSection(at, left)) return -1;
    if (at === 0 && !isSection) {
      this.fail(at, 'this is not a pcapng file');
      return -1;
    }
    const length = this.view.getUint32(at + BLOCK.totalLength, this.littleEndian);
    if (length < BLOCK_OVERHEAD_BYTES || (length & 3) !== 0) {
      this.fail(at + BLOCK.totalLength, `a block claims a length of ${length} bytes`);
      return -1;
    }
    if (length > left) {
      this.fail(at, `a block of ${length} bytes is cut off after ${left}`);
      return -1;
    }
    const trailer = this.view.getUint32(at + length - 4, this.littleEndian);
    if (trailer !== length) {
      this.fail(
        at + length - 4,
        `the two lengths of a block differ: ${length} at its start, ${trailer} at its end`,
      );
      return -1;
    }
    if (isSection && length < SECTION.options + 4) {
      this.fail(at, `a section header of ${length} bytes is too short`);
      return -1;
    }
    return length;
  }

  /** Each section has its own byte order and its own interfaces. */
  private beginSection(at: number, left: number): boolean {
    if (left < SECTION.options + 4)
      return this.fail(at, `a section header is cut off after ${left} bytes`);
    const view = this.view;
    if (view.getUint32(at + SECTION.byteOrder, true) === BYTE_ORDER_MAGIC) this.littleEndian = true;
    else if (view.getUint32(at + SECTION.byteOrder, false) === BYTE_ORDER_MAGIC)
      this.littleEndian = false;
    else return this.fail(at + SECTION.byteOrder, 'a section header has no byte-order magic');
    const major = view.getUint16(at + SECTION.major, this.littleEndian);
    const minor = view.getUint16(at + SECTION.minor, this.littleEndian);
    if (major !== MAJOR) {
      return this.fail(
        at + SECTION.major,
        `pcapng version ${major}.${minor} is not supported, expected ${MAJOR}.x`,
      );
    }
    this.interfaces = [];
    return true;
  }

  private readInterface(at: number, end: number): boolean {
    if (end < at + INTERFACE.options) return this.fail(at, 'an interface block is too short');
    const found: Interface = {
      linkType: this.view.getUint16(at + INTERFACE.linkType, this.littleEndian),
      snapLength: this.view.getUint32(at + INTERFACE.snapLength, this.littleEndian),
      unitsPerSecond: 10 ** MICROSECONDS,
      offsetSeconds: 0,
    };
    let option = at + INTERFACE.options;
    while (option + OPTION_HEADER_BYTES <= end) {
      const code = this.view.getUint16(option, this.littleEndian);
      const length = this.view.getUint16(option + 2, this.littleEndian);
      const value = option + OPTION_HEADER_BYTES;
      if (code === OptionCode.end) break;
      if (value + length > end)
        return this.fail(option, `option ${code} of ${length} bytes reaches past its block`);
      if (code === OptionCode.timeResolution && length === 1) {
        const exponent = this.view.getUint8(value);
        found.unitsPerSecond =
          exponent & POWER_OF_TWO ? 2 ** (exponent & ~POWER_OF_TWO) : 10 ** exponent;
      } else if (code === OptionCode.timeOffset && length === 8) {
        const high = this.littleEndian ? value + 4 : value;
        const low = this.littleEndian ? value : value + 4;
        found.offsetSeconds =
          this.view.getInt32(high, this.littleEndian) * TWO_32 +
          this.view.getUint32(low, this.littleEndian);
      }
      option = value + ((length + 3) & ~3);
    }
    this.interfaces.push(found);
    return true;
  }

  private readPacket(at: number, end: number): boolean {
    if (end < at + PACKET.data) return this.fail(at, 'a packet block is too short');
    const view = this.view;
    const isObsolete = view.getUint32(at + BLOCK.type, this.littleEndian) === BlockType.packet;
    const index = isObsolete
      ? view.getUint16(at + PACKET.interface, this.littleEndian)
      : view.getUint32(at + ENHANCED.interface, this.littleEndian);
    const captured = view.getUint32(at + ENHANCED.captured, this.littleEndian);
    const original = view.getUint32(at + ENHANCED.original, this.littleEndian);
    const from = this.interfaces[index];
    if (from === undefined)
      return this.fail(
        at + ENHANCED.interface,
        `a packet names interface ${index}, which has no description`,
      );
    if (!this.describe(at, end, from, at + ENHANCED.data, captured, original)) return false;
    this.readTime(
      view.getUint32(at + ENHANCED.timeHigh, this.littleEndian),
      view.getUint32(at + ENHANCED.timeLow, this.littleEndian),
      from,
    );
    return true;
  }

  /**
   * A simple packet belongs to the first interface and has no time. It gets the time of the frame
   * before it.
   */
  private readSimplePacket(at: number, end: number): boolean {
    if (end < at + SIMPLE.data) return this.fail(at, 'a packet block is too short');
    const from = this.interfaces[0];
    if (from === undefined)
      return this.fail(at, 'a packet names interface 0, which has no description');
    const original = this.view.getUint32(at + SIMPLE.original, this.littleEndian);
    const captured = from.snapLength === 0 ? original : Math.min(original, from.snapLength);
    return this.describe(at, end, from, at + SIMPLE.data, captured, original);
  }

  private describe(
    at: number,
    end: number,
    from: Interface,
    data: number,
    captured: number,
    original: number,
  ): boolean {
    if (captured > end - data) {
      return this.fail(
        at,
        `a packet claims ${captured} captured bytes, but its block has ${end - data}`,
      );
    }
    const longest = Math.max(from.snapLength, MAX_SNAP_LENGTH);
    if (captured > longest) {
      return this.fail(
        at,
        `a packet claims ${captured} captured bytes, more than the limit of ${longest}`,
      );
    }
    this.linkType = from.linkType;
    this.offset = data;
    this.capturedLength = captured;
    this.originalLength = original;
    return true;
  }

  /** Sets the time from 64 bits that count units of the interface's clock. */
  private readTime(high: number, low: number, from: Interface): void {
    const units = from.unitsPerSecond;
    let seconds = 0;
    let rest = 0;
    if (units <= 2 ** 45) {
      // Long division, one byte at a time. The remainder is below 2^45, so a double has room for
      // eight more bits.
      for (let shift = 56; shift >= 0; shift -= 8) {
        const byte = shift >= 32 ? (high >>> (shift - 32)) & 0xff : (low >>> shift) & 0xff;
        const part = rest * 256 + byte;
        const quotient = Math.floor(part / units);
        seconds = seconds * 256 + quotient;
        rest = part - quotient * units;
      }
    } else {
      // With such fine units the rounding error of a double is below a nanosecond.
      const count = high * TWO_32 + low;
      seconds = Math.floor(count / units);
      rest = count - seconds * units;
    }
    this.seconds = seconds + from.offsetSeconds;
    this.nanoseconds = nanosecondsOf(rest, units);
  }
}

/**
 * rest / units of a second, in whole nanoseconds; exact when units is a power of ten up to 10^13.
 */
function nanosecondsOf(rest: number, units: number): number {
  if (NANOSECONDS % units === 0) return rest * (NANOSECONDS / units);
  if (units % NANOSECONDS === 0) return Math.floor(rest / (units / NANOSECONDS));
  return Math.min(Math.floor((rest / units) * NANOSECONDS), NANOSECONDS - 1);
}
