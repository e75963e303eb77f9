/**
 * The contract between the engine and whatever carries its frames.
 *
 * A datapath owns one memory that holds every frame, received or to be sent. The engine reads a
 * received frame in place, changes it in place, and has the datapath forward it. Or it reserves
 * room, builds a frame there, and commits it. Nothing is allocated per frame.
 *
 *     receive:  memory[offset, offset + length) + flags  ->  engine
 *     engine:   forward(offset, length, ...)   a received frame, changed in place
 *               reserve(length) -> offset, write, commit(offset, length, ...)   a new frame
 *
 * A received frame is valid until the first flush after the call that delivered it.
 */

/** The memory of all frames of one datapath, as two long-lived views. */
export interface FrameMemory {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** Bits of `flags`: what the datapath knows about a received frame. */
export const FrameFlags = {
  /**
   * The TCP checksum is incomplete: the sender left it to hardware that the frame never reached.
   */
  checksumPartial: 1,
  /** The kernel or the hardware has verified the TCP checksum. */
  checksumValid: 2,
  /** A segment larger than a frame of the wire (GSO): the kernel cuts it when it is sent. */
  segmented: 4,
  /** The frame was larger than its room in the ring: bytes are missing. */
  truncated: 8,
  /** Of a frame to be sent: it passes the programs at tc egress, which others do not see. */
  queued: 16,
} as const;

/** The destination of a frame. */
export const Port = {
  /** The interface on which frames arrive. */
  wire: 0,
  /** Another interface, by which nodes are reached. Not every datapath has one. */
  nodes: 2,
  /** This machine itself, which is a node: the guard turns the frame round at tc egress. */
  local: 3,
} as const;
export type PortNumber = (typeof Port)[keyof typeof Port];

/** The sending half, as the engine sees it. */
export interface TransmitQueue {
  readonly memory: FrameMemory;
  /**
   * Reserves room for a new frame of up to `length` bytes. Returns its offset in memory, or -1,
   * counted, when there is no room.
   */
  reserve(length: number): number;
  /**
   * Sends the first `length` bytes of the room reserved last. Room that is not committed is reused.
   */
  commit(offset: number, length: number, port: PortNumber): void;
  /** Sends a received frame as it is in memory now. `flags` are those that it came with. */
  forward(offset: number, length: number, flags: number, port: PortNumber): void;
}

/** The receiving half, as the engine implements it. `now` is in ms on the datapath's clock. */
export interface FrameSink {
  receive(offset: number, length: number, flags: number, now: number): void;
  /**
   * Handles the timers that are due at `now`. Called after each batch, and at least once a tick.
   */
  tick(now: number): void;
}
