/** IXP_RELEASE on a real interface: which sockets are removed, and which stay. */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import t from 'tap';
import { hostU32 } from '../../src/host/bpf-object.js';
import { insideNamespace } from './namespace.js';
import { ACK, SEQ, sessionKey } from './shim-fixture.js';
import { Ixcp, REQUEST_END, type Session, ShimNode } from './shim-node.js';

/** Offsets in struct session_key and struct session (bpf/lib/config.h). */
const PORT = 8;
const RELEASED = 41;

if (insideNamespace(import.meta.url)) {
  const node = await ShimNode.start(t);
  const { shim } = node;

  t.test('a session whose server has read nothing is released, no other is', async (t) => {
    const silent = createServer({ pauseOnConnect: true });
    silent.listen(8081, '127.0.0.1');
    await once(silent, 'listening');
    const release = (session: Session): void =>
      session.adopt({ ixp: { type: 3, confirm: REQUEST_END }, payload: '', tcp: { flags: 'A' } });
    /** A session whose server has accepted it and reads nothing. */
    const unread = async (): Promise<{ session: Session; socket: Socket }> => {
      shim.service(0, '127.0.0.1', 8081);
      const session = node.newSession();
      session.adopt();
      const [socket] = (await once(silent, 'connection')) as [Socket];
      await session.expectNotice(Ixcp.adopted, { ack: REQUEST_END });
      await session.rest();
      shim.object.mapDelete('services', hostU32(0));
      return { session, socket };
    };

    const first = await unread();
    release(first.session);
    await first.session.expectNotice(Ixcp.released, { seq: ACK, ack: SEQ });
    t.strictSame(await first.session.rest(), [], 'the client hears nothing of it');
    // The answer may be lost. Segments of the client on their way to that socket find no socket.
    release(first.session);
    await first.session.expectNotice(Ixcp.released);
    first.session.adopt({ ixp: { type: 2 }, tcp: { seq: REQUEST_END }, payload: 'more' });
    await first.session.expectNotice(Ixcp.released);
    first.socket.destroy();

    // The server answers another session in between: it is only slow.
    const second = await unread();
    const busy = node.newSession();
    const accepted = busy.socket();
    busy.adopt();
    const { socket } = await accepted;
    await busy.expectNotice(Ixcp.adopted);
    release(busy);
    await busy.expectNotice(Ixcp.adopted, { ack: REQUEST_END });
    t.ok(!socket.destroyed, 'a server that has read the request may take its time');
    socket.write('an answer');
    await busy.sent('the answer', {}, 'an answer');
    release(second.session);
    await second.session.expectNotice(Ixcp.adopted, { ack: REQUEST_END });
    t.strictSame(await second.session.rest(), []);
    t.ok(!second.socket.destroyed);

    // The socket has more bytes than the balancer keeps.
    const third = await unread();
    third.session.adopt({ ixp: { type: 2 }, tcp: { seq: REQUEST_END }, payload: 'more' });
    release(third.session);
    await third.session.expectNotice(Ixcp.adopted, { ack: REQUEST_END + 4 });

    // The RST that should remove it had no effect, and the server continues: the session ends like
    // any other.
    const key = sessionKey.slice();
    new DataView(key.buffer).setUint16(PORT, node.nextPort);
    const fourth = await unread();
    const value = shim.object.mapLookup('sessions', key) ?? new Uint8Array(0);
    value[RELEASED] = 1;
    shim.object.mapUpdate('sessions', key, value);
    fourth.session.adopt({ ixp: { type: 2 }, tcp: { seq: REQUEST_END }, payload: 'more' });
    release(fourth.session);
    await fourth.session.expectNotice(Ixcp.adopted);
    fourth.socket.destroy();
    await fourth.session.expectNotice(Ixcp.rst);
    fourth.session.adopt({ ixp: { type: 2 }, tcp: { seq: REQUEST_END + 4 }, payload: 'more' });
    await fourth.session.expectNotice(Ixcp.rst);

    for (const one of [socket, second.socket, third.socket]) one.destroy();
    const stranger = node.newSession();
    release(stranger);
    t.strictSame(await stranger.rest(), [], 'nothing is said of a session that is not known');
    silent.close();
  });
}
