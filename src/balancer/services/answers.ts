/** The responses of the local services, as bytes of HTTP/1.1 (RFC 9112). */
import { LocalService, type LocalServiceNumber } from '../../wire/ixp.js';

export interface Answer {
  status: number;
  /** The registered phrase (RFC 9110 section 15, RFC 6585 for 431). */
  reason: string;
  /** One sentence for the body of the response. */
  text: string;
  /** Field lines that only this status has. */
  fields: readonly string[];
}

/** By service. A service that is not listed sends no response. */
export const ANSWERS: ReadonlyMap<LocalServiceNumber, Answer> = new Map([
  [
    LocalService.badRequest,
    { status: 400, reason: 'Bad Request', text: 'This is not a valid HTTP request.', fields: [] },
  ],
  [
    LocalService.notFound,
    { status: 404, reason: 'Not Found', text: 'No node holds what was asked for.', fields: [] },
  ],
  [
    LocalService.timeout,
    {
      status: 408,
      reason: 'Request Timeout',
      text: 'The request did not arrive in time.',
      fields: [],
    },
  ],
  [
    LocalService.headTooLarge,
    {
      status: 431,
      reason: 'Request Header Fields Too Large',
      text: 'The head of the request is too large.',
      fields: [],
    },
  ],
  [
    LocalService.unavailable,
    {
      status: 503,
      reason: 'Service Unavailable',
      text: 'No node can take the request at the moment.',
      fields: ['Retry-After: 1'],
    },
  ],
]);

/**
 * The complete response. A response to HEAD has the same head and no body (RFC 9110 section 9.3.2).
 * @param now ms since 1970, for the Date field: an origin server with a clock must send it (section
 *   6.6.1)
 */
export function encodeAnswer(answer: Answer, isHead: boolean, now: number): string {
  const body = `${answer.status} ${answer.reason}\n\n${answer.text}\n`;
  const lines = [
    `HTTP/1.1 ${answer.status} ${answer.reason}`,
    `Date: ${new Date(now).toUTCString()}`,
    'Content-Type: text/plain; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Cache-Control: no-store',
    ...answer.fields,
    'Connection: close',
    '',
    isHead ? '' : body,
  ];
  return lines.join('\r\n');
}
