/**
 * The dispatcher reads what a client sends first, as it grows, and names a node for it. The engine
 * knows neither HTTP nor TLS nor the resource directory. The composition root of a program gives it
 * a dispatcher (request-dispatcher.ts).
 */
import type { RequestFollower } from '../request/http/framing.js';
import type { AlertCode } from '../request/tls/alert.js';

export { AT_HEAD, Follow, PINNED, Pin } from '../request/http/framing.js';

/** What is read of a connection before its handoff: a head, a ClientHello, or nothing. */
export const Protocol = { http: 0, tls: 1, tcp: 2 } as const;

/**
 * Results of `inspect`. Values from 400 up are the HTTP status of an answer, and those of
 * `alertVerdict` a TLS alert.
 */
export const Verdict = {
  /** The head is valid so far, and not complete. */
  incomplete: 0,
  /** The head is complete, and `resource` is the requested resource. */
  found: 1,
  badRequest: 400,
  notFound: 404,
  timeout: 408,
  headTooLarge: 431,
  unavailable: 503,
} as const;
declare const ALERT: unique symbol;
type AlertVerdict = number & { readonly [ALERT]: true };
export type VerdictCode = (typeof Verdict)[keyof typeof Verdict] | AlertVerdict;

/** Above every HTTP status. */
const FIRST_ALERT = 1_000;

/** The verdict that the client gets this alert. */
export function alertVerdict(alert: AlertCode): VerdictCode {
  return (FIRST_ALERT + alert) as AlertVerdict;
}

/** The alert that a verdict says; undefined: it says none. */
export function alertOf(verdict: number): AlertCode | undefined {
  return verdict < FIRST_ALERT ? undefined : ((verdict - FIRST_ALERT) as AlertCode);
}

export interface Dispatcher {
  /**
   * Reads the head or ClientHello in bytes[start, end), which begins at the connection's first byte
   * and grows between calls. With Protocol.tcp any bytes are complete, also none. `resume` is 0 at
   * the first call, then `this.resume` of the last call for this head. So each byte is examined a
   * bounded number of times, however slowly a head arrives.
   */
  inspect(
    bytes: Uint8Array,
    start: number,
    end: number,
    resume: number,
    virtualServer: number,
  ): VerdictCode;
  /** After `incomplete`: `resume` for the next call. An unsigned 32-bit number. */
  readonly resume: number;
  /** After `found`: index of the resource in the current directory. */
  readonly resource: number;
  /**
   * After any other result than `incomplete`, for display: what to show in place of bytes that are
   * no text; text[0, textEnd). Undefined: the head itself.
   */
  readonly text: Uint8Array | undefined;
  readonly textEnd: number;
  /**
   * After `found`, for display: the span of method and target, relative to `start`. If there is a
   * `text`, the span of the request in it, after every result.
   */
  readonly requestStart: number;
  readonly requestEnd: number;
  /**
   * After `found`: bytes of the path that the node gets in place of [pathStart, pathEnd), which is
   * relative to `start`; 0: it gets the request as it is.
   */
  readonly rewritten: number;
  readonly pathStart: number;
  readonly pathEnd: number;
  /** Writes these bytes to `into`, from `at` on. Only before the next `inspect`. */
  writePath(into: Uint8Array, at: number): void;
  /**
   * After `found`: whether the request may be sent to a second node if the first has not answered
   * it.
   */
  readonly repeatable: boolean;
  /** After `found` or `notFound`: bytes of the head, with the empty line at its end. */
  readonly headBytes: number;
  /** After `found` or `notFound`: the answer has no body, whatever length it states (HEAD). */
  readonly hasNoAnswerBody: boolean;

  /** Follows the bytes behind heads. Its state is that of the stream that was asked about last. */
  readonly follower: RequestFollower;
  /**
   * After `found` or `notFound`, with the same bytes: `follower` begins with the body of this
   * request. Returns why the connection stays with its node from this request on (Pin); Pin.none:
   * it may move. After any other result it returns the reason, and nothing can be followed.
   */
  followBody(bytes: Uint8Array, start: number): number;

  /**
   * Picks one of the nodes that hold `resource` of the current directory. Leaves out the holders
   * whose bit is set in `tried`, and nodes that cannot take this session. Nodes that are suspended
   * or rest at `now` are the last choice. Returns its index, or -1. `pickedBit` is then the bit to
   * add to `tried`.
   *
   * @param options IxpFlag bits of the session's agreed options; other bits are ignored
   * @param now ms on the engine's clock
   */
  pick(
    resource: number,
    tried: number,
    virtualServer: number,
    options: number,
    now: number,
  ): number;
  readonly pickedBit: number;

  /** Counts requests for `resource` of the current directory, if the directory has it. */
  countRequest(resource: number, amount?: number): void;

  /** The bit in `tried` of this node among the holders of `resource`; 0 if it is none of them. */
  holderBit(resource: number, node: number): number;

  /** The only holder of `resource` in the current directory, or -1 if it has none or several. */
  soleHolder(resource: number): number;
}
