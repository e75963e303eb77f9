/**
 * A virtual clock: events run in order of time, and in order of scheduling when times are equal.
 */

export interface Timer {
  time: number;
  order: number;
  run: (() => void) | undefined;
}

export class Clock {
  /** In ms. */
  now: number;
  private readonly heap: Timer[] = [];
  private order = 0;

  constructor(start: number) {
    this.now = start;
  }

  after(delay: number, run: () => void): Timer {
    const timer: Timer = { time: this.now + delay, order: this.order++, run };
    const heap = this.heap;
    let at = heap.length;
    heap.push(timer);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(timer, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = timer;
    return timer;
  }

  cancel(timer: Timer | undefined): void {
    if (timer !== undefined) timer.run = undefined;
  }

  /** Runs the next event. Returns false when there is none. */
  step(): boolean {
    const next = this.heap[0];
    if (next === undefined) return false;
    const last = this.heap.pop()!;
    if (this.heap.length > 0) this.sink(last);
    this.now = next.time;
    next.run?.();
    return true;
  }

  /** Time of the next event that was not cancelled; undefined when there is none. */
  next(): number | undefined {
    while (this.heap.length > 0 && this.heap[0]!.run === undefined) this.step();
    return this.heap[0]?.time;
  }

  private sink(timer: Timer): void {
    const heap = this.heap;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, timer)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = timer;
  }
}

function before(a: Timer, b: Timer): boolean {
  return a.time < b.time || (a.time === b.time && a.order < b.order);
}
