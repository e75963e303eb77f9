/**
 * Reads a client's stream as the engine does: heads with HeadReader, bodies with RequestFollower.
 */
import {
  AT_HEAD,
  Follow,
  Pin,
  pinOfRefused,
  RequestFollower,
} from '../../src/request/http/framing.js';
import { HeadReader, HeadStatus } from '../../src/request/http/head.js';

export interface Followed {
  /** "METHOD TARGET" of every head that was read, the one that pins included. */
  requests: string[];
  /** Where the heads begin. */
  starts: number[];
  /** HTTP status of the first head's refusal, or 0. */
  refused: number;
  /** Name of the pin, or "none". */
  pin: string;
  /** At the end: inside a head (or before one), or inside a body. */
  in: 'head' | 'body';
}

const READER = new HeadReader(16_384);
const nameOf = (pin: number): string =>
  Object.entries(Pin).find(([, value]) => value === pin)?.[0] ?? String(pin);

/** Follows `bytes`, which arrive in the pieces that end at `ends`; the last is their length. */
export function follow(bytes: Uint8Array, ends: readonly number[], reader = READER): Followed {
  const followed: Followed = { requests: [], starts: [], refused: 0, pin: 'none', in: 'head' };
  // The whole state between two pieces, as an engine stores it.
  let [state, left] = [AT_HEAD as number, 0];
  let resume = 0;
  let at = 0;
  for (const end of ends) {
    while (at < end || (state !== AT_HEAD && at === end)) {
      if (state === AT_HEAD) {
        const status = reader.read(bytes, at, end, resume);
        if (status === HeadStatus.incomplete) {
          resume = reader.resume;
          break;
        }
        resume = 0;
        if (status !== HeadStatus.complete) {
          if (followed.requests.length === 0) followed.refused = status;
          else followed.pin = nameOf(pinOfRefused(reader));
          return followed;
        }
        const text = (from: number, to: number) =>
          Buffer.from(bytes.subarray(at + from, at + to)).toString('latin1');
        followed.requests.push(
          `${text(reader.methodStart, reader.methodEnd)} ${text(reader.targetStart, reader.targetEnd)}`,
        );
        followed.starts.push(at);
        const follower = new RequestFollower();
        const pin = follower.begin(reader, bytes, at);
        followed.pin = nameOf(pin);
        if (pin !== Pin.none) return followed;
        [state, left] = [follower.state, follower.left];
        at += reader.headEnd;
        continue;
      }
      const follower = new RequestFollower();
      [follower.state, follower.left] = [state, left];
      const result = follower.advance(bytes, at, end);
      if (result === Follow.pinned) {
        followed.pin = nameOf(Pin.body);
        return followed;
      }
      [state, left] = [follower.state, follower.left];
      at = result === Follow.ended ? follower.position : end;
      if (result === Follow.body) break;
    }
  }
  followed.in = state === AT_HEAD ? 'head' : 'body';
  return followed;
}
