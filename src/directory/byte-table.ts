/**
 * A hash table from byte strings to small numbers, which is filled once and then only read. It uses
 * open addressing over typed arrays and is at most half full. The caller computes the hash, so that
 * one pass over a path gives the hashes of all its prefixes. A match is always verified byte by
 * byte. Its arrays may be shared memory (directory-image.ts): one thread fills them, all read.
 */
import { type ArrayMaker, ownArrays } from '../base/arrays.js';

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

/** The arrays of a table. */
export interface ByteTableImage {
  /** BUCKET_WORDS for each bucket; the number of buckets is a power of two. */
  readonly buckets: Int32Array;
  readonly tags: Uint32Array;
  readonly values: Uint32Array;
  /** The bytes of entry i are pool[offsets[i], offsets[i + 1]). */
  readonly offsets: Uint32Array;
  readonly pool: Uint8Array;
}

/**
 * Fills a table. Two entries must not have the same tag and bytes: the first would hide the second.
 */
export function byteTableImage(
  entries: readonly ByteEntry[],
  make: ArrayMaker = ownArrays,
): ByteTableImage {
  let size = MIN_BUCKETS;
  while (size < entries.length * 2) size *= 2;
  const mask = size - 1;
  const buckets = make.int32(size * BUCKET_WORDS);
  const tags = make.uint32(entries.length);
  const values = make.uint32(entries.length);
  const offsets = make.uint32(entries.length + 1);
  const pool = make.uint8(entries.reduce((sum, entry) => sum + entry.bytes.length, 0));
  let used = 0;
  for (const [index, entry] of entries.entries()) {
    tags[index] = entry.tag;
    values[index] = entry.value;
    pool.set(entry.bytes, used);
    used += entry.bytes.length;
    offsets[index + 1] = used;
    const mixed = mix(entry.hash, entry.tag);
    let bucket = mixed & mask;
    while (buckets[bucket * BUCKET_WORDS + 1] !== 0) bucket = (bucket + 1) & mask;
    buckets[bucket * BUCKET_WORDS] = mixed;
    buckets[bucket * BUCKET_WORDS + 1] = index + 1;
  }
  return { buckets, tags, values, offsets, pool };
}

export class ByteTable {
  private readonly buckets: Int32Array;
  private readonly mask: number;
  private readonly tags: Uint32Array;
  private readonly values: Uint32Array;
  private readonly offsets: Uint32Array;
  private readonly pool: Uint8Array;

  constructor(image: ByteTableImage) {
    this.buckets = image.buckets;
    this.mask = image.buckets.length / BUCKET_WORDS - 1;
    this.tags = image.tags;
    this.values = image.values;
    this.offsets = image.offsets;
    this.pool = image.pool;
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
