/**
 * Parked sockets on a real interface: how a session gets parked, comes back with other numbers, and
 * what its client does not get meanwhile.
 */
import { once } from 'node:events';
import t from 'tap';
import { build } from '../../lab/packet.js';
import { IxcpReason, IxcpType } from '../../src/wire/ixcp.js';
import { IxpFlag, IxpType } from '../../src/wire/ixp.js';
import { LENGTH_3, plus } from './followed.js';
import { insideNamespace, run, until } from './namespace.js';
import { AWAY, ParkedSessions, TELL } from './parked.js';
import { BALANCER, BALANCER_MAC, CLIENT, OWN_MAC, REQUEST, SEQ, VIRTUAL } from './shim-fixture.js';
import { ShimNode } from './shim-node.js';

const FOLLOW = IxpFlag.follow;
/** Of payload, with the MSS of the handoff. */
const MSS = 1448;

/** NOP, NOP, timestamps, as Linux sends them. */
function timestamps(tsval: number, tsecr: number): Uint8Array {
  const bytes = Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0);
  const view = new DataView(bytes.buffer);
  view.setUint32(4, tsval);
  view.setUint32(8, tsecr);
  return bytes;
}

if (insideNamespace(import.meta.url)) {
  const node = await ShimNode.start(t);
  const { wire } = node;
  const sessions = new ParkedSessions(node);

  t.test('a session is parked when its answer has ended, and comes back', async (t) => {
    const followed = await sessions.adopt(TELL);
    await sessions.answer(followed, `${LENGTH_3}on`);
    await sessions.quiet(t, followed);
    await sessions.answer(followed, 'e');
    await sessions.ended(followed);
    for (let round = 0; round < 3; round++) {
      await sessions.resume(followed);
      await sessions.answer(followed, `${LENGTH_3}tw`);
      await sessions.adopted(followed);
      await sessions.answer(followed, 'o');
      await sessions.ended(followed);
      await sessions.quiet(t, followed);
    }
    // An answer of one segment causes one notice.
    await sessions.resume(followed);
    await sessions.answer(followed, `${LENGTH_3}two`);
    await sessions.ended(followed);
    await sessions.quiet(t, followed);
    followed.socket.destroy();
  });

  t.test('PARK asks, and the socket learns what its client has acknowledged', async (t) => {
    const followed = await sessions.adopt(FOLLOW);
    const { ack } = followed;
    sessions.ask(followed, IxpType.park);
    await sessions.told(followed, IxcpType.refused, { reason: IxcpReason.unanswered });
    await sessions.answer(followed, `${LENGTH_3}one`);
    sessions.ask({ ...followed, ack }, IxpType.park);
    await sessions.told({ ...followed, ack }, IxcpType.refused, { reason: IxcpReason.unanswered });
    sessions.ask(followed, IxpType.park, 2);
    await sessions.told(followed, IxcpType.refused, { reason: IxcpReason.unanswered });
    t.ok(sessions.unacknowledged(followed.port));
    for (let time = 0; time < 2; time++) {
      sessions.ask(followed, IxpType.park);
      await sessions.told(followed, IxcpType.parked);
      t.notOk(sessions.unacknowledged(followed.port));
    }
    await sessions.resume(followed, { flags: 0 });
    await sessions.answer(followed, `${LENGTH_3}two`);
    await sessions.adopted(followed);
    await sessions.quiet(t, followed);
    sessions.ask(followed, IxpType.park);
    await sessions.told(followed, IxcpType.parked);
    followed.socket.destroy();
    await sessions.held(followed, IxcpType.fin);
    const stranger = { ...followed, session: node.newSession(77, followed.port) };
    sessions.ask(stranger, IxpType.park);
    await sessions.told(stranger, IxcpType.refused, { reason: IxcpReason.unknownSession });
  });

  t.test('a further request to the same node needs no message', async (t) => {
    const followed = await sessions.parked();
    await sessions.next(followed);
    await sessions.answer(followed, `${LENGTH_3}two`);
    await sessions.ended(followed, 2);
    await sessions.acknowledge(followed);
    // Its keep-alive time ends, and the session is still here.
    followed.socket.end();
    await sessions.held(followed, IxcpType.fin, 2);
    await sessions.quiet(t, followed);
    sessions.ask(followed, IxpType.awake);
    await followed.session.sent('its FIN', { flags: 'FA', seq: followed.ack });
    await sessions.told(followed, IxcpType.fin);
    followed.socket.destroy();
  });

  t.test('a socket that repeats says again where it is parked', async (t) => {
    const followed = await sessions.parked();
    // The client has acknowledged the answer with a request to another node.
    const { ack, seq } = followed;
    const before = plus(ack, -LENGTH_3.length - 3);
    await followed.session.sent('the answer again', { seq: before }, `${LENGTH_3}one`);
    await sessions.ended(followed);
    sessions.ask(followed, IxpType.park);
    await sessions.told(followed, IxcpType.parked);
    t.notOk(sessions.unacknowledged(followed.port));
    t.equal(followed.seq, seq);
    followed.socket.destroy();
  });

  t.test('repeated and late frames', async (t) => {
    const followed = await sessions.parked();
    const early = { ...followed };
    await sessions.resume(followed);
    // The segment again, before and after the answer.
    sessions.sendResume({ ...followed, seq: plus(followed.seq, -REQUEST.length) });
    await sessions.adopted(followed);
    await sessions.answer(followed, `${LENGTH_3}two`);
    await sessions.ended(followed);
    sessions.sendResume({ ...followed, seq: plus(followed.seq, -REQUEST.length) });
    await followed.session.expectNotice(IxcpType.adopted, { ack: followed.seq });
    const late = sessions.count('drop_late');
    sessions.sendResume({ ...early, seq: plus(early.seq, -REQUEST.length) });
    sessions.ask(early, IxpType.park);
    sessions.ask(early, IxpType.leave);
    sessions.ask(early, IxpType.awake);
    await until('all are dropped', () => sessions.count('drop_late') === late + 4);
    await sessions.quiet(t, followed);
    // A client's bytes from before the parking, and from the time elsewhere.
    for (const [seq, ack] of [
      [SEQ, plus(early.ack, -1)],
      [plus(early.seq, 100), early.ack],
    ] as const) {
      const segment = node.plain(followed.port, { seq, ack, flags: 'PA' });
      wire.send({ ...segment, payload: 'old bytes' });
      const { seq: acked, ack: sent } = { seq: followed.seq, ack: followed.ack };
      await followed.session.sent('a duplicate ACK', { flags: 'A', seq: sent, ack: acked });
    }
    await sessions.quiet(t, followed);
    await sessions.resume(followed);
    sessions.sendResume({ ...followed, seq: plus(followed.seq, 10_000) });
    await followed.session.expectNotice(IxcpType.refused, { reason: IxcpReason.unanswered });
    await sessions.answer(followed, `${LENGTH_3}two`);
    await sessions.ended(followed);
    followed.socket.destroy();
  });

  t.test('requests of which nobody has told the number end the notices, until PARK', async (t) => {
    const followed = await sessions.adopt(TELL);
    await sessions.next(followed);
    await sessions.answer(followed, `${LENGTH_3}one`);
    await sessions.answer(followed, `${LENGTH_3}two`);
    await sessions.quiet(t, followed);
    sessions.ask(followed, IxpType.park, 2);
    await sessions.told(followed, IxcpType.parked);
    await sessions.resume(followed);
    // With its number, a pipelined request is counted.
    await sessions.next(followed, TELL, 2);
    await sessions.answer(followed, `${LENGTH_3}one`);
    await sessions.quiet(t, followed);
    await sessions.answer(followed, `${LENGTH_3}two`);
    await sessions.ended(followed, 2);
    // One segment with two requests: the second answer is held, until the balancer hears of it.
    wire.send({
      ...node.plain(followed.port, { seq: followed.seq, ack: followed.ack, flags: 'PA' }),
      payload: REQUEST + REQUEST,
    });
    followed.seq = plus(followed.seq, 2 * REQUEST.length);
    await once(followed.socket, 'data');
    await sessions.answer(followed, `${LENGTH_3}one`);
    await sessions.ended(followed, 3);
    await sessions.acknowledge(followed);
    followed.socket.write(`${LENGTH_3}two`);
    await sessions.held(followed, IxcpType.ended, 4);
    sessions.ask(followed, IxpType.awake);
    await followed.session.sent('the second answer', {}, `${LENGTH_3}two`);
    followed.socket.destroy();
  });

  t.test('a session that is not parked, or not known, is not resumed', async () => {
    const followed = await sessions.adopt(TELL);
    sessions.sendResume({ ...followed, seq: plus(followed.seq, 1) });
    await followed.session.expectNotice(IxcpType.refused, { reason: IxcpReason.unanswered });
    const stranger = { ...followed, session: node.newSession(78, followed.port) };
    sessions.sendResume(stranger);
    await sessions.told(stranger, IxcpType.refused, { reason: IxcpReason.unknownSession });
    followed.socket.destroy();
  });

  t.test('forged frames change nothing', async (t) => {
    const followed = await sessions.parked();
    const forged = sessions.count('drop_tag');
    const { session, seq, ack } = followed;
    for (const type of [IxpType.resume, IxpType.park, IxpType.awake, IxpType.leave])
      session.adopt({ ixp: { type, tag: 1n, confirm: plus(seq, 99) }, tcp: { seq, ack } });
    await until('all are dropped', () => sessions.count('drop_tag') === forged + 4);
    followed.socket.end();
    await sessions.held(followed, IxcpType.fin);
    await sessions.quiet(t, followed);
    followed.socket.destroy();
  });

  t.test('timestamps: the clock of the stream never runs back', async (t) => {
    const flags = IxpFlag.timestampsOk;
    const followed = await sessions.adopt(TELL | flags);
    const { session } = followed;
    const tsvalOf = async (what: string, seq: number): Promise<number> => {
      const { tcp } = await session.sent(what, { seq });
      return tcp?.options.timestamps?.[0] ?? 0;
    };
    followed.socket.write(`${LENGTH_3}one`);
    const first = await tsvalOf('an answer', followed.ack);
    followed.ack = plus(followed.ack, LENGTH_3.length + 3);
    await sessions.ended(followed);
    // The client has seen a later clock elsewhere, and says so in the segment, or in the frame.
    let seen = first;
    for (const inFrame of [true, false]) {
      seen = plus(seen, 1_000_000);
      await sessions.resume(
        followed,
        { tsecr: inFrame ? plus(seen, 1) : 0 },
        { options: { raw: timestamps(4, inFrame ? first : seen) } },
      );
      followed.socket.write(`${LENGTH_3}two`);
      const tsval = await tsvalOf('a later answer', followed.ack);
      t.ok(tsval > seen && tsval < seen + 100_000, `${tsval} behind ${seen}`);
      followed.ack = plus(followed.ack, LENGTH_3.length + 3);
      await sessions.ended(followed);
      seen = tsval;
    }
    await sessions.quiet(t, followed);
    followed.socket.destroy();
  });

  t.test('SACK blocks in both directions, with large frames', async (t) => {
    const followed = await sessions.parked(IxpFlag.sackOk);
    await sessions.resume(followed);
    const { session, socket, port } = followed;
    // A hole in what the client sends.
    const hole = plus(followed.seq, 10);
    wire.send({
      ...node.plain(port, { seq: hole, ack: followed.ack, flags: 'PA' }),
      payload: 'abc',
    });
    const { tcp } = await session.sent('an ACK with SACK', { flags: 'A', ack: followed.seq });
    t.strictSame(tcp?.options.sack, [[hole, plus(hole, 3)]]);
    await session.rest();

    // A hole in what it gets: the node repeats only that.
    const body = Buffer.alloc(8_000, 'x').toString();
    const head = `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`;
    const end = plus(followed.ack, head.length + body.length);
    socket.write(head + body);
    const pieces: { from: number; to: number }[] = [];
    for (let at = followed.ack; at !== end; at = pieces.at(-1)!.to) {
      const { payload } = await session.sent('a piece', { seq: at });
      pieces.push({ from: at, to: plus(at, payload.length) });
    }
    // Frames may be larger than what a client would acknowledge at once.
    const lost = { from: followed.ack, to: plus(followed.ack, MSS) };
    for (let copy = 0; copy < 3; copy++)
      wire.send(
        node.plain(port, {
          seq: followed.seq,
          ack: lost.from,
          flags: 'A',
          options: { sack: [[lost.to, plus(end, -MSS * (2 - copy))]] },
        }),
      );
    const repeated = await session.sent('what was lost', { seq: lost.from });
    t.equal(repeated.payload.length, MSS, 'no byte that the client has');
    followed.socket.destroy();
  });

  // The last one: from here on, the path to the client has another MTU.
  t.test('an ICMP error is about numbers of the stream', async (t) => {
    const followed = await sessions.parked();
    await sessions.resume(followed);
    await sessions.answer(followed, `${LENGTH_3}tw`);
    const { port } = followed;
    /** "Fragmentation needed" about the segment with this number. */
    const needed = (seq: number, mtu: number): void => {
      const segment = build({
        ip: { source: VIRTUAL, destination: CLIENT },
        tcp: { sourcePort: 80, destinationPort: port, seq },
      });
      wire.send({
        ethernet: { source: BALANCER_MAC, destination: OWN_MAC },
        ip: { source: BALANCER, destination: VIRTUAL },
        icmp: { type: 3, code: 4, rest: mtu, quoted: segment.subarray(14, 42) },
      });
    };
    const pmtu = (): string =>
      /pmtu:(\d+)/.exec(run('ss', '-Htin', `dport = ${port}`))?.[1] ?? 'unknown';
    const first = plus(followed.ack, -LENGTH_3.length - 2);
    const before = pmtu();
    needed(plus(first, -AWAY.ack), 900);
    needed(first, 1_000);
    await until('the socket believes it', () => pmtu() !== before);
    t.equal(pmtu(), '1000', 'and not the error with a number of the socket');
    followed.socket.destroy();
  });
}
