/**
 * The XDP half of the addon: programs on interfaces, maps and programs of another process, AF_XDP
 * sockets. Part of native.ts, which offers all of this again.
 */

/**
 * Where XDP runs: in the driver, or in the stack's generic hook, which any Ethernet interface has.
 */
export type XdpMode = 'native' | 'generic';

/** A BPF map, of whoever made it. The descriptor stays open until close(). */
export interface MapHandle {
  readonly fd: number;
  readonly id: number;
  /** The first 15 characters: the kernel keeps no more. */
  readonly name: string;
  /** BPF_MAP_TYPE_* of linux/bpf.h. */
  readonly type: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  /** How many there may be. */
  readonly maxEntries: number;
  /**
   * The values of a BPF_F_MMAPABLE array, each padded to eight bytes; detached by close(). The same
   * one each time.
   */
  memory(): ArrayBuffer;
  /** All keys and values; of a map that is not per CPU. */
  entries(): { key: Uint8Array; value: Uint8Array }[];
  /** As BpfObject.mapSums. */
  sums(count: number): Float64Array;
  lookup(key: Uint8Array): Uint8Array | undefined;
  update(key: Uint8Array, value: Uint8Array): void;
  /** False when there was none. */
  delete(key: Uint8Array): boolean;
  close(): void;
}

/** A BPF program, of whoever loaded it. The descriptor stays open until close(). */
export interface ProgramHandle {
  readonly fd: number;
  readonly id: number;
  /** The first 15 characters. */
  readonly name: string;
  close(): void;
}

/** A map as a program that uses it tells of it. */
export interface ProgramMap {
  id: number;
  /** The first 15 characters. */
  name: string;
  /** BPF_MAP_TYPE_* of linux/bpf.h. */
  type: number;
  keyBytes: number;
  valueBytes: number;
  maxEntries: number;
}

/** The XDP program of an interface. */
export interface AttachedXdp {
  id: number;
  /** The first 15 characters. */
  name: string;
  /** 'hardware': in the network card, which no program of ours is. */
  mode: XdpMode | 'hardware';
  maps: ProgramMap[];
}

/** What the kernel counted of a program while the sysctl kernel.bpf_stats_enabled was 1. */
export interface ProgramInfo {
  id: number;
  runNanoseconds: number;
  runCount: number;
}

export interface XdpTestOptions {
  /** Interface the frame comes from; lo when it is left out. Linux 5.15. */
  ingressIndex?: number;
  /** Receive queue of that interface. */
  queue?: number;
  /** How often the program runs, each time over the frame as the last run left it. */
  repeat?: number;
  /**
   * Carry out the verdicts, frame by frame, as if they had come in from ingressIndex. Linux 5.18.
   */
  live?: boolean;
}

export interface XdpTestResult {
  /** XDP_* of linux/bpf.h. */
  verdict: number;
  /** As the program left it; empty with `live`. */
  frame: Uint8Array;
  /** Of one run, the mean. */
  nanoseconds: number;
}

export interface XdpPoolOptions {
  interfaceIndex: number;
  /** Sockets are made for the receive queues 0 to queues - 1. */
  queues: number;
  /**
   * How many transmit queues the interface has in use, at most `queues`, which it is when left out.
   */
  transmitQueues?: number;
  /** Sockets on each queue, one for each engine thread. */
  workers: number;
  /**
   * Frames of each queue, received and sent ones together; and their size (bytes, 2048 or 4096).
   */
  framesPerQueue: number;
  frameBytes: number;
  /** Whether the driver may move frames without a copy; where it can not, it copies. */
  zeroCopy: boolean;
}

/**
 * AF_XDP sockets of one interface with the memory that they share: made in one thread, used by
 * XdpRings in others. Everything is freed when the pool and all of its rings are closed.
 */
export interface XdpPool {
  /** For openXdpRing, in any thread of this process. */
  readonly id: number;
  readonly memoryBytes: number;
  /** [queue][worker]; open until the pool is freed. */
  readonly socketFds: readonly (readonly number[])[];
  /** Whether every queue got it. */
  readonly zeroCopy: boolean;
  close(): void;
}

export interface XdpRingOptions {
  /** XdpPool.id. */
  pool: number;
  /** 0 to workers - 1; each may be open once at a time. */
  worker: number;
  /** The mark of frames for the machine's own kernel. */
  injectMark: number;
}

/**
 * One worker's part of a pool: the frames of all queues whose XDP program chose this worker's
 * socket.
 *
 * Descriptors are those of PacketRing (DESCRIPTOR_WORDS): received [offset, length, FrameFlags,
 * queue], to be sent [offset, length, FrameFlags, unused]. A frame of `frameBytes` belongs to the
 * worker from receive, or from the moment that it is taken out of the free list, until the flush
 * that sends it or that follows it.
 */
export interface XdpRing {
  /**
   * All frames of all queues: those of queue q begin at q * queueBytes. This thread's own mapping.
   */
  readonly memory: ArrayBuffer;
  readonly queues: number;
  readonly queueBytes: number;
  readonly frameBytes: number;
  /**
   * Free frames lie in `memory` too: for each queue a list of freeWords words (u32, host byte
   * order) from freeOffset + q * freeWords * 4 on: a count n, then n offsets of whole frames.
   * Whoever takes one, the last, writes n - 1. Each flush fills the lists up.
   */
  readonly freeOffset: number;
  readonly freeWords: number;
  /**
   * As PacketRing.receive, from all queues in turn. Finds unfinished TCP checksums by themselves.
   */
  receive(descriptors: Uint32Array): number;
  /**
   * Sends `count` frames, received ones and those taken from the free lists, in order on each
   * queue; a TCP checksum that is FrameFlags.checksumPartial is finished. Then gives back received
   * frames that were not sent. What the device does not take waits for the next flush, which may be
   * one of 0 frames. Returns how many were dropped because too many wait already.
   */
  flush(descriptors: Uint32Array, count: number): number;
  /** Fills the free lists up in between, with frames that were sent by now. */
  refill(): void;
  /** Sends one frame at once into this machine's own kernel: marked, by way of the egress hook. */
  sendLocal(offset: number, length: number, flags: number): void;
  /** Calls `onReadable` from the event loop whenever frames are ready. */
  start(onReadable: () => void): void;
  /**
   * Totals since open: [received, lost by the kernel (ring full, or no free frame), sent, send
   * failures, 0, times that no frame was free to receive into]. Fills and returns `into`
   * (Float64Array of 6).
   */
  stats(into: Float64Array): Float64Array;
  /** At any time, also from inside onReadable. `memory` is detached. */
  close(): void;
}

/** Reads the records that an XDP program put into one worker's ring buffer. */
export interface RecordRing {
  /**
   * Moves waiting records, of `recordWords` words each, into `into`, as many as fit. Returns how
   * many. A record of another size is skipped.
   */
  drain(into: Uint32Array): number;
  readonly recordWords: number;
  close(): void;
}

/** Perf buffers into which a BPF program writes, one for each CPU. */
export interface PerfBuffers {
  /**
   * What was written since the last call: records, each padded to eight bytes, those of one CPU
   * after those of another.
   */
  drain(): Uint8Array;
  /** The program's writes fail from now on. */
  close(): void;
}

export interface NativeXdp {
  /**
   * Puts a program on an interface; in place of the one that `replaceFd` names, at one stroke, or
   * where there is none. Throws EBUSY or EEXIST when another one is there, ENOTSUP or EINVAL when
   * the driver can not do it, with the kernel's words in the message.
   */
  attachXdp(interfaceIndex: number, programFd: number, mode: XdpMode, replaceFd?: number): void;
  /** False when there was no program, or not the one that `expectedFd` names. */
  detachXdp(interfaceIndex: number, mode: XdpMode, expectedFd?: number): boolean;
  /**
   * What runs on the interface; undefined when nothing does. With several modes in use, the first
   * in the order of frames.
   */
  xdpProgram(interfaceIndex: number): AttachedXdp | undefined;
  /** By map id, by the path of a pin, or by the descriptor of any thread of this process. */
  openMap(which: { id: number } | { path: string } | { fd: number }): MapHandle;
  /** By program id or by the path of a pin. */
  openProgram(which: { id: number } | { path: string }): ProgramHandle;
  /** How many receive queues the interface has in use; at least 1. */
  receiveQueues(interfaceName: string): number;
  /** The same of transmit queues. */
  transmitQueues(interfaceName: string): number;
  /** The name of its driver, such as 'virtio_net'; '' when it tells none. */
  interfaceDriver(interfaceName: string): string;
  /**
   * Whether the other end of a veth pair, wherever it is, has an XDP program in its driver. False
   * for an interface without another end. Throws what the kernel refuses.
   */
  peerRunsXdp(interfaceIndex: number): boolean;
  /**
   * Opens and binds the sockets. Throws EBUSY when another process has a socket on a queue, ENOTSUP
   * when the interface can not do AF_XDP, ENOBUFS or EPERM when too little memory may be locked.
   */
  createXdpPool(options: XdpPoolOptions): XdpPool;
  openXdpRing(options: XdpRingOptions): XdpRing;
  /**
   * Puts a new ring buffer of `bytes` (a power of two, a multiple of the page) into each of the
   * first `count` elements of an array of maps.
   */
  fillRings(arrayFd: number, count: number, bytes: number): void;
  /** @param fd of a ring buffer map, or of an array of them, of which it takes element `worker`. */
  openRecordRing(fd: number, worker: number, recordWords: number): RecordRing;
  /**
   * Gives a map of type perf event array its buffers, until close() or the end of this process.
   * Nothing wakes the reader.
   * @param pages of each, a power of two
   * @param headBytes with which each record begins; the word at `lengthAt` of it says how many
   *   bytes follow
   */
  openPerfBuffers(fd: number, pages: number, headBytes: number, lengthAt: number): PerfBuffers;
}
