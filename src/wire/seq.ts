/**
 * Sequence number arithmetic (RFC 9293 section 3.4): modulo 2^32, compared by signed difference.
 * All sequence arithmetic of Baton is in this file. Values are unsigned 32-bit numbers.
 */

/** a - b as a signed number: negative when a is before b. */
export function seqDiff(a: number, b: number): number {
  return (a - b) | 0;
}

export function seqAdd(a: number, n: number): number {
  return (a + n) >>> 0;
}

export function seqBefore(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

export function seqAfter(a: number, b: number): boolean {
  return ((a - b) | 0) > 0;
}
