/**
 * Aliases of IPv6 addresses: 32-bit numbers by which sessions, tables and BPF maps name them, as
 * they name IPv4 addresses by their own value. So one session table, one index and one set of maps
 * serves both, and IPv4 pays nothing (docs/decisions.md).
 *
 * An alias is a hash of the address under a key that balancer and nodes derive from their shared
 * key, so that the two of them name a client alike in IXCP. It does not prove an address: who finds
 * a session by an alias compares the whole address. Two clients with the same alias and the same
 * port at one virtual server cannot be connected at the same time; the second one is refused and
 * counted. That needs 2^32 pairs of clients on the average, and nobody without the key can choose
 * them. bpf/lib/alias.h computes the same.
 */
import { type Address6, wordsOf } from './address.js';
import { SipHash } from './siphash.js';

/** Words of the key of aliases. */
export const ALIAS_KEY_WORDS = 4;
/** What is hashed under the shared key to get the key of aliases: "alias of address", and 0, 1. */
const LABEL = new TextEncoder().encode('alias of address');

/** The key of aliases: four numbers of 32 bits. @param key shared with the nodes, 16 bytes */
export function aliasKey(key: Uint8Array): Uint32Array {
  const hash = new SipHash(key);
  const words = new Uint32Array(ALIAS_KEY_WORDS);
  for (let half = 0; half < 2; half++) {
    for (const [index, byte] of LABEL.entries()) hash.message.setUint8(index, byte);
    hash.message.setUint32(LABEL.length, half);
    hash.message.setUint32(LABEL.length + 4, 0);
    hash.hash(LABEL.length + 8);
    words[2 * half] = hash.high;
    words[2 * half + 1] = hash.low;
  }
  return words;
}

function mix(word: number): number {
  const mixed = Math.imul(word ^ (word >>> 16), 0x7feb352d);
  return Math.imul(mixed ^ (mixed >>> 15), 0x846ca68b);
}

export class Aliases {
  private readonly k0: number;
  private readonly k1: number;
  private readonly k2: number;
  private readonly k3: number;

  /** @param key shared with the nodes, 16 bytes */
  constructor(key: Uint8Array) {
    const [k0, k1, k2, k3] = aliasKey(key);
    this.k0 = k0! | 0;
    this.k1 = k1! | 0;
    this.k2 = k2! | 0;
    this.k3 = k3! | 0;
  }

  /** The alias of the IPv6 address at `offset` of a frame, an unsigned 32-bit number. */
  at(view: DataView, offset: number): number {
    let hash = mix(view.getInt32(offset) ^ this.k0);
    hash = mix(hash ^ (hash >>> 16) ^ view.getInt32(offset + 4) ^ this.k1);
    hash = mix(hash ^ (hash >>> 16) ^ view.getInt32(offset + 8) ^ this.k2);
    hash = mix(hash ^ (hash >>> 16) ^ view.getInt32(offset + 12) ^ this.k3);
    return (hash ^ (hash >>> 16)) >>> 0;
  }

  /** The number by which an address is known: an IPv4 address itself, or the alias. */
  of(address: number | Address6): number {
    if (typeof address === 'number') return address;
    const view = new DataView(new ArrayBuffer(16));
    for (const [index, word] of wordsOf(address).entries()) view.setUint32(index * 4, word);
    return this.at(view, 0);
  }
}
