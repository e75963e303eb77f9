/** The reason codes in lines of the access log: what was unusual about a session. */
import { AlertAnswer, Answer, isAlert } from '../../directory/answers.js';
import { RecordKind } from './records.js';

/** Each code, and what it means. docs/logging.md lists them. */
export const REASONS = {
  'bad-request': 'the request was malformed: 400',
  'not-found': 'no resource covers host and path: 404',
  'head-timeout':
    'the head was not complete within `timeouts.head`: 408, or the TLS alert close_notify',
  'head-too-large': 'the head was larger than `limits.headBytes`: 431',
  'no-holder': 'no holder of the content took the session: 503, or the TLS alert internal_error',
  'tls-malformed': 'what the client sent is no valid ClientHello: a TLS alert',
  'tls-no-name':
    'the client named no server: the TLS alert missing_extension, or handshake_failure',
  'tls-unrecognized-name': 'no resource covers the name of the server: unrecognized_name',
  'tls-no-protocol': "no resource has one of the client's protocols: no_application_protocol",
  'silent-client': 'the client sent no byte of a request, so it got no answer',
  'handoff-repeated': 'a handoff was not confirmed within `timeouts.handoff`, and was sent again',
  'node-silent': 'a node never confirmed the handoff, and was given up',
  'node-refused': 'a node refused the handoff',
  'taken-back':
    'a node confirmed, but its web server had not read the request, so another holder got it',
  'earlier-run': 'the request was read by an earlier run of the balancer',
  'request-lost':
    'the log had no room for the request: only its first 40 bytes are known, and `reasons` may be incomplete',
  'text-cut': 'a text of the request is longer than its bound, and was cut',
} as const;
export type Reason = keyof typeof REASONS;

/** Why the balancer has answered itself: the code for the number of its answer. */
export function reasonOfAnswer(answer: number): Reason | undefined {
  const reason = REASON_OF_ANSWER.get(answer);
  return reason === undefined && isAlert(answer) ? 'tls-malformed' : reason;
}

const REASON_OF_ANSWER: ReadonlyMap<number, Reason> = new Map([
  [Answer.badRequest, 'bad-request'],
  [Answer.notFound, 'not-found'],
  [Answer.timeout, 'head-timeout'],
  [Answer.headTooLarge, 'head-too-large'],
  [Answer.unavailable, 'no-holder'],
  [Answer.silentClose, 'silent-client'],
  [AlertAnswer.noName, 'tls-no-name'],
  [AlertAnswer.noNameBefore13, 'tls-no-name'],
  [AlertAnswer.unrecognizedName, 'tls-unrecognized-name'],
  [AlertAnswer.noProtocol, 'tls-no-protocol'],
  [AlertAnswer.timeout, 'head-timeout'],
  [AlertAnswer.unavailable, 'no-holder'],
]);

/** By RecordKind, for events that are a reason. */
export const REASON_OF_EVENT: ReadonlyMap<number, Reason> = new Map([
  [RecordKind.unconfirmed, 'handoff-repeated'],
  [RecordKind.refused, 'node-refused'],
  [RecordKind.silent, 'node-silent'],
  [RecordKind.released, 'taken-back'],
]);
