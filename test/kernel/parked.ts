/** Parked sessions, on the node of a test: what the balancer asks and hears about them. */
import { once } from 'node:events';
import type { Test } from 'tap';
import type { IxpSpec, PacketSpec, TcpSpec } from '../../lab/packet.js';
import { IxcpReason, IxcpType } from '../../src/wire/ixcp.js';
import { IxpFlag, IxpType } from '../../src/wire/ixp.js';
import type { ParsedPacket } from '../support/packet-parse.js';
import { type Followed, FollowedSessions, LENGTH_3, plus } from './followed.js';
import { run, until } from './namespace.js';
import { REQUEST } from './shim-fixture.js';

export const TELL = IxpFlag.follow | IxpFlag.tell;
/** How far the stream moves on while a session is elsewhere. */
export const AWAY = { seq: 5_000, ack: 70_000 } as const;

export class ParkedSessions extends FollowedSessions {
  unacknowledged(port: number): boolean {
    return run('ss', '-Htin', `dport = ${port}`).includes('unacked:');
  }

  /** The notice with the numbers of the session as it is. */
  told(
    { session, seq, ack }: Followed,
    type: number,
    more: NonNullable<PacketSpec['ixcp']> = {},
  ): Promise<ParsedPacket> {
    return session.expectNotice(type, { seq: ack, ack: seq, reason: 0, flags: 0, ...more });
  }

  ended(followed: Followed, answers = 1): Promise<ParsedPacket> {
    return this.told(followed, IxcpType.ended, { flags: answers });
  }

  async held(followed: Followed, type: number, answers = 1): Promise<void> {
    const reason = IxcpReason.parked;
    this.mayRepeat(await this.told(followed, type, { reason, flags: answers }));
  }

  adopted({ session, seq }: Followed): Promise<ParsedPacket> {
    return session.expectNotice(IxcpType.adopted, { ack: seq });
  }

  /** The client acknowledges all that it has got, in plain form. */
  async acknowledge({ port, seq, ack }: Followed): Promise<void> {
    this.node.wire.send(this.node.plain(port, { seq, ack, flags: 'A' }));
    await until('the socket knows it', () => !this.unacknowledged(port));
  }

  async quiet(t: Test, followed: Followed): Promise<void> {
    t.strictSame(await this.surprises(followed), [], 'nothing else');
  }

  /** A session with TELL whose first request is answered. */
  async parked(flags = 0): Promise<Followed> {
    const followed = await this.adopt(TELL | flags);
    await this.answer(followed, `${LENGTH_3}one`);
    await this.ended(followed);
    return followed;
  }

  /** Sends RESUME at the session's numbers, with these changes. */
  sendResume({ session, seq, ack }: Followed, ixp: IxpSpec = {}, tcp: TcpSpec = {}): void {
    session.adopt({
      ixp: {
        type: IxpType.resume,
        flags: IxpFlag.tell,
        confirm: plus(seq, REQUEST.length),
        ...ixp,
      },
      tcp: { seq, ack, ...tcp },
    });
  }

  /** The session comes back; its socket gets the request. */
  async resume(followed: Followed, ixp: IxpSpec = {}, tcp: TcpSpec = {}): Promise<void> {
    followed.seq = plus(followed.seq, AWAY.seq);
    followed.ack = plus(followed.ack, AWAY.ack);
    const got = once(followed.socket, 'data');
    this.sendResume(followed, ixp, tcp);
    const [data] = (await got) as [Buffer];
    if (data.toString() !== REQUEST) throw new Error(`the socket got ${data.toString()}`);
    followed.seq = plus(followed.seq, REQUEST.length);
  }
}
