/**
 * What the engine asks of the layers above it: to read a request head as it grows, and to name a
 * node for it. The engine knows neither HTTP nor the resource directory; whoever composes the
 * program gives it a dispatcher (request-dispatcher.ts).
 */

/**
 * What `inspect` found. Values from 400 up are the HTTP status a local service will answer with.
 */
export const Verdict = {
  /** The head is valid as far as it goes, and not complete. */
  incomplete: 0,
  /** The head is complete and `resource` names what was asked for. */
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
   * grows between calls. `resume` is 0 at the first call and `this.resume` of the last one after
   * that, so that each byte is looked at a bounded number of times however slowly it arrives.
   */
  inspect(
    bytes: Uint8Array,
    start: number,
    end: number,
    resume: number,
    virtualServer: number,
  ): VerdictCode;
  /** After `incomplete`: what to give to the next call. An unsigned 32-bit number. */
  readonly resume: number;
  /** After `found`: index of the resource. */
  readonly resource: number;
  /** After `found`: where method and target stand, relative to `start` (for people to read). */
  readonly requestStart: number;
  readonly requestEnd: number;
  /**
   * After `found`: whether the request may be made a second time, elsewhere, if nobody has answered
   * it.
   */
  readonly repeatable: boolean;

  /**
   * Chooses one of the nodes that hold `resource`, leaving out the holders whose bit is set in
   * `tried` and those that can take no handoff of this session at `now` (NodeTable.takesHandoffs).
   * `options` are the SessionFlag bits of the session. Returns a node index, or -1. `pickedBit` is
   * then the bit to add to `tried`.
   */
  pick(
    resource: number,
    tried: number,
    virtualServer: number,
    options: number,
    now: number,
  ): number;
  readonly pickedBit: number;
}
