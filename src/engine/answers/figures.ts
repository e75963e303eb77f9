/** Counters of answers, of the balancer and of single virtual servers. */
import { Counter } from '../../base/counters.js';
import { ServerCounter } from '../../base/object-counters.js';
import { Answer, type AnswerNumber } from '../../directory/answers.js';
import type { Core } from '../core.js';

const ANSWER_COUNTERS: ReadonlyMap<number, readonly [number, number]> = new Map([
  [Answer.badRequest, [Counter.answer_400, ServerCounter.answer_400]],
  [Answer.notFound, [Counter.answer_404, ServerCounter.answer_404]],
  [Answer.timeout, [Counter.answer_408, ServerCounter.answer_408]],
  [Answer.headTooLarge, [Counter.answer_431, ServerCounter.answer_431]],
  [Answer.unavailable, [Counter.answer_503, ServerCounter.answer_503]],
  [Answer.silentClose, [Counter.closed_silent_client, ServerCounter.closed_silent_client]],
]);

/** Counts an answer, which is beginning now. */
export function countAnswer(core: Core, slot: number, answer: AnswerNumber): void {
  const counters = ANSWER_COUNTERS.get(answer);
  if (counters === undefined) return;
  const [all, ofServer] = counters;
  core.counters.count(all);
  core.objects.countServer(core.serverOf(slot), ofServer);
}
