/**
 * A hash table from byte strings to small numbers, which is filled once and then only read. It uses
 * open addressing over typed arrays and is at most half full. The caller computes the hash, so that
 * one pass over a path gives the hashes of all its prefixes. A match is always verified byte by
 * byte.
 */

const FNV_PRIME = 0x01000193;
/** Words of a bucket: the mixed hash, and the number of the entry plus one (0: empty). */
const BUCKET_WORDS = 2;
const MIN_BUCKETS = 8;

/** Adds one byte to a rolling hash (FNV-1a with a secret offset basis). */
export function rollHash(hash: number, byte: number): number {
  return Math.imul(hash ^ byte, FNV_PRIME);
}

/**
 * Spreads a rolling hash and a tag over all 32 bits (the finaliser of MurmurHash3). The result is
 * signed, since V8 may box an unsigned number.
 */
function mix(hash: number, tag: number): number {
  let h = hash ^ Math.imul(tag + 1, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** An entry to put in. Entries with different tags never match each other. */
export interface ByteEntry {
  tag: number;
  hash: number;
  bytes: Uint8Array;
  value: number;
}

export class ByteTable {
  private readonly buckets: Int32Array;
  private readonly mask: number;
  private readonly tags: Uint32Array;
  private readonly values: Uint32Array;
  /** The bytes of entry i are pool[offsets[i], offsets[i + 1]). */
  private readonly offsets: Uint32Array;
  private readonly pool: Uint8Array;

  /** Two entries must not have the same tag and bytes: the first would hide the second. */
  constructor(entries: readonly ByteEntry[]) {
    let size = MIN_BUCKETS;
    while (size < entries.length * 2) size *= 2;
    this.buckets = new Int32Array(size * BUCKET_WORDS);
    this.mask = size - 1;
    this.tags = Uint32Array.from(entries, (entry) => entry.tag);
    this.values = Uint32Array.from(entries, (entry) => entry.value);
    this.offsets = new Uint32Array(entries.length + 1);
    this.pool = new Uint8Array(entries.reduce((sum, entry) => sum + entry.bytes.length, 0));
    let used = 0;
    entries.forEach((entry, index) => {
      this.pool.set(entry.bytes, used);
      used += entry.bytes.length;
      this.offsets[index + 1] = used;
      const mixed = mix(entry.hash, entry.tag);
      let bucket = mixed & this.mask;
      while (this.buckets[bucket * BUCKET_WORDS + 1] !== 0) bucket = (bucket + 1) & this.mask;
      this.buckets[bucket * BUCKET_WORDS] = mixed;
      this.buckets[bucket * BUCKET_WORDS + 1] = index + 1;
    });
  }

  /**
   * The value of the entry with this tag and bytes[start, end), or -1. `hash` must be computed in
   * the same way as the hashes of the entries.
   */
  find(tag: number, hash: number, bytes: Uint8Array, start: number, end: number): number {
    const buckets = this.buckets;
    const mixed = mix(hash, tag);
    let bucket = mixed & this.mask;
    for (;;) {
      const entry = buckets[bucket * BUCKET_WORDS + 1]!;
      if (entry === 0) return -1;
      if (
        buckets[bucket * BUCKET_WORDS] === mixed &&
        this.isEntry(entry - 1, tag, bytes, start, end)
      ) {
        return this.values[entry - 1]!;
      }
      bucket = (bucket + 1) & this.mask;
    }
  }

  private isEntry(
    entry: number,
    tag: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): boolean {
    const offset = this.offsets[entry]!;
    if (this.tags[entry] !== tag || this.offsets[entry + 1]! - offset !== end - start) return false;
    const pool = this.pool;
    for (let i = start; i < end; i++) {
      if (pool[offset + i - start] !== bytes[i]) return false;
    }
    return true;
  }
}
