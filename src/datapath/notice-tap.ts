/**
 * Notices that do not come in by the datapath's own ring: a small packet ring takes them, and hands them to the engine
 * beside the datapath. Those of this machine's own shim, about the sessions of the local services, are turned
 * round at the egress hook, behind the XDP program of a driver, which does not see them. Those of nodes may come
 * in by another interface (node-port.ts).
 */
import { DESCRIPTOR_WORDS, type Native, type PacketRing, type PacketRingOptions } from '../base/native.js';
import { ETHERNET_HEADER_BYTES } from '../wire/ethernet.js';
import { IPV4, Protocol } from '../wire/ipv4.js';
import type { FrameSink } from './datapath.js';

/** Sizes of a tap's ring. */
export type TapSizes = Pick<
  PacketRingOptions,
  'receiveBlocks' | 'receiveBlockBytes' | 'transmitSlots' | 'transmitSlotBytes'
>;

/**
 * 1 MiB, for a few notices of 74 bytes for each request that a local service answers. A block with any frame in it is
 * handed over after RETIRE_MS: there are enough of them for a quarter of a second without the engine. Nothing is sent,
 * by the fewest slots that a ring takes.
 */
const SMALL: TapSizes = {
  receiveBlocks: 128,
  receiveBlockBytes: 8_192,
  transmitSlots: 32,
  transmitSlotBytes: 2_048,
};
const RETIRE_MS = 2;
const FRAMES = 64;
/** Times that so many are taken in one poll: whoever floods must not keep the engine from its clients. */
const ROUNDS = 32;
const PROTOCOL = ETHERNET_HEADER_BYTES + IPV4.protocol;

/** The interface; the guard's socket filter, loaded; and how notices are shared with other engines. */
export type TapOptions = Pick<PacketRingOptions, 'interfaceIndex' | 'filterProgramFd' | 'fanout'>;

/** A datapath that takes in frames which came by another way. */
export interface Admitting {
  /**
   * Hands a copy of a frame to `sink`; one that is too long for a notice may be cut. It stays where it is for this
   * call alone, so it can not be forwarded. False when there was no room.
   */
  admit(from: Uint8Array, offset: number, length: number, sink: FrameSink, now: number): boolean;
}

export class NoticeTap {
  protected readonly ring: PacketRing;
  protected readonly descriptors = new Uint32Array(FRAMES * DESCRIPTOR_WORDS);
  private readonly bytes: Uint8Array;
  private readonly into: Admitting;

  /** Throws what the kernel refuses, with `code` and `syscall`. */
  constructor(native: Pick<Native, 'openPacketRing'>, on: TapOptions, into: Admitting, sizes = SMALL) {
    this.ring = native.openPacketRing({ ...on, ...sizes, retireMs: RETIRE_MS, injectMark: 0 });
    this.bytes = new Uint8Array(this.ring.memory);
    this.into = into;
  }

  /** Number of the group of rings that share the notices; -1 when there is none. */
  get fanoutGroup(): number {
    return this.ring.fanoutGroup;
  }

  /** Calls `onReadable` from the event loop whenever something is there; it is expected to poll. */
  start(onReadable: () => void): void {
    this.ring.start(onReadable);
  }

  /** Hands what is there to `sink`. To be called within a batch of the datapath, which sends the answers. */
  poll(sink: FrameSink, now: number): void {
    const { ring, descriptors, bytes, into } = this;
    let count = FRAMES;
    for (let round = 0; round < ROUNDS && count === FRAMES; round++) {
      count = ring.receive(descriptors);
      for (let at = 0; at < count * DESCRIPTOR_WORDS; at += DESCRIPTOR_WORDS) {
        const offset = descriptors[at]!;
        // What the XDP program lets pass is not the engine's.
        if (bytes[offset + PROTOCOL] !== Protocol.ixcp) continue;
        into.admit(bytes, offset, descriptors[at + 1]!, sink, now);
      }
      ring.flush(descriptors, 0);
    }
  }

  close(): void {
    this.ring.close();
  }
}
