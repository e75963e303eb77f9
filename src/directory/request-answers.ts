/** The answer book for HTTP and TLS: the counterpart of the request dispatcher. */
import {
  type AnswerTemplate,
  answerTemplate,
  DATE_BYTES,
  ERROR_ANSWERS,
  startsLikeHead,
} from '../request/http/answers.js';
import { type AlertCode, alertRecord } from '../request/tls/alert.js';
import { Answer, type AnswerBook, alertOfAnswer } from './answers.js';

/** The HTTP status of each answer that has one. */
export const STATUS_OF_ANSWER: ReadonlyMap<number, number> = new Map([
  [Answer.badRequest, 400],
  [Answer.notFound, 404],
  [Answer.timeout, 408],
  [Answer.headTooLarge, 431],
  [Answer.unavailable, 503],
]);

/**
 * An argument is the time of the answer in seconds since 2000, shifted by one bit, and 1 for HEAD
 * in the lowest bit. The time wraps in 2068.
 */
const EPOCH_MS = Date.UTC(2000, 0, 1);
const HEAD_BIT = 1;

export class RequestAnswers implements AnswerBook {
  private readonly clock: () => number;
  /** By twice the answer's number, plus 1 for HEAD. */
  private readonly templates: (AnswerTemplate | undefined)[] = [];
  /** The records of alerts that were sent before. */
  private readonly alerts = new Map<AlertCode, Uint8Array>();
  /** The second that `date` shows, since EPOCH_MS. */
  private second = -1;
  private readonly date = new Uint8Array(DATE_BYTES);

  /** @param clock ms since 1970 */
  constructor(clock: () => number) {
    this.clock = clock;
    for (const [number, status] of STATUS_OF_ANSWER) {
      const answer = ERROR_ANSWERS.get(status);
      if (answer === undefined) continue;
      this.templates[number * 2] = answerTemplate(answer, false);
      this.templates[number * 2 + HEAD_BIT] = answerTemplate(answer, true);
    }
  }

  /** See AnswerBook. */
  argument(_answer: number, bytes: Uint8Array, start: number, end: number): number {
    const second = Math.floor((this.clock() - EPOCH_MS) / 1000);
    return ((second << 1) | (startsLikeHead(bytes, start, end) ? HEAD_BIT : 0)) >>> 0;
  }

  /** See AnswerBook. An answer that is neither a status nor an alert has no bytes. */
  write(answer: number, argument: number, bytes: Uint8Array, at: number): number {
    const alert = alertOfAnswer(answer);
    if (alert !== undefined) return this.writeAlert(alert, bytes, at);
    const template = this.templates[answer * 2 + (argument & HEAD_BIT)];
    if (template === undefined) return 0;
    this.setDate(argument >>> 1);
    bytes.set(template.bytes, at);
    bytes.set(this.date, at + template.dateAt);
    return template.bytes.length;
  }

  private writeAlert(alert: AlertCode, bytes: Uint8Array, at: number): number {
    const record = this.alerts.get(alert) ?? alertRecord(alert);
    this.alerts.set(alert, record);
    bytes.set(record, at);
    return record.length;
  }

  /** Makes the text of a second. Answers of one second share it. */
  private setDate(second: number): void {
    if (second === this.second) return;
    this.second = second;
    const text = new Date(EPOCH_MS + second * 1000).toUTCString();
    for (let i = 0; i < DATE_BYTES; i++) this.date[i] = text.charCodeAt(i);
  }
}
