/**
 * Makes text from outside safe to show. No control character of it reaches a terminal or a log.
 */

/**
 * C0, DEL and C1 controls; zero-width and line-breaking characters; characters that change the
 * direction of text, which can make a line look like another one; halves of surrogate pairs.
 */
const UNSAFE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: this expression finds them
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]/gu;

/** The text, with each unsafe character as \xNN or \uNNNN. */
export function printable(text: string): string {
  return text.replace(UNSAFE, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return code < 0x100
      ? `\\x${code.toString(16).padStart(2, '0')}`
      : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

/** As `printable`, for JSON text: a JSON parser still reads the same strings. */
export function printableJson(json: string): string {
  return json.replace(UNSAFE, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

/**
 * bytes[start, end) as printable ASCII. Other bytes and the backslash become \xNN, so different
 * bytes never look the same. Longer input is cut after `most` bytes, and "..." follows.
 */
export function escapeBytes(bytes: Uint8Array, start: number, end: number, most = 64): string {
  const cut = end - start > most;
  let text = '';
  for (let at = start; at < (cut ? start + most : end); at++) {
    const byte = bytes[at] ?? 0;
    const plain = byte >= 0x20 && byte < 0x7f && byte !== 0x5c;
    text += plain ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`;
  }
  return cut ? `${text}...` : text;
}

/**
 * A value in quotes, for use inside a message. A longer one is cut, and "..." follows the quotes.
 */
export function quoted(text: string, most = 60): string {
  const whole = text.length <= most;
  return `${printableJson(JSON.stringify(whole ? text : text.slice(0, most)))}${whole ? '' : '...'}`;
}
