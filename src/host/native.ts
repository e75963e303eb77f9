/**
 * The one door to the native addon (native/*.cc). This file declares everything that the addon
 * offers, and no other file loads it. Addresses are the values of wire/address.ts.
 *
 * When the kernel refuses, a function throws an Error with `code` (the errno name, such as 'EPERM')
 * and `syscall`. The caller turns it into a BatonError that says what to do.
 */
import { createRequire } from 'node:module';
import { BatonError, reasonOf } from '../base/errors.js';
import type { Address, Address6 } from '../wire/address.js';
import type { NativeXdp, ProgramInfo, XdpTestOptions, XdpTestResult } from './native-xdp.js';

export type * from './native-xdp.js';

/**
 * Words of a frame descriptor. A received frame: [offset, length, FrameFlags, 0]. A frame to send:
 * [offset, length, FrameFlags, slot]. The slot is OUTSIDE_RING, or the transmit slot after the one
 * used last. The engine builds a frame in the slot's room. The addon copies a received frame there,
 * with its virtio header.
 */
export const DESCRIPTOR_WORDS = 4;

/**
 * Slot of a received frame that leaves by an ordinary send. Such a frame is larger than a slot's
 * room, or must be cut into segments: software does that only on the way through the device's
 * queue.
 */
export const OUTSIDE_RING = 0xffff_ffff;

export interface PacketRingOptions {
  interfaceIndex: number;
  /** Receive blocks: count times size (bytes, a power of two, a multiple of the page). */
  receiveBlocks: number;
  receiveBlockBytes: number;
  /** After this time the kernel hands over a block even if it is not full; in ms. */
  retireMs: number;
  /** Transmit slots: count times size (bytes, a power of two). */
  transmitSlots: number;
  transmitSlotBytes: number;
  /** File descriptor of a loaded socket filter program, or -1 for none. */
  filterProgramFd: number;
  /**
   * Shares the frames of the interface among several rings. For each frame the program returns the
   * number of a ring, in the order in which the rings were opened. `group` is
   * PacketRing.fanoutGroup of the first ring; -1 for the first ring itself.
   */
  fanout?: { programFd: number; group: number } | undefined;
}

export interface PacketRing {
  /** Number of the group of rings that share the interface's frames; -1 without a group. */
  readonly fanoutGroup: number;
  /** Receive ring and transmit ring in one mapping. */
  readonly memory: ArrayBuffer;
  /**
   * Transmit slot i (0 to transmitSlots - 1) has its status word (u32, host byte order, 0: free) at
   * transmitStatus + i * transmitSlotBytes. It has room for a frame of transmitRoom bytes at
   * transmitOffset + i * transmitSlotBytes. Slots are used strictly in order, and again from 0
   * after the last.
   */
  readonly transmitStatus: number;
  readonly transmitOffset: number;
  readonly transmitRoom: number;
  readonly transmitSlots: number;
  readonly transmitSlotBytes: number;
  /**
   * Fills `descriptors` with the frames of blocks that are ready, as many as fit. The rest of a
   * block that does not fit comes with the next call. Returns the count of frames. They stay valid
   * until `flush`.
   */
  receive(descriptors: Uint32Array): number;
  /**
   * Sends `count` frames in order. Then gives back to the kernel the blocks whose frames were all
   * received. A frame outside the ring leaves by an ordinary send, after the frames before it.
   * Returns the slot of the next frame. It is not always the one after the last: when the kernel
   * refuses a frame, the gap is closed. Frames that the device did not take wait in their slots for
   * the next flush, which may have 0 frames.
   */
  flush(descriptors: Uint32Array, count: number): number;
  /**
   * Copies a frame from the memory of any ring, and sends it at the next flush. A frame that is
   * larger than a slot's room, FrameFlags.segmented or FrameFlags.queued is sent at once. `headed`:
   * a virtio header precedes the frame, as in a packet ring's received frames. Otherwise this call
   * finishes a TCP checksum that is FrameFlags.checksumPartial, in that memory.
   */
  sendFrom(
    memory: ArrayBuffer,
    offset: number,
    length: number,
    flags: number,
    headed: boolean,
  ): void;
  /** Calls `onReadable` from the event loop when frames are ready. */
  start(onReadable: () => void): void;
  /**
   * Totals since the ring was opened: [received, lost by the kernel (receive ring full), sent, send
   * failures, frames sent outside the ring, 0]. Frames of a VLAN count as lost. Frames for other
   * machines, which a promiscuous interface receives, are not counted. Fills and returns `into`
   * (Float64Array of 6).
   */
  stats(into: Float64Array): Float64Array;
  /** Closes the ring and detaches `memory`. May be called at any time, also inside onReadable. */
  close(): void;
}

export interface RawSocket {
  /** Sends `payload` in an IP packet with this socket's protocol. */
  send(destination: Address, payload: Uint8Array): void;
  /** Calls back with source address and payload of each datagram for this machine. */
  start(onDatagram: (source: Address, payload: Uint8Array) => void): void;
  close(): void;
}

export interface InterfaceInfo {
  index: number;
  /** Six bytes. */
  mac: Uint8Array;
  mtu: number;
  up: boolean;
  loopback: boolean;
  /**
   * Addresses with prefix length and label, in the kernel's order. IPv6 ones have no label. Those
   * of the link alone (fe80::) and temporary ones (RFC 8981) are left out.
   */
  addresses: { address: Address; prefix: number; label: string }[];
}

export interface Neighbour {
  address: Address;
  /** Six bytes, or undefined while the address is not resolved. */
  mac: Uint8Array | undefined;
  /** NUD_* state bits of linux/neighbour.h. */
  state: number;
}

/** Changes that the kernel makes to the neighbour table, on all interfaces. */
export interface NeighbourEvents {
  /** Calls back with the address of each changed entry; with undefined when changes were lost. */
  start(onEvent: (address: Address | undefined) => void): void;
  close(): void;
}

export interface BpfObject {
  /** File descriptors stay open until close(). */
  programFd(name: string): number;
  mapUpdate(map: string, key: Uint8Array, value: Uint8Array): void;
  mapLookup(map: string, key: Uint8Array): Uint8Array | undefined;
  mapDelete(map: string, key: Uint8Array): boolean;
  /** All keys and values of a map that is not per CPU. */
  mapEntries(map: string): { key: Uint8Array; value: Uint8Array }[];
  /**
   * Per-CPU array of u64, or of structs of u64: the sums over CPUs of the first `count` entries. A
   * struct of three gives three sums, one after the other.
   */
  mapSums(map: string, count: number): Float64Array;
  /**
   * Attaches a program to the clsact hook of an interface. Makes clsact if it is missing. Replaces
   * a filter with the same handle and priority.
   */
  attachTc(
    program: string,
    interfaceIndex: number,
    hook: 'ingress' | 'egress',
    priority: number,
    handle: number,
  ): void;
  /** BPF_PROG_TEST_RUN of a tc program over one frame. */
  testRun(
    program: string,
    frame: Uint8Array,
    options?: { mark?: number; ingressIndex?: number; interfaceIndex?: number },
  ): {
    verdict: number;
    frame: Uint8Array;
    mark: number;
  };
  /** As testRun, for an XDP program. */
  testRunXdp(program: string, frame: Uint8Array, options?: XdpTestOptions): XdpTestResult;
  mapFd(name: string): number;
  /**
   * The values of a BPF_F_MMAPABLE array, each padded to eight bytes. Every call returns the same
   * buffer; close() detaches it.
   */
  mapMemory(name: string): ArrayBuffer;
  /** Makes a file in a bpffs. It keeps the map, or the program, when this process ends. */
  pinMap(name: string, path: string): void;
  pinProgram(name: string, path: string): void;
  programInfo(name: string): ProgramInfo;
  close(): void;
}

export interface Ipv4Address {
  /** Name of the interface. */
  interface: string;
  address: Address;
  prefix: number;
}

export interface TcFilter {
  hook: 'ingress' | 'egress';
  priority: number;
  handle: number;
  /** Name of the BPF program; the kernel keeps 15 characters. Undefined: not a BPF filter. */
  program: string | undefined;
  /** Undefined: not a BPF filter. */
  programId: number | undefined;
}

export interface Native extends NativeXdp {
  openPacketRing(options: PacketRingOptions): PacketRing;
  /** @param own an IPv6 address: the socket has it, and is one of IPv6. Default: IPv4 */
  openRawSocket(protocol: number, own?: Address6): RawSocket;
  /** Undefined when there is no such interface. */
  interfaceInfo(name: string): InterfaceInfo | undefined;
  neighbours(interfaceIndex: number): Neighbour[];
  /** Asks the kernel to resolve or confirm an address (RTM_NEWNEIGH with NTF_USE). */
  resolveNeighbour(interfaceIndex: number, address: Address): void;
  /**
   * Removes an entry from the neighbour table (RTM_DELNEIGH). The next packet to that address makes
   * the kernel ask the link again. Throws ENOENT when there is no such entry.
   */
  forgetNeighbour(interfaceIndex: number, address: Address): void;
  openNeighbourEvents(): NeighbourEvents;
  /**
   * Loads an object file. `maxEntries` sets the capacity of maps, by name. `reuse` gives
   * descriptors of existing maps to use in place of new ones. When the verifier refuses a program,
   * the error message contains the end of the verifier's log. First raises the limit of locked
   * memory. When that was not possible and loading fails with EPERM, `syscall` is 'RLIMIT_MEMLOCK'.
   */
  loadBpf(
    path: string,
    options?: { maxEntries?: Record<string, number>; reuse?: Record<string, number> },
  ): BpfObject;
  /** Whether the running kernel's BTF has this function. False when the kernel has no BTF. */
  kernelHasFunction(name: string): boolean;
  /** Every IPv4 address of every interface of this network namespace. */
  ipv4Addresses(): Ipv4Address[];
  /** The tc filters on the clsact hooks of an interface; undefined when it has no clsact. */
  tcFilters(interfaceIndex: number): TcFilter[] | undefined;
  /**
   * Removes the tc filter with this handle and priority. False if there was none.
   */
  detachTc(
    interfaceIndex: number,
    hook: 'ingress' | 'egress',
    priority: number,
    handle: number,
  ): boolean;
  /** Removes clsact if no filter is left on either hook. */
  removeClsactIfEmpty(interfaceIndex: number): void;
  /**
   * Sets SCHED_BATCH for the calling thread (sched(7)). A thread that wakes up then waits for its
   * turn and does not preempt the thread that runs on that CPU. On an idle CPU nothing changes.
   * False when the kernel refuses.
   */
  scheduleInBatches(): boolean;
  /**
   * From now on the calling thread preempts other threads when it wakes up: SCHED_OTHER with this
   * nice value and a short slice (sched_setattr(2)). `endPrompt` restores what was there before.
   * False when the kernel refuses.
   *
   * @param slice ns, from 100,000 on. A thread preempts one with a longer slice. Without effect
   *   before Linux 6.12.
   */
  beginPrompt(nice: number, slice: number): boolean;
  endPrompt(): void;
}

const ADDON = '../../../build/Release/baton.node';
let loaded: Native | undefined;

/** The addon. Loaded at the first call, so commands that need no root work without it. */
export function native(): Native {
  if (loaded === undefined) {
    try {
      loaded = createRequire(import.meta.url)(ADDON) as Native;
    } catch (error) {
      throw new BatonError('BATON_SYSTEM', `cannot load the native addon: ${reasonOf(error)}`, {
        hint: 'run `make build` in the source directory',
        cause: error,
      });
    }
  }
  return loaded;
}
