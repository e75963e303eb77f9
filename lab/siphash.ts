/**
 * SipHash-2-4 over BigInt, written from the paper alone (Aumasson and Bernstein, 2012), so that
 * tests do not repeat a fault of src/wire/siphash.ts. Slow, and made for reading.
 */

const MASK = 0xffff_ffff_ffff_ffffn;

function rotate(word: bigint, bits: bigint): bigint {
  return ((word << bits) | (word >> (64n - bits))) & MASK;
}

function littleEndian(bytes: Uint8Array, offset: number, count: number): bigint {
  let word = 0n;
  for (let i = count - 1; i >= 0; i--) word = (word << 8n) | BigInt(bytes[offset + i]!);
  return word;
}

/** The 64-bit tag of `message` under the 16 bytes of `key`. */
export function referenceSipHash(key: Uint8Array, message: Uint8Array): bigint {
  const k0 = littleEndian(key, 0, 8);
  const k1 = littleEndian(key, 8, 8);
  let v0 = k0 ^ 0x736f6d6570736575n;
  let v1 = k1 ^ 0x646f72616e646f6dn;
  let v2 = k0 ^ 0x6c7967656e657261n;
  let v3 = k1 ^ 0x7465646279746573n;

  const round = (): void => {
    v0 = (v0 + v1) & MASK;
    v1 = rotate(v1, 13n) ^ v0;
    v0 = rotate(v0, 32n);
    v2 = (v2 + v3) & MASK;
    v3 = rotate(v3, 16n) ^ v2;
    v0 = (v0 + v3) & MASK;
    v3 = rotate(v3, 21n) ^ v0;
    v2 = (v2 + v1) & MASK;
    v1 = rotate(v1, 17n) ^ v2;
    v2 = rotate(v2, 32n);
  };
  const absorb = (word: bigint): void => {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  };

  const whole = message.length - (message.length % 8);
  for (let i = 0; i < whole; i += 8) absorb(littleEndian(message, i, 8));
  const rest = littleEndian(message, whole, message.length - whole);
  absorb((BigInt(message.length & 0xff) << 56n) | rest);

  v2 ^= 0xffn;
  for (let i = 0; i < 4; i++) round();
  return v0 ^ v1 ^ v2 ^ v3;
}
