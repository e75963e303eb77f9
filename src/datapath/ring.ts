/**
 * What the datapaths of a live interface have in common. A ring of the addon delivers frames in
 * batches, and the engine gets them one by one. A frame that the engine sends is only noted, as
 * four words. One call for each batch hands these over.
 *
 *     ring.receive -> incoming[]    sink.receive for each    reserve, commit, forward -> outgoing[]
 *                                   sink.tick                ring.flush(outgoing)
 */

import { Stage, StageClock } from '../base/stages.js';
import { DESCRIPTOR_WORDS } from '../host/native.js';
import type { FrameMemory, FrameSink, PortNumber, TransmitQueue } from './datapath.js';
import type { FrameTap } from './frame-tap.js';
import type { Inlet, Outlet } from './inlets/inlet.js';

/** Most frames that the engine gets between two flushes. */
export const BATCH_FRAMES = 256;

/** Most batches of one poll. Timers and messages get their turn after it. */
const BATCHES_PER_POLL = 8;

/** Numbers that stats() of a ring writes. */
export const RING_TOTALS = 6;

/** Words of a descriptor. */
export const OFFSET = 0;
export const LENGTH = 1;
export const FLAGS = 2;
export const SLOT = 3;

/** The part of the addon's rings that is common to PacketRing and XdpRing. */
interface FrameRing {
  readonly memory: ArrayBuffer;
  receive(descriptors: Uint32Array): number;
  start(onReadable: () => void): void;
  stats(into: Float64Array): Float64Array;
  close(): void;
}

export abstract class RingDatapath<Ring extends FrameRing = FrameRing> implements TransmitQueue {
  readonly memory: FrameMemory;
  /** Frames not sent because no room was free. */
  transmitRingFull = 0;
  /** Frames not sent because they are larger than the room for a frame. */
  transmitTooLong = 0;
  /** Received frames not forwarded because the ring had no room for all of their bytes. */
  forwardTruncated = 0;
  /**
   * Called in each batch with its time, after its frames were taken from the kernel and before the
   * first is handed over. By then the kernel has reported, by other means, all that came before
   * these frames.
   */
  onBatch: ((now: number) => void) | undefined;
  /**
   * The way out for Port.nodes, if nodes are reached by another interface. It must be set before
   * the first frame, and added as an inlet too.
   */
  nodes: Outlet | undefined;
  /**
   * The way out for Port.local, if the ring's own frames pass no program at tc egress. It must be
   * set before the first frame.
   */
  local: Pick<Outlet, 'send'> | undefined;
  /** Gets a copy of all frames that come and go, during a capture. */
  protected tap: FrameTap | undefined;
  /** Other sources of frames, in the order in which they are polled. */
  private readonly inlets: Inlet[] = [];

  protected readonly ring: Ring;
  protected readonly incoming = new Uint32Array(BATCH_FRAMES * DESCRIPTOR_WORDS);
  /** Index in `incoming` of the frame that was handed to the sink last. */
  protected current = 0;
  protected readonly outgoing: Uint32Array;
  protected outgoingCount = 0;
  private readonly stages: StageClock;
  private readonly totals = new Float64Array(RING_TOTALS);
  private polling = false;
  private closed = false;

  /**
   * @param mostFrames most frames that can be sent between two flushes
   * @param stages measures where the time of each batch goes
   */
  constructor(ring: Ring, mostFrames: number, stages = new StageClock()) {
    this.ring = ring;
    this.stages = stages;
    this.memory = { bytes: new Uint8Array(ring.memory), view: new DataView(ring.memory) };
    this.outgoing = new Uint32Array(mostFrames * DESCRIPTOR_WORDS);
  }

  /** Shows frames to a capture from now on; undefined: to none. */
  setTap(tap: FrameTap | undefined): void {
    this.tap = tap;
    for (const inlet of this.inlets) inlet.setTap(tap);
  }

  /** Adds a source of frames, before the first one. It is closed with this datapath. */
  addInlet(inlet: Inlet): void {
    this.inlets.push(inlet);
  }

  abstract reserve(length: number): number;
  /**
   * `offset` must be the last result of reserve, and no frame may have been committed or forwarded
   * to the wire since.
   */
  abstract commit(offset: number, length: number, port: PortNumber): void;
  abstract forward(offset: number, length: number, flags: number, port: PortNumber): void;
  /**
   * Sends the frames that were committed and forwarded outside of poll. Poll itself flushes after
   * each batch. After a flush, received frames are no longer valid.
   */
  abstract flush(): void;

  /** Calls `onReadable` from the event loop whenever frames are ready. The callee must poll. */
  start(onReadable: () => void): void {
    this.ring.start(onReadable);
    for (const inlet of this.inlets) inlet.start(onReadable);
  }

  /**
   * Hands the frames in the ring to `sink`, batch by batch, and sends its answers. `now` is the
   * clock, in ms, read once a batch. Returns whether more frames may be waiting: the caller then
   * polls again after timers and messages had their turn. It must be called at least once a tick:
   * it also ticks the sink, and sends what the device did not take earlier. Once closed, it does
   * nothing.
   */
  poll(sink: FrameSink, now: () => number): boolean {
    this.polling = true;
    this.stages.mark(Stage.loop);
    let more = true;
    try {
      for (let batch = 0; more && batch < BATCHES_PER_POLL && !this.closed; batch++) {
        more = this.batch(sink, now());
      }
    } finally {
      this.polling = false;
    }
    if (this.closed) {
      this.closeRings();
      return false;
    }
    return more;
  }

  /** Whether the answers to a whole batch can be sent. If not, no frame is received. */
  protected hasRoom(): boolean {
    return true;
  }

  /** Handles one batch. Returns whether it was full. */
  private batch(sink: FrameSink, now: number): boolean {
    const { incoming, inlets, stages } = this;
    const count = this.hasRoom() ? this.ring.receive(incoming) : 0;
    stages.mark(Stage.receive);
    stages.batch(count);
    this.tap?.received(this.memory.bytes, incoming, count);
    this.onBatch?.(now);
    for (let index = 0; index < inlets.length; index++) inlets[index]!.poll(sink, now);
    for (let at = 0; at < count * DESCRIPTOR_WORDS; at += DESCRIPTOR_WORDS) {
      this.current = at;
      sink.receive(incoming[at + OFFSET]!, incoming[at + LENGTH]!, incoming[at + FLAGS]!, now);
    }
    stages.mark(Stage.engine);
    sink.tick(now);
    stages.mark(Stage.timers);
    this.nodes?.flush();
    this.flush();
    stages.mark(Stage.flush);
    return count === BATCH_FRAMES;
  }

  /**
   * Totals of the ring since it was opened: received, lost by the kernel, sent, send failures, sent
   * outside the ring, times that no memory was free to receive into. They include the inlets. The
   * array is the same each time. Once closed, it keeps its last values.
   */
  stats(): Float64Array {
    if (this.closed) return this.totals;
    this.ring.stats(this.totals);
    for (const inlet of this.inlets) inlet.addTo(this.totals);
    return this.totals;
  }

  /**
   * Stops and frees the ring. Called from inside of poll, it does so at the end of the batch. The
   * memory is unmapped then.
   */
  close(): void {
    if (!this.closed) this.stats();
    this.closed = true;
    if (!this.polling) this.closeRings();
  }

  private closeRings(): void {
    for (const inlet of this.inlets) inlet.close();
    this.ring.close();
  }

  /** Notes a frame for the next flush. Returns false, counted, when the list is full. */
  protected note(offset: number, length: number, flags: number, slot: number): boolean {
    const at = this.outgoingCount * DESCRIPTOR_WORDS;
    const outgoing = this.outgoing;
    if (at === outgoing.length) {
      this.transmitRingFull++;
      return false;
    }
    outgoing[at + OFFSET] = offset;
    outgoing[at + LENGTH] = length;
    outgoing[at + FLAGS] = flags;
    outgoing[at + SLOT] = slot;
    this.outgoingCount++;
    return true;
  }
}
