/**
 * Character classes of HTTP and URIs, one table of 256 bytes each: what a byte may be is one
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
export const QUESTION = 0x3f;
export const BRACKET_OPEN = 0x5b;
export const BRACKET_CLOSE = 0x5d;

/**
 * Turns an ASCII capital into its small letter; other bytes only compare right where a letter is
 * expected.
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

/** What a field value may hold, RFC 9110 section 5.5: visible bytes, obs-text, SP and HTAB. */
export const FIELD_VALUE = classWhere((byte) => byte === HTAB || (byte >= SP && byte !== 0x7f));

/** The first byte that is not ASCII. */
export const BEYOND_ASCII = 0x80;

/**
 * What a request target may hold: all but controls, SP, DEL and "#". That is more than RFC 3986
 * allows. Browsers send | { } [ ] ^ ` and \ as they are (the URL standard does not have them
 * encoded everywhere), and none of them takes part in normalisation. curl and wget send what is
 * beyond ASCII as it was typed; it means the same as its percent-encoding.
 */
export const TARGET = classWhere((byte) => byte > SP && byte !== 0x7f && byte !== 0x23);

/** unreserved of RFC 3986 section 2.3: the same whether percent-encoded or not. */
export const UNRESERVED = classOf(`-._~${DIGITS}${LETTERS}`);

/**
 * Bytes of a reg-name (RFC 3986 section 3.2.2) in lower case; 0 for those not in it, and for "%".
 */
export const HOST_LOWER = Uint8Array.from({ length: 256 }, (_, byte) => {
  const character = String.fromCharCode(byte);
  const allowed = UNRESERVED[byte] === 1 || SUB_DELIMS.includes(character);
  return allowed ? character.toLowerCase().charCodeAt(0) : 0;
});

/** Marks what is no hex digit in HEX_VALUE: or-ing two values keeps it above 15. */
export const NOT_HEX = 0xff;

/** Value of a hex digit, either case. */
export const HEX_VALUE = Uint8Array.from({ length: 256 }, (_, byte) => {
  const value = '0123456789abcdef'.indexOf(String.fromCharCode(byte).toLowerCase());
  return value < 0 ? NOT_HEX : value;
});

/** The hex digits that normal form is written with. */
export const HEX_DIGIT = Uint8Array.from('0123456789ABCDEF', (digit) => digit.charCodeAt(0));
