/**
 * The dispatcher reads a request head as it grows, and names a node for it. The engine knows
 * neither HTTP nor the resource directory. The composition root of a program gives it a dispatcher
 * (request-dispatcher.ts).
 */

/** Results of `inspect`. Values from 400 up are the HTTP status of a local service's answer. */
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
export type VerdictCode = (typeof Verdict)[keyof typeof Verdict];

export interface Dispatcher {
  /**
   * Reads the request head in bytes[start, end), which begins at the connection's first byte and
   * grows between calls. `resume` is 0 at the first call, then `this.resume` of the last call for
   * this head. So each byte is examined a bounded number of times, however slowly a head arrives.
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
  /** After `found`: the span of method and target, relative to `start`, for display. */
  readonly requestStart: number;
  readonly requestEnd: number;
  /**
   * After `found`: whether the request may be sent to a second node if the first has not answered
   * it.
   */
  readonly repeatable: boolean;

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

  /** Counts a request for `resource` of the current directory. */
  countRequest(resource: number): void;

  /** The bit in `tried` of this node among the holders of `resource`; 0 if it is none of them. */
  holderBit(resource: number, node: number): number;
}
