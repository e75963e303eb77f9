/** Responses with an error, as bytes of HTTP/1.1 (RFC 9112). */
import { MOST_EMPTY_BYTES } from './scan.js';
import { CR, LF } from './tables.js';

export interface ErrorAnswer {
  readonly status: number;
  /** The registered phrase (RFC 9110 section 15, RFC 6585 for 431). */
  readonly reason: string;
  /** One sentence for the body of the response. */
  readonly text: string;
  /** Field lines that only this status has. */
  readonly fields: readonly string[];
}

/** By status. */
export const ERROR_ANSWERS: ReadonlyMap<number, ErrorAnswer> = new Map(
  [
    { status: 400, reason: 'Bad Request', text: 'This is not a valid HTTP request.', fields: [] },
    { status: 404, reason: 'Not Found', text: 'No node holds what was asked for.', fields: [] },
    {
      status: 408,
      reason: 'Request Timeout',
      text: 'The request did not arrive in time.',
      fields: [],
    },
    {
      status: 431,
      reason: 'Request Header Fields Too Large',
      text: 'The head of the request is too large.',
      fields: [],
    },
    {
      status: 503,
      reason: 'Service Unavailable',
      text: 'No node can take the request at the moment.',
      fields: ['Retry-After: 1'],
    },
  ].map((answer) => [answer.status, answer]),
);

const HEAD_METHOD = Uint8Array.from('HEAD ', (character) => character.charCodeAt(0));

/** Bytes of a Date field's value: IMF-fixdate (RFC 9110 section 5.6.7) always has this length. */
export const DATE_BYTES = 29;

/** A response whose Date is still to be written at `dateAt`. */
export interface AnswerTemplate {
  readonly bytes: Uint8Array;
  readonly dateAt: number;
}

/**
 * The complete response. A response to HEAD has the same head and no body (RFC 9110 section 9.3.2).
 * An origin server with a clock must send Date (section 6.6.1).
 */
export function answerTemplate(answer: ErrorAnswer, isHead: boolean): AnswerTemplate {
  const { status, reason, text, fields } = answer;
  const body = `${status} ${reason}\n\n${text}\n`;
  const first = `HTTP/1.1 ${status} ${reason}\r\nDate: `;
  const rest = [
    '',
    'Content-Type: text/plain; charset=utf-8',
    `Content-Length: ${body.length}`,
    'Cache-Control: no-store',
    ...fields,
    'Connection: close',
    '',
    isHead ? '' : body,
  ];
  const template = `${first}${'-'.repeat(DATE_BYTES)}${rest.join('\r\n')}`;
  return {
    bytes: Uint8Array.from(template, (character) => character.charCodeAt(0)),
    dateAt: first.length,
  };
}

/**
 * Whether bytes[start, end) begins like a HEAD request. Methods are case-sensitive (RFC 9110
 * section 9.1). Empty lines before the request line are ignored (RFC 9112 section 2.2).
 */
export function startsLikeHead(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start;
  const stop = Math.min(end, start + MOST_EMPTY_BYTES);
  while (at < stop && (bytes[at] === CR || bytes[at] === LF)) at++;
  if (end - at < HEAD_METHOD.length) return false;
  for (let i = 0; i < HEAD_METHOD.length; i++) if (bytes[at + i] !== HEAD_METHOD[i]) return false;
  return true;
}
