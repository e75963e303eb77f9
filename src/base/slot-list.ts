/** A doubly linked list over the slots of a table, oldest first. It allocates only at the start. */

const NONE = -1;

export class SlotList {
  /** Number of slots in the list. */
  size = 0;
  private first = NONE;
  private last = NONE;
  private readonly next: Int32Array;
  private readonly previous: Int32Array;

  /**
   * @param next one word for each slot. The list uses it while the slot is in the list. It may be a
   *   field that has no other meaning then.
   * @param previous as `next`
   */
  constructor(next: Int32Array, previous: Int32Array) {
    this.next = next;
    this.previous = previous;
  }

  /** The slot that has been in the list longest; -1 when the list is empty. */
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

  /** Removes a slot that is in the list. */
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
