/**
 * The shim on a real interface: sockets that the kernel builds from a handoff, segments to the
 * client, and notices to the balancer.
 */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import t from 'tap';
import { build, type PacketSpec } from '../../lab/packet.js';
import { hostU32 } from '../../src/host/bpf-object.js';
import { insideNamespace, run, until } from './namespace.js';
import {
  ACK,
  BALANCER_MAC,
  CLIENT,
  notice,
  OWN_MAC,
  REQUEST,
  SEQ,
  sessionKey,
  sessionProgress,
  sessionValue,
  VIRTUAL,
} from './shim-fixture.js';
import { Ixcp, REQUEST_END, ShimNode } from './shim-node.js';

const Reason = { noListener: 1, unable: 2, tupleInUse: 3, unknownSession: 4 } as const;
const NOTICE_BYTES = 74;
const CLIENT_CONFIRMS = 8;

if (insideNamespace(import.meta.url)) {
  const node = await ShimNode.start(t);
  const { shim, wire, server, e0 } = node;
  const cleared = (): number => shim.object.mapSums('counters', 3)[2]!;

  t.test('one segment makes a connection that continues where the balancer stopped', async (t) => {
    const port = node.nextPort;
    const session = node.newSession();
    const options = { timestamps: [1000, 5_000_000] } as const;
    const ixp = { flags: 7, scales: 0x57, mss: 1200, tsval: 1000, tsecr: 5_000_000 };
    const accepted = session.socket();
    session.adopt({ ixp, tcp: { options } });
    const adopted = await session.expectNotice(Ixcp.adopted, {
      seq: ACK,
      ack: REQUEST_END,
      reason: 0,
    });
    t.equal(adopted.frame.length, NOTICE_BYTES);
    const { socket, request } = await accepted;
    t.match(request, /^GET \/ HTTP/);
    t.equal(socket.remoteAddress, CLIENT);
    t.equal(socket.localAddress, VIRTUAL);

    socket.write('x'.repeat(3000));
    const answer = await session.sent('the answer', { seq: ACK, ack: REQUEST_END });
    t.equal(answer.tcp?.options.timestamps?.[1], 1000, 'the client hears its own clock');
    const step = (answer.tcp?.options.timestamps?.[0] ?? 0) - 5_000_000;
    t.ok(step >= 0 && step < 5000, 'and ours continues');

    wire.send(node.plain(port, { seq: REQUEST_END, ack: (ACK + 3000) >>> 0, flags: 'A', options }));
    socket.end();
    await session.expectNotice(Ixcp.fin, { seq: (ACK + 3000) >>> 0 });
    await session.sent('its FIN', { flags: 'FA' });
    socket.destroy();
  });

  t.test('a repeated handoff is confirmed again, and the request arrives once', async (t) => {
    const session = node.newSession();
    const accepted = session.socket();
    session.adopt();
    const { socket } = await accepted;
    await session.expectNotice(Ixcp.adopted, { ack: REQUEST_END });
    const rose = async (change: PacketSpec) => {
      const before = shim.object.mapSums('counters', 5).slice();
      session.adopt(change);
      let after = before;
      await until('a counter', () => {
        after = shim.object.mapSums('counters', 5).slice();
        return after[1] !== before[1] || after[4] !== before[4];
      });
      return [after[1]! - before[1]!, after[4]! - before[4]!];
    };
    await session.sent('the acknowledgement of the request', { flags: 'A', ack: REQUEST_END });
    t.strictSame(await rose({}), [1, 0]);
    await session.expectNotice(Ixcp.adopted, { seq: ACK, ack: REQUEST_END });
    t.equal(socket.bytesRead, REQUEST.length);
    t.strictSame(await session.rest(), [], 'the client does not hear of it');

    // The rest of a longer head: confirmed only when all of it has arrived.
    const more = { type: 2, confirm: REQUEST_END + 8 };
    t.strictSame(await rose({ ixp: more, tcp: { seq: REQUEST_END }, payload: 'abcd' }), [0, 1]);
    t.strictSame(await rose({ ixp: more, tcp: { seq: REQUEST_END + 4 }, payload: 'efgh' }), [0, 1]);
    await session.expectNotice(Ixcp.adopted, { ack: REQUEST_END + 8 });
    await until('the web server has read it', () => socket.bytesRead === REQUEST.length + 8);
    socket.destroy();
  });

  t.test(
    'if the client confirms: no notice before the FIN, unless the balancer asks',
    async (t) => {
      const session = node.newSession();
      const accepted = session.socket();
      session.adopt({ ixp: { flags: CLIENT_CONFIRMS } });
      const { socket } = await accepted;
      socket.write('an answer');
      await session.sent('the answer', { seq: ACK, ack: REQUEST_END }, 'an answer');
      t.notMatch((await session.rest()).join(), 'IXCP');
      session.adopt();
      await session.expectNotice(Ixcp.adopted, { seq: ACK, ack: REQUEST_END });
      t.strictSame(await session.rest(), []);
      socket.end();
      await session.expectNotice(Ixcp.fin, { seq: ACK + 9, ack: REQUEST_END });
      t.notMatch((await session.rest()).join(), 'IXCP');
      socket.destroy();
    },
  );

  t.test('the socket answers a SYN inside a live session with a challenge ACK', async (t) => {
    const session = node.newSession();
    const accepted = session.socket();
    session.adopt();
    const { socket } = await accepted;
    await session.expectNotice(Ixcp.adopted, { ack: REQUEST_END });
    await session.rest();
    session.adopt({ ixp: { type: 2 }, tcp: { seq: 4242, ack: 0, flags: 'S' }, payload: '' });
    // RFC 5961 section 4: an ACK with the connection's own numbers.
    await session.sent('the challenge ACK', { flags: 'A', seq: ACK, ack: REQUEST_END });
    t.equal(socket.bytesRead, REQUEST.length);
    socket.destroy();
  });

  t.test(
    'a balancer that asks whether a session still exists gets an answer of its socket',
    async (t) => {
      const session = node.newSession();
      const accepted = session.socket();
      session.adopt();
      const { socket } = await accepted;
      await session.expectNotice(Ixcp.adopted, { ack: REQUEST_END });
      await session.rest();
      session.adopt({
        ixp: { type: 2 },
        tcp: { seq: REQUEST_END - 2, ack: ACK, flags: 'A' },
        payload: '',
      });
      await session.sent('an ACK', { flags: 'A', seq: ACK, ack: REQUEST_END });
      await session.expectNotice(Ixcp.adopted, { ack: REQUEST_END });
      t.equal(socket.bytesRead, REQUEST.length);
      socket.destroy();
    },
  );

  t.test('an RST is reported, and the session does not start again', async (t) => {
    const session = node.newSession();
    const accepted = session.socket();
    session.adopt();
    const { socket } = await accepted;
    socket.resetAndDestroy();
    await session.expectNotice(Ixcp.rst, { seq: ACK });
    await session.sent('the RST', { flags: 'RA' });
    await session.rest();
    session.adopt();
    await session.expectNotice(Ixcp.rst, { seq: ACK, ack: SEQ });
    session.adopt({ ixp: { type: 2 }, tcp: { seq: REQUEST_END } });
    await session.expectNotice(Ixcp.rst, { seq: ACK, ack: REQUEST_END });
    t.strictSame(await session.rest(), []);
  });

  t.test('an older connection of the same port gives way', async (t) => {
    const before = cleared();
    const port = node.nextPort;
    const old = node.newSession(1);
    const first = old.socket();
    old.adopt();
    const { socket } = await first;
    await old.expectNotice(Ixcp.adopted);
    await old.rest();
    const broken = once(socket, 'error');

    const young = node.newSession(2, port);
    const second = young.socket();
    young.adopt({ tcp: { seq: 777, ack: 999 }, ixp: { confirm: 777 } });
    await young.expectNotice(Ixcp.adopted, { seq: 999, ack: 777 + REQUEST.length });
    const [error] = (await broken) as [NodeJS.ErrnoException];
    t.equal(error.code, 'ECONNRESET');
    const { socket: next } = await second;
    await young.sent('the ACK of the second connection', { flags: 'A', seq: 999 });
    t.strictSame(await young.rest(), [], 'and nothing of the first');

    // Then a socket in TIME_WAIT, to which the client's FIN leads.
    await node.endByFin(young, next, port, 777 + REQUEST.length, 999);
    // A SYN would open another connection there. The shim sends a notice instead, and the balancer
    // opens the connection.
    young.adopt({ ixp: { type: 2 }, tcp: { seq: 4242, ack: 0, flags: 'S' }, payload: '' });
    await young.expectNotice(Ixcp.rst, { reason: Reason.unknownSession, seq: 0, ack: 4242 });
    const third = node.newSession(3, port);
    const again = third.socket();
    third.adopt();
    await third.expectNotice(Ixcp.adopted, { seq: ACK, ack: REQUEST_END });
    (await again).socket.destroy();
    t.equal(cleared(), before + 2, 'adopt_cleared');
  });

  t.test('a socket in TIME_WAIT gives way even if no RST may end it', async (t) => {
    run('sysctl', '-qw', 'net.ipv4.tcp_rfc1337=1');
    t.teardown(() => run('sysctl', '-qw', 'net.ipv4.tcp_rfc1337=0'));
    const port = node.nextPort;
    await node.inTimeWait(1, port);
    const young = node.newSession(2, port);
    const accepted = young.socket();
    // Its sequence numbers are below those of the old connection: RFC 9293 section 3.6.1 alone
    // would not accept it.
    young.adopt({ tcp: { seq: SEQ - 5_000_000, ack: 999 }, ixp: { confirm: SEQ } });
    const end = SEQ - 5_000_000 + REQUEST.length;
    await young.expectNotice(Ixcp.adopted, { seq: 999, ack: end });
    const { socket } = await accepted;
    const heard = await young.rest();
    t.match(
      heard.join(),
      /^[^,]*\[A\] seq=999 [^,]*$/,
      'no segment of the old socket or the listener',
    );
    socket.destroy();
    await young.rest();

    // Nothing listens for a SYN: the socket stays, the balancer gets a notice, and the client gets
    // nothing.
    const other = createServer();
    other.listen(8080, '127.0.0.1');
    await once(other, 'listening');
    const lonely = node.nextPort;
    await node.inTimeWait(1, lonely);
    shim.service(0, '127.0.0.1', 8080);
    server.close();
    await once(server, 'close');
    const refused = node.newSession(2, lonely);
    refused.adopt();
    await refused.expectNotice(Ixcp.refused, { reason: Reason.tupleInUse });
    t.strictSame(await refused.rest(), []);
    t.match(run('ss', '-Htan', 'state', 'time-wait', `dport = ${lonely}`), String(lonely));
    shim.object.mapDelete('services', hostU32(0));
    other.close();
    server.listen(80, VIRTUAL);
    await once(server, 'listening');
  });

  t.test('a notice is small, however large its segment was', async (t) => {
    const port = node.nextPort;
    const session = node.newSession();
    const accepted = session.socket();
    // A closed window holds the response back until its FIN is queued too.
    session.adopt({ ixp: { mss: 1460 }, tcp: { window: 0 } });
    const { socket } = await accepted;
    // Less than half an initial congestion window: the kernel sends at most that much in one piece.
    socket.end('y'.repeat(6000));
    await once(socket, 'finish');
    await session.expectNotice(Ixcp.adopted);
    wire.send(node.plain(port, { seq: REQUEST_END, ack: ACK, flags: 'A' }));
    const fin = await session.expectNotice(Ixcp.fin);
    t.equal(fin.frame.length, NOTICE_BYTES);
    const last = await session.sent('the large segment', { flags: 'FPA' });
    t.ok(last.payload.length > 2 * 1460, `its segment had ${last.payload.length} bytes`);
    socket.destroy();
  });

  t.test('a segment with FIN causes one notice, which also confirms', async (t) => {
    const port = node.nextPort++;
    const key = sessionKey.slice();
    new DataView(key.buffer).setUint16(8, port);
    /**
     * The notices that this segment of a node's socket causes, with or without a confirmation due.
     */
    const made = (
      flags: string,
      ack: number,
      answered: number,
    ): { notices: string[]; answered: number } => {
      shim.object.mapUpdate(
        'sessions',
        key,
        sessionValue({ confirm: REQUEST_END, asked: 2, answered }),
      );
      const frame = build({
        ethernet: { source: OWN_MAC, destination: BALANCER_MAC },
        ip: { source: VIRTUAL, destination: CLIENT },
        tcp: { sourcePort: 80, destinationPort: port, seq: ACK, ack, flags },
      });
      const rose = shim.counted(() =>
        shim.object.testRun('shim_egress', frame, { interfaceIndex: e0 }),
      );
      const notices = rose.filter((name) => name.startsWith('notice_'));
      return {
        notices,
        answered: sessionProgress(shim.object.mapLookup('sessions', key)).answered,
      };
    };
    t.strictSame(made('A', REQUEST_END, 1), { notices: ['notice_adopted'], answered: 2 });
    t.strictSame(made('FA', REQUEST_END, 1), { notices: ['notice_fin'], answered: 2 });
    t.strictSame(
      made('FA', REQUEST_END - 1, 1),
      { notices: ['notice_fin'], answered: 1 },
      'not all of it yet',
    );
    t.strictSame(
      made('FA', REQUEST_END, 2),
      { notices: ['notice_fin'], answered: 2 },
      'nothing due',
    );
    t.strictSame(made('A', REQUEST_END, 2), { notices: [], answered: 2 });
    for (const [type, ack] of [
      [Ixcp.adopted, REQUEST_END],
      [Ixcp.fin, REQUEST_END],
      [Ixcp.fin, REQUEST_END - 1],
    ] as const) {
      await wire.expect(
        `notice ${type}`,
        notice({ ixcp: { clientPort: port, type, seq: ACK, ack } }),
      );
    }
  });

  t.test('a handoff that cannot be adopted is refused, and the client gets nothing', async (t) => {
    const refused = async (reason: number, change: PacketSpec = {}): Promise<void> => {
      const session = node.newSession();
      session.adopt(change);
      await session.expectNotice(Ixcp.refused, { reason, seq: ACK, ack: SEQ });
      t.strictSame(await session.rest(), []);
    };
    await refused(Reason.noListener, { ixp: { service: 9 } });
    await refused(Reason.unable, { ixp: { flags: 1, scales: 0xf7 } });
    run('sysctl', '-qw', 'net.ipv4.tcp_syncookies=0');
    await refused(Reason.unable);
    run('sysctl', '-qw', 'net.ipv4.tcp_syncookies=1');
  });

  t.test('a forged handoff is dropped without any answer', async (t) => {
    const session = node.newSession();
    session.adopt({ ixp: { tag: 1n } });
    t.strictSame(await session.rest(), []);
  });

  t.test('the listener of a service may be on another address and port', async (t) => {
    const other = createServer();
    other.listen(8080, '127.0.0.1');
    await once(other, 'listening');
    shim.service(0, '127.0.0.1', 8080);
    const session = node.newSession();
    session.adopt();
    const [socket] = (await once(other, 'connection')) as [Socket];
    await session.expectNotice(Ixcp.adopted, { ack: REQUEST_END });
    t.strictSame(
      [socket.localAddress, socket.localPort, socket.remoteAddress],
      [VIRTUAL, 80, CLIENT],
    );
    socket.destroy();
    other.close();
  });
}
