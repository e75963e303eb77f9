/**
 * What does not come in by the datapath's own ring: a packet ring takes it, and hands it to the
 * engine beside the datapath.
 *
 * - Notices of this machine's own shim, about the sessions of the local services: they are turned
 *   round at the egress hook, behind the XDP program of a driver, which does not see them.
 * - Notices of nodes that come in by another interface (node-port.ts).
 * - Segments larger than a frame of the wire, for which AF_XDP has no room: the XDP program lets
 *   them pass (PassedTap).
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

/** Sizes of a tap's ring, and after how long a block that is not full is handed over. */
export type TapSizes = Pick<
  PacketRingOptions,
  'receiveBlocks' | 'receiveBlockBytes' | 'transmitSlots' | 'transmitSlotBytes' | 'retireMs'
>;

/**
 * 1 MiB, for a few notices of 74 bytes for each request that a local service answers. A block with
 * any frame in it is handed over after 2 ms: there are enough of them for a quarter of a second
 * without the engine. Nothing is sent, by the fewest slots that a ring takes.
 */
const SMALL: TapSizes = {
  receiveBlocks: 128,
  receiveBlockBytes: 8_192,
  transmitSlots: 32,
  transmitSlotBytes: 2_048,
  retireMs: 2,
};
/**
 * Where senders leave the cutting to hardware: each block has room for a segment of 64 KiB, and a
 * client's long head waits no longer than it must. 8 MiB.
 */
const FOR_UNCUT: TapSizes = {
  ...SMALL,
  receiveBlocks: 64,
  receiveBlockBytes: 131_072,
  retireMs: 1,
};
const FRAMES = 64;
/**
 * Times that so many are taken in one poll: whoever floods must not keep the engine from its
 * clients.
 */
const ROUNDS = 32;
const PROTOCOL = ETHERNET_HEADER_BYTES + IPV4.protocol;

/**
 * The interface; the guard's socket filter, loaded; and how notices are shared with other engines.
 */
export type TapOptions = Pick<PacketRingOptions, 'interfaceIndex' | 'filterProgramFd' | 'fanout'>;

/** A datapath that takes in frames which came by another way. */
export interface Admitting {
  /**
   * Hands a copy of a frame to `sink`, or several with the parts of its payload. False when there
   * was no room.
   * @param flags FrameFlags
   */
  admit(
    from: Uint8Array,
    offset: number,
    length: number,
    flags: number,
    sink: FrameSink,
    now: number,
  ): boolean;
}

export class NoticeTap {
  protected readonly ring: PacketRing;
  /** Shown what comes and goes here, while there is a capture. */
  tap: FrameTap | undefined;
  protected readonly descriptors = new Uint32Array(FRAMES * DESCRIPTOR_WORDS);
  private readonly totals = new Float64Array(RING_TOTALS);
  private readonly bytes: Uint8Array;
  private readonly into: Admitting;

  /** Throws what the kernel refuses, with `code` and `syscall`. */
  constructor(
    native: Pick<Native, 'openPacketRing'>,
    on: TapOptions,
    into: Admitting,
    sizes: TapSizes,
  ) {
    this.ring = native.openPacketRing({ ...on, ...sizes, injectMark: 0 });
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

  /**
   * Hands what is there to `sink`. To be called within a batch of the datapath, which sends the
   * answers.
   */
  poll(sink: FrameSink, now: number): void {
    const { ring, descriptors, bytes, into } = this;
    let count = FRAMES;
    for (let round = 0; round < ROUNDS && count === FRAMES; round++) {
      count = ring.receive(descriptors);
      for (let at = 0; at < count * DESCRIPTOR_WORDS; at += DESCRIPTOR_WORDS) {
        const offset = descriptors[at]!;
        const protocol = bytes[offset + PROTOCOL]!;
        if (!this.wants(protocol)) continue;
        this.tap?.beside(protocol === Protocol.ixcp, bytes, offset, descriptors[at + 1]!);
        into.admit(bytes, offset, descriptors[at + 1]!, descriptors[at + 2]!, sink, now);
      }
      ring.flush(descriptors, 0);
    }
  }

  /** Adds its ring's totals to those of the datapath's. */
  addTo(totals: Float64Array): void {
    this.ring.stats(this.totals);
    for (const [index, total] of this.totals.entries()) totals[index] = totals[index]! + total;
  }

  close(): void {
    this.ring.close();
  }

  /** Whether packets of this protocol are the engine's. */
  protected wants(protocol: number): boolean {
    return protocol === Protocol.ixcp;
  }
}

/** Behind the XDP program on the clients' interface. */
export class PassedTap extends NoticeTap {
  /**
   * Throws what the kernel refuses, with `code` and `syscall`.
   * @param uncut segments may be as large as IPv4 has them, not only as the memory of the datapath
   */
  constructor(
    native: Pick<Native, 'openPacketRing'>,
    on: TapOptions,
    into: Admitting,
    { uncut }: { uncut: boolean },
  ) {
    super(native, on, into, uncut ? FOR_UNCUT : SMALL);
  }

  protected override wants(protocol: number): boolean {
    return protocol === Protocol.tcp || super.wants(protocol);
  }
}
