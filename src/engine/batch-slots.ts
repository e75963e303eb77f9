/**
 * The sessions to which something happened in the current batch: the datapath may not have sent
 * their frames yet. This is a short list rather than a word for each session, because it has few
 * members and is rarely asked.
 */

/** Slots that are remembered. When there are more, every session counts as a member. */
const MOST = 512;

export class BatchSlots {
  private readonly slots = new Int32Array(MOST);
  private count = 0;

  add(slot: number): void {
    if (this.count < MOST) this.slots[this.count] = slot;
    this.count += 1;
  }

  /** Whether the session may be in the list. Never false for a session that is in it. */
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
