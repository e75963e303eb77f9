/**
 * The digest by which the XDP program knows a head: `head_digest_begin` and `head_digest_end` of
 * bpf/lib/heads.h, SipHash-2-4 with a 128-bit result (Aumasson and Bernstein, 2012). The key is a
 * secret, so nobody can make two heads with one digest.
 *
 *     words hashed:  each whole 8 bytes | the last 8 bytes, if some are in no whole word | length
 */
import { HEAD_LEAST_BYTES } from '../../datapath/heads-layout.js';

const KEY_BYTES = 16;
const WORD_BYTES = 8;
/** What distinguishes the 128-bit result, and its second half. */
const WIDE = 0xee;
const SECOND = 0xdd;
const ROUNDS = 2;
const LAST_ROUNDS = 4;

export class HeadDigest {
  /** Four words of the last `compute`, the lowest first. */
  readonly words = new Uint32Array(4);
  private readonly key: DataView;
  /** v0 to v3, each with its lower half first. */
  private readonly v = new Int32Array(8);

  /** @param key 16 bytes; read as two little-endian 64-bit words */
  constructor(key: Uint8Array) {
    this.key = new DataView(key.slice(0, KEY_BYTES).buffer);
  }

  /** Computes the digest of bytes[start, end), of HEAD_LEAST_BYTES at least. */
  compute(bytes: Uint8Array, start: number, end: number): void {
    const { v, key, words } = this;
    const length = end - start;
    if (length < HEAD_LEAST_BYTES) throw new RangeError(`a head of ${length} bytes`);
    v[0] = key.getInt32(0, true) ^ 0x70736575;
    v[1] = key.getInt32(4, true) ^ 0x736f6d65;
    v[2] = key.getInt32(8, true) ^ 0x6e646f6d ^ WIDE;
    v[3] = key.getInt32(12, true) ^ 0x646f7261;
    v[4] = key.getInt32(0, true) ^ 0x6e657261;
    v[5] = key.getInt32(4, true) ^ 0x6c796765;
    v[6] = key.getInt32(8, true) ^ 0x79746573;
    v[7] = key.getInt32(12, true) ^ 0x74656462;
    let at = start;
    for (; at + WORD_BYTES <= end; at += WORD_BYTES)
      this.word(half(bytes, at), half(bytes, at + 4));
    if (at < end) this.word(half(bytes, end - WORD_BYTES), half(bytes, end - 4));
    this.word(length, 0);
    v[4]! ^= WIDE;
    this.rounds(LAST_ROUNDS);
    words[0] = v[0]! ^ v[2]! ^ v[4]! ^ v[6]!;
    words[1] = v[1]! ^ v[3]! ^ v[5]! ^ v[7]!;
    v[2]! ^= SECOND;
    this.rounds(LAST_ROUNDS);
    words[2] = v[0]! ^ v[2]! ^ v[4]! ^ v[6]!;
    words[3] = v[1]! ^ v[3]! ^ v[5]! ^ v[7]!;
  }

  private word(low: number, high: number): void {
    const { v } = this;
    v[6]! ^= low;
    v[7]! ^= high;
    this.rounds(ROUNDS);
    v[0]! ^= low;
    v[1]! ^= high;
  }

  /** The round of SipHash, as in wire/siphash.ts: halves of 32 bits, carries by bits. */
  private rounds(count: number): void {
    const { v } = this;
    let v0l = v[0]!;
    let v0h = v[1]!;
    let v1l = v[2]!;
    let v1h = v[3]!;
    let v2l = v[4]!;
    let v2h = v[5]!;
    let v3l = v[6]!;
    let v3h = v[7]!;
    for (let round = 0; round < count; round++) {
      let sum = (v0l + v1l) | 0;
      v0h = (v0h + v1h + (((v0l & v1l) | ((v0l | v1l) & ~sum)) >>> 31)) | 0;
      v0l = sum;
      let swap = (v1l << 13) | (v1h >>> 19);
      v1h = ((v1h << 13) | (v1l >>> 19)) ^ v0h;
      v1l = swap ^ v0l;
      swap = v0l;
      v0l = v0h;
      v0h = swap;
      sum = (v2l + v3l) | 0;
      v2h = (v2h + v3h + (((v2l & v3l) | ((v2l | v3l) & ~sum)) >>> 31)) | 0;
      v2l = sum;
      swap = (v3l << 16) | (v3h >>> 16);
      v3h = ((v3h << 16) | (v3l >>> 16)) ^ v2h;
      v3l = swap ^ v2l;
      sum = (v0l + v3l) | 0;
      v0h = (v0h + v3h + (((v0l & v3l) | ((v0l | v3l) & ~sum)) >>> 31)) | 0;
      v0l = sum;
      swap = (v3l << 21) | (v3h >>> 11);
      v3h = ((v3h << 21) | (v3l >>> 11)) ^ v0h;
      v3l = swap ^ v0l;
      sum = (v2l + v1l) | 0;
      v2h = (v2h + v1h + (((v2l & v1l) | ((v2l | v1l) & ~sum)) >>> 31)) | 0;
      v2l = sum;
      swap = (v1l << 17) | (v1h >>> 15);
      v1h = ((v1h << 17) | (v1l >>> 15)) ^ v2h;
      v1l = swap ^ v2l;
      swap = v2l;
      v2l = v2h;
      v2h = swap;
    }
    v[0] = v0l;
    v[1] = v0h;
    v[2] = v1l;
    v[3] = v1h;
    v[4] = v2l;
    v[5] = v2h;
    v[6] = v3l;
    v[7] = v3h;
  }
}

/** Four bytes as a little-endian number. */
function half(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}
