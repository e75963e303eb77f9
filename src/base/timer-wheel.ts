/**
 * A timer wheel with one timer for each slot of a table. It allocates only at the start.
 *
 *     buckets (one for each tick of 8 ms; a round takes about half a minute)
 *     +-----+-----+-----+-----+-- --+
 *     |  o  |     |  o  |     |     |      each a doubly linked list of slots,
 *     +--|--+-----+--|--+-----+-- --+      threaded through the arrays next and previous
 *        5 <-> 17     9
 *              ^ now moves to the right, and from the end to the start
 *
 * A deadline that is more than one round away waits in the last bucket. When that bucket is due,
 * the timer is set again. Times are in ms, on a clock with any origin. Deadlines are unsigned
 * 32-bit numbers, compared by signed difference. So the wheel must know the time before the first
 * timer is set, and a wait is at most 20 days.
 */

const TICK_MS = 8;
/** A power of two. */
const BUCKETS = 4096;
const BUCKET_MASK = BUCKETS - 1;
const NONE = -1;
/** The longest wait: 20 days. */
const LONGEST_MS = 20 * 86_400_000;

export interface TimerHandler {
  /** The timer of `slot` is due, and no longer set. The handler may set it again. */
  expired(slot: number, now: number): void;
}

export class TimerWheel {
  private readonly heads = new Int32Array(BUCKETS).fill(NONE);
  private readonly next: Int32Array;
  private readonly previous: Int32Array;
  private readonly deadline: Uint32Array;
  /** The bucket in which a slot waits, plus one. 0: its timer is not set. */
  private readonly bucket: Uint16Array;
  private tick: number;
  /** Number of timers that are set. */
  size = 0;

  /**
   * @param capacity number of slots: 0 to capacity - 1
   * @param now the time, in ms, on the clock of all later times
   */
  constructor(capacity: number, now: number) {
    this.next = new Int32Array(capacity);
    this.previous = new Int32Array(capacity);
    this.deadline = new Uint32Array(capacity);
    this.bucket = new Uint16Array(capacity);
    this.tick = Math.floor(now / TICK_MS);
  }

  /** Memory for each slot, in bytes. */
  static readonly bytesPerSlot = 4 + 4 + 4 + 2;

  /** Sets the timer of a slot to fire at `at`, in place of an earlier time. */
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

  /** Fires the timers that are due at `now`. */
  advance(now: number, handler: TimerHandler): void {
    const target = Math.floor(now / TICK_MS);
    if (target - this.tick > BUCKETS) this.tick = target - BUCKETS;
    while (this.tick < target) {
      this.tick += 1;
      const bucket = this.tick & BUCKET_MASK;
      // A timer that the handler sets goes into another bucket (see `set`): this list only shrinks.
      let slot = this.heads[bucket]!;
      while (slot !== NONE) {
        this.unlink(slot);
        const overdue = (Math.floor(now) - this.deadline[slot]!) | 0;
        if (overdue >= 0) handler.expired(slot, now);
        else this.set(slot, now - overdue);
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
