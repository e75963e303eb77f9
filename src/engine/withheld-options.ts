/**
 * The TCP options that a balancer does not offer in its SYN/ACKs, since not every node can continue
 * a session that uses them. The main thread writes them and the engine threads read them, in shared
 * memory without locks: neither byte depends on the other.
 */

const WITHHELD = 0;
const REFUSED_HERE = 1;
const BYTES = 2;

/** Memory for one balancer: nothing is withheld. */
export function withheldMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(BYTES);
}

export class WithheldOptions {
  private readonly bytes: Uint8Array;

  /** @param memory of `withheldMemory`; by default shared with no other thread */
  constructor(memory = withheldMemory()) {
    this.bytes = new Uint8Array(memory);
  }

  /** IxpFlag bits of the options that SYN/ACKs do not offer. */
  get current(): number {
    return this.bytes[WITHHELD]!;
  }

  /** IxpFlag bits of the options that the balancer's own kernel refuses. */
  get refusedHere(): number {
    return this.bytes[REFUSED_HERE]!;
  }

  /**
   * Sets both. The local services go on without the options that the own kernel refuses, where a
   * session can.
   */
  set(withheld: number, refusedHere: number): void {
    this.bytes[WITHHELD] = withheld;
    this.bytes[REFUSED_HERE] = refusedHere;
  }
}
