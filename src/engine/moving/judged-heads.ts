/**
 * Heads that the XDP program may forward without the engine (bpf/lib/heads.h): the engine has
 * judged each of them, and its verdict is the same for each connection at that node until the next
 * change.
 *
 *     head at a session's node
 *       1st time    looked up; its print is remembered
 *       2nd time    looked up, and put into the map
 *       later       forwarded by the kernel, from every session of that node that may move
 *
 * So heads that come once, with a number or a cookie of their own, take no place in the map. A set
 * that is full gives up the head that was not asked for the longest. Each change that a verdict may
 * depend on gives the shared `generation` another value, and so voids all heads (`voidHeads`).
 */
import {
  HEAD_LEAST_BYTES,
  HEAD_MOST_BYTES,
  HEAD_NODES,
  HEAD_SOLE,
  HEAD_WAYS,
  JUDGED_HEAD,
  JUDGED_HEAD_BYTES,
} from '../../datapath/heads-layout.js';
import { NO_RESOURCE, REQUEST_BYTES } from '../table/session-table.js';
import { HeadDigest } from './head-digest.js';

/** Prints that are remembered: a power of two. */
const PRINTS = 4096;
/** Places that a tick looks at. */
const PLACES_A_TICK = 256;

const WORD_BITS = 32;
const STRIDE = JUDGED_HEAD_BYTES / 4;
const GENERATION = JUDGED_HEAD.generation / 4;
const SERVER = JUDGED_HEAD.server / 4;
const NUMBER = JUDGED_HEAD.number / 4;
const REQUESTS = JUDGED_HEAD.requests / 4;
const NODES = JUDGED_HEAD.nodes / 4;
const NODE_WORDS = HEAD_NODES / WORD_BITS;
const NONE = -1;
/** As many numbers there are for heads. 0 is none of them. */
const NUMBERS = 2 ** 32;

/** The memory that an engine shares with the XDP program for this. */
export interface HeadMemory {
  /** Map `heads`, where this engine's part begins, and how many sets it has: a power of two. */
  heads: ArrayBuffer;
  headsOffset: number;
  sets: number;
  /** Map `moves`, and where this engine's parts begin: its sessions, and its nodes. */
  moves: ArrayBuffer;
  movesOffset: number;
  nodeMovesOffset: number;
  /** The number of the last change, of all engines. */
  generation: Uint32Array;
  /** 16 bytes, the secret of the digests. */
  key: Uint8Array;
}

/** A change may have made verdicts wrong. @param generation HeadMemory.generation */
export function voidHeads(generation: Uint32Array): void {
  Atomics.add(generation, 0, 1);
}

export interface HeadCounts {
  /** The kernel has forwarded `amount` requests. @param resource NO_RESOURCE: it is gone */
  requests(server: number, resource: number, amount: number): void;
  /** A head was put into the map; it took the place of another one that was still right. */
  judged(replaced: boolean): void;
}

export class JudgedHeads {
  private readonly memory: HeadMemory;
  private readonly counts: HeadCounts;
  private readonly digest: HeadDigest;
  private readonly words: Uint32Array;
  private readonly places: number;
  private readonly prints = new Uint32Array(PRINTS);
  private readonly printSeed: number;
  /** The places that have ever had a head, and how many they are. */
  private readonly used: Uint32Array;
  private usedCount = 0;
  private at = 0;
  /** By place: the requests that were counted, and when the kernel was last seen to forward it. */
  private readonly counted: Uint32Array;
  private readonly lastUse: Uint32Array;
  /** By place: the resource in the present directory. */
  private readonly resource: Uint32Array;
  /** By place: the start of method and target, for people to read. */
  private readonly text: Uint8Array;
  private readonly textLength: Uint8Array;
  private version = 0;

  constructor(memory: HeadMemory, counts: HeadCounts) {
    const places = memory.sets * HEAD_WAYS;
    this.memory = memory;
    this.counts = counts;
    this.digest = new HeadDigest(memory.key);
    this.printSeed = new DataView(memory.key.buffer, memory.key.byteOffset).getInt32(0);
    this.words = new Uint32Array(memory.heads, memory.headsOffset, places * STRIDE);
    this.places = places;
    this.used = new Uint32Array(places);
    this.counted = new Uint32Array(places);
    this.lastUse = new Uint32Array(places);
    this.resource = new Uint32Array(places);
    this.text = new Uint8Array(places * REQUEST_BYTES);
    this.textLength = new Uint8Array(places);
  }

  /** To be read before a head is judged, and given to `offer` with it. */
  get generation(): number {
    return Atomics.load(this.memory.generation, 0);
  }

  /**
   * The head bytes[start, end) of a session at `node` was judged in this generation: the session
   * stays, and so would every other one at this node. Or it moves to this node, as every other one
   * would.
   *
   * @param server slot of the virtual server
   * @param requestStart and requestEnd: method and target, relative to `start`
   * @param clock ms, unsigned 32 bits
   * @param isSole no other node may get the head, and it may be repeated: the kernel may bring a
   * session to this node
   */
  offer(
    generation: number,
    server: number,
    node: number,
    resource: number,
    bytes: Uint8Array,
    start: number,
    end: number,
    requestStart: number,
    requestEnd: number,
    clock: number,
    isSole = false,
  ): void {
    const length = end - start;
    if (length < HEAD_LEAST_BYTES || length > HEAD_MOST_BYTES || node >= HEAD_NODES) return;
    if (!this.isSeen(bytes, start, end)) return;
    this.digest.compute(bytes, start, end);
    const { words } = this;
    const key = isSole ? server + HEAD_SOLE : server;
    const nodeWord = NODES + Math.floor(node / WORD_BITS);
    const bit = 1 << (node % WORD_BITS);
    const set = (this.digest.words[0]! & (this.memory.sets - 1)) * HEAD_WAYS;
    let victim = NONE;
    let isVoid = false;
    for (let place = set; place < set + HEAD_WAYS; place++) {
      const at = place * STRIDE;
      if (words[at + GENERATION] !== generation) {
        if (!isVoid) victim = place;
        isVoid = true;
      } else if (words[at + SERVER] === key && this.hasDigest(at)) {
        words[at + nodeWord] = words[at + nodeWord]! | bit;
        return;
      } else if (
        !isVoid &&
        (victim === NONE || ((this.lastUse[place]! - this.lastUse[victim]!) | 0) < 0)
      )
        victim = place;
    }
    this.put(victim, generation, key, nodeWord, bit, clock);
    this.resource[victim] = resource;
    this.keepText(victim, bytes, start + requestStart, start + requestEnd);
    this.counts.judged(!isVoid);
  }

  /** Counts what the kernel has forwarded since the last call, of some of the heads. */
  tick(clock: number): void {
    for (let left = Math.min(PLACES_A_TICK, this.usedCount); left > 0; left--) {
      if (this.at >= this.usedCount) this.at = 0;
      this.settle(this.used[this.at++]!, clock);
    }
  }

  /** The same of all heads. */
  settleAll(clock: number): void {
    for (let at = 0; at < this.usedCount; at++) this.settle(this.used[at]!, clock);
  }

  /** Another directory takes the place of the present one: numbers of resources end with it. */
  directoryChanged(clock: number): void {
    voidHeads(this.memory.generation);
    this.settleAll(clock);
    this.resource.fill(NO_RESOURCE);
  }

  /** Place of the head with this `number`, or -1 if another one has its place. */
  find(number: number): number {
    const place = number % this.places;
    return this.words[place * STRIDE + NUMBER] === number ? place : NONE;
  }

  /** Method and target of the head at this place: what `SessionTable.keepRequest` takes. */
  textOf(place: number): Uint8Array {
    const start = place * REQUEST_BYTES;
    return this.text.subarray(start, start + Math.min(REQUEST_BYTES, this.textLength[place]!));
  }

  /** The length of this text before it was cut, up to REQUEST_BYTES + 1. */
  textLengthOf(place: number): number {
    return this.textLength[place]!;
  }

  /** Whether these bytes were offered lately. Remembers them. */
  private isSeen(bytes: Uint8Array, start: number, end: number): boolean {
    let print = this.printSeed;
    for (let at = start; at < end; at++) print = Math.imul(print ^ bytes[at]!, 0x0100_0193);
    print = (print ^ (print >>> 15)) >>> 0;
    const at = print & (PRINTS - 1);
    const seen = this.prints[at] === print;
    this.prints[at] = print;
    return seen;
  }

  private hasDigest(at: number): boolean {
    const { words } = this;
    const digest = this.digest.words;
    for (let word = 0; word < digest.length; word++)
      if (words[at + word] !== digest[word]) return false;
    return true;
  }

  /** Puts the head of the last digest into a place. A reader never believes half of it. */
  private put(
    place: number,
    generation: number,
    key: number,
    nodeWord: number,
    bit: number,
    clock: number,
  ): void {
    const { words } = this;
    const at = place * STRIDE;
    if (words[at + NUMBER] === 0) this.used[this.usedCount++] = place;
    this.settle(place, clock);
    Atomics.store(words, at + GENERATION, 0);
    words.set(this.digest.words, at);
    words[at + SERVER] = key;
    words.fill(0, at + NODES, at + NODES + NODE_WORDS);
    words[at + nodeWord] = bit;
    this.version = (this.version % (NUMBERS / this.places - 1)) + 1;
    words[at + NUMBER] = this.version * this.places + place;
    this.lastUse[place] = clock;
    Atomics.store(words, at + GENERATION, generation);
  }

  private keepText(place: number, bytes: Uint8Array, start: number, end: number): void {
    const length = Math.min(end - start, REQUEST_BYTES);
    const to = place * REQUEST_BYTES;
    for (let at = 0; at < length; at++) this.text[to + at] = bytes[start + at]!;
    this.textLength[place] = Math.min(end - start, REQUEST_BYTES + 1);
  }

  private settle(place: number, clock: number): void {
    const requests = this.words[place * STRIDE + REQUESTS]!;
    const amount = (requests - this.counted[place]!) >>> 0;
    if (amount === 0) return;
    this.counted[place] = requests;
    this.lastUse[place] = clock;
    const server = this.words[place * STRIDE + SERVER]! & ~HEAD_SOLE;
    this.counts.requests(server, this.resource[place]!, amount);
  }
}
