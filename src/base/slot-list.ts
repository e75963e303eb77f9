/**
 * A doubly linked list over the slots of a table, oldest first; nothing is allocated after the
 * start.
 */

const NONE = -1;

export class SlotList {
  /** Slots in the list. */
  size = 0;
  private first = NONE;
  private last = NONE;
  private readonly next: Int32Array;
  private readonly previous: Int32Array;

  /**
   * @param next and previous a word for each slot, which are the list's while the slot is in it:
   *   they may be fields that mean nothing then
   */
  constructor(next: Int32Array, previous: Int32Array) {
    this.next = next;
    this.previous = previous;
  }

  /** The slot that has been in the list for longest, or -1. */
  get oldest(): number {
    return this.first;
  }

  /** Adds a slot that is not in the list. */
  push(slot: number): void {
    this.previous[slot] = this.last;
    this.next[slot] = NONE;
    if (this.last === NONE) this.first = slot;
    else this.next[this.last] = slot;
    this.last = slot;
    this.size += 1;
  }

  /** Takes out a slot that is in the list. */
  remove(slot: number): void {
    const next = this.next[slot]!;
    const previous = this.previous[slot]!;
    if (previous === NONE) this.first = next;
    else this.next[previous] = next;
    if (next === NONE) this.last = previous;
    else this.previous[next] = previous;
    this.size -= 1;
  }
}
