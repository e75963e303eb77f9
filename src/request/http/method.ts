/** Properties of request methods (RFC 9110 section 9). */

const bytesOf = (name: string) => Uint8Array.from(name, (character) => character.charCodeAt(0));
/** RFC 9110 section 9.2.1. Method names are case-sensitive. */
const SAFE = ['GET', 'HEAD', 'OPTIONS', 'TRACE'].map(bytesOf);

/**
 * Whether the method in bytes[start, end) is safe: the client does not ask for any change, so the
 * request may be sent twice.
 */
export function isSafeMethod(bytes: Uint8Array, start: number, end: number): boolean {
  return SAFE.some(
    (name) =>
      name.length === end - start && name.every((byte, index) => bytes[start + index] === byte),
  );
}
