/**
 * Where the client of each session that may move is in its stream of requests: arrays beside the
 * session records, made only for a virtual server with `keepAlive: migrate`. 50 bytes a session,
 * and 12 more where the XDP program forwards heads that were judged before (judged-heads.ts).
 */
import { SESSION_MOVES, SESSION_MOVES_BYTES } from '../../datapath/heads-layout.js';
import { AT_HEAD } from '../../directory/dispatcher.js';
import { NO_NODE } from '../node-table.js';
import type { HeadMemory } from './judged-heads.js';

const MOVES_WORDS = SESSION_MOVES_BYTES / 4;
const KERNEL_REQUESTS = SESSION_MOVES.requests / 4;
const KERNEL_HEAD = SESSION_MOVES.head / 4;

/** Nodes at which sockets of one session wait at one time. */
export const MOST_PARKED = 4;

export class Streams {
  /** State of the follower at `next` (request/http/framing.ts): `state` and `left`. */
  readonly state: Uint32Array;
  readonly left: Float64Array;
  /** Sequence number of the next byte to be followed. */
  readonly next: Uint32Array;
  /** Requests that the present node has got since it adopted the session. */
  readonly requests: Uint32Array;
  /** How often the session has moved. */
  readonly moves: Uint32Array;
  /** Bytes of the client before the first byte that the record names. */
  readonly before: Uint32Array;
  /**
   * 1, while a later head is collected: the node may lack bytes before that head. Nothing is
   * acknowledged for the node then, because the client must repeat what was lost.
   */
  readonly unproven: Uint8Array;
  /** What the kernel writes (bpf/lib/heads.h). Undefined: it forwards no heads. */
  private readonly kernel: Uint32Array | undefined;
  /** How many of the kernel's requests are counted in `requests`, or are not to be. */
  private readonly known: Uint32Array | undefined;

  /**
   * The nodes at which sockets of the session wait (parking.ts), then NO_NODE: MOST_PARKED each.
   */
  readonly parked: Uint16Array;
  /**
   * 1: the present node has said that it has answered `endedAnswers` requests (lower 16 bits), all
   * that it has got up to `endedNext`, and that the answers end at `endedAt`. It keeps its socket
   * if the session leaves it there.
   */
  readonly isEnded: Uint8Array;
  readonly endedAnswers: Uint16Array;
  readonly endedNext: Uint32Array;
  readonly endedAt: Uint32Array;
  /** 1: the session is handed over to a socket that waits at its node, by RESUME. */
  readonly resumes: Uint8Array;

  /** @param capacity sessions at one time */
  constructor(capacity: number, memory?: HeadMemory) {
    const words = (): Uint32Array => new Uint32Array(capacity);
    this.state = words();
    this.left = new Float64Array(capacity);
    this.next = words();
    this.requests = words();
    this.moves = words();
    this.before = words();
    this.unproven = new Uint8Array(capacity);
    this.parked = new Uint16Array(capacity * MOST_PARKED).fill(NO_NODE);
    this.isEnded = new Uint8Array(capacity);
    this.endedAnswers = new Uint16Array(capacity);
    this.endedNext = words();
    this.endedAt = words();
    this.resumes = new Uint8Array(capacity);
    if (memory === undefined) return;
    this.kernel = new Uint32Array(memory.moves, memory.movesOffset, capacity * MOVES_WORDS);
    this.known = words();
  }

  /** A new session takes the slot. */
  clear(slot: number): void {
    this.moves[slot] = 0;
    this.before[slot] = 0;
    this.unproven[slot] = 0;
    this.isEnded[slot] = 0;
    this.resumes[slot] = 0;
    const { kernel, known } = this;
    if (kernel === undefined || known === undefined) return;
    known[slot] = 0;
    kernel[slot * MOVES_WORDS + KERNEL_REQUESTS] = 0;
    kernel[slot * MOVES_WORDS + KERNEL_HEAD] = 0;
  }

  /** Whether the kernel may look for the head that begins at `handedTo`. */
  kernelMayFollow(slot: number, handedTo: number): boolean {
    return (
      this.kernel !== undefined && this.state[slot] === AT_HEAD && this.next[slot] === handedTo
    );
  }

  /**
   * The kernel, which was allowed to follow, is so no more. Takes over how far it has got.
   * @param handedTo of the session's record
   */
  takeOver(slot: number, handedTo: number): void {
    const requests = this.newRequests(slot);
    this.next[slot] = handedTo;
    if (requests === 0) return;
    this.requests[slot]! += requests;
    this.skipRequests(slot);
  }

  /** The kernel's requests so far are not to be counted any more. */
  skipRequests(slot: number): void {
    const { kernel, known } = this;
    if (kernel === undefined || known === undefined) return;
    known[slot] = kernel[slot * MOVES_WORDS + KERNEL_REQUESTS]!;
  }

  /** Number of the head that the kernel has forwarded last for the session; 0: none. */
  lastHead(slot: number): number {
    return this.kernel?.[slot * MOVES_WORDS + KERNEL_HEAD] ?? 0;
  }

  /** This head is shown already. */
  forgetHead(slot: number): void {
    if (this.kernel !== undefined) this.kernel[slot * MOVES_WORDS + KERNEL_HEAD] = 0;
  }

  private newRequests(slot: number): number {
    const { kernel, known } = this;
    if (kernel === undefined || known === undefined) return 0;
    return (kernel[slot * MOVES_WORDS + KERNEL_REQUESTS]! - known[slot]!) >>> 0;
  }
}
