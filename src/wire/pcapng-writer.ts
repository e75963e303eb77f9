/**
 * Writes pcapng files (draft-ietf-opsawg-pcapng): one section, little-endian, Ethernet interfaces
 * with one snap length and timestamps in nanoseconds. Readers based on libpcap need these two to be
 * the same for all interfaces.
 */
import { LinkType } from './link.js';
import { BLOCK_OVERHEAD_BYTES, BlockType, BYTE_ORDER_MAGIC, MAJOR } from './pcapng.js';

/** Codes of options. The same code has different meanings in different blocks. */
const Option = {
  end: 0,
  interfaceName: 2,
  interfaceDescription: 3,
  interfaceTimeResolution: 9,
  packetFlags: 2,
  statisticsReceived: 4,
  statisticsDropped: 5,
} as const;
const OPTION_HEADER_BYTES = 4;
const NANOSECONDS_EXPONENT = 9;

/** The direction of a frame, seen from the machine: the lowest bits of a packet's flags. */
export const PacketDirection = { inbound: 1, outbound: 2 } as const;

export interface PcapngInterface {
  name: string;
  description: string;
}

/** A frame, with the place and time at which it was seen. */
export interface PcapngFrame {
  /** Index among the interfaces. */
  interface: number;
  /** ns since 1970. */
  time: bigint;
  /** PacketDirection */
  direction: number;
  /** The captured bytes. */
  bytes: Uint8Array;
  /** Its whole length in bytes. */
  length: number;
}

/**
 * Writes a capture piece by piece. The constructor writes the description of the interfaces. Each
 * frame is one piece.
 */
export class PcapngWriter {
  private readonly write: (bytes: Uint8Array) => void;

  /**
   * @param write gets the file's bytes in order
   * @param snapLength most bytes of a frame
   */
  constructor(
    write: (bytes: Uint8Array) => void,
    interfaces: readonly PcapngInterface[],
    snapLength: number,
  ) {
    this.write = write;
    write(block(BlockType.section, words(BYTE_ORDER_MAGIC, MAJOR, 0xffff_ffff, 0xffff_ffff)));
    for (const { name, description } of interfaces) {
      write(
        block(
          BlockType.interface,
          words(LinkType.ethernet, snapLength),
          option(Option.interfaceName, text(name)),
          option(Option.interfaceDescription, text(description)),
          option(Option.interfaceTimeResolution, Uint8Array.of(NANOSECONDS_EXPONENT)),
          option(Option.end),
        ),
      );
    }
  }

  frame({ interface: index, time, direction, bytes, length }: PcapngFrame): void {
    this.write(
      block(
        BlockType.enhancedPacket,
        words(index, ...highLow(time), bytes.length, length),
        bytes,
        option(Option.packetFlags, words(direction)),
        option(Option.end),
      ),
    );
  }

  /**
   * Writes the statistics of an interface.
   * @param time of the count, ns since 1970
   * @param received frames, including dropped ones
   */
  statistics(index: number, time: bigint, received: number, dropped: number): void {
    this.write(
      block(
        BlockType.statistics,
        words(index, ...highLow(time)),
        option(Option.statisticsReceived, count(received)),
        option(Option.statisticsDropped, count(dropped)),
        option(Option.end),
      ),
    );
  }
}

/** Makes a block of these parts, each padded to whole words. */
function block(type: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + padded(part.length), BLOCK_OVERHEAD_BYTES);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, length, true);
  let at = 8;
  for (const part of parts) {
    bytes.set(part, at);
    at += padded(part.length);
  }
  view.setUint32(at, length, true);
  return bytes;
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

function option(code: number, value: Uint8Array = new Uint8Array()): Uint8Array {
  const bytes = new Uint8Array(OPTION_HEADER_BYTES + padded(value.length));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, code, true);
  view.setUint16(2, value.length, true);
  bytes.set(value, OPTION_HEADER_BYTES);
  return bytes;
}

function words(...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  const view = new DataView(bytes.buffer);
  values.forEach((value, index) => {
    view.setUint32(index * 4, value, true);
  });
  return bytes;
}

/** A timestamp is the upper half of its 64 bits, then the lower. */
function highLow(time: bigint): [number, number] {
  return [Number(time >> 32n), Number(time & 0xffff_ffffn)];
}

/** A count, unlike a timestamp, is a number of 64 bits in the byte order of the file. */
function count(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}

function padded(length: number): number {
  return (length + 3) & ~3;
}
