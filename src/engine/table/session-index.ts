/**
 * The index that finds sessions by their key: open addressing with linear probing, in memory that
 * the kernel may share. A word is 0, or the upper 8 bits of the session's hash and below them its
 * slot plus 1.
 *
 * It grows with the sessions, because a small one stays in the caches: what a packet costs the
 * kernel depends on that more than on anything that it computes (docs/decisions.md). There is room
 * for the largest table and, behind it, for one of half that size; tables of growing size take
 * turns in them:
 *
 *     words:    0 ................................ most ............ 1.5 most
 *     1st            |                              | 16 words at the end  |
 *     2nd       | 32 words                          |                      |
 *     3rd                                           |          64 words    |
 *     ...
 *     last      | most words                        |
 *
 * While it grows, words move from the old table to the new one, some with each session that is
 * added, so that nothing ever waits for all of them. Each is put into the new table before it is
 * taken out of the old one, so whoever looks into the old one first, and then into the new one,
 * finds it at any time.
 */
import { type RecordReader, sessionHash } from './session-record.js';

/**
 * Fewest words of the largest table: what there is room for is a multiple of a line of
 * bpf/lib/session.h then.
 */
const LEAST_WORDS = 32;
/** Words of the first table. */
const FIRST_WORDS = 16;
/**
 * Words of the old table that are looked at for each session that is added. It is empty long before
 * the new table is half full; half of them are in use, so that an addition takes 2 or 3 us more
 * while the index grows.
 */
const MOVED_WORDS = 64;

/** Beside the number of words, a power of two: bits of what the kernel is told of a table. */
export const IndexFlag = {
  /** It lies at the end of the room that there is. */
  atEnd: 0x01,
  /** The table of half its size, at the other side, still has some of the sessions. */
  growing: 0x02,
} as const;

const FINGERPRINT_MASK = 0xff00_0000;
const SLOT_MASK = 0x00ff_ffff;
const NONE = -1;

/** Where an index lies. */
export interface IndexMemory {
  /** As many as `indexWordsFor` says, all 0. */
  words: Uint32Array;
  /** One word, for the kernel: words of the table, and IndexFlag. */
  state: Uint32Array;
}

/** Words that an index for so many sessions needs; its tables are never more than half full. */
export function indexWordsFor(capacity: number): number {
  let most = LEAST_WORDS;
  while (most < capacity * 2) most *= 2;
  return most + most / 2;
}

export class SessionIndex {
  private readonly words: Uint32Array;
  private readonly state: Uint32Array;
  /** The table: its first word, and its number of words less 1. */
  private base: number;
  private mask = FIRST_WORDS - 1;
  /** Sessions in it and in the old table. */
  private size = 0;
  private oldBase = 0;
  /** The next word of the old table to be looked at. All before it have been moved. */
  private oldAt = 0;
  /** Words of the old table that are left to be looked at; 0: the index does not grow. */
  private oldLeft = 0;

  /**
   * @param records whose keys are looked for
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
    // Sizes take turns so that the largest begins at 0.
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
    // Nothing moves meanwhile, so the order does not matter here: most are in the new table soon.
    const slot = this.search(client, portServer, hash, this.base, this.mask);
    if (slot !== NONE || this.oldLeft === 0) return slot;
    return this.search(client, portServer, hash, this.oldBase, this.mask >>> 1);
  }

  /** Adds the session of a slot, whose key is in its record and is not in the index. */
  add(slot: number): void {
    if (this.oldLeft > 0) this.move();
    else if (this.size * 2 > this.mask && this.mask + 1 < (this.words.length / 3) * 2) this.grow();
    this.put(this.hashOf(slot), slot);
    this.size += 1;
  }

  /** Takes out the session of a slot, whose key is still in its record. */
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

  /** Takes a session out of one table; false when it is not there. */
  private take(slot: number, hash: number, base: number, mask: number): boolean {
    const { words } = this;
    let hole = hash & mask;
    for (;;) {
      const word = words[base + hole]!;
      if (word === 0) return false;
      if ((word & SLOT_MASK) === slot + 1) break;
      hole = (hole + 1) & mask;
    }
    // Backward shift: what was displaced past the hole moves up, so that no tombstones are needed.
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
    // From behind an empty word on, so that sessions that lie side by side are met from their
    // first.
    this.oldAt = 0;
    while (this.words[this.oldBase + this.oldAt] !== 0) this.oldAt += 1;
    this.oldAt = (this.oldAt + 1) & this.mask;
    this.base = this.base === 0 ? this.words.length - 2 * old : 0;
    this.mask = 2 * old - 1;
    this.publish();
    this.move();
  }

  /**
   * Moves some words on. All that lie side by side move at once: as long as none of them is
   * missing, each is found in the old table, and they are not cleared before all are in the new
   * one.
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
      // They, and the empty word behind them.
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
