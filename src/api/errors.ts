/** Errors as responses: the status of each code, and errors that only an API has. */
import { BatonError, type ErrorCode, reasonOf } from '../base/errors.js';
import { printable, quoted } from '../base/text.js';
import { nearest } from '../config/values.js';
import type { ErrorDocument } from './documents.js';

/** Codes whose status is not 500: the caller can do something about them. */
const STATUS: Partial<Record<ErrorCode, number>> = {
  BATON_REQUEST: 400,
  BATON_ARGUMENT: 400,
  BATON_CONFIG: 400,
  BATON_CERTIFICATE: 400,
  BATON_TOKEN: 400,
  BATON_UNKNOWN: 404,
  BATON_CONFLICT: 409,
  BATON_IN_USE: 409,
};

/** An error whose status its code does not tell. */
export class RequestError extends BatonError {
  readonly status: number;

  constructor(
    status: number,
    code: ErrorCode,
    message: string,
    options: { where?: string; hint?: string } = {},
  ) {
    super(code, message, options);
    this.status = status;
  }
}

/**
 * The error for a name that does not exist.
 * @param kind what it would be the name of, such as "node"
 * @param known the names that exist
 */
export function unknownName(kind: string, name: string, known: Iterable<string>): BatonError {
  const meant = nearest(name, known);
  return new BatonError('BATON_UNKNOWN', `there is no ${kind} ${quoted(name)}`, {
    ...(meant === undefined ? {} : { hint: `did you mean ${meant}?` }),
  });
}

/** fastify's own errors that a caller can cause, in our words. */
const OF_FASTIFY: Readonly<Record<string, (limit: number) => RequestError>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: (limit) =>
    new RequestError(413, 'BATON_REQUEST', `the body is longer than ${limit} bytes`),
  FST_ERR_CTP_INVALID_MEDIA_TYPE: () =>
    new RequestError(415, 'BATON_REQUEST', 'the body has another type than JSON', {
      where: 'Content-Type',
      hint: 'send application/json',
    }),
  FST_ERR_CTP_EMPTY_TYPE: () =>
    new RequestError(415, 'BATON_REQUEST', 'the body has no type', {
      where: 'Content-Type',
      hint: 'send application/json',
    }),
  FST_ERR_CTP_EMPTY_JSON_BODY: () =>
    new RequestError(400, 'BATON_REQUEST', 'is empty, expected JSON', { where: 'body' }),
  FST_ERR_CTP_INVALID_JSON_BODY: () =>
    new RequestError(400, 'BATON_REQUEST', 'is not valid JSON', { where: 'body' }),
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: () =>
    new RequestError(400, 'BATON_REQUEST', 'is not as long as its Content-Length says', {
      where: 'body',
    }),
  FST_ERR_BAD_URL: () =>
    new RequestError(400, 'BATON_REQUEST', 'is not a valid URL', { where: 'path' }),
};

/** @param bodyLimit the longest body that the server takes, in bytes */
export function toResponse(
  error: unknown,
  bodyLimit: number,
): { status: number; document: ErrorDocument } {
  const known = toBatonError(error, bodyLimit);
  const { code, message, where, hint } = known;
  const status = known instanceof RequestError ? known.status : (STATUS[code] ?? 500);
  return {
    status,
    document: {
      error: {
        code,
        message: printableLines(message),
        ...(where === undefined ? {} : { where: printableLines(where) }),
        ...(hint === undefined ? {} : { hint: printableLines(hint) }),
      },
    },
  };
}

function toBatonError(error: unknown, bodyLimit: number): BatonError {
  if (error instanceof BatonError) return error;
  const { code = '', statusCode = 500 } = error as { code?: string; statusCode?: number };
  const translated = OF_FASTIFY[code]?.(bodyLimit);
  if (translated !== undefined) return translated;
  return statusCode < 500
    ? new RequestError(statusCode, 'BATON_REQUEST', reasonOf(error))
    : new BatonError('BATON_SYSTEM', reasonOf(error));
}

/** The problems of a config have a line each. */
function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n');
}
