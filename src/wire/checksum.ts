/** The Internet checksum (RFC 1071): one's complement sum of 16-bit big-endian words. */

/**
 * Adds the words of view[offset, offset + length) to a running sum. An odd last byte is padded with
 * zero.
 */
export function sumBytes(view: DataView, offset: number, length: number, sum: number): number {
  const even = offset + (length & ~1);
  let at = offset;
  for (; at + 4 <= even; at += 4) {
    const word = view.getUint32(at);
    sum += (word >>> 16) + (word & 0xffff);
  }
  if (at < even) sum += view.getUint16(at);
  if (length & 1) sum += view.getUint8(even) << 8;
  return sum;
}

/** Folds a running sum into 16 bits. The sum may be as large as 2^53. */
export function fold(sum: number): number {
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return sum;
}

/** The checksum field for a running sum. */
export function finish(sum: number): number {
  return ~fold(sum) & 0xffff;
}

/** Sum of the TCP pseudo-header (RFC 9293 section 3.1). `length` is header plus payload, bytes. */
export function pseudoHeaderSum(
  source: number,
  destination: number,
  protocol: number,
  length: number,
): number {
  return (
    (source >>> 16) +
    (source & 0xffff) +
    (destination >>> 16) +
    (destination & 0xffff) +
    protocol +
    length
  );
}
