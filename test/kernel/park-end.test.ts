/** Parked sockets on a real interface: how they end, and what takes their place. */
import { once } from 'node:events';
import t from 'tap';
import { IxcpReason, IxcpType } from '../../src/wire/ixcp.js';
import { IxpFlag, IxpType } from '../../src/wire/ixp.js';
import { LENGTH_3, plus } from './followed.js';
import { insideNamespace, until } from './namespace.js';
import { ParkedSessions, TELL } from './parked.js';
import { REQUEST } from './shim-fixture.js';
import { ShimNode } from './shim-node.js';

if (insideNamespace(import.meta.url)) {
  const node = await ShimNode.start(t);
  const sessions = new ParkedSessions(node);

  t.test('a parked socket that ends is not heard by the client', async (t) => {
    const first = await sessions.parked();
    first.socket.write('HTTP/1.1 408 Request Timeout\r\n\r\n');
    await sessions.held(first, IxcpType.ended);
    first.socket.end();
    await sessions.held(first, IxcpType.fin);
    sessions.sendResume(first);
    await sessions.told(first, IxcpType.refused, { reason: IxcpReason.ending });
    first.socket.destroy();
    await sessions.quiet(t, { ...first, session: node.newSession(0, 1) });

    const second = await sessions.parked();
    second.socket.resetAndDestroy();
    await sessions.held(second, IxcpType.rst, 0);
    await sessions.quiet(t, second);
    sessions.sendResume(second);
    await sessions.told(second, IxcpType.refused, { reason: IxcpReason.ending });
  });

  t.test('LEAVE ends a parked socket, whatever its numbers', async (t) => {
    const followed = await sessions.parked();
    const { session, port, socket } = followed;
    sessions.ask({ ...followed, seq: plus(followed.seq, -1) }, IxpType.leave);
    await until('a late LEAVE is dropped', () => sessions.count('drop_late') > 0);
    const later = { ...followed, seq: plus(followed.seq, 900), ack: plus(followed.ack, 77) };
    const end = once(socket, 'end');
    sessions.ask(later, IxpType.leave, 9);
    await sessions.told(later, IxcpType.left);
    await end;
    socket.end();
    await sessions.gone(port);
    t.strictSame(await session.rest(), [], 'the client hears nothing of it');
  });

  t.test('LEAVE ends a parked socket whose server has closed, or said a last word', async (t) => {
    for (const word of ['', 'HTTP/1.1 408 Request Timeout\r\n\r\n']) {
      const followed = await sessions.parked();
      if (word !== '') {
        followed.socket.write(word);
        await sessions.held(followed, IxcpType.ended);
      }
      followed.socket.end();
      await sessions.held(followed, IxcpType.fin);
      await until('it has closed', () => sessions.socketsOf(followed.port).includes('FIN-WAIT-1'));
      sessions.ask(followed, IxpType.leave);
      await sessions.told(followed, IxcpType.left);
      await until('its FIN is acknowledged', () => {
        const sockets = sessions.socketsOf(followed.port);
        return sockets === '' || sockets.includes('TIME-WAIT');
      });
      await sessions.quiet(t, followed);
    }
  });

  t.test('an RST at the place of the parking ends the socket', async (t) => {
    const followed = await sessions.parked();
    await sessions.resume(followed);
    await sessions.answer(followed, `${LENGTH_3}two`);
    await sessions.ended(followed);
    const { session, port, seq, socket } = followed;
    session.adopt({
      ixp: { type: IxpType.segment, flags: 0 },
      tcp: { seq, ack: 0, flags: 'R' },
      payload: '',
    });
    socket.on('error', () => {});
    await sessions.gone(port);
    t.strictSame(await session.rest(), []);
  });

  t.test('ADOPT clears a parked socket', async (t) => {
    const first = await sessions.parked();
    const cleared = sessions.count('adopt_cleared');
    const again = await sessions.adopt(TELL, { port: first.port, seq: first.seq, ack: first.ack });
    t.equal(sessions.count('adopt_cleared'), cleared + 1);
    await sessions.answer(again, `${LENGTH_3}two`);
    await sessions.ended(again);
    first.socket.destroy();
    again.socket.destroy();
  });

  t.test('RESUME with the flags of ADOPT: HEAD, and a failure that is held back', async (t) => {
    const followed = await sessions.parked();
    await sessions.resume(followed, { flags: TELL | IxpFlag.head | IxpFlag.holdReset });
    await sessions.answer(followed, 'HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n');
    await sessions.ended(followed);
    await sessions.resume(followed, { flags: TELL | IxpFlag.holdReset });
    followed.socket.end();
    await followed.session.expectNotice(IxcpType.rst, { reason: IxcpReason.heldBack });
    await sessions.quiet(t, followed);
    followed.socket.destroy();
  });

  t.test('ADOPT does not disturb a resumed socket that works on the request', async (t) => {
    const followed = await sessions.parked();
    await sessions.resume(followed, { flags: TELL | IxpFlag.holdReset });
    const seq = plus(followed.seq, -REQUEST.length);
    sessions.sendResume({ ...followed, seq }, { type: IxpType.adopt, flags: TELL });
    await followed.session.expectNotice(IxcpType.adopted, { ack: followed.seq });
    await sessions.answer(followed, `${LENGTH_3}two`);
    await sessions.ended(followed);
    await sessions.quiet(t, followed);
    followed.socket.destroy();
  });

  t.test('ADOPT replaces a resumed socket that closes without an answer', async (t) => {
    for (const how of ['end', 'resetAndDestroy'] as const) {
      const followed = await sessions.parked();
      await sessions.resume(followed, { flags: TELL | IxpFlag.holdReset });
      followed.socket[how]();
      const heldBack = { reason: IxcpReason.heldBack, flags: 1 };
      await followed.session.expectNotice(IxcpType.rst, heldBack);
      const { port } = followed;
      const seq = plus(followed.seq, -REQUEST.length);
      const again = await sessions.adopt(TELL, { port, seq, ack: followed.ack });
      await sessions.answer(again, `${LENGTH_3}two`);
      await sessions.ended(again);
      await sessions.quiet(t, again);
      followed.socket.destroy();
      // A late copy of the RESUME changes nothing.
      sessions.sendResume({ ...followed, seq }, { flags: TELL | IxpFlag.holdReset });
      await followed.session.expectNotice(IxcpType.adopted, { ack: again.seq });
      again.socket.destroy();
    }
  });
}
