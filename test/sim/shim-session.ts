/**
 * What the shim of a simulated node knows of a session, and how a session leaves its node between
 * two requests (bpf/shim/follow.h, bpf/shim/leave.h).
 */
import type { ParsedPacket } from '../support/packet-parse.js';
import { MessageReader } from './content.js';
import type { ListenerNumbers } from './node.js';
import { isParked, streamEnd, streamNext, Translation } from './parked.js';
import type { Segment } from './segment.js';
import type { Endpoint } from './tcp-endpoint.js';

/** As `struct session` of the shim: a confirmation is due while `asked` differs from `answered`. */
export interface ShimSession {
  nonce: number;
  balancer: string;
  balancerMac: string;
  confirm: number;
  asked: number;
  answered: number;
  /** Its socket has sent a segment. */
  sent: boolean;
  /** A reset before any payload is told to the balancer alone. */
  holdReset: boolean;
  /** No ADOPTED is sent for segments before this number, until the balancer asks again. */
  noticeFrom: number | undefined;
  /** Of a session that may move. */
  answers: FollowedAnswers | undefined;
  /** The session has left: the client's number at which it did, and when. */
  left: { at: number; since: number } | undefined;
  /** Its socket has other numbers than its stream. */
  readonly translation: Translation;
  /**
   * It is idle here: the client's next number and the end of the answers, in numbers of the stream.
   * `awake`: what the socket sends of its own accord is for the client.
   */
  parked: { at: number; end: number; awake: boolean } | undefined;
  /** The last number at which it was parked or resumed. */
  place: number | undefined;
  /** The number at which its last request began here. */
  began: number;
  /** It has come back to this socket. */
  resumed: boolean;
  /** A listener has answered its SYN, and waits for the request. */
  waiting: ListenerNumbers | undefined;
  /** It came by replay of its handshake. */
  replayed: boolean;
  /** It tells when all its requests are answered, as far as it knows how many there are. */
  tells: { requests: number; isUnknown: boolean; oneUntil: number } | undefined;
}

/** A session of which nothing is known yet. */
export function freshSession(
  about: Pick<ShimSession, 'nonce' | 'balancer' | 'balancerMac'>,
): ShimSession {
  return {
    ...about,
    confirm: 0,
    asked: 0,
    answered: 0,
    sent: false,
    holdReset: false,
    noticeFrom: undefined,
    answers: undefined,
    left: undefined,
    translation: new Translation(),
    parked: undefined,
    place: undefined,
    began: 0,
    resumed: false,
    waiting: undefined,
    replayed: false,
    tells: undefined,
  };
}

export const IxpFlag = { scaled: 1, follow: 16, head: 32, holdReset: 64, tell: 128 } as const;
/** Types of IXCP. */
export const NOTICE = {
  adopted: 1,
  refused: 2,
  fin: 3,
  rst: 4,
  report: 5,
  left: 9,
  parked: 10,
  ended: 11,
  synAck: 12,
} as const;
/** Reasons of REFUSED; from 4 on in answer to LEAVE. */
export const Reason = {
  noListener: 1,
  unable: 2,
  unknown: 4,
  unfollowed: 5,
  unanswered: 6,
  ending: 7,
} as const;
/** A socket that still sends after this time gets an RST, in ms. */
const PATIENCE_MS = 1000;

/** Follows the answers that a socket sends, to know how many have ended, and where. */
export class FollowedAnswers {
  ended = 0;
  private lost = false;
  private several = false;
  private readonly reader = new MessageReader();

  /**
   * @param next sequence number of the next byte
   * @param headRequest the number of the last HEAD request, from 1 on
   */
  constructor(
    private next: number,
    private headRequest: number,
  ) {}

  /** A later request is HEAD. */
  expectHead(request: number): void {
    if (this.headRequest > this.ended && this.headRequest !== request) this.several = true;
    else this.headRequest = request;
  }

  /** The socket has sent a segment. */
  take({ seq, payload }: Segment): void {
    const known = (this.next - seq) | 0;
    if (this.lost || payload.length === 0 || known >= payload.length) return;
    if (known < 0) {
      this.lost = true;
      return;
    }
    this.reader.feed(payload.subarray(known));
    this.next = (seq + payload.length) >>> 0;
    for (;;) {
      const message = this.reader.take(this.headRequest === this.ended + 1);
      if (message === undefined) return;
      this.lost ||= typeof message === 'string' || this.several;
      if (this.lost || typeof message === 'string') return;
      if (!message.start.startsWith('HTTP/1.1 1')) this.ended++;
    }
  }

  /** Why the session cannot leave at the number `ack`, behind so many requests; 0: it can. */
  refusal(ack: number, requests: number): number {
    if (this.lost) return Reason.unfollowed;
    const done = this.reader.left === 0 && this.next === ack && this.ended === requests;
    return done ? 0 : Reason.unanswered;
  }
}

/** Why the session cannot leave, and nothing has happened to it; 0: it can. */
export function refusalOf(
  session: ShimSession | undefined,
  endpoint: Endpoint | undefined,
  asked: { nonce: number; seq: number; ack: number; requests: number },
): number {
  if (session?.nonce !== asked.nonce) return Reason.unknown;
  if (session.left !== undefined) return session.left.at === asked.seq ? 0 : Reason.ending;
  if (endpoint !== undefined && isParked(session, endpoint))
    return session.parked?.at === asked.seq && session.parked.end === asked.ack
      ? 0
      : Reason.unanswered;
  if (session.answers === undefined) return Reason.unfollowed;
  const refusal = session.answers.refusal(asked.ack, asked.requests);
  if (refusal !== 0) return refusal;
  if (endpoint === undefined || !endpoint.established) return Reason.ending;
  const isDone =
    streamNext(session, endpoint) === asked.seq && streamEnd(session, endpoint) === asked.ack;
  return isDone ? 0 : Reason.unanswered;
}

/** The FIN that ends the socket of a session that leaves at these numbers. */
export function lastFin(seq: number, ack: number): Segment {
  return { ...BARE, seq, ack, flags: 'FA' };
}

/**
 * What the socket of a session that has left gets back for a segment that it sends: the ACK of its
 * FIN; after some time an RST; else nothing.
 */
export function turned(
  left: { since: number },
  segment: Segment,
  now: number,
): Segment | undefined {
  const { seq, ack, flags, payload } = segment;
  const late = now - left.since > PATIENCE_MS;
  if (flags.includes('R') || !flags.includes('A') || !(late || flags.includes('F')))
    return undefined;
  if (late) return { ...BARE, seq: ack, ack: 0, flags: 'R' };
  return { ...BARE, seq: ack, ack: (seq + payload.length + 1) >>> 0, flags: 'A' };
}

/** A segment that the shim makes has no options. */
const BARE = { window: 0xffff, options: {}, payload: new Uint8Array(0), bare: true } as const;

export function segmentOf(packet: ParsedPacket): Segment {
  const { seq, ack, flags, window, options } = packet.tcp!;
  return { seq, ack, flags, window, options, payload: packet.payload.slice() };
}
