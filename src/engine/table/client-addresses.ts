/**
 * The addresses of IPv6 clients, four words for each session beside its record. The record has the
 * alias (wire/alias.ts). The memory exists from when a virtual server has an IPv6 address, so that
 * IPv4 costs nothing.
 */
import { type Address6, toAddress6 } from '../../wire/address.js';
import { ADDRESS_WORDS, hasWords } from '../virtual-servers.js';

/** Bytes for each session. */
export const SESSION_ADDRESS_BYTES = ADDRESS_WORDS * Uint32Array.BYTES_PER_ELEMENT;

const NONE = -1;
const NO_WORDS = new Uint32Array(0);

export class ClientAddresses {
  /** Four words for each slot, or none at all. All 0: the client has an IPv4 address. */
  words: Uint32Array = NO_WORDS;

  /**
   * @param capacity sessions at one time
   * @param words memory for all of them, all 0; by default the first IPv6 server makes some
   */
  constructor(
    private readonly capacity: number,
    words?: Uint32Array,
  ) {
    if (words !== undefined) this.words = words;
  }

  /** From now on sessions can have IPv6 clients. */
  makeRoom(): void {
    if (this.words.length === 0) this.words = new Uint32Array(this.capacity * ADDRESS_WORDS);
  }

  clear(slot: number): void {
    if (this.words.length !== 0)
      this.words.fill(0, slot * ADDRESS_WORDS, (slot + 1) * ADDRESS_WORDS);
  }

  /** Notes the address at `offset` of a frame. */
  set(slot: number, view: DataView, offset: number): void {
    const at = slot * ADDRESS_WORDS;
    for (let word = 0; word < ADDRESS_WORDS; word++)
      this.words[at + word] = view.getUint32(offset + word * 4);
  }

  /** Takes the address of a slot of another table. */
  copy(slot: number, from: Uint32Array, other: number): void {
    const at = other * ADDRESS_WORDS;
    this.words.set(from.subarray(at, at + ADDRESS_WORDS), slot * ADDRESS_WORDS);
  }

  /** Writes the address of an IPv6 session's client to `offset` of a frame. */
  write(slot: number, view: DataView, offset: number): void {
    const at = slot * ADDRESS_WORDS;
    for (let word = 0; word < ADDRESS_WORDS; word++)
      view.setUint32(offset + word * 4, this.words[at + word]!);
  }

  /** Whether the address at `offset` of a frame is that of the session's client. */
  is(slot: number, view: DataView, offset: number): boolean {
    return hasWords(this.words, slot * ADDRESS_WORDS, view, offset);
  }

  /** Where the client's address begins in `words`; -1: it has an IPv4 address. */
  wordsAt(slot: number): number {
    const at = slot * ADDRESS_WORDS;
    // No host has the address ::, and the record of a new session has that.
    for (let word = 0; word < ADDRESS_WORDS; word++)
      if ((this.words[at + word] ?? 0) !== 0) return at;
    return NONE;
  }

  /** The client's IPv6 address; undefined: it has an IPv4 address. */
  address(slot: number): Address6 | undefined {
    const at = this.wordsAt(slot);
    return at < 0 ? undefined : toAddress6(this.words, at);
  }
}
