/**
 * The one door to the native addon (native/*.cc). Everything that the addon offers is typed here,
 * and nothing else in the tree loads it.
 *
 * Every function throws an Error with `code` (the errno name, such as 'EPERM') and `syscall`
 * when the kernel refuses; callers turn that into a BatonError that says what to do.
 */
import { createRequire } from 'node:module';
import { BatonError, reasonOf } from '../base/errors.js';
import type { NativeXdp, ProgramInfo, XdpTestOptions, XdpTestResult } from './native-xdp.js';

export type * from './native-xdp.js';

/**
 * Words of a frame descriptor. Received: [offset, length, FrameFlags, 0]. To be sent: [offset,
 * length, FrameFlags, slot]. The slot is OUTSIDE_RING, or the transmit slot that follows the last
 * one: there a frame built here lies in the slot's room already, and a received frame is copied by
 * the addon, its virtio header included.
 */
export const DESCRIPTOR_WORDS = 4;

/**
 * Slot of a received frame that is to leave by an ordinary send: one larger than a slot's room, or
 * one that is to be cut into segments, which software does on the way through the device's queue
 * only.
 */
export const OUTSIDE_RING = 0xffff_ffff;

export interface PacketRingOptions {
  interfaceIndex: number;
  /** Receive blocks: count times size (bytes, a power of two, a multiple of the page). */
  receiveBlocks: number;
  receiveBlockBytes: number;
  /** The kernel hands over a block that is not full after this time, in ms. */
  retireMs: number;
  /** Transmit slots: count times size (bytes, a power of two). */
  transmitSlots: number;
  transmitSlotBytes: number;
  /** The mark of frames for the machine's own kernel. */
  injectMark: number;
  /** File descriptor of a loaded socket filter program, or -1 for none. */
  filterProgramFd: number;
  /**
   * Shares the frames of the interface with other rings: each goes to the one that the program
   * names, in the order in which they were opened. The group is PacketRing.fanoutGroup of the
   * first, which has -1 here.
   */
  fanout?: { programFd: number; group: number } | undefined;
}

export interface PacketRing {
  /** Number of the group of rings that share the interface's frames; -1 when there is none. */
  readonly fanoutGroup: number;
  /** Receive ring and transmit ring in one mapping. */
  readonly memory: ArrayBuffer;
  /**
   * Transmit slot i has its status word (u32, host byte order: 0 free) at transmitStatus + i *
   * transmitSlotBytes and room for a frame of transmitRoom bytes at transmitOffset + i *
   * transmitSlotBytes, for i from 0 to transmitSlots - 1. Slots are used strictly in order, round
   * and round, from 0 on.
   */
  readonly transmitStatus: number;
  readonly transmitOffset: number;
  readonly transmitRoom: number;
  readonly transmitSlots: number;
  readonly transmitSlotBytes: number;
  /**
   * Fills `descriptors` with the frames of blocks that are ready, as many as fit; a block that does
   * not fit whole goes on in the next call. Returns the count of frames. They stay valid until
   * `flush`.
   */
  receive(descriptors: Uint32Array): number;
  /**
   * Sends `count` frames in order, then gives the blocks whose frames were all received back to the
   * kernel. A frame outside the ring leaves by an ordinary send after those before it. Returns the
   * slot of the next frame: not always the one after the last, since a frame that the kernel
   * refuses is closed up. Frames that the device did not take wait in their slots for the next
   * flush, which may be one of 0 frames.
   */
  flush(descriptors: Uint32Array, count: number): number;
  /**
   * Takes a copy of a frame that lies in the memory of another ring, and sends it at the next
   * flush; or at once when it is larger than a slot's room, or FrameFlags.segmented. `headed`: a
   * virtio header is right before it, as in a packet ring's received frames; else a TCP checksum
   * that is FrameFlags.checksumPartial is finished there.
   */
  sendFrom(
    memory: ArrayBuffer,
    offset: number,
    length: number,
    flags: number,
    headed: boolean,
  ): void;
  /** Sends one frame at once into this machine's own kernel: marked, by way of the egress hook. */
  sendLocal(offset: number, length: number, received: boolean): void;
  /** Calls `onReadable` from the event loop whenever frames are ready. */
  start(onReadable: () => void): void;
  /**
   * Totals since open: [received, lost by the kernel (receive ring full), sent, send failures,
   * frames sent outside the ring, 0]. Frames of a VLAN count as lost; frames for other machines,
   * overheard by a promiscuous interface, are left out. Fills and returns `into` (Float64Array of
   * 6).
   */
  stats(into: Float64Array): Float64Array;
  /** At any time, also from inside onReadable. `memory` is detached. */
  close(): void;
}

export interface RawSocket {
  /** Sends `payload` in IPv4 with this socket's protocol number to dotted-quad `destination`. */
  send(destination: string, payload: Uint8Array): void;
  /** Calls back with (source address, payload) of every datagram for this machine. */
  start(onDatagram: (source: string, payload: Uint8Array) => void): void;
  close(): void;
}

export interface InterfaceInfo {
  index: number;
  /** Six bytes. */
  mac: Uint8Array;
  mtu: number;
  up: boolean;
  loopback: boolean;
  /** IPv4 addresses with prefix length and label, in the kernel's order. */
  addresses: { address: string; prefix: number; label: string }[];
}

export interface Neighbour {
  address: string;
  /** Six bytes, or undefined while the address is not resolved. */
  mac: Uint8Array | undefined;
  /** NUD_* state bits of linux/neighbour.h. */
  state: number;
}

/** Changes of the neighbour table, of all interfaces, as the kernel makes them. */
export interface NeighbourEvents {
  /**
   * Calls back with the address of each entry that has changed; with undefined when some were lost.
   */
  start(onEvent: (address: string | undefined) => void): void;
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
  /** Per-CPU array of u64: the sum over CPUs of each of the first `count` entries. */
  mapSums(map: string, count: number): Float64Array;
  /**
   * Attaches to clsact of an interface, which is made if missing; replaces what holds handle and
   * priority.
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
  /** As testRun, of an XDP program. */
  testRunXdp(program: string, frame: Uint8Array, options?: XdpTestOptions): XdpTestResult;
  mapFd(name: string): number;
  /**
   * The values of a BPF_F_MMAPABLE array, each padded to eight bytes; detached by close(). The same
   * one each time.
   */
  mapMemory(name: string): ArrayBuffer;
  /** Makes a file in a bpffs that keeps the map, or the program, when this process ends. */
  pinMap(name: string, path: string): void;
  pinProgram(name: string, path: string): void;
  programInfo(name: string): ProgramInfo;
  close(): void;
}

export interface Ipv4Address {
  /** Name of the interface. */
  interface: string;
  /** Dotted quad. */
  address: string;
  prefix: number;
}

export interface TcFilter {
  hook: 'ingress' | 'egress';
  priority: number;
  handle: number;
  /** Of a BPF filter: the name of its program, as the kernel keeps it (15 characters at most). */
  program: string | undefined;
}

export interface Native extends NativeXdp {
  openPacketRing(options: PacketRingOptions): PacketRing;
  openRawSocket(protocol: number): RawSocket;
  /** undefined when there is no such interface. */
  interfaceInfo(name: string): InterfaceInfo | undefined;
  neighbours(interfaceIndex: number): Neighbour[];
  /** Makes the kernel resolve or confirm an address (RTM_NEWNEIGH with NTF_USE). */
  resolveNeighbour(interfaceIndex: number, address: string): void;
  /**
   * Removes an entry of the table (RTM_DELNEIGH): who needs it next asks the link. Fails with
   * ENOENT when there is none.
   */
  forgetNeighbour(interfaceIndex: number, address: string): void;
  openNeighbourEvents(): NeighbourEvents;
  /**
   * Loads an object file. `maxEntries` resizes maps by name before loading; `reuse` takes existing
   * maps, by descriptor, in place of new ones. The error message of a program that the verifier
   * refuses holds the end of the verifier's log. Raises the limit of locked memory first; an EPERM
   * although that was not possible has `syscall` 'RLIMIT_MEMLOCK'.
   */
  loadBpf(
    path: string,
    options?: { maxEntries?: Record<string, number>; reuse?: Record<string, number> },
  ): BpfObject;
  /** Whether the running kernel's BTF names this function. False too when the kernel has no BTF. */
  kernelHasFunction(name: string): boolean;
  /** Every IPv4 address of every interface of this network namespace. */
  ipv4Addresses(): Ipv4Address[];
  /** The tc filters on the clsact hooks of an interface; undefined when it has no clsact. */
  tcFilters(interfaceIndex: number): TcFilter[] | undefined;
  /**
   * Removes the tc filter with this handle and priority; and clsact itself if `removeQdisc` and
   * nothing else is on it. False if there was none.
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
   * SCHED_BATCH for the calling thread (sched(7)): when it wakes up it waits for its turn, where it
   * would else take the CPU from whoever runs there. On an idle CPU nothing changes. False when the
   * kernel does not let it.
   */
  scheduleInBatches(): boolean;
}

const ADDON = '../../../build/Release/baton.node';
let loaded: Native | undefined;

/** The addon. Loaded at the first call, so that commands that need no root need no addon either. */
export function native(): Native {
  if (loaded === undefined) {
    try {
      loaded = createRequire(import.meta.url)(ADDON) as Native;
    } catch (error) {
      throw new BatonError(
        'BATON_SYSTEM',
        `the native addon can not be loaded: ${reasonOf(error)}`,
        {
          hint: 'run `make build` in the source directory',
          cause: error,
        },
      );
    }
  }
  return loaded;
}
