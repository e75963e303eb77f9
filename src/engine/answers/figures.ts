/** Counters of answers, of the balancer and of single virtual servers. */
import { Counter } from '../../base/counters.js';
import { ServerCounter } from '../../base/object-counters.js';
import { AlertAnswer, Answer, type AnswerNumber, isAlert } from '../../directory/answers.js';
import type { Core } from '../core.js';

const ANSWER_COUNTERS: ReadonlyMap<number, readonly [number, number]> = new Map([
  [Answer.badRequest, [Counter.answer_400, ServerCounter.answer_400]],
  [Answer.notFound, [Counter.answer_404, ServerCounter.answer_404]],
  [Answer.timeout, [Counter.answer_408, ServerCounter.answer_408]],
  [Answer.headTooLarge, [Counter.answer_431, ServerCounter.answer_431]],
  [Answer.unavailable, [Counter.answer_503, ServerCounter.answer_503]],
  [Answer.silentClose, [Counter.closed_silent_client, ServerCounter.closed_silent_client]],
]);

/** Any other alert says that what the client sent is no valid ClientHello. */
const ALERT_COUNTERS: ReadonlyMap<number, number> = new Map([
  [AlertAnswer.timeout, Counter.alert_timeout],
  [AlertAnswer.noNameBefore13, Counter.alert_no_name],
  [AlertAnswer.noName, Counter.alert_no_name],
  [AlertAnswer.unrecognizedName, Counter.alert_unrecognized_name],
  [AlertAnswer.noProtocol, Counter.alert_no_protocol],
  [AlertAnswer.unavailable, Counter.alert_no_holder],
]);

/** Counts an answer, which is beginning now. */
export function countAnswer(core: Core, slot: number, answer: AnswerNumber): void {
  core.counters.count(Counter.answers);
  if (isAlert(answer)) {
    core.counters.count(ALERT_COUNTERS.get(answer) ?? Counter.alert_malformed);
    core.objects.countServer(core.serverOf(slot), ServerCounter.alerts);
    return;
  }
  const counters = ANSWER_COUNTERS.get(answer);
  if (counters === undefined) return;
  const [all, ofServer] = counters;
  core.counters.count(all);
  core.objects.countServer(core.serverOf(slot), ofServer);
}
