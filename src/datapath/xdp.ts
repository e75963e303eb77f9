/**
 * The xdp datapath: frames in and out through AF_XDP sockets of the addon, one on each receive
 * queue. The XDP program (bpf/xdp/xdp.bpf.c) gives the sockets the frames that it does not forward.
 *
 * One memory holds all frames, in pieces of equal size. A received frame is forwarded from its own
 * piece. A new frame is built in a free piece, if possible in one of the queue on which the current
 * frame arrived: then it leaves by that queue, in order. Free pieces are on lists in the same
 * memory, and each flush fills these up (XdpRing of native-xdp.ts).
 */
import { BatonError } from '../base/errors.js';
import type { StageClock } from '../base/stages.js';
import type { Native, XdpPoolOptions, XdpRing } from '../host/native.js';
import { ETHERNET_HEADER_BYTES } from '../wire/ethernet.js';
import { SegmentCutter } from './cutter.js';
import { FrameFlags, type FrameSink, Port, type PortNumber } from './datapath.js';
import { RingDatapath, SLOT } from './ring.js';

/** Bytes that the kernel leaves free before each received frame (XDP_PACKET_HEADROOM). */
const HEADROOM_BYTES = 256;
const FRAME_BYTES = [2048, 4096];

/**
 * The largest MTU, in bytes, whose frames fit. If a driver's own limit is lower, it refuses the
 * program.
 */
export const LARGEST_XDP_MTU = Math.max(...FRAME_BYTES) - HEADROOM_BYTES - ETHERNET_HEADER_BYTES;

/**
 * Frames of all queues together, and of one queue. Three quarters of them are for receiving. With
 * one queue (24 MiB at 2 KiB a frame) 8192 frames may wait for a worker that does not run. A node
 * does not repeat a notice that is lost. Many queues share the load, so each needs fewer frames.
 */
const FRAMES = 16_384;
const MOST_FRAMES_OF_QUEUE = 12_288;
const FEWEST_FRAMES_OF_QUEUE = 4_096;

/** Most frames that can be sent between two flushes. */
const MOST_FRAMES = 4096;

export interface XdpInterface {
  name: string;
  index: number;
  /** Bytes of an IP packet. */
  mtu: number;
}

/**
 * Sizes of the pool for an interface. Throws BATON_INTERFACE when its frames are too large.
 * @param workers number of engine threads that share the pool
 */
export function xdpPoolOptions(
  native: Pick<Native, 'receiveQueues' | 'transmitQueues'>,
  on: XdpInterface,
  workers: number,
): XdpPoolOptions {
  const frameBytes = FRAME_BYTES.find(
    (bytes) => bytes - HEADROOM_BYTES - ETHERNET_HEADER_BYTES >= on.mtu,
  );
  if (frameBytes === undefined) {
    throw new BatonError('BATON_INTERFACE', `an MTU of ${on.mtu} is too large for AF_XDP`, {
      where: on.name,
      hint: `use the datapath packet, or \`ip link set dev ${on.name} mtu ${LARGEST_XDP_MTU}\` or less`,
    });
  }
  const queues = native.receiveQueues(on.name);
  return {
    interfaceIndex: on.index,
    queues,
    transmitQueues: Math.min(queues, native.transmitQueues(on.name)),
    workers,
    framesPerQueue: Math.max(
      FEWEST_FRAMES_OF_QUEUE,
      Math.min(MOST_FRAMES_OF_QUEUE, Math.floor(FRAMES / queues)),
    ),
    frameBytes,
    zeroCopy: true,
  };
}

/**
 * Opens one worker's part of a pool. Throws what the kernel refuses, with `code` and `syscall`.
 * @param pool XdpPool.id
 * @param stages measures where the time of each batch goes
 * @param largest see XdpDatapath
 */
export function openXdpDatapath(
  native: Pick<Native, 'openXdpRing'>,
  pool: number,
  worker: number,
  stages?: StageClock,
  largest?: number,
): XdpDatapath {
  return new XdpDatapath(native.openXdpRing({ pool, worker }), stages, largest);
}

export class XdpDatapath extends RingDatapath<XdpRing> {
  private readonly queues: number;
  private readonly frameBytes: number;
  /** The free lists: for each queue a count, then offsets, `freeWords` words in all. */
  private readonly free: Uint32Array;
  private readonly freeWords: number;
  /** Index in `free` of the list that reserve used last. */
  private list = 0;
  /** The piece for frames of inlets; -1: the last one is being sent. */
  private admitted = -1;
  private readonly cutter = new SegmentCutter();
  /** The lists were empty, and could not be filled up, since the last flush. */
  private dry = false;
  /** Bytes of the largest frame of the wire. */
  private readonly largest: number;

  /**
   * @param largest bytes of the largest frame of the wire; default: the size of a piece
   */
  constructor(ring: XdpRing, stages?: StageClock, largest = ring.frameBytes) {
    super(ring, MOST_FRAMES, stages);
    this.queues = ring.queues;
    this.frameBytes = ring.frameBytes;
    this.largest = Math.min(largest, ring.frameBytes);
    this.freeWords = ring.freeWords;
    this.free = new Uint32Array(ring.memory, ring.freeOffset, ring.queues * ring.freeWords);
  }

  override flush(): void {
    this.tap?.sent(this.memory.bytes, this.outgoing, this.outgoingCount);
    this.transmitRingFull += this.ring.flush(this.outgoing, this.outgoingCount);
    this.outgoingCount = 0;
    this.dry = false;
  }

  override reserve(length: number): number {
    if (length > this.frameBytes) {
      this.transmitTooLong++;
      return -1;
    }
    const own = this.incoming[this.current + SLOT]! * this.freeWords;
    if (this.outgoingCount < MOST_FRAMES && this.free[own] !== 0) this.list = own;
    else if (this.outgoingCount === MOST_FRAMES || !this.findList()) {
      this.transmitRingFull++;
      return -1;
    }
    return this.lastOf(this.list);
  }

  override commit(offset: number, length: number, port: PortNumber): void {
    const { list, free } = this;
    if (free[list] === 0 || offset !== this.lastOf(list) || length > this.frameBytes) {
      throw new RangeError('the room was not the one reserved last');
    }
    if (port === Port.nodes) this.nodes?.send(offset, length, 0, false);
    else if (port === Port.local) this.local?.send(offset, length, 0, false);
    else if (this.note(offset, length, 0, 0)) free[list] = free[list]! - 1;
  }

  override forward(offset: number, length: number, flags: number, port: PortNumber): void {
    if (port === Port.nodes) this.nodes?.send(offset, length, flags, false);
    else if (port === Port.local) this.local?.send(offset, length, flags, false);
    else if (this.note(offset, length, flags, 0) && offset === this.admitted) this.admitted = -1;
  }

  /**
   * See Admitter. The frame gets a piece of the memory. The next one reuses it unless it is sent.
   */
  admit(
    from: Uint8Array,
    start: number,
    length: number,
    flags: number,
    sink: FrameSink,
    now: number,
  ): boolean {
    // A segment with an unverified checksum must not get a new, correct one.
    const sound = (flags & (FrameFlags.checksumPartial | FrameFlags.checksumValid)) !== 0;
    const whole = (flags & FrameFlags.truncated) === 0;
    if (length > this.largest && sound && whole && this.cutter.take(from, start, length)) {
      return this.admitPieces(sink, now);
    }
    const { bytes } = this.memory;
    const at = this.roomForAdmitted();
    if (at < 0) return false;
    const taken = Math.min(length, this.frameBytes);
    for (let i = 0; i < taken; i++) bytes[at + i] = from[start + i]!;
    sink.receive(at, taken, taken < length ? flags | FrameFlags.truncated : flags, now);
    return true;
  }

  private admitPieces(sink: FrameSink, now: number): boolean {
    const { cutter, memory, largest } = this;
    while (cutter.more) {
      const at = this.roomForAdmitted();
      if (at < 0) return false;
      sink.receive(at, cutter.next(memory, at, largest), FrameFlags.checksumPartial, now);
    }
    return true;
  }

  private roomForAdmitted(): number {
    if (this.admitted < 0) this.admitted = this.takePiece();
    return this.admitted;
  }

  /** Takes a free piece off its list. Returns -1, counted, when there is none. */
  private takePiece(): number {
    const offset = this.reserve(this.frameBytes);
    if (offset >= 0) this.free[this.list] = this.free[this.list]! - 1;
    return offset;
  }

  /** The last offset of a list. */
  private lastOf(list: number): number {
    return this.free[list + this.free[list]!]!;
  }

  /** Finds another queue's list that is not empty, after filling them up if necessary. */
  private findList(): boolean {
    if (this.dry) return false;
    for (let tries = 0; tries < 2; tries++) {
      for (let list = 0; list < this.queues * this.freeWords; list += this.freeWords) {
        if (this.free[list] === 0) continue;
        this.list = list;
        return true;
      }
      if (tries === 0) this.ring.refill();
    }
    this.dry = true;
    return false;
  }
}
