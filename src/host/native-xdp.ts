/**
 * The XDP part of the addon's types: programs on interfaces, maps and programs of other processes,
 * AF_XDP sockets. native.ts exports all of them.
 */

/** XDP runs in the driver ('native'), or in the stack's generic hook of any Ethernet interface. */
export type XdpMode = 'native' | 'generic';

/** A BPF map of any process. The descriptor stays open until close(). */
export interface MapHandle {
  readonly fd: number;
  readonly id: number;
  /** The first 15 characters; the kernel keeps no more. */
  readonly name: string;
  /** BPF_MAP_TYPE_* of linux/bpf.h. */
  readonly type: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  /** Capacity of the map. */
  readonly maxEntries: number;
  /**
   * The values of a BPF_F_MMAPABLE array, each padded to eight bytes. Every call returns the same
   * buffer; close() detaches it.
   */
  memory(): ArrayBuffer;
  /** All keys and values of a map that is not per CPU. */
  entries(): { key: Uint8Array; value: Uint8Array }[];
  /** As BpfObject.mapSums. */
  sums(count: number): Float64Array;
  lookup(key: Uint8Array): Uint8Array | undefined;
  update(key: Uint8Array, value: Uint8Array): void;
  /** False when there was no such key. */
  delete(key: Uint8Array): boolean;
  close(): void;
}

/** A BPF program of any process. The descriptor stays open until close(). */
export interface ProgramHandle {
  readonly fd: number;
  readonly id: number;
  /** The first 15 characters. */
  readonly name: string;
  close(): void;
}

/** A map that a program uses. */
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
  /** 'hardware': the program runs in the network card. Baton's never does. */
  mode: XdpMode | 'hardware';
  maps: ProgramMap[];
}

/** Run time of a program. The kernel counts it while the sysctl kernel.bpf_stats_enabled is 1. */
export interface ProgramInfo {
  id: number;
  runNanoseconds: number;
  runCount: number;
}

export interface XdpTestOptions {
  /** Interface that the frame comes from. Default: lo. Linux 5.15. */
  ingressIndex?: number;
  /** Receive queue of that interface. */
  queue?: number;
  /** How often the program runs. Each run gets the frame as the last run left it. */
  repeat?: number;
  /** Carries out the verdicts, as if each frame had arrived on ingressIndex. Linux 5.18. */
  live?: boolean;
}

export interface XdpTestResult {
  /** XDP_* of linux/bpf.h. */
  verdict: number;
  /** The frame as the program left it; empty with `live`. */
  frame: Uint8Array;
  /** Mean time of one run. */
  nanoseconds: number;
}

export interface XdpPoolOptions {
  interfaceIndex: number;
  /** The pool has sockets for the receive queues 0 to queues - 1. */
  queues: number;
  /** Transmit queues that the interface uses, at most `queues`. Default: `queues`. */
  transmitQueues?: number;
  /** Sockets on each queue: one for each engine thread. */
  workers: number;
  /** Frames of each queue, for receiving and sending; and their size (2048 or 4096 bytes). */
  framesPerQueue: number;
  frameBytes: number;
  /** Whether the driver may transfer frames without a copy. A driver that cannot copies them. */
  zeroCopy: boolean;
}

/**
 * The AF_XDP sockets of one interface and the memory that they share. One thread makes the pool,
 * and other threads use it through XdpRings. Everything is freed when the pool and all of its rings
 * are closed.
 */
export interface XdpPool {
  /** For openXdpRing, in any thread of this process. */
  readonly id: number;
  readonly memoryBytes: number;
  /** Socket descriptors, [queue][worker]. They are open until the pool is freed. */
  readonly socketFds: readonly (readonly number[])[];
  /** Whether every queue transfers frames without a copy. */
  readonly zeroCopy: boolean;
  close(): void;
}

export interface XdpRingOptions {
  /** XdpPool.id. */
  pool: number;
  /** 0 to workers - 1. Each worker may have one open ring. */
  worker: number;
}

/**
 * One worker's part of a pool: the frames of all queues for which the XDP program chose this
 * worker's socket.
 *
 * Descriptors are those of PacketRing (DESCRIPTOR_WORDS): [offset, length, FrameFlags, queue] of a
 * received frame, [offset, length, FrameFlags, unused] of a frame to send. A worker gets a frame
 * (of `frameBytes`) by `receive` or from a free list. It belongs to the worker until the next
 * flush, whether that flush sends it or not.
 */
export interface XdpRing {
  /** All frames; those of queue q begin at q * queueBytes. The mapping is this thread's own. */
  readonly memory: ArrayBuffer;
  readonly queues: number;
  readonly queueBytes: number;
  readonly frameBytes: number;
  /**
   * `memory` also has a list of free frames for each queue q. It begins at
   * `freeOffset + q * freeWords * 4` and has `freeWords` words (u32, host byte order): a count n,
   * then n offsets of whole frames. To take a frame, take the last one and write n - 1. Each flush
   * fills the lists up.
   */
  readonly freeOffset: number;
  readonly freeWords: number;
  /** As PacketRing.receive, from all queues in turn. Recognizes unfinished TCP checksums itself. */
  receive(descriptors: Uint32Array): number;
  /**
   * Sends `count` frames, received or taken from the free lists, in order on each queue. Finishes a
   * TCP checksum that is FrameFlags.checksumPartial. Then gives back received frames that were not
   * sent. Frames that the device does not take wait for the next flush, which may have 0 frames.
   * Returns how many frames were dropped because too many wait already.
   */
  flush(descriptors: Uint32Array, count: number): number;
  /** Fills the free lists up between two flushes, with frames that have been sent. */
  refill(): void;
  /** Calls `onReadable` from the event loop when frames are ready. */
  start(onReadable: () => void): void;
  /**
   * Totals since the ring was opened: [received, lost by the kernel (ring full, or no free frame),
   * sent, send failures, 0, times without a free frame to receive into]. Fills and returns `into`
   * (Float64Array of 6).
   */
  stats(into: Float64Array): Float64Array;
  /** Closes the ring and detaches `memory`. May be called at any time, also inside onReadable. */
  close(): void;
}

/** Reads the records that an XDP program has put into one worker's ring buffer. */
export interface RecordRing {
  /**
   * Moves waiting records of `recordWords` words each to `into`, as many as fit. Returns how many.
   * Skips a record of another size.
   */
  drain(into: Uint32Array): number;
  readonly recordWords: number;
  close(): void;
}

/** Perf buffers that a BPF program writes to, one for each CPU. */
export interface PerfBuffers {
  /** The records since the last call, each padded to eight bytes; CPU after CPU. */
  drain(): Uint8Array;
  /** Closes the buffers. From now on the program's writes fail. */
  close(): void;
}

export interface NativeXdp {
  /**
   * Attaches a program to an interface that has none. With `replaceFd`, replaces that program in
   * one step. Throws EBUSY or EEXIST when the interface has another program. Throws ENOTSUP or
   * EINVAL when the driver cannot run it; the message has the kernel's words.
   */
  attachXdp(interfaceIndex: number, programFd: number, mode: XdpMode, replaceFd?: number): void;
  /** False when there was no program, or not that of `expectedFd`. */
  detachXdp(interfaceIndex: number, mode: XdpMode, expectedFd?: number): boolean;
  /**
   * The program on the interface; undefined when there is none. If several modes have a program,
   * the one that frames meet first.
   */
  xdpProgram(interfaceIndex: number): AttachedXdp | undefined;
  /** The maps of the program with this id. Throws the system's error when there is none. */
  programMaps(id: number): ProgramMap[];
  /** Opens a map by its id, the path of a pin, or a descriptor of any thread of this process. */
  openMap(which: { id: number } | { path: string } | { fd: number }): MapHandle;
  /** Opens a program by its id or the path of a pin. */
  openProgram(which: { id: number } | { path: string }): ProgramHandle;
  /** Number of receive queues that the interface uses; at least 1. */
  receiveQueues(interfaceName: string): number;
  /** Number of transmit queues that the interface uses; at least 1. */
  transmitQueues(interfaceName: string): number;
  /** Name of the driver, such as 'virtio_net'; '' when the interface does not say. */
  interfaceDriver(interfaceName: string): string;
  /**
   * Whether the other end of a veth pair, in whatever namespace, has an XDP program in its driver.
   * False for an interface without a peer. Throws an Error when the kernel refuses.
   */
  peerRunsXdp(interfaceIndex: number): boolean;
  /**
   * Opens and binds the sockets. Throws EBUSY when another process has a socket on a queue. Throws
   * ENOTSUP when the interface does not support AF_XDP. Throws ENOBUFS or EPERM when the limit of
   * locked memory is too low.
   */
  createXdpPool(options: XdpPoolOptions): XdpPool;
  openXdpRing(options: XdpRingOptions): XdpRing;
  /**
   * Puts a new ring buffer of `bytes` (a power of two, a multiple of the page) into each of the
   * first `count` elements of an array of maps.
   */
  fillRings(arrayFd: number, count: number, bytes: number): void;
  /** @param fd of a ring buffer map, or of an array of them: then element `worker` is opened */
  openRecordRing(fd: number, worker: number, recordWords: number): RecordRing;
  /**
   * Gives a perf event array its buffers, until close() or the end of this process. Nothing wakes
   * the reader.
   * @param pages size of each buffer, a power of two
   * @param headBytes size of the head of each record; its word at `lengthAt` says how many bytes
   *   follow
   */
  openPerfBuffers(fd: number, pages: number, headBytes: number, lengthAt: number): PerfBuffers;
}
