/**
 * What the main thread and a thread of the engine say to each other. Everything is copied; only the
 * counters and stages, and what threads know of the nodes, are shared memory. No message is needed
 * for any packet.
 */

import type { SessionPage } from '../../api/documents.js';
import type { BalancerConfig } from '../../config/load.js';
import type { TapWish } from '../../datapath/frame-tap.js';

/** What all threads of an engine have in common, and nobody else may know. */
export interface Secrets {
  /** Any numbers: of the session hash two, which the kernel has as well, and the first nonce. */
  seeds: { client: number; port: number; nonce: number };
  /** 32 bytes: initial sequence numbers, cookies. */
  secret: Uint8Array;
}

/** Which frames a thread is given by an AF_PACKET ring. */
export interface RingShare {
  /** Of the socket filter, already loaded. */
  filterProgramFd: number;
  /**
   * Several threads: the program that shares the frames out, and in shared memory the group, or -1
   * for the first.
   */
  fanout: { programFd: number; group: Int32Array } | undefined;
}

/** All frames by an AF_PACKET ring. */
export interface PacketStart extends Secrets {
  kind: 'packet';
  share: RingShare;
}

/** Sessions of an earlier run, to be taken over before the first frame. */
export interface EarlierStart {
  /** Of its map `sessions`. */
  fd: number;
  /** Records in it. */
  count: number;
  /** Our index for each of its virtual servers and nodes, or -1. */
  servers: Int32Array;
  nodes: Int32Array;
}

/**
 * Frames by AF_XDP, sessions in maps that the kernel reads. Descriptors are those of the process.
 */
export interface XdpStart extends Secrets {
  kind: 'xdp';
  /** XdpPool.id */
  pool: number;
  /** For what comes in behind the XDP program. */
  share: RingShare;
  /** Segments larger than a frame of the wire come by it. */
  uncut: boolean;
  /** Sessions, and words of the index, of each worker. */
  capacity: number;
  indexWords: number;
  fds: { control: number; sessions: number; index: number; events: number };
  earlier: EarlierStart | undefined;
}

/** The interface that nodes are reached by, where that is another one than the clients'. */
export interface NodeInterfaceStart {
  interfaceIndex: number;
  mac: Uint8Array;
  mtu: number;
  /** For what nodes send to us. */
  share: RingShare;
}

/** What a thread of the engine is started with. Plain data: it crosses between threads. */
export interface EngineStart {
  /** Its limits are those of this thread. */
  config: BalancerConfig;
  /** Which of the threads it is, and of how many. */
  worker: number;
  workers: number;
  /** Of the interface that clients come in by. */
  interfaceIndex: number;
  mac: Uint8Array;
  mtu: number;
  /** Undefined: nodes are reached by the same interface. */
  nodeInterface: NodeInterfaceStart | undefined;
  /** The balancer's own IPv4 address, as a number. */
  address: number;
  key: Uint8Array;
  datapath: PacketStart | XdpStart;
  /** Of `nodeMemory`: the states of the nodes. */
  nodes: SharedArrayBuffer;
  /** Of `withheldMemory`: the options that SYN/ACKs do not offer. */
  withheld: SharedArrayBuffer;
  counters: SharedArrayBuffer;
  /** Of `stageMemory`: this thread's own. */
  stages: SharedArrayBuffer;
}

/** Sessions of a node in one thread; its state lies in the memory of NodeStates. */
export interface NodeSnapshot {
  active: number;
  adopted: number;
}

export interface EngineSnapshot {
  nodes: NodeSnapshot[];
  /** Sessions by state, indexed by SessionState. */
  inState: number[];
  /** Sessions of each virtual server that have not ended. */
  perServer: number[];
  /** Totals of the packet ring, in the order of RING_NAMES. */
  ring: number[];
}

/** The engine's part of a capture. */
export interface TapStart {
  /** Of `tapMemory`. */
  memory: SharedArrayBuffer;
  wish: TapWish;
}

export type ToEngine =
  | { kind: 'neighbour'; node: number; mac: Uint8Array | null }
  | { kind: 'sessions'; id: number; after: number; limit: number }
  | { kind: 'snapshot'; id: number }
  /** Shows frames to a capture from now on; undefined: to none. */
  | { kind: 'tap'; id: number; tap: TapStart | undefined }
  /** The XDP program works, and that of an earlier run no more. */
  | { kind: 'activated' }
  | { kind: 'stop' };

/**
 * What an operator may want to hear of a node, or of LOCAL_NODE. Its state now is in NodeStates.
 */
export type EngineEvent =
  /**
   * A handoff has waited for its confirmation once: perhaps the node is not where we think it is.
   */
  | { event: 'unconfirmed'; node: number }
  /** A report says something else than the last one. */
  | { event: 'changed'; node: number }
  | { event: 'silent'; node: number }
  /** `reason`: IxcpReason. */
  | { event: 'refused'; node: number; reason: number };

export type FromEngine =
  | { kind: 'ready'; takenOver: number }
  | { kind: 'sessions'; id: number; page: SessionPage }
  | { kind: 'snapshot'; id: number; snapshot: EngineSnapshot }
  | { kind: 'tapped'; id: number }
  | ({ kind: 'event' } & EngineEvent);
