/** Sessions whose answers the shim follows, on the node of a test (shim-node.ts). */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { SHIM_NAMES } from '../../src/base/kernel-counters.js';
import { IxcpType } from '../../src/wire/ixcp.js';
import { IxpType } from '../../src/wire/ixp.js';
import { seqDiff } from '../../src/wire/seq.js';
import { describe, type ParsedPacket } from '../support/packet-parse.js';
import { run, until } from './namespace.js';
import { ACK, REQUEST, SEQ } from './shim-fixture.js';
import { Ixcp, type Session, type ShimNode } from './shim-node.js';

export const LENGTH_3 = 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n';

export const plus = (number: number, bytes: number): number => (number + bytes) >>> 0;

/** A session that is followed, its socket, and how far both sides of the stream have got. */
export interface Followed {
  session: Session;
  socket: Socket;
  port: number;
  seq: number;
  ack: number;
}

export class FollowedSessions {
  private readonly repeatable = new Set<string>();

  constructor(readonly node: ShimNode) {}

  count(name: (typeof SHIM_NAMES)[number]): number {
    const { shim } = this.node;
    return shim.object.mapSums('counters', SHIM_NAMES.length)[SHIM_NAMES.indexOf(name)]!;
  }

  /** Adopts a session with these flags; its request begins at `seq`, the answer at `ack`. */
  async adopt(
    flags: number,
    { port = this.node.nextPort++, seq = SEQ, ack = ACK, nonce = 1 } = {},
  ): Promise<Followed> {
    const session = this.node.newSession(nonce, port);
    const accepted = session.socket();
    const end = plus(seq, REQUEST.length);
    session.adopt({ ixp: { flags, confirm: end }, tcp: { seq, ack } });
    const { socket } = await accepted;
    // A piece of an answer goes out at once, whether or not the client has acknowledged the last.
    socket.setNoDelay();
    socket.on('error', () => {});
    await session.expectNotice(Ixcp.adopted, { ack: end });
    await session.sent('the ACK of the request', { flags: 'A', ack: end });
    return { session, socket, port, seq: end, ack };
  }

  /** The server sends this part of an answer. Its first part begins a frame. */
  async answer(followed: Followed, text: string): Promise<void> {
    followed.socket.write(text, 'latin1');
    await followed.session.sent(`"${text}"`, { seq: followed.ack }, text);
    followed.ack = plus(followed.ack, text.length);
  }

  /** Sends an IXP message without payload about the session as it is. */
  ask({ session, seq, ack }: Followed, type: number, request = 1): void {
    session.adopt({ ixp: { type, request, flags: 0 }, tcp: { seq, ack, flags: 'A' }, payload: '' });
  }

  /** The next request of the client, in plain form. */
  async next(followed: Followed, flags = 0, request = 2): Promise<void> {
    const { port, seq, ack, socket, session } = followed;
    const got = once(socket, 'data');
    if (flags === 0)
      this.node.wire.send({
        ...this.node.plain(port, { seq, ack, flags: 'PA' }),
        payload: REQUEST,
      });
    else
      session.adopt({
        ixp: { type: IxpType.segment, flags, request, confirm: plus(seq, REQUEST.length) },
        tcp: { seq, ack },
      });
    await got;
    followed.seq = plus(seq, REQUEST.length);
    await session.rest();
  }

  /** A socket repeats what caused this notice until the client acknowledges it. */
  mayRepeat(notice: ParsedPacket): void {
    this.repeatable.add(describe(notice));
  }

  /**
   * Unexpected frames for the client, without those that only the time causes: delayed ACKs,
   * repetitions of what the client has got, and the notices about them.
   */
  async surprises({ session, ack }: Followed): Promise<string[]> {
    const lines = await session.rest();
    const isAck = (line: string): boolean => / \[A\] .* len=0/.test(line);
    const isOld = (line: string): boolean => {
      const seq = / \[F?PA\] seq=(\d+)/.exec(line)?.[1];
      return seq !== undefined && seqDiff(Number(seq), ack) < 0;
    };
    const [hasAck, hasOld] = [lines.some(isAck), lines.some(isOld)];
    const isCaused = (line: string): boolean => {
      const type = / IXCP (\w+) /.exec(line)?.[1];
      return (type === 'ADOPTED' && hasAck) || (type === String(IxcpType.ended) && hasOld);
    };
    return lines.filter(
      (line) => !isAck(line) && !isOld(line) && !isCaused(line) && !this.repeatable.has(line),
    );
  }

  socketsOf(port: number): string {
    return run('ss', '-Htan', `dport = ${port}`);
  }

  gone(port: number): Promise<void> {
    return until('the old socket is gone', () => this.socketsOf(port) === '');
  }
}
