/**
 * The packet datapath: frames in and out through an AF_PACKET ring of the addon.
 *
 * Received frames lie in the kernel's blocks, frames to be sent in the ring's slots, all in one memory.
 * What the engine wants sent is only noted here, four words a frame, and handed over in one call per
 * batch:
 *
 *     ring.receive -> incoming[]    sink.receive for each    reserve, commit, forward -> outgoing[]
 *                                   sink.tick                ring.flush(outgoing)
 *
 * Slots are used strictly in order: the kernel stops at the first one that is not filled. So a slot is
 * taken at commit or forward, never at reserve, and a frame that goes elsewhere takes none.
 */
import {
  DESCRIPTOR_WORDS,
  type Native,
  OUTSIDE_RING,
  type PacketRing,
  type PacketRingOptions,
} from '../base/native.js';
import {
  FrameFlags,
  type FrameMemory,
  type FrameSink,
  Port,
  type PortNumber,
  type TransmitQueue,
} from './datapath.js';

/** Frames taken from the ring, and handed to the engine, between two flushes. */
const BATCH_FRAMES = 256;

/** Batches in one poll, after which timers and messages get their turn. */
const BATCHES_PER_POLL = 8;

/**
 * A block that has any frame in it is handed over after RETIRE_MS, full or not: so the number of blocks
 * is for how many ms the engine may be kept from running (a busy machine) before frames are lost. Each
 * holds at least one unsegmented frame of 64 KiB.
 */
const RECEIVE_BLOCKS = 256;
const RECEIVE_BLOCK_BYTES = 128 * 1024;
const RETIRE_MS = 1;
const MOST_TRANSMIT_SLOTS = 4096;
const FEWEST_TRANSMIT_SLOTS = 128;
const SMALLEST_SLOT_BYTES = 2048;
const TRANSMIT_RING_BYTES = 16 * 1024 * 1024;

/** What a slot holds before the IP packet: the ring's header (48), the virtio header (10), Ethernet (14). */
const SLOT_OVERHEAD_BYTES = 48 + 10 + 14;

/** What PacketRing.stats fills. */
const RING_TOTALS = 5;

/** Words of a descriptor. */
const OFFSET = 0;
const LENGTH = 1;
const FLAGS = 2;
const SLOT = 3;

/** skb->mark of frames for this machine's own kernel: BATON_MARK_INJECT of kernel-shim/ixp.h. */
export const INJECT_MARK = 0x42540001;

export interface PacketInterface {
  interfaceIndex: number;
  /** Bytes of IP packet. */
  mtu: number;
  /** File descriptor of a loaded socket filter program, or -1 for none. */
  filterProgramFd: number;
}

/**
 * Ring sizes for an interface: 32 MiB to receive into, and for the MTU of Ethernet 4096 transmit slots of
 * 2 KiB. Larger MTUs get larger slots and fewer of them.
 */
export function packetRingOptions({
  interfaceIndex,
  mtu,
  filterProgramFd,
}: PacketInterface): PacketRingOptions {
  let transmitSlotBytes = SMALLEST_SLOT_BYTES;
  while (transmitSlotBytes < mtu + SLOT_OVERHEAD_BYTES) {
    transmitSlotBytes *= 2;
  }
  const affordable = TRANSMIT_RING_BYTES / transmitSlotBytes;
  return {
    interfaceIndex,
    receiveBlocks: RECEIVE_BLOCKS,
    receiveBlockBytes: RECEIVE_BLOCK_BYTES,
    retireMs: RETIRE_MS,
    transmitSlots: Math.max(FEWEST_TRANSMIT_SLOTS, Math.min(MOST_TRANSMIT_SLOTS, affordable)),
    transmitSlotBytes,
    injectMark: INJECT_MARK,
    filterProgramFd,
  };
}

/** Opens the ring of an interface. Throws what the kernel refuses, with `code` and `syscall`. */
export function openPacketDatapath(
  native: Pick<Native, 'openPacketRing'>,
  on: PacketInterface,
): PacketDatapath {
  return new PacketDatapath(native.openPacketRing(packetRingOptions(on)));
}

export class PacketDatapath implements TransmitQueue {
  readonly memory: FrameMemory;
  /** Frames not sent because no transmit slot was free. */
  transmitRingFull = 0;
  /** Frames not sent because they are larger than a transmit slot. */
  transmitTooLong = 0;
  /** Received frames not forwarded because the ring had no room for all of their bytes. */
  forwardTruncated = 0;

  private readonly ring: PacketRing;
  private readonly status: Uint32Array;
  private readonly firstStatus: number;
  private readonly statusStep: number;
  private readonly slots: number;
  private readonly slotBytes: number;
  private readonly firstRoom: number;
  private readonly room: number;
  private readonly totals = new Float64Array(RING_TOTALS);
  private readonly incoming = new Uint32Array(BATCH_FRAMES * DESCRIPTOR_WORDS);
  private readonly outgoing: Uint32Array;
  private outgoingCount = 0;
  /** The slot that the next frame takes. */
  private nextSlot = 0;
  /** The slots taken since the last flush: their status says "free" until then. */
  private taken = 0;
  private polling = false;
  private closed = false;

  constructor(ring: PacketRing) {
    this.ring = ring;
    this.memory = { bytes: new Uint8Array(ring.memory), view: new DataView(ring.memory) };
    this.status = new Uint32Array(ring.memory);
    this.firstStatus = ring.transmitStatus / Uint32Array.BYTES_PER_ELEMENT;
    this.statusStep = ring.transmitSlotBytes / Uint32Array.BYTES_PER_ELEMENT;
    this.slots = ring.transmitSlots;
    this.slotBytes = ring.transmitSlotBytes;
    this.firstRoom = ring.transmitOffset;
    this.room = ring.transmitRoom;
    this.outgoing = new Uint32Array(this.slots * DESCRIPTOR_WORDS);
  }

  /** Calls `onReadable` from the event loop whenever frames are ready; it is expected to poll. */
  start(onReadable: () => void): void {
    this.ring.start(onReadable);
  }

  /**
   * Hands what the ring holds to `sink`, batch by batch, and sends what it answers. `now` is the clock,
   * in ms, read once a batch. Returns whether more may be waiting: the caller then polls again after
   * timers and messages had their turn. To be called at least every tick, for it also ticks the sink and
   * sends what the device did not take earlier. Does nothing once closed.
   */
  poll(sink: FrameSink, now: () => number): boolean {
    this.polling = true;
    let more = true;
    try {
      for (let batch = 0; more && batch < BATCHES_PER_POLL && !this.closed; batch++) {
        more = this.batch(sink, now());
      }
    } finally {
      this.polling = false;
    }
    if (this.closed) {
      this.ring.close();
      return false;
    }
    return more;
  }

  /** One batch; returns whether it was a full one. */
  private batch(sink: FrameSink, now: number): boolean {
    const incoming = this.incoming;
    const count = this.ring.receive(incoming);
    for (let at = 0; at < count * DESCRIPTOR_WORDS; at += DESCRIPTOR_WORDS) {
      sink.receive(incoming[at + OFFSET]!, incoming[at + LENGTH]!, incoming[at + FLAGS]!, now);
    }
    sink.tick(now);
    this.flush();
    return count === BATCH_FRAMES;
  }

  /**
   * Sends what was committed and forwarded outside of poll. Inside of poll it happens by itself after each
   * batch; received frames are no longer valid after it.
   */
  flush(): void {
    this.nextSlot = this.ring.flush(this.outgoing, this.outgoingCount);
    this.outgoingCount = 0;
    this.taken = 0;
  }

  reserve(length: number): number {
    if (length > this.room) {
      this.transmitTooLong++;
      return -1;
    }
    if (!this.slotIsFree()) {
      this.transmitRingFull++;
      return -1;
    }
    return this.roomOf(this.nextSlot);
  }

  /** `offset` must be what reserve returned last, with no frame committed or forwarded to the wire since. */
  commit(offset: number, length: number, port: PortNumber): void {
    if (offset !== this.roomOf(this.nextSlot) || length > this.room) {
      throw new RangeError('the room was not the one reserved last');
    }
    if (port === Port.local) {
      this.ring.sendLocal(offset, length, false);
    } else {
      this.send(offset, length, 0, this.nextSlot);
    }
  }

  forward(offset: number, length: number, flags: number, port: PortNumber): void {
    if ((flags & FrameFlags.truncated) !== 0) {
      this.forwardTruncated++;
    } else if (port === Port.local) {
      this.ring.sendLocal(offset, length, true);
    } else if ((flags & FrameFlags.segmented) !== 0) {
      this.send(offset, length, flags, OUTSIDE_RING);
    } else if (length > this.room) {
      this.transmitTooLong++;
    } else if (this.slotIsFree()) {
      this.send(offset, length, flags, this.nextSlot);
    } else {
      this.transmitRingFull++;
    }
  }

  /**
   * Totals of the ring since it was opened: received, lost by the kernel, sent, send failures, sent
   * outside the ring. The same array each time; once closed, what it held last.
   */
  stats(): Float64Array {
    return this.closed ? this.totals : this.ring.stats(this.totals);
  }

  /** Stops and frees the ring; from inside of poll, at the end of the batch. The memory is gone then. */
  close(): void {
    if (!this.closed) this.stats();
    this.closed = true;
    if (!this.polling) {
      this.ring.close();
    }
  }

  private slotIsFree(): boolean {
    return this.taken < this.slots && this.status[this.firstStatus + this.nextSlot * this.statusStep] === 0;
  }

  private roomOf(slot: number): number {
    return this.firstRoom + slot * this.slotBytes;
  }

  /** Notes a frame for the next flush. The list is as long as the ring: longer than any batch needs. */
  private send(offset: number, length: number, flags: number, slot: number): void {
    const at = this.outgoingCount * DESCRIPTOR_WORDS;
    const outgoing = this.outgoing;
    if (at === outgoing.length) {
      this.transmitRingFull++;
      return;
    }
    outgoing[at + OFFSET] = offset;
    outgoing[at + LENGTH] = length;
    outgoing[at + FLAGS] = flags;
    outgoing[at + SLOT] = slot;
    this.outgoingCount++;
    if (slot !== OUTSIDE_RING) {
      this.taken++;
      this.nextSlot = slot + 1 === this.slots ? 0 : slot + 1;
    }
  }
}
