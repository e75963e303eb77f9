/**
 * Sends and receives ARP and neighbour discovery on an interface for a short time, by a small
 * packet ring of its own.
 */
import { DESCRIPTOR_WORDS, native, type PacketRing } from '../../host/native.js';

/** 256 KiB. The ring has no filter, so it gets all frames of the interface. */
const RECEIVE_BLOCKS = 4;
const RECEIVE_BLOCK_BYTES = 65_536;
const RETIRE_MS = 5;
const TRANSMIT_SLOTS = 32;
const TRANSMIT_SLOT_BYTES = 2_048;
const DESCRIPTORS = 256;
/** Most batches for each wakeup: a flood must not block the event loop. */
const BATCHES = 16;

export class LinkPort {
  private readonly ring: PacketRing;
  private readonly bytes: Uint8Array;
  private readonly descriptors = new Uint32Array(DESCRIPTORS * DESCRIPTOR_WORDS);
  private nextSlot = 0;

  /**
   * @param onFrame called with every frame that arrives, except our own. The bytes are valid during
   *   the call only.
   */
  constructor(interfaceIndex: number, onFrame?: (frame: Uint8Array) => void) {
    this.ring = native().openPacketRing({
      interfaceIndex,
      receiveBlocks: RECEIVE_BLOCKS,
      receiveBlockBytes: RECEIVE_BLOCK_BYTES,
      retireMs: RETIRE_MS,
      transmitSlots: TRANSMIT_SLOTS,
      transmitSlotBytes: TRANSMIT_SLOT_BYTES,
      filterProgramFd: -1,
    });
    this.bytes = new Uint8Array(this.ring.memory);
    if (onFrame !== undefined) this.ring.start(() => this.drain(onFrame));
  }

  /**
   * Sends one frame. A failure only shows in the ring's counters.
   */
  send(frame: Uint8Array): void {
    const offset = this.ring.transmitOffset + this.nextSlot * TRANSMIT_SLOT_BYTES;
    this.bytes.set(frame, offset);
    this.nextSlot =
      this.ring.flush(Uint32Array.of(offset, frame.length, 0, this.nextSlot), 1) % TRANSMIT_SLOTS;
  }

  close(): void {
    this.ring.close();
  }

  private drain(onFrame: (frame: Uint8Array) => void): void {
    for (let batch = 0; batch < BATCHES; batch++) {
      const count = this.ring.receive(this.descriptors);
      for (let at = 0; at < count * DESCRIPTOR_WORDS; at += DESCRIPTOR_WORDS) {
        const offset = this.descriptors[at]!;
        onFrame(this.bytes.subarray(offset, offset + this.descriptors[at + 1]!));
      }
      this.ring.flush(this.descriptors, 0);
      if (count < DESCRIPTORS) return;
    }
  }
}
