/** A datapath that is only memory: it holds the input frames, and counts sent frames. */
import type { FrameMemory, PortNumber, TransmitQueue } from '../../src/datapath/datapath.js';

/** Bytes for one frame that the engine builds. */
const ROOM = 2048;

export class MemoryDatapath implements TransmitQueue {
  readonly memory: FrameMemory;
  /** Number of frames built and committed, and of frames forwarded. */
  built = 0;
  forwarded = 0;
  /** Offset of the last committed frame. */
  last = 0;
  private readonly rooms: number;
  private room = 0;

  /**
   * @param inputBytes size of the part for received frames, from offset 0
   * @param rooms number of places for built frames, used in turn
   */
  constructor(inputBytes: number, rooms = 64) {
    const bytes = new Uint8Array(inputBytes + rooms * ROOM);
    this.memory = { bytes, view: new DataView(bytes.buffer) };
    this.rooms = rooms;
  }

  reserve(length: number): number {
    if (length > ROOM) return -1;
    return this.memory.bytes.length - (this.rooms - this.room) * ROOM;
  }

  commit(offset: number, _length: number, _port: PortNumber): void {
    this.built += 1;
    this.last = offset;
    this.room = (this.room + 1) % this.rooms;
  }

  forward(_offset: number, _length: number, _flags: number, _port: PortNumber): void {
    this.forwarded += 1;
  }
}
