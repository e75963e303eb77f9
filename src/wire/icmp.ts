/** ICMP errors (RFC 792, RFC 1191): only the fields that identify the session of the error. */

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

export function isIcmpError(type: number): boolean {
  return (
    type === IcmpType.destinationUnreachable ||
    type === IcmpType.timeExceeded ||
    type === IcmpType.parameterProblem
  );
}
