/**
 * One timer wheel for everything that waits: a timer for each slot of a table, none allocated.
 *
 *     buckets (one for each tick of 8 ms, about half a minute round)
 *     +-----+-----+-----+-----+-- --+
 *     |  o  |     |  o  |     |     |      each a doubly linked list of slots,
 *     +--|--+-----+--|--+-----+-- --+      threaded through the arrays next and previous
 *        5 <-> 17     9
 *              ^ now moves to the right and round
 *
 * A deadline further away than the wheel is long waits in the last bucket and is put in again
 * when that comes round. Times are in ms, on a clock that may begin anywhere: deadlines are kept as
 * unsigned 32-bit numbers and compared by signed difference. So the wheel must know the time before
 * the first timer is set, and a wait beyond 20 days is cut to that.
 */

const TICK_MS = 8;
/** A power of two. */
const BUCKETS = 4096;
const BUCKET_MASK = BUCKETS - 1;
const NONE = -1;
/** Anything longer is cut to this: 20 days. */
const LONGEST_MS = 20 * 86_400_000;

export interface TimerHandler {
  /** The timer of `slot` is due. It is no longer set; the handler may set it again. */
  expired(slot: number, now: number): void;
}

export class TimerWheel {
  private readonly heads = new Int32Array(BUCKETS).fill(NONE);
  private readonly next: Int32Array;
  private readonly previous: Int32Array;
  private readonly deadline: Uint32Array;
  /** Bucket that a slot waits in, plus one; 0: not set. */
  private readonly bucket: Uint16Array;
  private tick: number;
  /** Timers set. */
  size = 0;

  /**
   * @param capacity slots, 0 to capacity - 1
   * @param now ms on the clock of all times that it is given
   */
  constructor(capacity: number, now: number) {
    this.next = new Int32Array(capacity);
    this.previous = new Int32Array(capacity);
    this.deadline = new Uint32Array(capacity);
    this.bucket = new Uint16Array(capacity);
    this.tick = Math.floor(now / TICK_MS);
  }

  /** Bytes of memory for each slot. */
  static readonly bytesPerSlot = 4 + 4 + 4 + 2;

  /** Sets, or sets anew, the timer of a slot to fire at `at`. */
  set(slot: number, at: number): void {
    if (this.bucket[slot] !== 0) this.unlink(slot);
    this.deadline[slot] = Math.ceil(Math.min(at, this.tick * TICK_MS + LONGEST_MS));
    const ticks = Math.min(
      Math.max(Math.ceil(at / TICK_MS), this.tick + 1),
      this.tick + BUCKETS - 1,
    );
    const bucket = ticks & BUCKET_MASK;
    const head = this.heads[bucket]!;
    this.next[slot] = head;
    this.previous[slot] = NONE;
    if (head !== NONE) this.previous[head] = slot;
    this.heads[bucket] = slot;
    this.bucket[slot] = bucket + 1;
    this.size += 1;
  }

  clear(slot: number): void {
    if (this.bucket[slot] !== 0) this.unlink(slot);
  }

  /** Fires what is due at `now`. */
  advance(now: number, handler: TimerHandler): void {
    const target = Math.floor(now / TICK_MS);
    if (target - this.tick > BUCKETS) this.tick = target - BUCKETS;
    while (this.tick < target) {
      this.tick += 1;
      const bucket = this.tick & BUCKET_MASK;
      // What the handler sets goes into another bucket (see `set`), so this list only gets shorter.
      let slot = this.heads[bucket]!;
      while (slot !== NONE) {
        this.unlink(slot);
        const late = (Math.floor(now) - this.deadline[slot]!) | 0;
        if (late >= 0) handler.expired(slot, now);
        else this.set(slot, now - late);
        slot = this.heads[bucket]!;
      }
    }
  }

  private unlink(slot: number): void {
    const bucket = this.bucket[slot]! - 1;
    const next = this.next[slot]!;
    const previous = this.previous[slot]!;
    if (previous === NONE) this.heads[bucket] = next;
    else this.next[previous] = next;
    if (next !== NONE) this.previous[next] = previous;
    this.bucket[slot] = 0;
    this.size -= 1;
  }
}
