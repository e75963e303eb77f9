/**
 * What an engine shares with the XDP program about sessions that move: map `moves`
 * (bpf/lib/heads.h). The program forwards heads that were judged before, and brings sessions back
 * to nodes where they are parked (bpf/xdp/xdp-resume.h).
 *
 * Only one of the two works on a session at a time. The engine takes the session
 * (`SessionTable.takeHeadsFromKernel`), waits until the program has left it (`wait`), changes what
 * it has to, and gives it back.
 */
import {
  HEAD_NODES,
  NODE_MOVES,
  NODE_MOVES_BYTES,
  SESSION_MOVES,
  SESSION_MOVES_BYTES,
} from '../../datapath/heads-layout.js';
import { NO_NODE } from '../node-table.js';
import type { HeadMemory } from './judged-heads.js';

const WORDS = SESSION_MOVES_BYTES / 4;
const HALVES = SESSION_MOVES_BYTES / 2;
const REQUESTS = SESSION_MOVES.requests / 4;
const HEAD = SESSION_MOVES.head / 4;
const GENERATION = SESSION_MOVES.generation / 4;
const NODE_REQUESTS = SESSION_MOVES.nodeRequests / 4;
const PARKED = SESSION_MOVES.parked / 2;
const MOVED = SESSION_MOVES.moved / 4;
const ENDED_NODE = SESSION_MOVES.endedNode / 2;
const ENDED_ANSWERS = SESSION_MOVES.endedAnswers / 2;
const ENDED_NEXT = SESSION_MOVES.endedNext / 4;
const ENDED_AT = SESSION_MOVES.endedAt / 4;
const RESUMED_SEQ = SESSION_MOVES.resumedSeq / 4;
const RESUMED_ACK = SESSION_MOVES.resumedAck / 4;
const RESUMED_END = SESSION_MOVES.resumedEnd / 4;
const UNPROVEN = SESSION_MOVES.unproven / 4;
const BUSY = SESSION_MOVES.busy / 4;
const NODE_WORDS = NODE_MOVES_BYTES / 4;
const CAME = NODE_MOVES.came / 4;
const WENT = NODE_MOVES.went / 4;

/**
 * The program works on a head for about a microsecond. It can be stopped only with its whole CPU,
 * by a hypervisor. This many looks take about a millisecond.
 */
const MOST_LOOKS = 100_000;

/** What a node has said of its answers: ENDED of docs/ixp.md. */
export interface EndedNotice {
  isEnded: boolean;
  answers: number;
  /** S and A. */
  next: number;
  at: number;
}

export class KernelMoves {
  /** The nodes where each session is parked: MOST_PARKED, from `firstParked` on. */
  readonly parked: Uint16Array;
  private readonly words: Uint32Array;
  private readonly ofNodes: Uint32Array;
  /** By node: what `takeNodes` has told. */
  private readonly seen = new Uint32Array(HEAD_NODES * NODE_WORDS);
  /** By session: how many of its requests are counted, or are not to be; and of its moves. */
  private readonly knownRequests: Uint32Array;
  private readonly knownMoves: Uint32Array;

  /** @param capacity sessions at one time */
  constructor(memory: HeadMemory, capacity: number) {
    const { moves, movesOffset, nodeMovesOffset } = memory;
    this.words = new Uint32Array(moves, movesOffset, capacity * WORDS);
    this.parked = new Uint16Array(moves, movesOffset, capacity * HALVES);
    this.ofNodes = new Uint32Array(moves, nodeMovesOffset, HEAD_NODES * NODE_WORDS);
    this.knownRequests = new Uint32Array(capacity);
    this.knownMoves = new Uint32Array(capacity);
  }

  /** Where the session's part of `parked` begins. */
  firstParked(slot: number): number {
    return slot * HALVES + PARKED;
  }

  /** A new session takes the slot. */
  clear(slot: number): void {
    const at = slot * WORDS;
    for (const word of [REQUESTS, HEAD, GENERATION, MOVED, UNPROVEN]) this.words[at + word] = 0;
    this.knownRequests[slot] = 0;
    this.knownMoves[slot] = 0;
  }

  /** Waits until the program has left the session, which the engine has just taken. */
  wait(slot: number): void {
    const at = slot * WORDS + BUSY;
    for (let looks = 0; looks < MOST_LOOKS && Atomics.load(this.words, at) !== 0; looks++);
  }

  /**
   * Tells the program that it may bring the session from `node` to those where it is parked, while
   * the heads have this generation. The engine has the session.
   * @param requests that `node` has got since the session came there
   */
  allow(
    slot: number,
    node: number,
    generation: number,
    requests: number,
    ended: Readonly<EndedNotice>,
  ): void {
    const { words, parked } = this;
    const at = slot * WORDS;
    words[at + NODE_REQUESTS] = requests;
    words[at + ENDED_NEXT] = ended.next;
    words[at + ENDED_AT] = ended.at;
    parked[slot * HALVES + ENDED_ANSWERS] = ended.answers;
    parked[slot * HALVES + ENDED_NODE] = ended.isEnded ? node : NO_NODE;
    Atomics.store(words, at + GENERATION, generation);
  }

  /** The program moves the session no more, and notes nothing about it, until `allow`. */
  forbid(slot: number): void {
    Atomics.store(this.words, slot * WORDS + GENERATION, 0);
  }

  /** Whether `allow` was called last. */
  isAllowed(slot: number): boolean {
    return this.words[slot * WORDS + GENERATION] !== 0;
  }

  /** Requests that the present node has got, if `isAllowed`. */
  nodeRequests(slot: number): number {
    return this.words[slot * WORDS + NODE_REQUESTS]!;
  }

  /** The last ENDED of the session's node, if `isAllowed`. */
  readEnded(slot: number, node: number, into: EndedNotice): void {
    const at = slot * WORDS;
    into.isEnded = this.parked[slot * HALVES + ENDED_NODE] === node;
    into.answers = this.parked[slot * HALVES + ENDED_ANSWERS]!;
    into.next = this.words[at + ENDED_NEXT]!;
    into.at = this.words[at + ENDED_AT]!;
  }

  /** How often the program has moved the session since the last `takeMoves`. */
  newMoves(slot: number): number {
    return (this.words[slot * WORDS + MOVED]! - this.knownMoves[slot]!) >>> 0;
  }

  /** Returns the same, and takes note of it. */
  takeMoves(slot: number): number {
    const moves = this.newMoves(slot);
    this.knownMoves[slot] = this.words[slot * WORDS + MOVED]!;
    return moves;
  }

  /** Where the head of the last move begins and ends, and where its answer begins. */
  resumedSeq(slot: number): number {
    return this.words[slot * WORDS + RESUMED_SEQ]!;
  }

  resumedEnd(slot: number): number {
    return this.words[slot * WORDS + RESUMED_END]!;
  }

  resumedAck(slot: number): number {
    return this.words[slot * WORDS + RESUMED_ACK]!;
  }

  /** Whether nothing shows yet that the session's node has got the head of the last move. */
  isUnproven(slot: number): boolean {
    return this.words[slot * WORDS + UNPROVEN] !== 0;
  }

  /** The node has got that head, or the engine sees to it. The engine has the session. */
  prove(slot: number): void {
    this.words[slot * WORDS + UNPROVEN] = 0;
  }

  /** How many requests the program has forwarded since the last `skipRequests`. */
  newRequests(slot: number): number {
    return (this.words[slot * WORDS + REQUESTS]! - this.knownRequests[slot]!) >>> 0;
  }

  /** The program's requests so far are not to be counted any more. */
  skipRequests(slot: number): void {
    this.knownRequests[slot] = this.words[slot * WORDS + REQUESTS]!;
  }

  /** Number of the head that the program has forwarded last for the session; 0: none. */
  lastHead(slot: number): number {
    return this.words[slot * WORDS + HEAD]!;
  }

  /** This head is shown already. */
  forgetHead(slot: number): void {
    this.words[slot * WORDS + HEAD] = 0;
  }

  /** Calls `each` for the nodes to or from which sessions were moved since the last call. */
  takeNodes(each: (node: number, came: number, went: number) => void): void {
    const { ofNodes, seen } = this;
    for (let node = 0; node < HEAD_NODES; node++) {
      const at = node * NODE_WORDS;
      const came = (ofNodes[at + CAME]! - seen[at + CAME]!) >>> 0;
      const went = (ofNodes[at + WENT]! - seen[at + WENT]!) >>> 0;
      if (came === 0 && went === 0) continue;
      seen[at + CAME]! += came;
      seen[at + WENT]! += went;
      each(node, came, went);
    }
  }
}
