/**
 * The messages between the main thread and an engine thread. Everything in them is copied, except
 * shared memory: counters, stages, and what the threads know of the nodes. No packet needs a
 * message.
 */

import type { SessionPage } from '../../api/documents.js';
import type { PlainError } from '../../base/thread-errors.js';
import type { TapWish } from '../../datapath/frame-tap.js';
import type { Obstacle } from '../../directory/obstacle.js';
import type { PreviewedHolder } from '../../directory/predictors/predictor.js';
import type { ForwardMemory } from '../../engine/forward/tables.js';
import type { Limits } from '../../engine/options.js';
import type { OwnAddresses } from '../../wire/address.js';
import type { Farm } from '../objects/farm.js';

/** Secrets that all engine threads share. */
export interface Secrets {
  /** Random numbers: two for the session hash, which the kernel has too, and the first nonce. */
  seeds: { client: number; port: number; nonce: number };
  /** 32 bytes, for initial sequence numbers and cookies. */
  secret: Uint8Array;
}

/** Which of an interface's frames the packet ring of one engine thread gets. */
export interface RingShare {
  /** File descriptor of the socket filter, already loaded. */
  filterProgramFd: number;
  /**
   * With several threads: the program that distributes the frames, and in shared memory the number
   * of the group of rings, -1 until the first thread has made it. Undefined: one thread gets all.
   */
  fanout: { programFd: number; group: Int32Array } | undefined;
}

/** The engine gets all frames by an AF_PACKET ring. */
export interface PacketStart extends Secrets {
  kind: 'packet';
  share: RingShare;
}

/** The sessions of an earlier run. The engine takes them over before the first frame. */
export interface EarlierStart {
  /** File descriptor of its map `sessions`. */
  fd: number;
  /** That of its map `session_addresses`. */
  addressesFd: number;
  /** Records in the map. */
  count: number;
  /** Our slot of each of its virtual servers and nodes, or -1. */
  servers: Int32Array;
  nodes: Int32Array;
}

/**
 * The engine gets frames by AF_XDP, and keeps sessions in maps that the kernel reads. File
 * descriptors are valid in all threads of the process.
 */
export interface XdpStart extends Secrets {
  kind: 'xdp';
  /** XdpPool.id */
  pool: number;
  /** Frames that reach the network stack behind the XDP program (StackInlet). */
  share: RingShare;
  /** These frames may be segments larger than a frame of the wire. */
  uncut: boolean;
  /** Sessions of each worker, and words of its index. */
  capacity: number;
  indexWords: number;
  fds: Record<'control' | 'sessions' | 'index' | 'events' | 'heads' | 'moves', number> & {
    /** Undefined: no virtual server had an IPv6 address at the start. */
    addresses: number | undefined;
  };
  /** Sets of heads of each worker (bpf/lib/heads.h); 0: the program forwards none by itself. */
  headSets: number;
  earlier: EarlierStart | undefined;
}

/** The interface by which nodes are reached, if it is not the one of the clients. */
export interface NodeInterfaceStart {
  interfaceIndex: number;
  mac: Uint8Array;
  mtu: number;
  /** Frames that nodes send to the balancer. */
  share: RingShare;
}

/** Virtual servers with mode forward: their tables, and memory of ForwardCounts for each thread. */
export interface ForwardStart {
  memory: ForwardMemory;
  counts: SharedArrayBuffer[];
}

/** The start data of an engine thread. Plain data, because it crosses between threads. */
export interface EngineStart {
  /** The farm at the start. */
  farm: Farm;
  /** The share of this thread. */
  limits: Limits;
  /** Number of this thread, from 0, and of all threads. */
  worker: number;
  workers: number;
  /** The interface of the clients. */
  interfaceIndex: number;
  mac: Uint8Array;
  mtu: number;
  /** Undefined: nodes are reached by the interface of the clients. */
  nodeInterface: NodeInterfaceStart | undefined;
  /** The balancer's own addresses. */
  own: OwnAddresses;
  key: Uint8Array;
  datapath: PacketStart | XdpStart;
  /** Undefined: the XDP program forwards. */
  forward: ForwardStart | undefined;
  /** Memory of `farmMemory`: the states of the nodes. */
  nodes: SharedArrayBuffer;
  /** Memory of `withheldMemory`: the options that SYN/ACKs do not offer. */
  withheld: SharedArrayBuffer;
  counters: SharedArrayBuffer;
  /** Memory of this thread's `ObjectCounters`. */
  objects: SharedArrayBuffer;
  /** This thread's memory of `stageMemory`. */
  stages: SharedArrayBuffer;
}

/** Sessions of a node in one thread. The memory of NodeStates has its state. */
export interface NodeSnapshot {
  active: number;
  adopted: number;
}

export interface EngineSnapshot {
  /** By slot. */
  nodes: NodeSnapshot[];
  /** Sessions by state, indexed by SessionState. */
  inState: number[];
  /** Sessions of each virtual server that have not ended, by slot. */
  perServer: number[];
  /** The same with those that linger. */
  heldByServer: number[];
  /** Totals of the rings, in the order of RING_NAMES. */
  ring: number[];
}

/** Asks which node a request would get. */
export interface ExplainQuestion {
  /** Of the farm in which `resource` is an index of the directory. */
  generation: number;
  resource: number;
  /** Slot of the virtual server. */
  server: number;
}

/** A holder of the resource, as the thread sees it. */
export interface ExplainedHolder extends PreviewedHolder {
  /** Slot of the node. */
  node: number;
  weight: number;
  /** Its sessions in all threads. */
  load: number;
  takes: boolean;
  /** It takes the session only if no other holder does. */
  lastChoice: boolean;
  /** Why it does not take the session; null: it does. `forMs`: until that ends, if it is known. */
  obstacle: Obstacle | null;
  forMs: number | null;
}

export interface ExplainAnswer {
  /** Slot of the node that would get the request; -1: none. */
  node: number;
  holders: ExplainedHolder[];
}

/** The engine's part of a capture. */
export interface TapStart {
  /** Memory of `tapMemory`. */
  memory: SharedArrayBuffer;
  wish: TapWish;
}

export type ToEngine =
  | { kind: 'neighbour'; node: number; mac: Uint8Array | null }
  | { kind: 'sessions'; id: number; after: number; limit: number }
  | { kind: 'snapshot'; id: number }
  /** Shows frames to a capture from now on; undefined: to none. */
  | { kind: 'tap'; id: number; tap: TapStart | undefined }
  /**
   * Records what happens to sessions in this memory of `ringMemory` from now on; undefined: no
   * more.
   */
  | { kind: 'accessLog'; id: number; ring: SharedArrayBuffer | undefined }
  | { kind: 'explain'; id: number; question: ExplainQuestion }
  /** Makes everything that this farm needs, and changes nothing. */
  | { kind: 'prepare'; id: number; farm: Farm }
  /** Puts the prepared farm in place, or forgets it. */
  | { kind: 'commit'; id: number }
  | { kind: 'discard'; id: number }
  /** Whether the thread takes the CPU at once when a frame wakes it. */
  | { kind: 'prompt'; prompt: boolean }
  /** The node is in maintenance: its sessions end. */
  | { kind: 'end-node'; node: number }
  /** The virtual server gets no new sessions: those that it has end. */
  | { kind: 'end-server'; server: number }
  /** The XDP program works now, in place of an earlier run's. */
  | { kind: 'activated' }
  | { kind: 'stop' };

/**
 * An event about a node that an operator may want to know. NodeStates has its
 * present state.
 */
export type EngineEvent =
  /**
   * A handoff was not confirmed in time, once. Perhaps the node's MAC address has changed.
   */
  | { event: 'unconfirmed'; node: number }
  /** What is known of the node has changed, for instance by a report that differs from the last. */
  | { event: 'changed'; node: number }
  | { event: 'silent'; node: number }
  /** `reason`: IxcpReason. */
  | { event: 'refused'; node: number; reason: number };

export type FromEngine =
  | { kind: 'ready'; takenOver: number }
  | { kind: 'sessions'; id: number; page: SessionPage }
  | { kind: 'snapshot'; id: number; snapshot: EngineSnapshot }
  | { kind: 'tapped'; id: number }
  | { kind: 'accessLogSet'; id: number }
  /** Undefined: the thread has another farm than the question is about. */
  | { kind: 'explained'; id: number; answer: ExplainAnswer | undefined }
  /** `fault`: why the farm could not be prepared. */
  | { kind: 'prepared'; id: number; fault: PlainError | undefined }
  | { kind: 'committed'; id: number }
  | { kind: 'discarded'; id: number }
  | ({ kind: 'event' } & EngineEvent);
