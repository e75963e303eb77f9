/**
 * Notices of this machine's own shim, about the sessions of the local services. The shim turns them round at the
 * egress hook, so they come in behind the XDP program of a driver, which does not see them. A small packet ring
 * does, and hands them to the engine beside the xdp datapath.
 */
import { DESCRIPTOR_WORDS, type Native, type PacketRing, type PacketRingOptions } from '../base/native.js';
import { ETHERNET_HEADER_BYTES } from '../wire/ethernet.js';
import { IPV4, Protocol } from '../wire/ipv4.js';
import type { FrameSink } from './datapath.js';
import type { XdpDatapath } from './xdp.js';

/**
 * 1 MiB, for a few notices of 74 bytes for each request that a local service answers. A block with any frame in it is
 * handed over after RETIRE_MS: there are enough of them for a quarter of a second without the engine.
 */
const RECEIVE_BLOCKS = 128;
const RECEIVE_BLOCK_BYTES = 8_192;
const RETIRE_MS = 2;
/** The fewest that a ring takes: nothing is sent by this one. */
const TRANSMIT_SLOTS = 32;
const TRANSMIT_SLOT_BYTES = 2_048;
const FRAMES = 64;
const PROTOCOL = ETHERNET_HEADER_BYTES + IPV4.protocol;

/** The interface; the guard's socket filter, loaded; and how notices are shared with other engines. */
export type TapOptions = Pick<PacketRingOptions, 'interfaceIndex' | 'filterProgramFd' | 'fanout'>;

export class NoticeTap {
  private readonly ring: PacketRing;
  private readonly bytes: Uint8Array;
  private readonly descriptors = new Uint32Array(FRAMES * DESCRIPTOR_WORDS);
  private readonly datapath: XdpDatapath;

  /** Throws what the kernel refuses, with `code` and `syscall`. */
  constructor(native: Pick<Native, 'openPacketRing'>, on: TapOptions, datapath: XdpDatapath) {
    this.ring = native.openPacketRing({
      ...on,
      receiveBlocks: RECEIVE_BLOCKS,
      receiveBlockBytes: RECEIVE_BLOCK_BYTES,
      retireMs: RETIRE_MS,
      transmitSlots: TRANSMIT_SLOTS,
      transmitSlotBytes: TRANSMIT_SLOT_BYTES,
      injectMark: 0,
    });
    this.bytes = new Uint8Array(this.ring.memory);
    this.datapath = datapath;
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
    const { ring, descriptors, bytes } = this;
    let count: number;
    do {
      count = ring.receive(descriptors);
      for (let at = 0; at < count * DESCRIPTOR_WORDS; at += DESCRIPTOR_WORDS) {
        const offset = descriptors[at]!;
        // What the XDP program lets pass is not the engine's.
        if (bytes[offset + PROTOCOL] !== Protocol.ixcp) continue;
        this.datapath.admit(bytes.subarray(offset, offset + descriptors[at + 1]!), sink, now);
      }
      ring.flush(descriptors, 0);
    } while (count === FRAMES);
  }

  close(): void {
    this.ring.close();
  }
}
