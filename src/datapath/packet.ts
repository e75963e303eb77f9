/**
 * The packet datapath: frames in and out through an AF_PACKET ring of the addon.
 *
 * One memory holds received frames, in the kernel's blocks, and frames to be sent, in the ring's
 * slots.
 *
 * Slots are used strictly in order, because the kernel stops at the first one that is not filled.
 * So commit and forward take a slot, and reserve does not. A frame for another destination takes
 * none.
 *
 * Frames of inlets are copied to the end of the first slot's room. The datapath keeps this part
 * free when it has inlets.
 */

import type { StageClock } from '../base/stages.js';
import {
  type Native,
  OUTSIDE_RING,
  type PacketRing,
  type PacketRingOptions,
} from '../host/native.js';
import { TapKind } from '../wire/tap-record.js';
import { FrameFlags, type FrameSink, Port, type PortNumber } from './datapath.js';
import { BATCH_FRAMES, RingDatapath } from './ring.js';

/**
 * The kernel hands over a block that has any frame after RETIRE_MS, full or not. So the number of
 * blocks decides for how many ms a busy machine may keep the engine from running before frames are
 * lost. Each block holds at least one GSO segment of 64 KiB.
 */
const RECEIVE_BLOCKS = 256;
const RECEIVE_BLOCK_BYTES = 128 * 1024;
const RETIRE_MS = 1;
const MOST_TRANSMIT_SLOTS = 4096;
const FEWEST_TRANSMIT_SLOTS = 128;
const SMALLEST_SLOT_BYTES = 2048;
const TRANSMIT_RING_BYTES = 16 * 1024 * 1024;

/**
 * Slots that a batch may fill. Most frames are answered or forwarded with one slot, a long head
 * takes several.
 */
const BATCH_SLOTS = 4 * BATCH_FRAMES;

/** Room for a notice of 74 bytes. The first bytes of a longer frame show that it is no notice. */
const NOTICE_BYTES = 128;

/**
 * Bytes of a slot before the IP packet: the ring's header (48), the virtio header (10), Ethernet
 * (14).
 */
const SLOT_OVERHEAD_BYTES = 48 + 10 + 14;

export interface PacketInterface {
  interfaceIndex: number;
  /** Bytes of an IP packet. */
  mtu: number;
  /** File descriptor of a loaded socket filter program, or -1 for none. */
  filterProgramFd: number;
  /** How several rings share the interface's frames; by default this ring gets all. */
  fanout?: PacketRingOptions['fanout'];
  /**
   * The datapath has an inlet, and the inlet brings only notices: `admit` will be called. Default:
   * false.
   */
  admits?: boolean;
}

/**
 * Ring sizes for an interface: 32 MiB to receive into. The MTU of Ethernet gets 4096 transmit slots
 * of 2 KiB, larger MTUs get fewer and larger slots.
 */
export function packetRingOptions({
  interfaceIndex,
  mtu,
  filterProgramFd,
  fanout,
  admits = false,
}: PacketInterface): PacketRingOptions {
  return {
    interfaceIndex,
    receiveBlocks: RECEIVE_BLOCKS,
    receiveBlockBytes: RECEIVE_BLOCK_BYTES,
    retireMs: RETIRE_MS,
    ...transmitSlots(mtu + (admits ? NOTICE_BYTES : 0)),
    filterProgramFd,
    fanout,
  };
}

/** Transmit slots for IP packets of up to `packetBytes`. */
export function transmitSlots(
  packetBytes: number,
): Pick<PacketRingOptions, 'transmitSlots' | 'transmitSlotBytes'> {
  let transmitSlotBytes = SMALLEST_SLOT_BYTES;
  while (transmitSlotBytes < packetBytes + SLOT_OVERHEAD_BYTES) {
    transmitSlotBytes *= 2;
  }
  const affordable = TRANSMIT_RING_BYTES / transmitSlotBytes;
  return {
    transmitSlots: Math.max(FEWEST_TRANSMIT_SLOTS, Math.min(MOST_TRANSMIT_SLOTS, affordable)),
    transmitSlotBytes,
  };
}

/**
 * Opens the ring of an interface. Throws what the kernel refuses, with `code` and `syscall`.
 * @param stages measures where the time of each batch goes
 */
export function openPacketDatapath(
  native: Pick<Native, 'openPacketRing'>,
  on: PacketInterface,
  stages?: StageClock,
): PacketDatapath {
  return new PacketDatapath(native.openPacketRing(packetRingOptions(on)), stages, on.admits);
}

export class PacketDatapath extends RingDatapath<PacketRing> {
  private readonly status: Uint32Array;
  private readonly firstStatus: number;
  private readonly statusStep: number;
  private readonly slots: number;
  private readonly slotBytes: number;
  private readonly firstRoom: number;
  private readonly room: number;
  /** Where frames of inlets are copied to; -1: there are no inlets. */
  private readonly noticeAt: number;
  /** The slot for the next frame. */
  private nextSlot = 0;
  /** Slots taken since the last flush. Their status says "free" until the next one. */
  private taken = 0;

  /** The list of outgoing frames is as long as the ring: no batch needs more. */
  constructor(ring: PacketRing, stages?: StageClock, admits = false) {
    super(ring, ring.transmitSlots, stages);
    this.status = new Uint32Array(ring.memory);
    this.firstStatus = ring.transmitStatus / Uint32Array.BYTES_PER_ELEMENT;
    this.statusStep = ring.transmitSlotBytes / Uint32Array.BYTES_PER_ELEMENT;
    this.slots = ring.transmitSlots;
    this.slotBytes = ring.transmitSlotBytes;
    this.firstRoom = ring.transmitOffset;
    this.room = ring.transmitRoom - (admits ? NOTICE_BYTES : 0);
    this.noticeAt = admits ? this.firstRoom + this.room : -1;
  }

  /** Number of the group of rings that share the interface's frames; -1 when there is none. */
  get fanoutGroup(): number {
    return this.ring.fanoutGroup;
  }

  override flush(): void {
    this.tap?.sent(this.memory.bytes, this.outgoing, this.outgoingCount);
    this.nextSlot = this.ring.flush(this.outgoing, this.outgoingCount);
    this.outgoingCount = 0;
    this.taken = 0;
  }

  override reserve(length: number): number {
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

  override commit(offset: number, length: number, port: PortNumber): void {
    if (offset !== this.roomOf(this.nextSlot) || length > this.room) {
      throw new RangeError('the room was not the one reserved last');
    }
    if (port === Port.nodes) {
      this.nodes?.send(offset, length, 0, false);
    } else if (port === Port.local) {
      this.turnRound(offset, length, 0, false);
    } else {
      this.send(offset, length, 0, this.nextSlot);
    }
  }

  override forward(offset: number, length: number, flags: number, port: PortNumber): void {
    if ((flags & FrameFlags.truncated) !== 0) {
      this.forwardTruncated++;
    } else if (port === Port.nodes) {
      this.nodes?.send(offset, length, flags, true);
    } else if (port === Port.local) {
      this.turnRound(offset, length, flags, true);
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

  /** See Admitter. A frame longer than a notice is truncated, so it is not taken for a notice. */
  admit(
    from: Uint8Array,
    offset: number,
    length: number,
    _flags: number,
    sink: FrameSink,
    now: number,
  ): boolean {
    const { noticeAt } = this;
    if (noticeAt < 0) return false;
    const { bytes } = this.memory;
    const taken = Math.min(length, NOTICE_BYTES);
    for (let at = 0; at < taken; at++) bytes[noticeAt + at] = from[offset + at]!;
    sink.receive(noticeAt, taken, 0, now);
    return true;
  }

  /**
   * On a busy machine the kernel returns slots late. Received frames then wait in their ring, which
   * is far deeper: a frame that waits is delayed, a frame whose answer finds no slot is lost. Slots
   * come back nearly in order: if slot BATCH_SLOTS from here is free, those before it are free.
   */
  protected override hasRoom(): boolean {
    const last = (this.nextSlot + Math.min(BATCH_SLOTS, this.slots) - 1) % this.slots;
    return this.status[this.firstStatus + last * this.statusStep] === 0;
  }

  private turnRound(offset: number, length: number, flags: number, headed: boolean): void {
    this.tap?.frame(TapKind.nodes, this.memory.bytes, offset, length);
    this.ring.sendFrom(this.ring.memory, offset, length, flags | FrameFlags.queued, headed);
  }

  private slotIsFree(): boolean {
    return (
      this.taken < this.slots &&
      this.status[this.firstStatus + this.nextSlot * this.statusStep] === 0
    );
  }

  private roomOf(slot: number): number {
    return this.firstRoom + slot * this.slotBytes;
  }

  private send(offset: number, length: number, flags: number, slot: number): void {
    if (!this.note(offset, length, flags, slot) || slot === OUTSIDE_RING) return;
    this.taken++;
    this.nextSlot = slot + 1 === this.slots ? 0 : slot + 1;
  }
}
