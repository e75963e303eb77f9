/**
 * Sockets that a session leaves at a simulated node and comes back to (docs/ixp.md, "Parked
 * sockets"): the offsets between their numbers and those of the stream, and what they may send
 * while the session is elsewhere.
 */
import type { Segment } from './segment.js';
import type { ShimSession } from './shim-session.js';
import { Reason } from './shim-session.js';
import type { Endpoint } from './tcp-endpoint.js';

/** Offsets from the numbers of a socket to those of the stream. */
export class Translation {
  /** Added to the client's numbers. */
  client = 0;
  /** Added to the server's numbers. */
  server = 0;
  /** Added to the server's timestamps. */
  clock = 0;
  /** By how much the server's window fields are shifted to the left; negative: to the right. */
  window = 0;
  /** Until the socket has sent something, each TSecr becomes this one. */
  echo: number | undefined;

  /** A segment of the client as the socket gets it. */
  inward(segment: Segment): Segment {
    const { timestamps, sack } = segment.options;
    const options = { ...segment.options };
    if (timestamps !== undefined)
      options.timestamps = [timestamps[0], this.echo ?? word(timestamps[1] - this.clock)];
    if (sack !== undefined) options.sack = moved(sack, -this.server);
    const { seq, ack } = segment;
    return { ...segment, seq: word(seq - this.client), ack: word(ack - this.server), options };
  }

  /** A segment of the socket as the client gets it. */
  outward(segment: Segment): Segment {
    this.echo = undefined;
    const { timestamps, sack } = segment.options;
    const options = { ...segment.options };
    if (timestamps !== undefined)
      options.timestamps = [word(timestamps[0] + this.clock), timestamps[1]];
    if (sack !== undefined) options.sack = moved(sack, this.client);
    const seq = word(segment.seq + this.server);
    const ack = word(segment.ack + this.client);
    return { ...segment, seq, ack, window: shifted(segment.window, this.window), options };
  }
}

function word(value: number): number {
  return value >>> 0;
}

function shifted(window: number, by: number): number {
  return Math.min(0xffff, by >= 0 ? window << by : window >> -by);
}

function moved(
  blocks: readonly (readonly [number, number])[],
  by: number,
): (readonly [number, number])[] {
  return blocks.map(([left, right]) => [word(left + by), word(right + by)] as const);
}

/** The number of the stream that the socket expects next. */
export function streamNext(session: ShimSession, endpoint: Endpoint): number {
  return word(endpoint.receiveNext + session.translation.client);
}

/** The number of the stream behind everything that the server has written. */
export function streamEnd(session: ShimSession, endpoint: Endpoint): number {
  return word(endpoint.writeNext + session.translation.server);
}

/** Whether the session is parked. It is not any more when its socket gets something new. */
export function isParked(session: ShimSession, endpoint: Endpoint): boolean {
  if (session.parked === undefined) return false;
  if (streamNext(session, endpoint) === session.parked.at) return true;
  session.parked = undefined;
  return false;
}

/** Parks the session where its stream is now. */
export function park(session: ShimSession, endpoint: Endpoint): void {
  const at = streamNext(session, endpoint);
  session.parked = { at, end: streamEnd(session, endpoint), awake: false };
  session.place = at;
}

/** Whether all requests are answered, of a session that tells when they are; parks it then. */
export function hasEnded(session: ShimSession, endpoint: Endpoint): boolean {
  const { tells, answers } = session;
  if (tells === undefined || tells.isUnknown || answers === undefined) return false;
  if (session.parked !== undefined || !endpoint.established) return false;
  if (answers.refusal(streamEnd(session, endpoint), tells.requests) !== 0) return false;
  park(session, endpoint);
  return true;
}

/** What a parked session does with a segment of its socket, in numbers of the stream. */
export function heldBack(
  session: ShimSession,
  { seq, flags, payload }: Segment,
): 'fin' | 'rst' | 'ended' | undefined {
  const { parked } = session;
  if (parked === undefined || parked.awake) return undefined;
  if (flags.includes('R')) return 'rst';
  if (flags.includes('F')) return 'fin';
  return payload.length > 0 && ((seq + payload.length - parked.end) | 0) > 0 ? 'ended' : undefined;
}

/** The client has sent payload that the socket has not had: requests are counted. */
export function countPayload(session: ShimSession, wasParked: boolean, end: number): void {
  const { tells } = session;
  if (tells === undefined || ((end - tells.oneUntil) | 0) <= 0) return;
  if (wasParked) tells.requests++;
  else tells.isUnknown = true;
}

/** Why a session cannot come back to its socket; 0: it can. */
export function resumeRefusal(
  session: ShimSession | undefined,
  endpoint: Endpoint | undefined,
  nonce: number,
): number {
  if (session?.nonce !== nonce) return Reason.unknown;
  if (endpoint === undefined || session.left !== undefined || !endpoint.established)
    return Reason.ending;
  return isParked(session, endpoint) ? 0 : Reason.unanswered;
}

/** The stream of the session goes on at these numbers, and its socket where it is. */
export function resume(
  session: ShimSession,
  endpoint: Endpoint,
  stream: { seq: number; ack: number; tsecr: number; echoed: number | undefined },
): void {
  const { translation } = session;
  translation.client = word(stream.seq - endpoint.receiveNext);
  translation.server = word(stream.ack - endpoint.writeNext);
  // The client has seen later timestamps than those of this socket (PAWS).
  const clock = endpoint.timestamp() + translation.clock;
  const seen = stream.echoed === undefined ? stream.tsecr : stream.echoed + 1;
  const behind = Math.max(0, (stream.tsecr - clock) | 0, (seen - clock) | 0);
  translation.clock = word(translation.clock + behind);
  session.parked = undefined;
  session.place = stream.seq;
}
