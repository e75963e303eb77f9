/**
 * The engine's part of a capture: copies of frames, as records of wire/tap-record.ts, in a ring of
 * shared memory. An engine thread writes and the main thread reads. The writer never waits: it
 * counts and leaves out frames that do not fit.
 *
 *     memory  [ written | read | lost | - ][ data: a power of two bytes ]
 *
 * `written` and `read` are positions that only grow, modulo 2^32. A record is contiguous: one that
 * does not fit before the end of the data begins at the start, and a record of kind FILL takes the
 * rest.
 */
import { DESCRIPTOR_WORDS } from '../host/native.js';
import { ETHERNET_HEADER_BYTES } from '../wire/ethernet.js';
import { IPV4, IPV4_HEADER_BYTES, Protocol } from '../wire/ipv4.js';
import { IXCP } from '../wire/ixcp.js';
import { IXP_HEADER_BYTES } from '../wire/ixp.js';
import {
  TAP_RECORD,
  TAP_RECORD_BYTES,
  TapKind,
  tapRecordBytes,
  writeTapRecord,
} from '../wire/tap-record.js';

const WRITTEN = 0;
const READ = 1;
const LOST = 2;
const HEAD_BYTES = 16;
/** The kind of a record that only fills the rest of the data. */
const FILL = 254;
/** ICMP errors, like IXCP and IXP, carry the client's address at another place than TCP does. */
const ICMP_HEADER_BYTES = 8;

/** Which frames a capture asks for, and how much of each. */
export interface TapWish {
  /** Address of the client; undefined: all clients. */
  client?: number | undefined;
  /** Its port; undefined: all of its ports. */
  clientPort?: number | undefined;
  /** Most bytes of a frame. */
  snapLength: number;
  /** Also the frames that the datapath receives, where no XDP program shows them. */
  received: boolean;
}

/** Memory for a ring with `dataBytes` of data, a power of two. */
export function tapMemory(dataBytes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(HEAD_BYTES + dataBytes);
}

/** The engine thread's end. */
export class FrameTap {
  private readonly wish: TapWish;
  private readonly head: Int32Array;
  private readonly data: Uint8Array;
  private readonly view: DataView;

  constructor(memory: SharedArrayBuffer, wish: TapWish) {
    this.wish = wish;
    this.head = new Int32Array(memory, 0, HEAD_BYTES / 4);
    this.data = new Uint8Array(memory, HEAD_BYTES);
    this.view = new DataView(memory, HEAD_BYTES);
  }

  /** Frames that the datapath received: `count` descriptors of `from`. */
  received(from: Uint8Array, descriptors: Uint32Array, count: number): void {
    if (this.wish.received) this.all(TapKind.received, from, descriptors, count);
  }

  /** Frames that the datapath is about to send. */
  sent(from: Uint8Array, descriptors: Uint32Array, count: number): void {
    this.all(TapKind.engine, from, descriptors, count);
  }

  /** A frame that came in by an inlet: a notice, or a frame that the XDP program has passed on. */
  admitted(isNotice: boolean, from: Uint8Array, offset: number, length: number): void {
    if (isNotice) this.frame(TapKind.notice, from, offset, length);
    else if (this.wish.received) this.frame(TapKind.received, from, offset, length);
  }

  /** A frame of this kind. */
  frame(kind: number, from: Uint8Array, offset: number, length: number): void {
    if (this.isWanted(from, offset, length))
      this.put(kind, from, offset, length, process.hrtime.bigint());
  }

  private all(kind: number, from: Uint8Array, descriptors: Uint32Array, count: number): void {
    if (count === 0) return;
    const time = process.hrtime.bigint();
    for (let at = 0; at < count * DESCRIPTOR_WORDS; at += DESCRIPTOR_WORDS) {
      const offset = descriptors[at]!;
      const length = descriptors[at + 1]!;
      if (this.isWanted(from, offset, length)) this.put(kind, from, offset, length, time);
    }
  }

  /**
   * Whether the frame belongs to the requested client, or is about one of its connections:
   * is_of_client of bpf/xdp/xdp-tap.h.
   */
  private isWanted(from: Uint8Array, offset: number, length: number): boolean {
    const { client } = this.wish;
    if (client === undefined) return true;
    if (length < ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES) return false;
    const view = new DataView(from.buffer, from.byteOffset + offset, length);
    let ip = ETHERNET_HEADER_BYTES;
    // A client can only be named by an IPv4 address.
    if (view.getUint8(ip) >>> 4 !== 4) return false;
    let next = ip + (view.getUint8(ip) & 0x0f) * 4;
    const protocol = view.getUint8(ip + IPV4.protocol);
    if (protocol === Protocol.ixcp) {
      return this.isEndpoint(view, next + IXCP.client, next + IXCP.clientPort);
    }
    if (protocol === Protocol.icmp) {
      ip = next + ICMP_HEADER_BYTES;
      next = ip + IPV4_HEADER_BYTES;
    } else if (protocol === Protocol.ixp) {
      next += IXP_HEADER_BYTES;
    }
    return (
      this.isEndpoint(view, ip + IPV4.source, next) ||
      this.isEndpoint(view, ip + IPV4.destination, next + 2)
    );
  }

  private isEndpoint(view: DataView, address: number, port: number): boolean {
    const { client, clientPort } = this.wish;
    if (address + 4 > view.byteLength || port + 2 > view.byteLength) return false;
    return (
      view.getUint32(address) === client &&
      (clientPort === undefined || view.getUint16(port) === clientPort)
    );
  }

  private put(kind: number, from: Uint8Array, offset: number, length: number, time: bigint): void {
    const { head, data, view } = this;
    const captured = Math.min(length, this.wish.snapLength);
    const bytes = tapRecordBytes(captured);
    const written = head[WRITTEN]!;
    let at = (written >>> 0) & (data.length - 1);
    const rest = data.length - at;
    const needed = bytes <= rest ? bytes : rest + bytes;
    const used = (written - Atomics.load(head, READ)) >>> 0;
    if (needed > data.length - used) {
      Atomics.add(head, LOST, 1);
      return;
    }
    if (bytes > rest) {
      if (rest >= TAP_RECORD_BYTES)
        writeTapRecord(view, at, { time: 0n, kind: FILL, length: 0 }, 0);
      at = 0;
    }
    writeTapRecord(view, at, { time, kind, length }, captured);
    data.set(from.subarray(offset, offset + captured), at + TAP_RECORD_BYTES);
    Atomics.store(head, WRITTEN, (written + needed) | 0);
  }
}

/** The main thread's end. */
export class FrameTapReader {
  private readonly head: Int32Array;
  private readonly data: Uint8Array;
  private readonly view: DataView;
  private reportedLost = 0;

  constructor(memory: SharedArrayBuffer) {
    this.head = new Int32Array(memory, 0, HEAD_BYTES / 4);
    this.data = new Uint8Array(memory, HEAD_BYTES);
    this.view = new DataView(memory, HEAD_BYTES);
  }

  /**
   * Returns a copy of all records. If frames were lost since the last call, a record with their
   * number follows.
   */
  take(): Uint8Array {
    const { head, data, view } = this;
    const parts: Uint8Array[] = [];
    const written = Atomics.load(head, WRITTEN);
    let read = head[READ]!;
    while (read !== written) {
      const at = (read >>> 0) & (data.length - 1);
      const rest = data.length - at;
      if (rest < TAP_RECORD_BYTES || view.getUint8(at + TAP_RECORD.kind) === FILL) {
        read = (read + rest) | 0;
        continue;
      }
      const bytes = tapRecordBytes(view.getUint32(at + TAP_RECORD.captured, true));
      parts.push(data.slice(at, at + bytes));
      read = (read + bytes) | 0;
    }
    Atomics.store(head, READ, read);
    const lost = (Atomics.load(head, LOST) - this.reportedLost) | 0;
    if (lost > 0) {
      this.reportedLost = (this.reportedLost + lost) | 0;
      parts.push(lostRecord(lost));
    }
    return Buffer.concat(parts);
  }
}

/** Makes a record that says how many frames were left out. */
export function lostRecord(lost: number): Uint8Array {
  const bytes = new Uint8Array(TAP_RECORD_BYTES);
  writeTapRecord(new DataView(bytes.buffer), 0, { time: 0n, kind: TapKind.lost, length: lost }, 0);
  return bytes;
}
