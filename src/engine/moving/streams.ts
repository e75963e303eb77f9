/**
 * Where the client of each session that may move is in its stream of requests: arrays beside the
 * session records, made only for a virtual server with `keepAlive: migrate`. 50 bytes a session,
 * and 64 more where the XDP program forwards heads that were judged before (kernel-moves.ts).
 */
import { MOST_PARKED } from '../../datapath/heads-layout.js';
import { AT_HEAD } from '../../directory/dispatcher.js';
import { NO_NODE } from '../node-table.js';
import type { HeadMemory } from './judged-heads.js';
import { type EndedNotice, KernelMoves } from './kernel-moves.js';

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
  /** What the XDP program does by itself. Undefined: it forwards no heads. */
  readonly kernel: KernelMoves | undefined;

  /**
   * The nodes at which sockets of the session wait (parking.ts), then NO_NODE: MOST_PARKED each,
   * from `firstParked` on. The XDP program exchanges one of them and the session's node.
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

  private readonly said: EndedNotice = { isEnded: false, answers: 0, next: 0, at: 0 };

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
    this.kernel = memory === undefined ? undefined : new KernelMoves(memory, capacity);
    this.parked = this.kernel?.parked ?? new Uint16Array(capacity * MOST_PARKED);
    for (let slot = 0; slot < capacity; slot++) {
      const first = this.firstParked(slot);
      this.parked.fill(NO_NODE, first, first + MOST_PARKED);
    }
    this.isEnded = new Uint8Array(capacity);
    this.endedAnswers = new Uint16Array(capacity);
    this.endedNext = words();
    this.endedAt = words();
    this.resumes = new Uint8Array(capacity);
  }

  /** Where the session's part of `parked` begins. */
  firstParked(slot: number): number {
    return this.kernel?.firstParked(slot) ?? slot * MOST_PARKED;
  }

  /** A new session takes the slot. */
  clear(slot: number): void {
    this.moves[slot] = 0;
    this.before[slot] = 0;
    this.unproven[slot] = 0;
    this.isEnded[slot] = 0;
    this.resumes[slot] = 0;
    this.kernel?.clear(slot);
  }

  /** Whether the kernel may look for the head that begins at `handedTo`. */
  kernelMayFollow(slot: number, handedTo: number): boolean {
    return (
      this.kernel !== undefined && this.state[slot] === AT_HEAD && this.next[slot] === handedTo
    );
  }

  /**
   * The XDP program, which was allowed to follow, is so no more, and has left the session. Takes
   * over how far it has got.
   * @param handedTo and `node`: of the session's record
   */
  takeOver(slot: number, handedTo: number, node: number): void {
    const { kernel, said } = this;
    this.next[slot] = handedTo;
    if (kernel === undefined) return;
    const requests = kernel.newRequests(slot);
    kernel.skipRequests(slot);
    if (!kernel.isAllowed(slot)) {
      this.requests[slot]! += requests;
      return;
    }
    if (requests !== 0) this.requests[slot] = kernel.nodeRequests(slot);
    kernel.readEnded(slot, node, said);
    this.isEnded[slot] = said.isEnded ? 1 : 0;
    this.endedAnswers[slot] = said.answers;
    this.endedNext[slot] = said.next;
    this.endedAt[slot] = said.at;
  }

  /** The XDP program may move the session, which is at `node`. See KernelMoves.allow. */
  allow(slot: number, node: number, generation: number): void {
    const { said } = this;
    said.isEnded = this.isEnded[slot] === 1;
    said.answers = this.endedAnswers[slot]!;
    said.next = this.endedNext[slot]!;
    said.at = this.endedAt[slot]!;
    this.kernel?.allow(slot, node, generation, this.requests[slot]!, said);
  }

  /** Whether the XDP program has moved the session, and its node may not have got the head. */
  isUnproven(slot: number): boolean {
    return this.kernel?.isUnproven(slot) === true;
  }
}
