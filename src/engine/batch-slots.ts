/**
 * The sessions to which something happened in the current batch, so that it is known of each
 * whether the datapath has sent its frames yet. A short list rather than a word for each session:
 * few sessions are in it, and it is rarely asked.
 */

/** Slots that are remembered. When there are more, all sessions count as being in the list. */
const MOST = 512;

export class BatchSlots {
  private readonly slots = new Int32Array(MOST);
  private count = 0;

  add(slot: number): void {
    if (this.count < MOST) this.slots[this.count] = slot;
    this.count += 1;
  }

  /** Whether the session may be in the list: never false for one that is. */
  has(slot: number): boolean {
    if (this.count > MOST) return true;
    for (let i = 0; i < this.count; i++) if (this.slots[i] === slot) return true;
    return false;
  }

  /** A new batch begins. */
  clear(): void {
    this.count = 0;
  }
}
