/** UDP headers (RFC 768). The ports are where TCP has them. */
export const UDP_HEADER_BYTES = 8;
