/**
 * The parts of a request head that the access log shows. The head may be one that was refused, so
 * nothing is certain of it: a part that is not there is undefined, and each is cut at its bound.
 * Text has one character for each byte.
 */

/** Most bytes of each part. */
export const MOST_LINE_BYTES = 2048;
const MOST_METHOD_BYTES = 32;
const MOST_HOST_BYTES = 255;
const MOST_REFERER_BYTES = 1024;
const MOST_AGENT_BYTES = 512;

const CR = 13;
/** Makes an ASCII letter lower case. */
const CASE_BIT = 0x20;
/** First letters of the fields that are shown: most lines are not looked at further. */
const SHOWN: ReadonlySet<number> = new Set([...'hru'].map((letter) => letter.charCodeAt(0)));

export interface RequestText {
  /** The request line. */
  line: string;
  method: string | undefined;
  host: string | undefined;
  referer: string | undefined;
  userAgent: string | undefined;
  /** A part is cut at its bound, or may be missing because the head was cut. */
  cut: boolean;
}

/** What is known without a head. */
export const NO_TEXT: RequestText = {
  line: '',
  method: undefined,
  host: undefined,
  referer: undefined,
  userAgent: undefined,
  cut: false,
};

/**
 * Reads the beginning of a head, which may be followed by other bytes.
 * @param sent what the client sent; empty lines before the request line are left out
 * @param cut the head goes on, and only its beginning is known
 */
export function readRequestText(sent: string, cut: boolean): RequestText {
  const text: RequestText = { ...NO_TEXT };
  const head = sent.replace(/^[\r\n]+/, '');
  const end = head.search(/[\r\n]/);
  setLine(text, end < 0 ? head : head.slice(0, end));
  let at = head.indexOf('\n');
  while (at >= 0) {
    const start = at + 1;
    at = head.indexOf('\n', start);
    const end = at < 0 ? head.length : head.charCodeAt(at - 1) === CR ? at - 1 : at;
    // The empty line ends the head. A field without its end may be only a part of it.
    if (end <= start) return text;
    if (at >= 0 && SHOWN.has(head.charCodeAt(start) | CASE_BIT))
      takeField(text, head.slice(start, end));
  }
  text.cut ||= cut;
  return text;
}

/** Sets the request line and what it says. */
export function setLine(text: RequestText, line: string): void {
  const method = /^[!#-'*+\-.0-9A-Z^-z|~]+(?= )/.exec(line)?.[0];
  if (method !== undefined && method.length <= MOST_METHOD_BYTES) text.method = method;
  text.line = line.slice(0, MOST_LINE_BYTES);
  text.cut ||= line.length > MOST_LINE_BYTES;
}

function takeField(text: RequestText, field: string): void {
  const colon = field.indexOf(':');
  const value = (most: number): string => {
    const whole = field.slice(colon + 1).trim();
    text.cut ||= whole.length > most;
    return whole.slice(0, most);
  };
  // The first field of a name counts.
  switch (field.slice(0, Math.max(colon, 0)).toLowerCase()) {
    case 'host':
      text.host ??= value(MOST_HOST_BYTES);
      return;
    case 'referer':
      text.referer ??= value(MOST_REFERER_BYTES);
      return;
    case 'user-agent':
      text.userAgent ??= value(MOST_AGENT_BYTES);
  }
}
