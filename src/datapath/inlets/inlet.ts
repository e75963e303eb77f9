/**
 * The contract of an inlet: a second source of frames for the engine, besides the ring of its
 * datapath. A datapath polls its inlets in one place, once a batch and in the order in which they
 * were added. An inlet copies each frame into the memory of the datapath, the only one that the
 * engine reads.
 *
 *     inlet.poll -> datapath.admit -> sink.receive
 *
 * An inlet that can also send is an outlet.
 */
import type { FrameSink } from '../datapath.js';
import type { FrameTap } from '../frame-tap.js';

export interface Inlet {
  /**
   * Calls `onReadable` from the event loop whenever frames are ready. The callee must poll the
   * datapath.
   */
  start(onReadable: () => void): void;
  /**
   * Hands the waiting frames to `sink`, at most a fixed number of them: a flood here must not keep
   * the engine from its clients. The datapath calls this within a batch, and sends the answers.
   */
  poll(sink: FrameSink, now: number): void;
  /** Adds its totals to those of the datapath: RING_TOTALS numbers, as in RingDatapath.stats. */
  addTo(totals: Float64Array): void;
  /** Shows frames to a capture from now on; undefined: to none. */
  setTap(tap: FrameTap | undefined): void;
  close(): void;
}

/** A way out of the machine other than the ring of the datapath. */
export interface Outlet {
  /**
   * Sends a frame of the datapath's memory as it lies there now, at the next flush.
   * @param flags FrameFlags
   * @param headed a virtio header precedes the frame
   */
  send(offset: number, length: number, flags: number, headed: boolean): void;
  /** Sends what was given since the last flush, and what the device did not take before. */
  flush(): void;
}

/** A datapath, as an inlet sees it. */
export interface Admitter {
  /**
   * Hands a copy of a frame to `sink`. A frame larger than the wire's may be handed over in
   * several pieces. Returns false when there was no room.
   * @param from the memory in which the frame lies, `length` bytes from `offset` on
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
