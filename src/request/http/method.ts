/** Properties of request methods (RFC 9110 section 9). */

const bytesOf = (name: string) => Uint8Array.from(name, (character) => character.charCodeAt(0));
/** RFC 9110 section 9.2.1. Method names are case-sensitive. */
const SAFE = ['GET', 'HEAD', 'OPTIONS', 'TRACE'].map(bytesOf);
const HEAD = ['HEAD'].map(bytesOf);
/** RFC 9110 section 9.3 without CONNECT and TRACE, RFC 5789, RFC 4918 section 9. */
const USUAL = [
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'OPTIONS',
  'PATCH',
  'PROPFIND',
  'PROPPATCH',
  'MKCOL',
  'COPY',
  'MOVE',
  'LOCK',
  'UNLOCK',
].map(bytesOf);

/**
 * Whether the method in bytes[start, end) is safe: the client does not ask for any change, so the
 * request may be sent twice.
 */
export function isSafeMethod(bytes: Uint8Array, start: number, end: number): boolean {
  return isAmong(SAFE, bytes, start, end);
}

/** Whether the method in bytes[start, end) is HEAD, whose answer has no body. */
export function isHead(bytes: Uint8Array, start: number, end: number): boolean {
  return isAmong(HEAD, bytes, start, end);
}

/**
 * Whether servers know the method in bytes[start, end). Some answer another one with an error and
 * close the connection. TRACE is none of them: Apache closes when it has a body.
 */
export function isUsualMethod(bytes: Uint8Array, start: number, end: number): boolean {
  return isAmong(USUAL, bytes, start, end);
}

function isAmong(
  names: readonly Uint8Array[],
  bytes: Uint8Array,
  start: number,
  end: number,
): boolean {
  for (const name of names) {
    if (name.length !== end - start) continue;
    let at = 0;
    while (at < name.length && bytes[start + at] === name[at]) at++;
    if (at === name.length) return true;
  }
  return false;
}
