/**
 * Room for request heads, and the reassembly of each from segments in any order.
 *
 * A head begins in a small room and moves once to a large room if it outgrows that. Both kinds lie
 * in one memory, so that a reader needs only an offset:
 *
 *     memory  | small | small | small | ... | large      | large      | ...
 *               index 0       1       2       smalls       smalls + 1
 *
 *     one room  |<---- filled ---->|  gap  |<- range ->|  gap |<- range ->|
 *               first byte         next byte the client must send
 *
 * Bytes below `filled` never change. They were inspected and acknowledged, and they are what the
 * node gets, whatever a client sends over them later.
 */

const SMALL_BYTES = 2048;
/** Ranges beyond the first gap that are kept for each head. */
const RANGES = 4;
const NONE = -1;

/** Bytes beyond the limit of a head that are kept with it: the start of a body. */
const BODY_ROOM_BYTES = 16_384;
/** One room in ROOMS_PER_LARGE is large, but at least FEWEST_LARGE are. */
const ROOMS_PER_LARGE = 16;
const FEWEST_LARGE = 16;

/** Bytes of a large room: for a head of `headBytes` bytes and the bytes behind it. */
export function largestHead(headBytes: number): number {
  return headBytes + BODY_ROOM_BYTES;
}

/** Bytes of a store for `heads` heads of `headBytes` bytes each. */
export function headStoreBytes(heads: number, headBytes: number): number {
  return heads * SMALL_BYTES + largeRooms(heads) * largestHead(headBytes);
}

function largeRooms(heads: number): number {
  return Math.max(FEWEST_LARGE, Math.floor(heads / ROOMS_PER_LARGE));
}

/** What happens to a session that is being handed over and has a room. */
export const HeadStep = {
  /** Its head was sent to its node. */
  none: 0,
  /** It is taken back: its node was asked whether it gives the session up (handoff/recall.ts). */
  asking: 1,
  /** It is taken back: its client is being fenced off from its node (handoff/fence.ts). */
  fencing: 2,
  /** A later head is not complete yet (moving/gathering.ts). */
  gathering: 3,
  /** Its node was asked to let it go, because of a later request (moving/leaving.ts). */
  leaving: 4,
} as const;

export class HeadStore {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Bytes of a large room, and so the receive window. */
  readonly largeBytes: number;
  /** The session that owns each room, or -1. */
  readonly owner: Int32Array;
  /** Contiguous bytes from the start of each room. */
  readonly filled: Uint32Array;
  /** 1 if the request in this room may be sent to a second server. */
  readonly repeatable: Uint8Array;
  /** HeadStep of the request in this room. */
  readonly step: Uint8Array;
  /** 1: its node has got the SYN of the session, not an ADOPT. */
  readonly isReplayed: Uint8Array;
  /** 1: the method is HEAD. */
  readonly hasNoAnswerBody: Uint8Array;
  /** How often its node was asked for its answer, up to a limit. */
  readonly asked: Uint8Array;
  /** 1: nodes get another path for this request, and the one that has the session does not yet. */
  readonly rewrites: Uint8Array;
  /**
   * The path of this request, relative to the room's start, if the node gets another one: as many
   * bytes as `newPath` says, from `filled` on. 0: the node gets the path of the client.
   */
  readonly pathStart: Uint32Array;
  readonly pathEnd: Uint32Array;
  readonly newPath: Uint32Array;
  /** By how much `Core.shift` has moved the session's first byte. */
  readonly shifted: Int32Array;
  /** `Core.directory` when the resource of this request was looked up. */
  readonly directory: Uint32Array;
  private readonly smalls: number;
  private readonly larges: number;
  private readonly ranges: Uint8Array;
  private readonly rangeStart: Uint32Array;
  private readonly rangeEnd: Uint32Array;
  private readonly freeSmall: Int32Array;
  private readonly freeLarge: Int32Array;
  private freeSmalls: number;
  private freeLarges: number;
  private hand = 0;
  private glanced = 0;

  /**
   * @param heads rooms at one time
   * @param headBytes limit of a head
   */
  constructor(heads: number, headBytes: number) {
    this.smalls = heads;
    this.larges = largeRooms(heads);
    this.largeBytes = largestHead(headBytes);
    const rooms = this.smalls + this.larges;
    this.bytes = new Uint8Array(headStoreBytes(heads, headBytes));
    this.view = new DataView(this.bytes.buffer);
    this.owner = new Int32Array(rooms).fill(NONE);
    this.filled = new Uint32Array(rooms);
    this.repeatable = new Uint8Array(rooms);
    this.step = new Uint8Array(rooms);
    this.isReplayed = new Uint8Array(rooms);
    this.hasNoAnswerBody = new Uint8Array(rooms);
    this.asked = new Uint8Array(rooms);
    this.rewrites = new Uint8Array(rooms);
    this.pathStart = new Uint32Array(rooms);
    this.pathEnd = new Uint32Array(rooms);
    this.newPath = new Uint32Array(rooms);
    this.shifted = new Int32Array(rooms);
    this.directory = new Uint32Array(rooms);
    this.ranges = new Uint8Array(rooms);
    this.rangeStart = new Uint32Array(rooms * RANGES);
    this.rangeEnd = new Uint32Array(rooms * RANGES);
    this.freeSmalls = this.smalls;
    this.freeLarges = this.larges;
    this.freeSmall = Int32Array.from(
      { length: this.smalls },
      (_, index) => this.smalls - 1 - index,
    );
    this.freeLarge = Int32Array.from({ length: this.larges }, (_, index) => rooms - 1 - index);
  }

  /** Whether half of the rooms of each kind are free: no session needs to free one early. */
  get halfFree(): boolean {
    return this.freeSmalls * 2 >= this.smalls && this.freeLarges * 2 >= this.larges;
  }

  /**
   * Whether 15 of 16 rooms of each kind are free: some may be kept in reserve, which costs little
   * memory.
   */
  get mostlyFree(): boolean {
    return this.freeSmalls * 16 >= this.smalls * 15 && this.freeLarges * 16 >= this.larges * 15;
  }

  /** A small room for a session, or -1 if there is none. */
  allocate(session: number): number {
    if (this.freeSmalls === 0) return NONE;
    this.freeSmalls -= 1;
    return this.take(this.freeSmall[this.freeSmalls]!, session);
  }

  release(room: number): void {
    this.owner[room] = NONE;
    if (room < this.smalls) this.freeSmall[this.freeSmalls++] = room;
    else this.freeLarge[this.freeLarges++] = room;
  }

  /** Offset of a room's first byte in `bytes`. */
  start(room: number): number {
    if (room < this.smalls) return room * SMALL_BYTES;
    return this.smalls * SMALL_BYTES + (room - this.smalls) * this.largeBytes;
  }

  size(room: number): number {
    return room < this.smalls ? SMALL_BYTES : this.largeBytes;
  }

  /**
   * Moves a head to a large room. Returns its index, or -1 if there is none: the head then stays
   * where it is.
   */
  grow(room: number): number {
    if (room >= this.smalls || this.freeLarges === 0) return NONE;
    this.freeLarges -= 1;
    const large = this.take(this.freeLarge[this.freeLarges]!, this.owner[room]!);
    const from = this.start(room);
    this.bytes.copyWithin(this.start(large), from, from + SMALL_BYTES);
    this.filled[large] = this.filled[room]!;
    this.repeatable[large] = this.repeatable[room]!;
    this.step[large] = this.step[room]!;
    this.isReplayed[large] = this.isReplayed[room]!;
    this.hasNoAnswerBody[large] = this.hasNoAnswerBody[room]!;
    this.asked[large] = this.asked[room]!;
    this.shifted[large] = this.shifted[room]!;
    this.directory[large] = this.directory[room]!;
    this.rewrites[large] = this.rewrites[room]!;
    this.ranges[large] = this.ranges[room]!;
    for (let i = 0; i < RANGES; i++) {
      this.rangeStart[large * RANGES + i] = this.rangeStart[room * RANGES + i]!;
      this.rangeEnd[large * RANGES + i] = this.rangeEnd[room * RANGES + i]!;
    }
    this.release(room);
    return large;
  }

  /** Bytes that a node gets of a room. */
  sent(room: number): number {
    const length = this.newPath[room]!;
    const filled = this.filled[room]!;
    return length === 0 ? filled : filled + length - this.pathEnd[room]! + this.pathStart[room]!;
  }

  /** Copies `length` of these bytes, from `at` on, to into[to, to + length). */
  copy(room: number, at: number, length: number, into: Uint8Array, to: number): void {
    const { bytes } = this;
    const start = this.start(room);
    const newPath = this.newPath[room]!;
    const end = to + length;
    let write = to;
    if (newPath === 0) {
      for (let from = start + at; write < end; from++) into[write++] = bytes[from]!;
      return;
    }
    const pathStart = this.pathStart[room]!;
    const behind = this.pathEnd[room]! - pathStart - newPath;
    const stored = this.filled[room]! - pathStart;
    for (let sent = at; write < end; sent++) {
      const isBehind = sent >= pathStart + newPath;
      const from = sent < pathStart ? sent : sent + (isBehind ? behind : stored);
      into[write++] = bytes[start + from]!;
    }
  }

  /** The owner of the next room of this kind, in turn; -1 if no room is in use. */
  victim(large: boolean): number {
    this.hand = this.nextUsed(large, this.hand);
    return this.hand < 0 ? NONE : this.ownerOf(large, this.hand);
  }

  /**
   * As `victim`, with a cursor of its own: a caller that only looks must not change whose turn it
   * is.
   */
  nextOwner(large: boolean): number {
    this.glanced = this.nextUsed(large, this.glanced);
    return this.glanced < 0 ? NONE : this.ownerOf(large, this.glanced);
  }

  /** The next place after `from` whose room of this kind is in use; -1 if none is. */
  private nextUsed(large: boolean, from: number): number {
    const count = large ? this.larges : this.smalls;
    for (let step = 1; step <= count; step++) {
      const place = (from + step) % count;
      if (this.ownerOf(large, place) !== NONE) return place;
    }
    return NONE;
  }

  private ownerOf(large: boolean, place: number): number {
    return this.owner[large ? this.smalls + place : place]!;
  }

  /**
   * Writes source[from, from + length) at `at` bytes from the room's start. The bytes must fit in
   * the room. Returns false, and takes nothing, if they lie past more gaps than are tracked.
   */
  write(room: number, at: number, source: Uint8Array, from: number, length: number): boolean {
    const filled = this.filled[room]!;
    const end = at + length;
    if (end <= filled) return true;
    if (at > filled && !this.addRange(room, at, end)) return false;
    const skip = at < filled ? filled - at : 0;
    let to = this.start(room) + at + skip;
    const stop = from + length;
    for (let read = from + skip; read < stop; read++) this.bytes[to++] = source[read]!;
    if (at <= filled) {
      this.filled[room] = end;
      if (this.ranges[room] !== 0) this.absorb(room);
    }
    return true;
  }

  private take(room: number, session: number): number {
    this.owner[room] = session;
    this.filled[room] = 0;
    this.repeatable[room] = 0;
    this.step[room] = HeadStep.none;
    this.isReplayed[room] = 0;
    this.hasNoAnswerBody[room] = 0;
    this.rewrites[room] = 0;
    this.newPath[room] = 0;
    this.shifted[room] = 0;
    this.asked[room] = 0;
    this.ranges[room] = 0;
    return room;
  }

  /** Records a range past the first gap, merged with the ranges that it touches. */
  private addRange(room: number, start: number, end: number): boolean {
    const base = room * RANGES;
    let count = this.ranges[room]!;
    let from = start;
    let to = end;
    for (let i = 0; i < count; ) {
      const otherStart = this.rangeStart[base + i]!;
      const otherEnd = this.rangeEnd[base + i]!;
      if (otherStart > to || otherEnd < from) {
        i += 1;
        continue;
      }
      from = Math.min(from, otherStart);
      to = Math.max(to, otherEnd);
      count -= 1;
      this.rangeStart[base + i] = this.rangeStart[base + count]!;
      this.rangeEnd[base + i] = this.rangeEnd[base + count]!;
      i = 0;
    }
    // Merging only frees places. If no place is free, nothing was merged, and nothing is lost.
    if (count === RANGES) return false;
    this.rangeStart[base + count] = from;
    this.rangeEnd[base + count] = to;
    this.ranges[room] = count + 1;
    return true;
  }

  /** Advances `filled` over the ranges that it has reached. */
  private absorb(room: number): void {
    const base = room * RANGES;
    for (let i = 0; i < this.ranges[room]!; ) {
      if (this.rangeStart[base + i]! > this.filled[room]!) {
        i += 1;
        continue;
      }
      this.filled[room] = Math.max(this.filled[room]!, this.rangeEnd[base + i]!);
      const last = this.ranges[room]! - 1;
      this.rangeStart[base + i] = this.rangeStart[base + last]!;
      this.rangeEnd[base + i] = this.rangeEnd[base + last]!;
      this.ranges[room] = last;
      i = 0;
    }
  }
}
