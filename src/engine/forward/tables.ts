/**
 * The tables of virtual servers with mode forward: who has which node. They lie in maps of the XDP
 * program, or with the datapath packet in memory that all threads of the process share. Whoever
 * sees the first packet of a flow adds its record: the XDP program, or an engine thread. The main
 * thread removes records that are idle, and decides about buckets.
 *
 * Threads write without locks, as the XDP program does (bpf/lib/forward.h says what that costs).
 */
import { MAX_XDP_NODES, MOST_VIRTUAL_SERVERS } from '../../datapath/xdp-layout.js';
import { sessionHash } from '../table/session-record.js';
import {
  CANDIDATES,
  FlowState,
  FORWARD_BUCKET_BYTES,
  FORWARD_FLOW_BYTES,
  FORWARD_NODE_BYTES,
  FORWARD_SERVER,
  FORWARD_SERVER_BYTES,
  KIND_MASK,
  NEAR_SETS,
  TICK_MASK,
  TICK_SHIFT,
  TICKS_AHEAD,
  WAYS,
} from './layout.js';

/** The memory of the tables. */
export interface ForwardMemory {
  readonly servers: ArrayBufferLike;
  readonly buckets: ArrayBufferLike;
  readonly flows: ArrayBufferLike;
  readonly nodes: ArrayBufferLike;
}

/** Sizes of the tables. */
export interface ForwardSizes {
  /** Buckets of all virtual servers. */
  readonly buckets: number;
  /** Sets of WAYS flows, a power of two. */
  readonly sets: number;
}

/** Memory for tables of these sizes that threads share. */
export function sharedForwardMemory({ buckets, sets }: ForwardSizes): ForwardMemory {
  return {
    servers: new SharedArrayBuffer(MOST_VIRTUAL_SERVERS * FORWARD_SERVER_BYTES),
    buckets: new SharedArrayBuffer(buckets * FORWARD_BUCKET_BYTES),
    flows: new SharedArrayBuffer(sets * WAYS * FORWARD_FLOW_BYTES),
    nodes: new SharedArrayBuffer(MAX_XDP_NODES * FORWARD_NODE_BYTES),
  };
}

/** No record. */
export const NO_FLOW = -1;

/** A record that has seen one packet only gives way before all others. */
const FIRST_TO_GO = 0x40000000;

const SERVER_WORDS = FORWARD_SERVER_BYTES / 4;
const SERVER_HALVES = FORWARD_SERVER_BYTES / 2;
const NODE_WORDS = FORWARD_NODE_BYTES / 4;

/** `clock` (ms, an unsigned 32-bit number) as a tick. */
export function tickOf(clock: number): number {
  return (clock >>> TICK_SHIFT) & TICK_MASK;
}

/**
 * Ticks from `then` to `tick`. A time that is up to TICKS_AHEAD later counts as now: whoever saw
 * the packet may have read the clock after the caller.
 */
export function ticksSince(tick: number, then: number): number {
  const since = (tick - then) & TICK_MASK;
  return since > TICK_MASK - TICKS_AHEAD ? 0 : since;
}

/** The owner of a record as a number: slot of the virtual server, and FlowKind. */
export function ownerOf(server: number, kind: number): number {
  return (kind << 8) | server;
}

/** forward_candidate of bpf/lib/forward.h: the set to search at `turn`, from 0. */
function candidateOf(hash: number, mask: number, turn: number): number {
  if (turn === 0) return hash & mask & (NEAR_SETS - 1);
  if (turn === 1) return hash & mask;
  const mixed = Math.imul(hash ^ (hash >>> 15), 0x9e3779b1);
  return (mixed ^ (mixed >>> 13)) & mask;
}

export class ForwardTables {
  /** Buckets of all virtual servers. */
  readonly bucketCount: number;
  /** Records of flows. */
  readonly capacity: number;
  private readonly mask: number;
  private readonly serverWords: Uint32Array;
  private readonly serverHalves: Uint16Array;
  private readonly bucketHalves: Uint16Array;
  private readonly bucketWords: Uint32Array;
  private readonly nodeWords: Uint32Array;
  private readonly flowWords: Uint32Array;
  private readonly flowHalves: Uint16Array;
  private readonly flowBytes: Uint8Array;

  constructor(memory: ForwardMemory) {
    this.serverWords = new Uint32Array(memory.servers);
    this.serverHalves = new Uint16Array(memory.servers);
    this.bucketHalves = new Uint16Array(memory.buckets);
    this.bucketWords = new Uint32Array(memory.buckets);
    this.nodeWords = new Uint32Array(memory.nodes);
    this.flowWords = new Uint32Array(memory.flows);
    this.flowHalves = new Uint16Array(memory.flows);
    this.flowBytes = new Uint8Array(memory.flows);
    this.bucketCount = memory.buckets.byteLength / FORWARD_BUCKET_BYTES;
    this.capacity = memory.flows.byteLength / FORWARD_FLOW_BYTES;
    this.mask = this.capacity / WAYS - 1;
  }

  /** A word of a virtual server. @param field of FORWARD_SERVER, except `picks` */
  serverWord(server: number, field: number): number {
    return this.serverWords[server * SERVER_WORDS + (field >> 2)]!;
  }

  setServerWord(server: number, field: number, value: number): void {
    Atomics.store(this.serverWords, server * SERVER_WORDS + (field >> 2), value);
  }

  /** The node of a pick, from 0. */
  pick(server: number, index: number): number {
    return this.serverHalves[server * SERVER_HALVES + (FORWARD_SERVER.picks >> 1) + index]!;
  }

  setPick(server: number, index: number, node: number): void {
    this.serverHalves[server * SERVER_HALVES + (FORWARD_SERVER.picks >> 1) + index] = node;
  }

  /** NodeFlag bits of a node. */
  nodeFlags(node: number): number {
    return this.nodeWords[node * NODE_WORDS] ?? 0;
  }

  setNodeFlags(node: number, flags: number): void {
    this.nodeWords[node * NODE_WORDS] = flags;
  }

  /** The bucket of a client at a virtual server with buckets: an index of all buckets. */
  bucketOf(server: number, client: number, clientPort: number): number {
    const at = server * SERVER_WORDS;
    const words = this.serverWords;
    const hash = sessionHash(
      client,
      clientPort << 16,
      words[at + (FORWARD_SERVER.clientSeed >> 2)]!,
      words[at + (FORWARD_SERVER.portSeed >> 2)]!,
    );
    const buckets = words[at + (FORWARD_SERVER.buckets >> 2)]!;
    return words[at + (FORWARD_SERVER.firstBucket >> 2)]! + (hash & (buckets - 1));
  }

  bucketNode(bucket: number): number {
    return this.bucketHalves[bucket * 4]!;
  }

  setBucketNode(bucket: number, node: number): void {
    this.bucketHalves[bucket * 4] = node;
  }

  bucketSeen(bucket: number): number {
    return this.bucketWords[bucket * 2 + 1]!;
  }

  setBucketSeen(bucket: number, tick: number): void {
    if (this.bucketWords[bucket * 2 + 1] !== tick) this.bucketWords[bucket * 2 + 1] = tick;
  }

  /** Hash of the key of a record. @param owner of `ownerOf` */
  flowHash(client: number, ports: number, owner: number): number {
    const at = (owner & 0xff) * SERVER_WORDS;
    return sessionHash(
      client,
      ports ^ owner,
      this.serverWords[at + (FORWARD_SERVER.clientSeed >> 2)]!,
      this.serverWords[at + (FORWARD_SERVER.portSeed >> 2)]!,
    );
  }

  /** The record with this key, or NO_FLOW. The key is in unsigned 32-bit numbers. */
  find(client: number, ports: number, owner: number, hash: number): number {
    const { flowWords, mask } = this;
    for (let turn = 0; turn < CANDIDATES; turn++) {
      const set = candidateOf(hash, mask, turn);
      for (let flow = set * WAYS; flow < (set + 1) * WAYS; flow++) {
        if (
          flowWords[flow * 4] === client &&
          flowWords[flow * 4 + 1] === ports &&
          this.owner(flow) === owner
        )
          return flow;
      }
    }
    return NO_FLOW;
  }

  /**
   * Adds a record: in the first set with room, else in place of the one that is needed least.
   * Returns whether another one had to give way.
   */
  add(
    client: number,
    ports: number,
    owner: number,
    hash: number,
    node: number,
    tick: number,
  ): boolean {
    const { flowWords, mask } = this;
    let place = NO_FLOW;
    let last = NO_FLOW;
    let lastRank = -1;
    for (let i = 0; i < CANDIDATES * WAYS && place === NO_FLOW; i++) {
      const flow = candidateOf(hash, mask, (i / WAYS) | 0) * WAYS + (i % WAYS);
      const kind = this.flowBytes[flow * FORWARD_FLOW_BYTES + 11]!;
      if (kind === 0) {
        place = flow;
        continue;
      }
      let rank = ticksSince(tick, this.seen(flow));
      if ((kind & FlowState.second) === 0) rank |= FIRST_TO_GO;
      if (rank >= lastRank) {
        lastRank = rank;
        last = flow;
      }
    }
    const flow = place === NO_FLOW ? last : place;
    flowWords[flow * 4 + 3] = tick;
    this.own(flow, owner, node);
    flowWords[flow * 4 + 1] = ports;
    flowWords[flow * 4] = client;
    return place === NO_FLOW;
  }

  /** Gives a record another node, and leaves its state. */
  setNode(flow: number, node: number, tick: number): void {
    this.flowWords[flow * 4 + 3] = tick;
    this.flowHalves[flow * 8 + 4] = node;
  }

  /** Gives a record another node, as if it had just been added. */
  renew(flow: number, owner: number, node: number, tick: number): void {
    this.flowWords[flow * 4 + 3] = tick;
    this.own(flow, owner, node);
  }

  remove(flow: number): void {
    // The key last: a record without a kind is found by nobody.
    this.flowWords[flow * 4 + 2] = 0;
    this.flowWords[flow * 4 + 3] = 0;
    this.flowWords[flow * 4] = 0;
    this.flowWords[flow * 4 + 1] = 0;
  }

  client(flow: number): number {
    return this.flowWords[flow * 4]!;
  }

  /** Client port << 16 | port of the virtual server. */
  ports(flow: number): number {
    return this.flowWords[flow * 4 + 1]!;
  }

  node(flow: number): number {
    return this.flowHalves[flow * 8 + 4]!;
  }

  server(flow: number): number {
    return this.flowBytes[flow * FORWARD_FLOW_BYTES + 10]!;
  }

  /** FlowKind. */
  kind(flow: number): number {
    return this.flowBytes[flow * FORWARD_FLOW_BYTES + 11]! & KIND_MASK;
  }

  /** FlowState bits. */
  state(flow: number): number {
    return this.flowBytes[flow * FORWARD_FLOW_BYTES + 11]! & ~KIND_MASK;
  }

  /** Raises FlowState bits. Returns whether one of them is new. */
  raise(flow: number, state: number): boolean {
    const at = flow * FORWARD_FLOW_BYTES + 11;
    const kind = this.flowBytes[at]!;
    if ((kind | state) === kind) return false;
    this.flowBytes[at] = kind | state;
    return true;
  }

  /** Tick of the last packet. */
  seen(flow: number): number {
    return this.flowWords[flow * 4 + 3]!;
  }

  /** Returns whether the record had an earlier tick. */
  setSeen(flow: number, tick: number): boolean {
    if (this.flowWords[flow * 4 + 3] === tick) return false;
    this.flowWords[flow * 4 + 3] = tick;
    return true;
  }

  private owner(flow: number): number {
    return (
      this.flowBytes[flow * FORWARD_FLOW_BYTES + 10]! |
      ((this.flowBytes[flow * FORWARD_FLOW_BYTES + 11]! & KIND_MASK) << 8)
    );
  }

  private own(flow: number, owner: number, node: number): void {
    // One store: no other thread finds the owner with the node of another flow.
    this.flowWords[flow * 4 + 2] = (owner << 16) | node;
  }
}
