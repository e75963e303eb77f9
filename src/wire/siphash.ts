/**
 * SipHash-2-4 (Aumasson and Bernstein, 2012) with a 64-bit result, for messages of whole 8-byte
 * words. The 64-bit lanes are kept as pairs of 32-bit halves: BigInt allocates.
 */

/** Bytes of the longest message. */
export const SIPHASH_MESSAGE_BYTES = 72;
export const SIPHASH_KEY_BYTES = 16;

export class SipHash {
  /** Write the message here, then call `hash`. */
  readonly message = new DataView(new ArrayBuffer(SIPHASH_MESSAGE_BYTES));
  /** The result of the last `hash`: its upper and lower 32 bits, unsigned. */
  high = 0;
  low = 0;
  private readonly k0l: number;
  private readonly k0h: number;
  private readonly k1l: number;
  private readonly k1h: number;

  /** @param key 16 bytes; read as two little-endian 64-bit words, as in the reference. */
  constructor(key: Uint8Array) {
    const view = new DataView(key.buffer, key.byteOffset, SIPHASH_KEY_BYTES);
    this.k0l = view.getInt32(0, true);
    this.k0h = view.getInt32(4, true);
    this.k1l = view.getInt32(8, true);
    this.k1h = view.getInt32(12, true);
  }

  /** Hashes the first `length` bytes of `message`; `length` is a multiple of 8. */
  hash(length: number): void {
    const message = this.message;
    let v0l = this.k0l ^ 0x70736575;
    let v0h = this.k0h ^ 0x736f6d65;
    let v1l = this.k1l ^ 0x6e646f6d;
    let v1h = this.k1h ^ 0x646f7261;
    let v2l = this.k0l ^ 0x6e657261;
    let v2h = this.k0h ^ 0x6c796765;
    let v3l = this.k1l ^ 0x79746573;
    let v3h = this.k1h ^ 0x74656462;
    // Two rounds for each word, two for the last word (which holds the length), four to finish.
    const words = length >>> 3;
    for (let word = 0; word <= words + 1; word++) {
      let ml = 0;
      let mh = 0;
      let rounds = 2;
      if (word < words) {
        ml = message.getInt32(word << 3, true);
        mh = message.getInt32((word << 3) + 4, true);
      } else if (word === words) {
        mh = (length & 0xff) << 24;
      } else {
        v2l ^= 0xff;
        rounds = 4;
      }
      v3l ^= ml;
      v3h ^= mh;
      for (let round = 0; round < rounds; round++) {
        // The carry of a lower half is computed by bits. A comparison of unsigned numbers would
        // leave the 32-bit integers and take three times as long.
        let sum = (v0l + v1l) | 0;
        v0h = (v0h + v1h + (((v0l & v1l) | ((v0l | v1l) & ~sum)) >>> 31)) | 0;
        v0l = sum;
        let swap = (v1l << 13) | (v1h >>> 19);
        v1h = (v1h << 13) | (v1l >>> 19);
        v1l = swap ^ v0l;
        v1h ^= v0h;
        swap = v0l;
        v0l = v0h;
        v0h = swap;
        sum = (v2l + v3l) | 0;
        v2h = (v2h + v3h + (((v2l & v3l) | ((v2l | v3l) & ~sum)) >>> 31)) | 0;
        v2l = sum;
        swap = (v3l << 16) | (v3h >>> 16);
        v3h = (v3h << 16) | (v3l >>> 16);
        v3l = swap ^ v2l;
        v3h ^= v2h;
        sum = (v0l + v3l) | 0;
        v0h = (v0h + v3h + (((v0l & v3l) | ((v0l | v3l) & ~sum)) >>> 31)) | 0;
        v0l = sum;
        swap = (v3l << 21) | (v3h >>> 11);
        v3h = (v3h << 21) | (v3l >>> 11);
        v3l = swap ^ v0l;
        v3h ^= v0h;
        sum = (v2l + v1l) | 0;
        v2h = (v2h + v1h + (((v2l & v1l) | ((v2l | v1l) & ~sum)) >>> 31)) | 0;
        v2l = sum;
        swap = (v1l << 17) | (v1h >>> 15);
        v1h = (v1h << 17) | (v1l >>> 15);
        v1l = swap ^ v2l;
        v1h ^= v2h;
        swap = v2l;
        v2l = v2h;
        v2h = swap;
      }
      v0l ^= ml;
      v0h ^= mh;
    }
    this.low = (v0l ^ v1l ^ v2l ^ v3l) >>> 0;
    this.high = (v0h ^ v1h ^ v2h ^ v3h) >>> 0;
  }
}
