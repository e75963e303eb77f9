/**
 * Short answers of the balancer itself. The engine sends their bytes and knows nothing of what they
 * mean. The composition root of a program gives it an answer book (request-answers.ts).
 */
import { Alert, type AlertCode } from '../request/tls/alert.js';
import { alertOf, Protocol, Verdict } from './dispatcher.js';

/**
 * Numbers of answers. A session record keeps the number in one byte, so that another process can
 * send the answer again. A number is never given to another answer.
 */
export const Answer = {
  none: 0,
  badRequest: 1,
  notFound: 2,
  timeout: 3,
  headTooLarge: 4,
  unavailable: 5,
  /** Closes without a byte: for a client that connected and never sent one. */
  silentClose: 6,
} as const;
declare const ALERT: unique symbol;
type AlertAnswer = number & { readonly [ALERT]: true };
export type AnswerNumber = (typeof Answer)[keyof typeof Answer] | AlertAnswer;

/** The answers from here on are TLS alerts (RFC 8446 section 6), whose numbers are below 128. */
const FIRST_ALERT = 128;

/** The answer that is this alert. */
export function alertAnswer(alert: AlertCode): AnswerNumber {
  return (FIRST_ALERT + alert) as AlertAnswer;
}

export function isAlert(answer: number): boolean {
  return answer >= FIRST_ALERT;
}

/** The alert that an answer is; undefined: it is none. */
export function alertOfAnswer(answer: number): AlertCode | undefined {
  return isAlert(answer) ? ((answer - FIRST_ALERT) as AlertCode) : undefined;
}

/** The alerts that say why no node gets a connection; hello-lookup.ts chooses among the first. */
export const AlertAnswer = {
  noName: alertAnswer(Alert.missingExtension),
  noNameBefore13: alertAnswer(Alert.handshakeFailure),
  unrecognizedName: alertAnswer(Alert.unrecognizedName),
  noProtocol: alertAnswer(Alert.noApplicationProtocol),
  /** The ClientHello was not complete in time. */
  timeout: alertAnswer(Alert.closeNotify),
  /** The client has closed in the middle of its ClientHello. */
  incomplete: alertAnswer(Alert.decodeError),
  unavailable: alertAnswer(Alert.internalError),
} as const;

/** Room for the bytes of an answer. A longer one would not fit in one segment of most clients. */
export const MOST_ANSWER_BYTES = 1024;

const ANSWER_OF_VERDICT: ReadonlyMap<number, AnswerNumber> = new Map([
  [Verdict.badRequest, Answer.badRequest],
  [Verdict.notFound, Answer.notFound],
  [Verdict.timeout, Answer.timeout],
  [Verdict.headTooLarge, Answer.headTooLarge],
  [Verdict.unavailable, Answer.unavailable],
]);

/** The answer that a verdict of the dispatcher asks for. */
export function answerOf(verdict: number): AnswerNumber {
  const alert = alertOf(verdict);
  if (alert !== undefined) return alertAnswer(alert);
  return ANSWER_OF_VERDICT.get(verdict) ?? Answer.badRequest;
}

/** What the answers of HTTP become in TLS. */
const IN_TLS: ReadonlyMap<number, AnswerNumber> = new Map([
  [Answer.badRequest, AlertAnswer.incomplete],
  [Answer.notFound, AlertAnswer.unrecognizedName],
  [Answer.timeout, AlertAnswer.timeout],
  [Answer.unavailable, AlertAnswer.unavailable],
]);

/**
 * The answer that a client of this protocol understands. Answer.none: there is none, and the
 * connection is to be reset.
 *
 * @param protocol one of Protocol
 */
export function answerIn(protocol: number, answer: AnswerNumber): AnswerNumber {
  switch (protocol) {
    case Protocol.tls:
      return IN_TLS.get(answer) ?? answer;
    case Protocol.tcp:
      return Answer.none;
    default:
      return answer;
  }
}

/**
 * Writes answers. The engine keeps no bytes of an answer: it keeps the number and one argument, and
 * asks for the bytes each time that it sends them.
 */
export interface AnswerBook {
  /**
   * What `write` must know of this session besides the number, as an unsigned 32-bit number. The
   * book alone knows its meaning. Called once for each answer, before the first `write`.
   *
   * @param bytes bytes[start, end) is what the client has sent, as far as it was collected. It may
   *   be anything, and may be empty
   */
  argument(answer: number, bytes: Uint8Array, start: number, end: number): number;

  /**
   * Writes an answer at bytes[at] and returns its length in bytes: 0 for a close without an answer,
   * and never more than MOST_ANSWER_BYTES. The same number and argument always give the same bytes,
   * because parts of a segment may reach the client at different times.
   */
  write(answer: number, argument: number, bytes: Uint8Array, at: number): number;
}
