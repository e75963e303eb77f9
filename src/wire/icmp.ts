/**
 * ICMP errors (RFC 792, RFC 1191) and ICMPv6 errors (RFC 4443): only the fields that identify the
 * session of the error, which both have in the same places.
 */

/** Byte offsets from the first byte of the ICMP header. */
export const ICMP = {
  type: 0,
  code: 1,
  checksum: 2,
  /** The packet that caused the error. */ inner: 8,
} as const;

export const IcmpType = {
  destinationUnreachable: 3,
  timeExceeded: 11,
  parameterProblem: 12,
} as const;

/** Bytes of the inner packet's transport header that every error carries (RFC 792). */
export const ICMP_INNER_TRANSPORT_BYTES = 8;

/**
 * The types of ICMPv6 errors: unreachable, too big, time exceeded, parameter problem. All types
 * below 128 are errors, but the others are not defined.
 */
const ICMPV6_ERRORS = { first: 1, last: 4 } as const;

export function isIcmpv6Error(type: number): boolean {
  return type >= ICMPV6_ERRORS.first && type <= ICMPV6_ERRORS.last;
}

export function isIcmpError(type: number): boolean {
  return (
    type === IcmpType.destinationUnreachable ||
    type === IcmpType.timeExceeded ||
    type === IcmpType.parameterProblem
  );
}
