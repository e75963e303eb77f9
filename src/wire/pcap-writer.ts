/** Writes classic pcap files: little-endian, one link type, microseconds or nanoseconds. */
import { LinkType } from './link.js';
import {
  MAX_SNAP_LENGTH,
  PCAP_FILE,
  PCAP_FILE_HEADER_BYTES,
  PCAP_MAGIC_MICROSECONDS,
  PCAP_MAGIC_NANOSECONDS,
  PCAP_MAJOR,
  PCAP_MINOR,
  PCAP_RECORD,
  PCAP_RECORD_HEADER_BYTES,
} from './pcap.js';

export interface PcapWriterOptions {
  /** Timestamps in nanoseconds (default); else in microseconds, for readers from before 2009. */
  nanoseconds?: boolean;
  /** LINKTYPE_* of all frames; default Ethernet. */
  linkType?: number;
}

/**
 * Writes a capture piece by piece. The constructor writes the file header. Each frame is two
 * pieces, its record header and its bytes.
 */
export class PcapWriter {
  private readonly write: (bytes: Uint8Array) => void;
  private readonly record = new Uint8Array(PCAP_RECORD_HEADER_BYTES);
  private readonly view = new DataView(this.record.buffer);
  private readonly nanosecondsPerUnit: number;

  /** @param write gets the file's bytes in order; a piece is valid only until `write` returns */
  constructor(write: (bytes: Uint8Array) => void, options: PcapWriterOptions = {}) {
    const nanoseconds = options.nanoseconds ?? true;
    this.write = write;
    this.nanosecondsPerUnit = nanoseconds ? 1 : 1000;
    const header = new Uint8Array(PCAP_FILE_HEADER_BYTES);
    const view = new DataView(header.buffer);
    view.setUint32(
      PCAP_FILE.magic,
      nanoseconds ? PCAP_MAGIC_NANOSECONDS : PCAP_MAGIC_MICROSECONDS,
      true,
    );
    view.setUint16(PCAP_FILE.major, PCAP_MAJOR, true);
    view.setUint16(PCAP_FILE.minor, PCAP_MINOR, true);
    view.setUint32(PCAP_FILE.snapLength, MAX_SNAP_LENGTH, true);
    view.setUint32(PCAP_FILE.linkType, options.linkType ?? LinkType.ethernet, true);
    write(header);
  }

  /**
   * Writes the frame bytes[offset, offset + length), seen at `seconds` and `nanoseconds` since
   * 1970. A frame longer than the largest snap length is cut, and the record shows that.
   */
  frame(
    bytes: Uint8Array,
    offset: number,
    length: number,
    seconds: number,
    nanoseconds: number,
  ): void {
    const captured = Math.min(length, MAX_SNAP_LENGTH);
    this.view.setUint32(PCAP_RECORD.seconds, seconds, true);
    this.view.setUint32(
      PCAP_RECORD.fraction,
      Math.floor(nanoseconds / this.nanosecondsPerUnit),
      true,
    );
    this.view.setUint32(PCAP_RECORD.capturedLength, captured, true);
    this.view.setUint32(PCAP_RECORD.originalLength, length, true);
    this.write(this.record);
    this.write(bytes.subarray(offset, offset + captured));
  }
}

const FIRST_BYTES = 65_536;

/** A buffer that grows, for captures that are kept in memory. */
export class GrowingBytes {
  private bytes = new Uint8Array(FIRST_BYTES);
  private used = 0;

  /** Appends a copy of `piece`. */
  readonly append = (piece: Uint8Array): void => {
    const end = this.used + piece.length;
    if (end > this.bytes.length) {
      const larger = new Uint8Array(Math.max(end, this.bytes.length * 2));
      larger.set(this.bytes.subarray(0, this.used));
      this.bytes = larger;
    }
    this.bytes.set(piece, this.used);
    this.used = end;
  };

  /** The bytes so far, as a view that is valid until the next append. */
  contents(): Uint8Array {
    return this.bytes.subarray(0, this.used);
  }
}
