/** The answer book of conversations. Its answers say their number and argument, and are no HTTP. */
import { Answer, type AnswerBook } from '../../src/directory/answers.js';

/** The text of an answer to a client of which `collected` bytes were collected. */
export function answerText(answer: number, collected: number): string {
  return answer === Answer.silentClose ? '' : `answer ${answer} to ${collected} bytes`;
}

export class KnownAnswers implements AnswerBook {
  /** How often bytes were written. */
  written = 0;

  argument(_answer: number, _bytes: Uint8Array, start: number, end: number): number {
    return end - start;
  }

  write(answer: number, argument: number, bytes: Uint8Array, at: number): number {
    this.written += 1;
    const text = answerText(answer, argument);
    for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i);
    return text.length;
  }
}
