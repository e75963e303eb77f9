/**
 * The TCP options that a balancer does not offer in its SYN/ACKs, since not every node can continue
 * a session that uses them. The main thread writes them and the engine threads read them, in shared
 * memory.
 */

const BYTES = 1;

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
    return this.bytes[0]!;
  }

  set current(options: number) {
    this.bytes[0] = options;
  }
}
