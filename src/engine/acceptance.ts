/**
 * The rules by which a client's segment is accepted: RFC 9293 section 3.10.7.4 with the stricter
 * checks of RFC 5961. Each rule stands below the sentence of the RFC that it implements. The rules
 * are functions of numbers. Their callers count, answer and change the session.
 *
 *     state          sequence numbers                       acknowledgement numbers
 *     syn-received   from the client's first byte to the    our first byte (only our SYN was sent)
 *                    end of the window
 *     collecting     the same, and one before: a probe      our first byte
 *     handing        from such a probe to the end of the    from our first byte on: a node may have
 *                    largest window, behind what is kept    answered already
 *     passing        the node decides, the balancer only follows what is plausible
 *     answering      a window before and behind the         up to the end of our answer
 *                    client's next byte
 *
 * "First byte" is the number after the SYN. `window` is in bytes.
 */
import { seqDiff } from '../wire/seq.js';
import { TcpFlag } from '../wire/tcp.js';
import { SessionState } from './table/session-table.js';

/** What a rule says about a segment. */
export const Acceptance = {
  /** The segment is the client's. */
  accepted: 0,
  /** An RST that ends the connection. */
  reset: 1,
  /** An RST that may be forged. */
  inexactReset: 2,
  /** The sequence number is not acceptable. */
  outOfWindow: 3,
  /** There is no ACK, which every segment but SYN and RST has. */
  noAck: 4,
  /** The acknowledgement number is not acceptable. */
  badAck: 5,
} as const;
export type AcceptanceCode = (typeof Acceptance)[keyof typeof Acceptance];

/** What to do about a SYN of a session. */
export const SynAcceptance = {
  /** The same SYN as before: the SYN/ACK goes out again. */
  repeated: 0,
  /** The balancer answers with a challenge ACK. */
  challenged: 1,
  /** Only the node knows its own sequence numbers: its socket answers with the challenge ACK. */
  forNode: 2,
  /** A late copy of the SYN of a session that has ended. */
  late: 3,
  /** The client opens a new connection: the session gives way. */
  replaces: 4,
  /** A SYN/ACK where no connection is: it gets an RST. */
  refused: 5,
} as const;
export type SynAcceptanceCode = (typeof SynAcceptance)[keyof typeof SynAcceptance];

/**
 * Most bytes of an answer that a client can have acknowledged before the node's first notice
 * arrives: a node sends its first notices along with its first bytes.
 */
const MAX_UNSEEN_ANSWER = 1 << 24;
/**
 * Largest plausible step of sequence and acknowledgement numbers between two segments: two large
 * windows.
 */
const MAX_ADVANCE = 1 << 24;
/** The largest window offered, unscaled. */
const MAX_WINDOW = 0xffff;

const CONTROL = TcpFlag.syn | TcpFlag.fin | TcpFlag.rst;

/** Whether a segment has at most one of SYN, FIN and RST: no sender sets two of them. */
export function hasOneControlAtMost(flags: number): boolean {
  const control = flags & CONTROL;
  return (control & (control - 1)) === 0;
}

/**
 * Whether a segment acknowledges. The acknowledgement number of an RST counts for nothing here.
 */
export function acknowledges(flags: number): boolean {
  return (flags & (TcpFlag.ack | TcpFlag.rst)) === TcpFlag.ack;
}

/**
 * A SYN of a session in `state`. `sameIsn`: its sequence number is that of the session's SYN.
 * `isSynAck`: it has ACK as well, as no client of ours sends it.
 *
 * RFC 5961 section 4.2: "If the SYN bit is set, irrespective of the sequence number, TCP MUST send
 * an ACK (also referred to as challenge ACK) to the remote peer". In SYN-RECEIVED after a passive
 * OPEN, RFC 9293 returns the connection to LISTEN and drops the SYN. Here that SYN opens the new
 * session at once, so that the client need not send it again. A session that has ended is in
 * TIME-WAIT for the balancer: RFC 9293 section 3.6.1 lets a SYN with another number replace it.
 */
export function acceptSyn(state: number, sameIsn: boolean, isSynAck = false): SynAcceptanceCode {
  switch (state) {
    case SessionState.synReceived:
      if (isSynAck) return SynAcceptance.refused;
      return sameIsn ? SynAcceptance.repeated : SynAcceptance.replaces;
    case SessionState.collecting:
    case SessionState.answering:
      return SynAcceptance.challenged;
    case SessionState.handing:
    case SessionState.passing:
      return SynAcceptance.forNode;
    default:
      if (isSynAck) return SynAcceptance.refused;
      return sameIsn ? SynAcceptance.late : SynAcceptance.replaces;
  }
}

/**
 * An RST while the head is being collected. `window` counts from `receiveNext`, inclusive.
 *
 * RFC 9293 section 3.10.7.4, second (RFC 5961 section 3.2): "1) If the RST bit is set and the
 * sequence number is outside the current receive window, silently drop the segment. 2) If the RST
 * bit is set and the sequence number exactly matches the next expected sequence number (RCV.NXT),
 * then TCP endpoints MUST reset the connection [...] 3) [...] yet is within the current receive
 * window, TCP endpoints MUST send an acknowledgment (challenge ACK)".
 */
export function acceptReset(sequence: number, receiveNext: number, window: number): AcceptanceCode {
  const ahead = seqDiff(sequence, receiveNext);
  if (ahead === 0) return Acceptance.reset;
  return ahead > 0 && ahead <= window ? Acceptance.inexactReset : Acceptance.outOfWindow;
}

/**
 * Whether an RST that was forwarded also ends the session here. Any other RST may be forged, and
 * the node decides.
 *
 * RFC 5961 section 3.2, as above. After the client's FIN, the FIN's own number counts as well, as
 * in Linux (tcp_reset_check): a client sends such an RST for a socket that it has closed.
 */
export function resetEndsPassing(
  sequence: number,
  receiveNext: number,
  clientFin: boolean,
): boolean {
  const before = seqDiff(receiveNext, sequence);
  return before >= 0 && before <= (clientFin ? 1 : 0);
}

/**
 * Any segment but a SYN in SYN-RECEIVED. An inexact RST gets no challenge ACK in this state.
 *
 * RFC 9293 section 3.10.7.4, first: "SYN-RECEIVED STATE [...] There are four cases for the
 * acceptability test for an incoming segment"; fifth: "if the ACK bit is off, drop the segment and
 * return"; "If SND.UNA < SEG.ACK =< SND.NXT, then enter ESTABLISHED state". We have sent only our
 * SYN, so exactly one number is acceptable. "If the segment acknowledgment is not acceptable, form
 * a reset segment".
 */
export function acceptHalfOpen(
  flags: number,
  sequence: number,
  acknowledgement: number,
  clientFirst: number,
  serverFirst: number,
  window: number,
): AcceptanceCode {
  const ahead = seqDiff(sequence, clientFirst);
  if (ahead < 0 || ahead > window) return Acceptance.outOfWindow;
  if ((flags & TcpFlag.rst) !== 0) return ahead === 0 ? Acceptance.reset : Acceptance.inexactReset;
  return acceptAckOfSyn(flags, acknowledgement, serverFirst);
}

/**
 * The ACK field while only our SYN has been sent: SYN-RECEIVED and collecting.
 *
 * RFC 9293 section 3.10.7.4, fifth, as above. RFC 5961 section 5.2: "((SND.UNA - MAX.SND.WND) <=
 * SEG.ACK <= SND.NXT)". We have sent only our SYN, so exactly one number is acceptable. A sender
 * that injects data without having seen our SYN/ACK does not know it.
 */
export function acceptAckOfSyn(
  flags: number,
  acknowledgement: number,
  serverFirst: number,
): AcceptanceCode {
  if ((flags & TcpFlag.ack) === 0) return Acceptance.noAck;
  return acknowledgement === serverFirst ? Acceptance.accepted : Acceptance.badAck;
}

/**
 * Whether part of a segment lies in the window while the head is being collected. `at` is its
 * offset from the client's first byte.
 *
 * RFC 9293 section 3.10.7.4, first: "RCV.NXT =< SEG.SEQ < RCV.NXT+RCV.WND or RCV.NXT =<
 * SEG.SEQ+SEG.LEN-1 < RCV.NXT+RCV.WND". The window is that of the whole head, so that acknowledged
 * bytes may come again. It begins one byte earlier, for keep-alive probes (section 3.8.4).
 */
export function isInHeadWindow(at: number, length: number, window: number): boolean {
  return at <= window && at + length >= -1;
}

/**
 * Whether a segment without data is a keep-alive probe, which must be answered with an ACK. Any
 * other bare ACK needs no answer.
 *
 * RFC 9293 section 3.8.4: "Such a segment generally contains SEG.SEQ = SND.NXT-1".
 */
export function isKeepAliveProbe(sequence: number, receiveNext: number): boolean {
  return seqDiff(sequence, receiveNext) < 0;
}

/**
 * Whether a segment's FIN counts while the head is being collected. A FIN past a gap comes again.
 *
 * RFC 9293 section 3.10.7.4, eighth: "If the FIN bit is set, [...] advance RCV.NXT over the FIN".
 */
export function finEndsHead(flags: number, end: number, receiveNext: number): boolean {
  return (flags & TcpFlag.fin) !== 0 && end === receiveNext;
}

/**
 * Any segment but a SYN of a session that is being handed over. `handedTo` is the end of the bytes
 * that the balancer keeps.
 *
 * RFC 9293 section 3.10.7.4, first, second and fifth, as above. An RST counts at RCV.NXT alone. The
 * window begins one byte before the first, for a keep-alive probe, and ends with the largest window
 * offered. A node may have answered by now, so the client may acknowledge its bytes.
 */
export function acceptHandedOver(
  flags: number,
  sequence: number,
  acknowledgement: number,
  clientFirst: number,
  serverFirst: number,
  handedTo: number,
  receiveNext: number,
): AcceptanceCode {
  if ((flags & TcpFlag.rst) !== 0)
    return sequence === receiveNext ? Acceptance.reset : Acceptance.outOfWindow;
  if ((flags & TcpFlag.ack) === 0) return Acceptance.noAck;
  if (seqDiff(sequence, clientFirst) < -1 || seqDiff(sequence, handedTo) > MAX_WINDOW)
    return Acceptance.outOfWindow;
  const acked = seqDiff(acknowledgement, serverFirst);
  return acked >= 0 && acked <= MAX_UNSEEN_ANSWER ? Acceptance.accepted : Acceptance.badAck;
}

/**
 * Any segment but a SYN and an RST of a session that the balancer answers itself. `end` is the
 * number behind our FIN.
 *
 * RFC 9293 section 3.10.7.4, first and fifth, as above. A segment that came before is taken as
 * well, because it may carry a new acknowledgement number, and because an older one asks for an ACK
 * anyway. RFC 5961 section 5.2: what we have never sent cannot be acknowledged.
 */
export function acceptAnswered(
  flags: number,
  sequence: number,
  acknowledgement: number,
  receiveNext: number,
  window: number,
  end: number,
): AcceptanceCode {
  if ((flags & TcpFlag.ack) === 0) return Acceptance.noAck;
  const ahead = seqDiff(sequence, receiveNext);
  if (ahead > window || ahead < -MAX_ADVANCE) return Acceptance.outOfWindow;
  const unsent = seqDiff(acknowledgement, end);
  return unsent <= 0 && unsent >= -MAX_ADVANCE ? Acceptance.accepted : Acceptance.badAck;
}

/**
 * Whether an acknowledgement number covers bytes of an answer. We have sent none, so a node has.
 */
export function acknowledgesAnswer(acknowledgement: number, serverFirst: number): boolean {
  return seqDiff(acknowledgement, serverFirst) > 0;
}

/**
 * Whether an acknowledgement number is near the highest seen. A number far from it may be forged.
 *
 * RFC 5961 section 5.2: "((SND.UNA - MAX.SND.WND) <= SEG.ACK <= SND.NXT). All incoming segments
 * whose ACK value doesn't satisfy the above condition MUST be discarded [...]". The balancer does
 * not know the node's SND.NXT. So it ignores such a segment for itself and forwards it, and the
 * node decides.
 */
export function isPlausibleAck(acknowledgement: number, clientAck: number): boolean {
  const acked = seqDiff(acknowledgement, clientAck);
  return acked <= MAX_ADVANCE && acked >= -MAX_ADVANCE;
}

/** Whether the end of a segment advances the highest number seen by a plausible step. */
export function movesOn(end: number, receiveNext: number): boolean {
  const ahead = seqDiff(end, receiveNext);
  return ahead > 0 && ahead < MAX_ADVANCE;
}

/**
 * Whether a FIN counts, that is, whether all that the client sent before it has been seen. `before`
 * is the highest number seen before this segment, `seen` the highest with it, `end` the number of
 * the FIN.
 *
 * RFC 9293 section 3.10.7.4, eighth: "If the FIN bit is set, [...] advance RCV.NXT over the FIN".
 * The kernel may have forwarded a later segment of the client before the engine processed the FIN.
 * The FIN is then one number back, and counts once.
 */
export function finIsInSequence(
  sequence: number,
  end: number,
  before: number,
  seen: number,
  clientFin: boolean,
): boolean {
  if (seqDiff(sequence, before) > 0) return false;
  const beyond = seqDiff(seen, end);
  return beyond === 0 || (beyond === 1 && !clientFin);
}
