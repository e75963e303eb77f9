/**
 * The shim and a server that fails before it answers, on a real interface. With IXP_HOLD_RESET the
 * client sees nothing of it: the balancer is told, and may give the request to another node.
 */
import t from 'tap';
import { IxcpReason, IxcpType } from '../../src/wire/ixcp.js';
import { IxpFlag } from '../../src/wire/ixp.js';
import { type Followed, FollowedSessions, LENGTH_3, plus } from './followed.js';
import { insideNamespace } from './namespace.js';
import { ShimNode } from './shim-node.js';

if (insideNamespace(import.meta.url)) {
  const sessions = new FollowedSessions(await ShimNode.start(t));
  /** What the socket of each case does. */
  const failures = {
    RST: ({ socket }: Followed) => socket.resetAndDestroy(),
    FIN: ({ socket }: Followed) => socket.end(),
  } as const;

  for (const [name, fail] of Object.entries(failures)) {
    t.test(`${name} before the first byte goes to the balancer alone`, async (t) => {
      const followed = await sessions.adopt(IxpFlag.holdReset);
      const { session, seq, ack } = followed;
      fail(followed);
      await session.expectNotice(IxcpType.rst, { reason: IxcpReason.heldBack, seq: ack, ack: seq });
      // A FIN that nobody acknowledges is repeated, and held back again.
      const others = (await session.rest()).filter((frame) => !frame.includes('IXCP RST'));
      t.strictSame(others, [], 'nothing else, and nothing for the client');
      followed.socket.destroy();
    });

    t.test(`${name} behind a byte of the answer goes to the client`, async () => {
      const followed = await sessions.adopt(IxpFlag.holdReset);
      const { session, seq } = followed;
      await sessions.answer(followed, LENGTH_3);
      fail(followed);
      const ack = followed.ack;
      const type = name === 'RST' ? IxcpType.rst : IxcpType.fin;
      await session.expectNotice(type, { reason: 0, seq: ack });
      await session.sent(`the ${name}`, {
        flags: name === 'RST' ? 'RA' : 'FA',
        seq: ack,
        ack: seq,
      });
      followed.socket.destroy();
    });

    t.test(`${name} without the flag goes to the client`, async () => {
      const followed = await sessions.adopt(0);
      const { session, seq, ack } = followed;
      fail(followed);
      const type = name === 'RST' ? IxcpType.rst : IxcpType.fin;
      await session.expectNotice(type, { reason: 0, seq: ack });
      await session.sent(`the ${name}`, {
        flags: name === 'RST' ? 'RA' : 'FA',
        seq: ack,
        ack: seq,
      });
      followed.socket.destroy();
    });
  }

  t.test('FIN with the last bytes of an answer is not held back', async () => {
    const followed = await sessions.adopt(IxpFlag.holdReset);
    const { session, socket, seq, ack } = followed;
    socket.end(`${LENGTH_3}one`);
    await session.sent('the answer', { seq: ack }, `${LENGTH_3}one`);
    const end = plus(ack, LENGTH_3.length + 3);
    await session.expectNotice(IxcpType.fin, { reason: 0, seq: end, ack: seq });
    socket.destroy();
  });
}
