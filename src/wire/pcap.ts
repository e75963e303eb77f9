/**
 * Reads capture files: the interface of all formats (`CaptureReader`), and the classic pcap format
 * (draft-ietf-opsawg-pcap) in both byte orders and both resolutions. Frames are not copied: a
 * reader gives the place of each frame in the file's bytes.
 *
 *     file header   magic  major minor  zone  accuracy  snap length  link type     24 bytes
 *     record        seconds  fraction  captured length  original length             16 bytes
 *                   frame, `captured length` bytes
 */

const NANOSECONDS = 1_000_000_000;

/** The place where a file is damaged. Frames before that place are valid. */
export interface CaptureFault {
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly message: string;
}

/**
 * Reads a capture file frame by frame. When `next` returns true, the fields describe one frame.
 * When it returns false, there are no more frames, and `fault` says whether the file is damaged. A
 * damaged file is a result, not an exception.
 */
export abstract class CaptureReader {
  readonly bytes: Uint8Array;
  /** LINKTYPE_* of the frame (wire/link.ts). */
  linkType = 0;
  /** When it was captured, since 1970: whole seconds, and nanoseconds below a second. */
  seconds = 0;
  nanoseconds = 0;
  /** The place of the frame in `bytes`. */
  offset = 0;
  /** Bytes in the file, and bytes that the frame had on the wire. */
  capturedLength = 0;
  originalLength = 0;
  fault: CaptureFault | undefined = undefined;
  protected readonly view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /**
   * Ms since 1970. A double keeps a quarter of a microsecond there; `seconds` and `nanoseconds` are
   * exact.
   */
  get timestamp(): number {
    return this.seconds * 1000 + this.nanoseconds / 1e6;
  }

  /** Goes to the next frame; false at the end or at damage. */
  abstract next(): boolean;

  /** Ends reading at `offset`. */
  protected fail(offset: number, message: string): false {
    this.fault = { offset, message };
    return false;
  }
}

/** Byte offsets of the file header's fields. */
export const PCAP_FILE = {
  magic: 0,
  major: 4,
  minor: 6,
  snapLength: 16,
  linkType: 20,
} as const;
export const PCAP_FILE_HEADER_BYTES = 24;

/** Byte offsets of a record's fields. */
export const PCAP_RECORD = {
  seconds: 0,
  fraction: 4,
  capturedLength: 8,
  originalLength: 12,
} as const;
export const PCAP_RECORD_HEADER_BYTES = 16;

export const PCAP_MAGIC_MICROSECONDS = 0xa1b2c3d4;
export const PCAP_MAGIC_NANOSECONDS = 0xa1b23c4d;
export const PCAP_MAJOR = 2;
export const PCAP_MINOR = 4;
/**
 * Up to version 2.2 the two lengths of a record are in reverse order. Writers of 2.3 did not agree.
 */
const MINOR_LENGTHS_IN_ORDER = 4;
const MINOR_LENGTHS_UNCLEAR = 3;

/** The largest snap length of libpcap: no frame of a network device is longer. */
export const MAX_SNAP_LENGTH = 262_144;

/** Whether the file begins with the magic number of classic pcap, in either byte order. */
export function isPcap(bytes: Uint8Array): boolean {
  return byteOrder(bytes) !== undefined;
}

/** True for little-endian, undefined when the magic number is not one of pcap. */
function byteOrder(bytes: Uint8Array): boolean | undefined {
  if (bytes.length < 4) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, 4);
  for (const littleEndian of [true, false]) {
    const magic = view.getUint32(0, littleEndian);
    if (magic === PCAP_MAGIC_MICROSECONDS || magic === PCAP_MAGIC_NANOSECONDS) return littleEndian;
  }
  return undefined;
}

export class PcapReader extends CaptureReader {
  private at = 0;
  private littleEndian = true;
  private nanosecondsPerUnit = 1000;
  private minor = PCAP_MINOR;
  private longestFrame = MAX_SNAP_LENGTH;
  private started = false;

  override next(): boolean {
    if (this.fault !== undefined) return false;
    if (!this.started && !this.start()) return false;
    const at = this.at;
    const left = this.bytes.length - at;
    if (left === 0) return false;
    if (left < PCAP_RECORD_HEADER_BYTES)
      return this.fail(at, `a record header is cut off after ${left} bytes`);
    const view = this.view;
    const seconds = view.getUint32(at + PCAP_RECORD.seconds, this.littleEndian);
    const fraction = view.getUint32(at + PCAP_RECORD.fraction, this.littleEndian);
    let captured = view.getUint32(at + PCAP_RECORD.capturedLength, this.littleEndian);
    let original = view.getUint32(at + PCAP_RECORD.originalLength, this.littleEndian);
    if (
      this.minor < MINOR_LENGTHS_UNCLEAR ||
      (this.minor < MINOR_LENGTHS_IN_ORDER && captured > original)
    ) {
      const swap = captured;
      captured = original;
      original = swap;
    }
    if (captured > this.longestFrame) {
      return this.fail(
        at,
        `a record claims ${captured} captured bytes, more than the file's limit of ${this.longestFrame}`,
      );
    }
    if (captured > left - PCAP_RECORD_HEADER_BYTES) {
      return this.fail(
        at,
        `a frame of ${captured} bytes is cut off after ${left - PCAP_RECORD_HEADER_BYTES}`,
      );
    }
    // Some writers use fractions of more than a second.
    const nanoseconds = fraction * this.nanosecondsPerUnit;
    this.seconds = seconds + Math.floor(nanoseconds / NANOSECONDS);
    this.nanoseconds = nanoseconds % NANOSECONDS;
    this.offset = at + PCAP_RECORD_HEADER_BYTES;
    this.capturedLength = captured;
    this.originalLength = original;
    this.at = this.offset + captured;
    return true;
  }

  private start(): boolean {
    this.started = true;
    const littleEndian = byteOrder(this.bytes);
    if (littleEndian === undefined) return this.fail(PCAP_FILE.magic, 'this is not a pcap file');
    if (this.bytes.length < PCAP_FILE_HEADER_BYTES) {
      return this.fail(0, `the file header is cut off after ${this.bytes.length} bytes`);
    }
    const view = this.view;
    const major = view.getUint16(PCAP_FILE.major, littleEndian);
    this.minor = view.getUint16(PCAP_FILE.minor, littleEndian);
    if (major !== PCAP_MAJOR) {
      return this.fail(
        PCAP_FILE.major,
        `pcap version ${major}.${this.minor} is not supported, expected ${PCAP_MAJOR}.x`,
      );
    }
    this.littleEndian = littleEndian;
    if (view.getUint32(PCAP_FILE.magic, littleEndian) === PCAP_MAGIC_NANOSECONDS)
      this.nanosecondsPerUnit = 1;
    this.longestFrame = Math.max(
      view.getUint32(PCAP_FILE.snapLength, littleEndian),
      MAX_SNAP_LENGTH,
    );
    // The upper half describes the frame check sequence, which follows the packet and can be
    // ignored.
    this.linkType = view.getUint32(PCAP_FILE.linkType, littleEndian) & 0xffff;
    this.at = PCAP_FILE_HEADER_BYTES;
    return true;
  }
}
