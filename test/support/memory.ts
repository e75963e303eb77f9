/**
 * A datapath of plain memory. Tests place received frames in it, and it collects the frames that
 * the engine sends. It enforces the contract of src/datapath/datapath.ts: unwritten memory is 0xa5,
 * a room is written only inside its length, a received frame is forwarded only while it is valid.
 */
import type { FrameMemory, PortNumber, TransmitQueue } from '../../src/datapath/datapath.js';

/** No header of ours has this value eight times in a row, so unwritten bytes are visible. */
export const UNWRITTEN = 0xa5;

const ROOMS = 64;
const ROOM_BYTES = 4096;
const GUARD = 64;
const RECEIVE_BYTES = 128 * 1024;

export interface SentFrame {
  frame: Uint8Array;
  port: PortNumber;
  /** The frame as it was received, when it was forwarded in place; else undefined. */
  received: Uint8Array | undefined;
  flags: number;
}

export class MemoryDatapath implements TransmitQueue {
  readonly memory: FrameMemory;
  /** Frames sent since the last `take`, in order. */
  private sent: SentFrame[] = [];
  /** Rooms that `reserve` still gives before it returns -1; undefined: no limit. */
  roomsLeft: number | undefined;
  /** How often `reserve` had no room. */
  refused = 0;
  private reserved = { offset: -1, length: 0 };
  private nextRoom = 0;
  private nextReceive = 0;
  private readonly valid = new Map<number, { length: number; flags: number; copy: Uint8Array }>();

  constructor() {
    const bytes = new Uint8Array(RECEIVE_BYTES + ROOMS * ROOM_BYTES).fill(UNWRITTEN);
    this.memory = { bytes, view: new DataView(bytes.buffer) };
  }

  /** Places a received frame in memory, valid until `flush`. Returns its offset for the engine. */
  place(frame: Uint8Array, flags: number): number {
    if (this.nextReceive + frame.length + GUARD > RECEIVE_BYTES) this.flush();
    const offset = this.nextReceive;
    // Odd offsets too: the contract does not promise alignment.
    this.nextReceive = offset + frame.length + GUARD + (frame.length & 1);
    this.memory.bytes.set(frame, offset);
    this.valid.set(offset, { length: frame.length, flags, copy: frame.slice() });
    return offset;
  }

  /** Invalidates the frames received so far: their bytes are overwritten. */
  flush(): void {
    for (const [offset, { length }] of this.valid) {
      for (let i = offset + length; i < offset + length + GUARD; i++) {
        if (this.memory.bytes[i] !== UNWRITTEN)
          throw new Error('the engine wrote behind a received frame');
      }
      this.memory.bytes.fill(UNWRITTEN, offset, offset + length);
    }
    this.valid.clear();
    this.nextReceive = 0;
  }

  reserve(length: number): number {
    if (length <= 0 || length > ROOM_BYTES - GUARD)
      throw new Error(`a room of ${length} bytes was requested`);
    if (this.roomsLeft !== undefined) {
      if (this.roomsLeft === 0) {
        this.refused++;
        return -1;
      }
      this.roomsLeft--;
    }
    const offset = RECEIVE_BYTES + this.nextRoom * ROOM_BYTES + (this.nextRoom & 1);
    this.nextRoom = (this.nextRoom + 1) % ROOMS;
    this.memory.bytes.fill(UNWRITTEN, offset, offset + length + GUARD - 1);
    this.reserved = { offset, length };
    return offset;
  }

  commit(offset: number, length: number, port: PortNumber): void {
    if (offset !== this.reserved.offset)
      throw new Error('commit of a room that is not the one reserved last');
    if (length > this.reserved.length) throw new Error('commit of more than was reserved');
    const behind = offset + this.reserved.length;
    for (let i = behind; i < behind + GUARD - 1; i++) {
      if (this.memory.bytes[i] !== UNWRITTEN)
        throw new Error('the engine wrote behind the room it reserved');
    }
    this.reserved = { offset: -1, length: 0 };
    const frame = this.memory.bytes.slice(offset, offset + length);
    this.sent.push({ frame, port, received: undefined, flags: 0 });
  }

  forward(offset: number, length: number, flags: number, port: PortNumber): void {
    const entry = this.valid.get(offset);
    if (entry === undefined) throw new Error('forward of a frame that is not valid');
    if (length !== entry.length || flags !== entry.flags)
      throw new Error('forward with a length or flags of its own');
    const frame = this.memory.bytes.slice(offset, offset + length);
    this.sent.push({ frame, port, received: entry.copy, flags });
  }

  /** Frames sent since the last call. */
  take(): SentFrame[] {
    const sent = this.sent;
    this.sent = [];
    return sent;
  }
}
