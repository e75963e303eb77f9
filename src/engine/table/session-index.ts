/**
 * The index that finds sessions by their key: open addressing with linear probing, in memory that
 * the kernel may share. A word is 0, or the upper 8 bits of the session's hash and below them its
 * slot plus 1.
 *
 * The index grows with the sessions, because a small one stays in the caches. What a packet costs
 * the kernel depends on that more than on any computation (docs/decisions.md). The memory has room
 * for the largest table and, behind it, for one of half that size. Tables of growing size alternate
 * between them:
 *
 *     words:    0 ................................ most ............ 1.5 most
 *     1st            |                              | 16 words at the end  |
 *     2nd       | 32 words                          |                      |
 *     3rd                                           |          64 words    |
 *     ...
 *     last      | most words                        |
 *
 * While the index grows, words move from the old table to the new one, some with each session that
 * is added, so that no call has to move all of them. Each word is put into the new table before it
 * is removed from the old one. So a reader that searches the old table first, and then the new one,
 * always finds it.
 */
import { type RecordReader, sessionHash } from './session-record.js';

/**
 * Fewest words of the largest table. The memory is then a multiple of a line of bpf/lib/session.h.
 */
const LEAST_WORDS = 32;
/** Words of the first table. */
const FIRST_WORDS = 16;
/**
 * Words of the old table that are examined for each session that is added. The old table is empty
 * long before the new one is half full. Half of these words are in use, so an addition takes 2 or 3
 * us more while the index grows.
 */
const MOVED_WORDS = 64;

/**
 * Bits of the word that describes a table to the kernel. The rest of the word is its size, a power
 * of two.
 */
export const IndexFlag = {
  /** The table lies at the end of the memory. */
  atEnd: 0x01,
  /** The table of half its size, at the other end, still holds some of the sessions. */
  growing: 0x02,
} as const;

const FINGERPRINT_MASK = 0xff00_0000;
const SLOT_MASK = 0x00ff_ffff;
const NONE = -1;

/** Where an index lies. */
export interface IndexMemory {
  /** As many as `indexWordsFor` returns, all 0. */
  words: Uint32Array;
  /** One word, for the kernel: the number of words of the table, and IndexFlag. */
  state: Uint32Array;
}

/** Words that an index for `capacity` sessions needs. Its tables are never more than half full. */
export function indexWordsFor(capacity: number): number {
  let most = LEAST_WORDS;
  while (most < capacity * 2) most *= 2;
  return most + most / 2;
}

export class SessionIndex {
  private readonly words: Uint32Array;
  private readonly state: Uint32Array;
  /** The current table: its first word, and its number of words less 1. */
  private base: number;
  private mask = FIRST_WORDS - 1;
  /** Sessions in the current and the old table. */
  private size = 0;
  private oldBase = 0;
  /** The next word of the old table to examine. All words before it have been moved. */
  private oldAt = 0;
  /** Words of the old table that are still to be examined; 0 if the index is not growing. */
  private oldLeft = 0;

  /**
   * @param records with the keys
   * @param clientSeed and portSeed any numbers: the secret of the hash
   * @param memory for as many sessions as there are records
   */
  constructor(
    private readonly records: RecordReader,
    private readonly clientSeed: number,
    private readonly portSeed: number,
    memory: IndexMemory,
  ) {
    this.words = memory.words;
    this.state = memory.state;
    const most = (memory.words.length / 3) * 2;
    // Sizes alternate between the ends so that the largest table begins at 0.
    const doublings = Math.log2(most / FIRST_WORDS);
    this.base = doublings % 2 === 0 ? 0 : memory.words.length - FIRST_WORDS;
    this.publish();
  }

  /** Hash of a session's key, an unsigned 32-bit number. */
  hash(client: number, portServer: number): number {
    return sessionHash(client, portServer, this.clientSeed, this.portSeed);
  }

  /** Slot of a session, or -1. */
  find(client: number, portServer: number): number {
    const hash = this.hash(client, portServer);
    // No word moves during this call, so the order does not matter: most sessions are soon in the
    // new table.
    const slot = this.search(client, portServer, hash, this.base, this.mask);
    if (slot !== NONE || this.oldLeft === 0) return slot;
    return this.search(client, portServer, hash, this.oldBase, this.mask >>> 1);
  }

  /** Adds the session of a slot. Its key is in its record, and not yet in the index. */
  add(slot: number): void {
    if (this.oldLeft > 0) this.move();
    else if (this.size * 2 > this.mask && this.mask + 1 < (this.words.length / 3) * 2) this.grow();
    this.put(this.hashOf(slot), slot);
    this.size += 1;
  }

  /** Removes the session of a slot, whose key is still in its record. */
  remove(slot: number): void {
    const hash = this.hashOf(slot);
    if (!this.take(slot, hash, this.base, this.mask))
      this.take(slot, hash, this.oldBase, this.mask >>> 1);
    this.size -= 1;
  }

  get byteLength(): number {
    return this.words.byteLength;
  }

  private hashOf(slot: number): number {
    return this.hash(this.records.client(slot), this.records.portServer(slot));
  }

  private search(
    client: number,
    portServer: number,
    hash: number,
    base: number,
    mask: number,
  ): number {
    let at = hash & mask;
    for (;;) {
      const word = this.words[base + at]!;
      if (word === 0) return NONE;
      if (((word ^ hash) & FINGERPRINT_MASK) === 0) {
        const slot = (word & SLOT_MASK) - 1;
        if (this.records.client(slot) === client && this.records.portServer(slot) === portServer)
          return slot;
      }
      at = (at + 1) & mask;
    }
  }

  private put(hash: number, slot: number): void {
    let at = hash & this.mask;
    while (this.words[this.base + at] !== 0) at = (at + 1) & this.mask;
    this.words[this.base + at] = (hash & FINGERPRINT_MASK) | (slot + 1);
  }

  /** Removes a session from one table. Returns false when it is not there. */
  private take(slot: number, hash: number, base: number, mask: number): boolean {
    const { words } = this;
    let hole = hash & mask;
    for (;;) {
      const word = words[base + hole]!;
      if (word === 0) return false;
      if ((word & SLOT_MASK) === slot + 1) break;
      hole = (hole + 1) & mask;
    }
    // Backward shift: words that were displaced past the hole move up, so no tombstones are needed.
    let at = hole;
    for (;;) {
      at = (at + 1) & mask;
      const word = words[base + at]!;
      if (word === 0) break;
      const home = this.hashOf((word & SLOT_MASK) - 1) & mask;
      if (((at - home) & mask) >= ((at - hole) & mask)) {
        words[base + hole] = word;
        hole = at;
      }
    }
    words[base + hole] = 0;
    return true;
  }

  /** Begins to move to a table of twice the size. */
  private grow(): void {
    const old = this.mask + 1;
    this.oldBase = this.base;
    this.oldLeft = old;
    // Starts behind an empty word, so that each run of adjacent words is met at its beginning.
    this.oldAt = 0;
    while (this.words[this.oldBase + this.oldAt] !== 0) this.oldAt += 1;
    this.oldAt = (this.oldAt + 1) & this.mask;
    this.base = this.base === 0 ? this.words.length - 2 * old : 0;
    this.mask = 2 * old - 1;
    this.publish();
    this.move();
  }

  /**
   * Moves some words. Adjacent words move together: while none of them is missing, each is found in
   * the old table. They are cleared only when all are in the new table.
   */
  private move(): void {
    const mask = this.mask >>> 1;
    const enough = this.oldLeft - MOVED_WORDS;
    while (this.oldLeft > 0 && this.oldLeft > enough) {
      const first = this.oldAt;
      while (this.words[this.oldBase + this.oldAt] !== 0) {
        const slot = (this.words[this.oldBase + this.oldAt]! & SLOT_MASK) - 1;
        this.put(this.hashOf(slot), slot);
        this.oldAt = (this.oldAt + 1) & mask;
      }
      for (let at = first; at !== this.oldAt; at = (at + 1) & mask)
        this.words[this.oldBase + at] = 0;
      // These words, and the empty word behind them.
      this.oldLeft -= ((this.oldAt - first) & mask) + 1;
      this.oldAt = (this.oldAt + 1) & mask;
    }
    if (this.oldLeft === 0) this.publish();
  }

  private publish(): void {
    const atEnd = this.base === 0 ? 0 : IndexFlag.atEnd;
    const growing = this.oldLeft === 0 ? 0 : IndexFlag.growing;
    Atomics.store(this.state, 0, (this.mask + 1) | atEnd | growing);
  }
}
