/** A datapath that is nothing but memory: frames lie ready in it, and what is sent is counted. */
import type { FrameMemory, PortNumber, TransmitQueue } from '../../src/datapath/datapath.js';

/** Room for one frame that the engine builds. */
const ROOM = 2048;

export class MemoryDatapath implements TransmitQueue {
  readonly memory: FrameMemory;
  /** Frames built and committed, frames forwarded. */
  built = 0;
  forwarded = 0;
  /** Offset of the frame committed last. */
  last = 0;
  private readonly rooms: number;
  private room = 0;

  /**
   * @param inputBytes of the part for received frames, from offset 0
   * @param rooms for built frames, used round and round
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
