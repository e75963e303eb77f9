/** Parked sockets on a real interface: frames that arrive in another order, and later visits. */
import { once } from 'node:events';
import t from 'tap';
import { IxcpReason, IxcpType } from '../../src/wire/ixcp.js';
import { IxpFlag, IxpType } from '../../src/wire/ixp.js';
import { type Followed, FollowedSessions, LENGTH_3, plus } from './followed.js';
import { insideNamespace, until } from './namespace.js';
import { REQUEST, SEQ } from './shim-fixture.js';
import { ShimNode } from './shim-node.js';

const TELL = IxpFlag.follow | IxpFlag.tell;
const MSS = 1448;
/** How far the stream moves on while a session is elsewhere. */
const AWAY = { seq: 5_000, ack: 70_000 } as const;

if (insideNamespace(import.meta.url)) {
  const node = await ShimNode.start(t);
  const sessions = new FollowedSessions(node);

  const answered = async (followed: Followed): Promise<void> => {
    await sessions.answer(followed, `${LENGTH_3}one`);
    const { session, seq, ack } = followed;
    await session.expectNotice(IxcpType.ended, { seq: ack, ack: seq });
  };

  t.test('a segment that overtakes the RESUME is dropped', async () => {
    const followed = await sessions.adopt(TELL);
    await answered(followed);
    const { session } = followed;
    const early = sessions.count('drop_early');
    followed.seq = plus(followed.seq, AWAY.seq);
    followed.ack = plus(followed.ack, AWAY.ack);
    const behind = plus(followed.seq, MSS);
    for (const flags of ['PA', 'FA'])
      session.adopt({
        ixp: { type: IxpType.segment, flags: 0, confirm: plus(behind, 3) },
        tcp: { seq: behind, ack: followed.ack, flags },
        payload: flags === 'PA' ? 'abc' : '',
      });
    await until('both are dropped', () => sessions.count('drop_early') === early + 2);
    const got = once(followed.socket, 'data');
    const end = plus(followed.seq, REQUEST.length);
    session.adopt({
      ixp: { type: IxpType.resume, flags: TELL, confirm: end },
      tcp: { seq: followed.seq, ack: followed.ack },
    });
    await got;
    followed.seq = end;
    await answered(followed);
    followed.socket.destroy();
  });

  t.test('a later ADOPT builds a socket where one has ended, an earlier one does not', async () => {
    const first = await sessions.adopt(TELL);
    await answered(first);
    first.socket.resetAndDestroy();
    await first.session.expectNotice(IxcpType.rst, { reason: IxcpReason.parked });
    await sessions.gone(first.port);
    first.session.adopt({ ixp: { flags: TELL, confirm: first.seq }, tcp: { seq: SEQ } });
    await first.session.expectNotice(IxcpType.rst, { reason: 0 });
    const again = await sessions.adopt(TELL, { port: first.port, seq: first.seq, ack: first.ack });
    await answered(again);
    again.socket.destroy();
  });
}
