/**
 * An inlet by a packet ring (AF_PACKET) of its own: what all inlets of this kind have in common.
 */
import {
  DESCRIPTOR_WORDS,
  type Native,
  type PacketRing,
  type PacketRingOptions,
} from '../../host/native.js';
import { ETHERNET_HEADER_BYTES } from '../../wire/ethernet.js';
import { IPV4, Protocol } from '../../wire/ipv4.js';
import type { FrameSink } from '../datapath.js';
import type { FrameTap } from '../frame-tap.js';
import { RING_TOTALS } from '../ring.js';
import type { Admitter, Inlet } from './inlet.js';

const FRAMES = 64;
/** Rounds of FRAMES frames in one poll, at most. */
const ROUNDS = 32;
const PROTOCOL = ETHERNET_HEADER_BYTES + IPV4.protocol;

/** Sizes of the ring, and after how many ms the kernel hands over a block that is not full. */
export type InletSizes = Pick<
  PacketRingOptions,
  'receiveBlocks' | 'receiveBlockBytes' | 'transmitSlots' | 'transmitSlotBytes' | 'retireMs'
>;

/**
 * The interface; the guard's socket filter, loaded; and how the engine threads share the frames.
 */
export type InletOptions = Pick<PacketRingOptions, 'interfaceIndex' | 'filterProgramFd' | 'fanout'>;

export abstract class PacketInlet implements Inlet {
  protected readonly ring: PacketRing;
  protected readonly descriptors = new Uint32Array(FRAMES * DESCRIPTOR_WORDS);
  /** Shown all frames that come and go here, while there is a capture. */
  protected tap: FrameTap | undefined;
  private readonly totals = new Float64Array(RING_TOTALS);
  private readonly bytes: Uint8Array;
  private readonly admitter: Admitter;

  /** Throws what the kernel refuses, with `code` and `syscall`. */
  constructor(
    native: Pick<Native, 'openPacketRing'>,
    on: InletOptions,
    admitter: Admitter,
    sizes: InletSizes,
  ) {
    this.ring = native.openPacketRing({ ...on, ...sizes });
    this.bytes = new Uint8Array(this.ring.memory);
    this.admitter = admitter;
  }

  /** Number of the group of rings that share the interface's frames; -1 when there is none. */
  get fanoutGroup(): number {
    return this.ring.fanoutGroup;
  }

  start(onReadable: () => void): void {
    this.ring.start(onReadable);
  }

  poll(sink: FrameSink, now: number): void {
    const { ring, descriptors, bytes, admitter } = this;
    let count = FRAMES;
    for (let round = 0; round < ROUNDS && count === FRAMES; round++) {
      count = ring.receive(descriptors);
      for (let at = 0; at < count * DESCRIPTOR_WORDS; at += DESCRIPTOR_WORDS) {
        const offset = descriptors[at]!;
        const protocol = bytes[offset + PROTOCOL]!;
        if (!this.wants(protocol)) continue;
        this.tap?.admitted(protocol === Protocol.ixcp, bytes, offset, descriptors[at + 1]!);
        admitter.admit(bytes, offset, descriptors[at + 1]!, descriptors[at + 2]!, sink, now);
      }
      ring.flush(descriptors, 0);
    }
  }

  addTo(totals: Float64Array): void {
    this.ring.stats(this.totals);
    for (const [index, total] of this.totals.entries()) totals[index] = totals[index]! + total;
  }

  setTap(tap: FrameTap | undefined): void {
    this.tap = tap;
  }

  close(): void {
    this.ring.close();
  }

  /** Whether the engine receives packets of this IP protocol from here. */
  protected abstract wants(protocol: number): boolean;
}
