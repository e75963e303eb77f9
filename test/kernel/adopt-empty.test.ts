/**
 * Handoffs without a byte: the client waits for the server to speak. The kernel builds the socket
 * from a bare ACK.
 */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import t from 'tap';
import type { PacketSpec } from '../../lab/packet.js';
import { insideNamespace, until } from './namespace.js';
import { ACK, SEQ } from './shim-fixture.js';
import { Ixcp, type Session, ShimNode } from './shim-node.js';

const EMPTY: PacketSpec = { ixp: { confirm: SEQ }, tcp: { flags: 'A' }, payload: '' };
/** A segment of the client that is not confirmed yet. */
const later = (at: number, tcp: PacketSpec['tcp'], payload: string): PacketSpec => ({
  ixp: { type: 2, confirm: SEQ },
  tcp: { seq: SEQ + at, ack: ACK, ...tcp },
  payload,
});

if (insideNamespace(import.meta.url)) {
  const node = await ShimNode.start(t);
  const { shim, server, wire } = node;
  const accepted = async (session: Session, change: PacketSpec = {}): Promise<Socket> => {
    const connection = once(server, 'connection');
    session.adopt({ ...EMPTY, ...change });
    const [socket] = (await connection) as [Socket];
    return socket;
  };

  t.test('the server speaks first: its first segment confirms', async (t) => {
    const port = node.nextPort;
    const session = node.newSession();
    const options = { timestamps: [1000, 5_000_000] } as const;
    const ixp = { flags: 7, scales: 0x57, mss: 1200, tsval: 1000, tsecr: 5_000_000, confirm: SEQ };
    const socket = await accepted(session, { ixp, tcp: { flags: 'A', options } });
    t.strictSame(await session.rest(), [], 'nothing is sent before');
    socket.write('220 ready\r\n');
    await session.expectNotice(Ixcp.adopted, { seq: ACK, ack: SEQ });
    await session.sent('the greeting', { seq: ACK, ack: SEQ }, '220 ready\r\n');
    const heard = once(socket, 'data');
    const end = (ACK + 11) >>> 0;
    const plain = node.plain(port, { seq: SEQ, ack: end, flags: 'PA', options });
    wire.send({ ...plain, payload: 'QUIT\r\n' });
    const [data] = (await heard) as [Buffer];
    t.equal(data.toString(), 'QUIT\r\n', 'the client goes on in plain form');
    socket.end('221 bye\r\n');
    await session.expectNotice(Ixcp.fin, { ack: SEQ + 6 });
    socket.destroy();
  });

  t.test('while the server is silent, the shim answers for the socket', async (t) => {
    const session = node.newSession();
    const socket = await accepted(session);
    t.strictSame(await session.rest(), []);
    const repeated = shim.object.mapSums('counters', 5)[1]!;
    session.adopt(EMPTY);
    await session.expectNotice(Ixcp.adopted, { seq: ACK, ack: SEQ });
    t.equal(shim.object.mapSums('counters', 5)[1]! - repeated, 1, 'adopt_repeated');
    t.strictSame(await session.rest(), [], 'the client does not hear of it');
    // What the client says meanwhile reaches the server.
    session.adopt(later(0, { flags: 'PA' }, 'EHLO\r\n'));
    await until('the server has read it', () => socket.bytesRead === 6);
    await session.expectNotice(Ixcp.adopted, { ack: SEQ + 6 });
    socket.destroy();
  });

  t.test('an ACK before the first byte is answered, as after a restart', async (t) => {
    const session = node.newSession();
    const socket = await accepted(session);
    t.strictSame(await session.rest(), []);
    session.adopt(later(-1, { flags: 'A' }, ''));
    await session.sent('an ACK', { flags: 'A', seq: ACK, ack: SEQ });
    await session.expectNotice(Ixcp.adopted, { seq: ACK, ack: SEQ });
    socket.destroy();
  });

  t.test('a client may have sent FIN and nothing else', async (t) => {
    const session = node.newSession();
    const fin = { confirm: SEQ + 1 };
    const socket = await accepted(session, { ixp: fin });
    const ended = once(socket, 'end');
    socket.resume();
    session.adopt({ ...later(0, { flags: 'FA' }, ''), ixp: { type: 2, ...fin } });
    await ended;
    await session.expectNotice(Ixcp.adopted, { ack: SEQ + 1 });
    socket.end('220 ready\r\n');
    await session.expectNotice(Ixcp.fin, { ack: SEQ + 1 });
    t.pass('the server reads the end, and still greets');
    socket.destroy();
  });
}
