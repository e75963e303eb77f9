/**
 * The contract between the engine and whatever carries its frames.
 *
 * A datapath owns one memory in which every frame lies, received or to be sent. The engine
 * reads a received frame in place, changes it in place, and tells the datapath to forward it;
 * or it reserves room, builds a frame there, and commits it. Nothing is allocated per frame.
 *
 *     receive:  memory[offset, offset + length) + flags  ->  engine
 *     engine:   forward(offset, length, ...)   a received frame, changed in place
 *               reserve(length) -> offset, write, commit(offset, length, ...)   a new frame
 *
 * A received frame stays valid until the datapath's flush after the call that delivered it.
 */

/** The memory of all frames of one datapath, with the two long-lived views of it. */
export interface FrameMemory {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** What the datapath knows about a received frame (bits of `flags`). */
export const FrameFlags = {
  /** The TCP checksum is not finished: the sender left it to hardware that was never there. */
  checksumPartial: 1,
  /** The kernel or the hardware has verified the TCP checksum. */
  checksumValid: 2,
  /** A segment larger than the wire's: the kernel cuts it when it is sent. */
  segmented: 4,
  /** The frame did not fit its room: bytes are missing. */
  truncated: 8,
} as const;

/** Where a frame is to go. */
export const Port = {
  /** Out of the interface that frames come in by. */
  wire: 0,
  /** Into this machine's own kernel, as if it had come in from the wire. */
  local: 1,
  /** Out of another interface, where nodes are reached: only of a datapath that has one. */
  nodes: 2,
} as const;
export type PortNumber = (typeof Port)[keyof typeof Port];

/** The sending half, as the engine sees it. */
export interface TransmitQueue {
  readonly memory: FrameMemory;
  /**
   * Room for a new frame of up to `length` bytes: its offset in memory, or -1 when there is none
   * (counted).
   */
  reserve(length: number): number;
  /**
   * Sends the first `length` bytes of the room reserved last. A room that is not committed is
   * simply reused.
   */
  commit(offset: number, length: number, port: PortNumber): void;
  /** Sends a received frame as it now lies in memory; `flags` as it was received. */
  forward(offset: number, length: number, flags: number, port: PortNumber): void;
}

/** The receiving half, as the engine implements it. `now` is in ms on the datapath's clock. */
export interface FrameSink {
  receive(offset: number, length: number, flags: number, now: number): void;
  /** Does what is due at `now`; called at least every `tickMs` and after each batch. */
  tick(now: number): void;
}
