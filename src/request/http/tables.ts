/**
 * Character classes of HTTP and URIs: one table of 256 bytes for each class, so that a test is one
 * indexed read.
 */

export const HTAB = 0x09;
export const LF = 0x0a;
export const CR = 0x0d;
export const SP = 0x20;
export const PERCENT = 0x25;
export const ASTERISK = 0x2a;
export const COMMA = 0x2c;
export const DOT = 0x2e;
export const SLASH = 0x2f;
export const ZERO = 0x30;
export const NINE = 0x39;
export const COLON = 0x3a;
export const SEMICOLON = 0x3b;
export const QUESTION = 0x3f;
export const BRACKET_OPEN = 0x5b;
export const BRACKET_CLOSE = 0x5d;

/**
 * Makes an ASCII letter lower case when set. Use it only to compare with a letter: it changes other
 * bytes, too.
 */
export const CASE_BIT = 0x20;

const DIGITS = '0123456789';
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const SUB_DELIMS = "!$&'()*+,;=";

function classOf(characters: string): Uint8Array {
  const table = new Uint8Array(256);
  for (let i = 0; i < characters.length; i++) table[characters.charCodeAt(i)] = 1;
  return table;
}

function classWhere(belongs: (byte: number) => boolean): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, byte) => (belongs(byte) ? 1 : 0));
}

/** tchar of RFC 9110 section 5.6.2: methods, field names, transfer codings. */
export const TOKEN = classOf(`!#$%&'*+-.^_\`|~${DIGITS}${LETTERS}`);

/** Bytes of a field value, RFC 9110 section 5.5: visible bytes, obs-text, SP and HTAB. */
export const FIELD_VALUE = classWhere((byte) => byte === HTAB || (byte >= SP && byte !== 0x7f));

/** The first byte that is not ASCII. */
export const BEYOND_ASCII = 0x80;

/**
 * Bytes of a request target: all except controls, SP, DEL and "#". This is more than RFC 3986
 * allows. Browsers send | { } [ ] ^ ` and \ without encoding (the URL standard does not require it
 * everywhere), and none of these affects normalisation. curl and wget send bytes beyond ASCII as
 * they were typed; such a byte means the same as its percent-encoding.
 */
export const TARGET = classWhere((byte) => byte > SP && byte !== 0x7f && byte !== 0x23);

/** unreserved of RFC 3986 section 2.3: such a byte means the same with percent-encoding. */
export const UNRESERVED = classOf(`-._~${DIGITS}${LETTERS}`);

/**
 * The bytes of a reg-name (RFC 3986 section 3.2.2) in lower case; 0 for all others and for "%".
 */
export const HOST_LOWER = Uint8Array.from({ length: 256 }, (_, byte) => {
  const character = String.fromCharCode(byte);
  const allowed = UNRESERVED[byte] === 1 || SUB_DELIMS.includes(character);
  return allowed ? character.toLowerCase().charCodeAt(0) : 0;
});

/** In HEX_VALUE: the byte is no hex digit. NOT_HEX | x is NOT_HEX for every value x. */
export const NOT_HEX = 0xff;

/** Value of a hex digit in either case. */
export const HEX_VALUE = Uint8Array.from({ length: 256 }, (_, byte) => {
  const value = '0123456789abcdef'.indexOf(String.fromCharCode(byte).toLowerCase());
  return value < 0 ? NOT_HEX : value;
});

/** The hex digits of the normal form. */
export const HEX_DIGIT = Uint8Array.from('0123456789ABCDEF', (digit) => digit.charCodeAt(0));
