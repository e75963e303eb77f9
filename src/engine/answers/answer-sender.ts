/**
 * Sends an answer: its bytes, then FIN, in segments that the client takes. Nothing is kept but
 * numbers, so the bytes are made again for each transmission.
 *
 *     first                                          end - 1   end
 *       | bytes of the answer                           |  FIN  |
 *       +------------+------------------+---------------+-------+
 *                clientAck           nodeAck         handedTo - 1
 *             acknowledged up to    sent up to
 *
 * These fields of the session have this meaning while it is being answered and afterwards.
 */
import { type AnswerNumber, MOST_ANSWER_BYTES } from '../../directory/answers.js';
import { seqAdd, seqAfter, seqDiff } from '../../wire/seq.js';
import { TCP_HEADER_BYTES, TcpFlag, TIMESTAMPS_BYTES } from '../../wire/tcp.js';
import type { ClientWriter } from '../client-writer.js';
import type { Core } from '../core.js';
import { SessionFlag } from '../table/session-table.js';

/** The least MSS that a client can ask for, options included. As in Linux (tcp_min_snd_mss). */
const LEAST_MSS = 48;

export class AnswerSender {
  private readonly core: Core;
  private readonly writer: ClientWriter;
  /** The bytes of the answer that is being sent. */
  private readonly bytes = new Uint8Array(MOST_ANSWER_BYTES);

  constructor(core: Core, writer: ClientWriter) {
    this.core = core;
    this.writer = writer;
  }

  /** Sets the numbers of an answer. The head, as far as it was collected, is still there. */
  prepare(slot: number, answer: AnswerNumber): void {
    const { sessions, heads, options, clock } = this.core;
    const { answers } = options;
    const room = sessions.head[slot]!;
    const start = room < 0 ? 0 : heads.start(room);
    const end = room < 0 ? 0 : start + heads.filled[room]!;
    const argument = answers.argument(answer, heads.bytes, start, end);
    const first = sessions.clientAck(slot);
    const length = answers.write(answer, argument, this.bytes, 0);
    sessions.setHandedTo(slot, seqAdd(first, length + 1));
    sessions.nodeAck[slot] = first;
    sessions.resource[slot] = argument;
    sessions.tried[slot] = clock;
  }

  /**
   * Sets what the record of an earlier process lacks. Returns false if the client lacks bytes of
   * the answer, and the present book makes another one.
   */
  resume(slot: number): boolean {
    const { sessions, options, clock } = this.core;
    const { answers } = options;
    const left = seqDiff(sessions.handedTo(slot), sessions.clientAck(slot));
    const answer = sessions.answer(slot);
    // Bytes of a head are not there any more.
    const argument = answers.argument(answer, this.bytes, 0, 0);
    const length = answers.write(answer, argument, this.bytes, 0);
    // Nothing, or our FIN alone, or all of an answer of this length.
    if (left < 0 || (left > 1 && left !== length + 1)) return false;
    sessions.nodeAck[slot] = sessions.clientAck(slot);
    sessions.resource[slot] = argument;
    sessions.tried[slot] = clock;
    return true;
  }

  /** Whether the client has acknowledged the answer and our FIN. */
  isAcknowledged(slot: number): boolean {
    const { sessions } = this.core;
    return sessions.clientAck(slot) === sessions.handedTo(slot);
  }

  /** When `prepare` was called, ms as the session's other times. */
  begunAt(slot: number): number {
    return this.core.sessions.tried[slot]!;
  }

  /** The client has acknowledged numbers up to `acknowledgement`. */
  acknowledged(slot: number, acknowledgement: number): void {
    const { sessions } = this.core;
    sessions.setClientAck(slot, acknowledgement);
    if (seqAfter(acknowledgement, sessions.nodeAck[slot]!))
      sessions.nodeAck[slot] = acknowledgement;
  }

  /** Sends what the client's window has room for. Returns false if that is nothing. */
  send(slot: number): boolean {
    return this.sendWithin(slot, this.window(slot));
  }

  /** The same, beginning with what is not acknowledged. */
  sendAgain(slot: number): boolean {
    const { sessions } = this.core;
    sessions.nodeAck[slot] = sessions.clientAck(slot);
    return this.send(slot);
  }

  /**
   * The same, and at least one byte. A client without room answers this with its window (RFC 9293
   * section 3.8.6.1): the ACK that opened the window may have been lost.
   */
  probe(slot: number): void {
    const { sessions } = this.core;
    sessions.nodeAck[slot] = sessions.clientAck(slot);
    this.sendWithin(slot, Math.max(1, this.window(slot)));
  }

  /** A bare ACK behind what was sent. */
  acknowledge(slot: number): void {
    this.writer.segment(slot, this.core.sessions.nodeAck[slot]!, TcpFlag.ack, this.bytes, 0, 0);
  }

  /** The client's window from the number that it has acknowledged, in bytes. */
  private window(slot: number): number {
    const { sessions } = this.core;
    const scaled = sessions.has(slot, SessionFlag.windowScaleOk);
    return sessions.window(slot) << (scaled ? sessions.scales(slot) >>> 4 : 0);
  }

  private sendWithin(slot: number, window: number): boolean {
    const { core, writer } = this;
    const { sessions, options } = core;
    const end = sessions.handedTo(slot);
    const una = sessions.clientAck(slot);
    const room = Math.min(window, seqDiff(end, una)) - seqDiff(sessions.nodeAck[slot]!, una);
    if (room <= 0) return false;
    const answer = sessions.answer(slot);
    const length = options.answers.write(answer, sessions.resource[slot]!, this.bytes, 0);
    const first = seqAdd(end, -1 - length);
    const piece = this.pieceBytes(slot);
    for (let left = room; left > 0; ) {
      const next = sessions.nodeAck[slot]!;
      const at = seqDiff(next, first);
      const bytes = Math.min(piece, length - at, left);
      const isLast = at + bytes === length;
      const fin = isLast && left > bytes ? 1 : 0;
      const flags = TcpFlag.ack | (isLast && bytes > 0 ? TcpFlag.psh : 0) | (fin * TcpFlag.fin);
      if (!writer.segment(slot, next, flags, this.bytes, at, bytes)) break;
      sessions.nodeAck[slot] = seqAdd(next, bytes + fin);
      left -= bytes + fin;
    }
    return true;
  }

  /** Bytes of payload that fit in a segment to the client. */
  private pieceBytes(slot: number): number {
    const { sessions, options } = this.core;
    const mss = Math.max(LEAST_MSS, sessions.mss(slot));
    const link = options.mtu - this.core.ipBytesOf(slot) - TCP_HEADER_BYTES;
    const timestamps = sessions.has(slot, SessionFlag.timestampsOk) ? TIMESTAMPS_BYTES : 0;
    return Math.min(mss, link) - timestamps;
  }
}
