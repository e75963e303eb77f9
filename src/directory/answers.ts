/**
 * Short answers of the balancer itself. The engine sends their bytes and knows nothing of what they
 * mean. The composition root of a program gives it an answer book (request-answers.ts).
 */
import { Verdict } from './dispatcher.js';

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
export type AnswerNumber = (typeof Answer)[keyof typeof Answer];

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
  return ANSWER_OF_VERDICT.get(verdict) ?? Answer.badRequest;
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
