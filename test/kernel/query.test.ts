/** IXP_QUERY on a real interface: which sockets a node owns, and what becomes of their sessions. */
import { once } from 'node:events';
import t, { type Test } from 'tap';
import type { PacketSpec } from '../../lab/packet.js';
import { SHIM_NAMES } from '../../src/base/kernel-counters.js';
import { IxcpReason, IxcpType } from '../../src/wire/ixcp.js';
import { IxpType } from '../../src/wire/ixp.js';
import { LENGTH_3, plus } from './followed.js';
import { insideNamespace, until } from './namespace.js';
import { ParkedSessions, TELL } from './parked.js';
import { ACK, SEQ, sessionKey } from './shim-fixture.js';
import { Ixcp, REQUEST_END, type Session, ShimNode } from './shim-node.js';

const QUESTION = 0x4321_00ff;
/** What an answer has of the question's number. */
const ANSWERS = 0xff;
/** Offset of the client's port in struct session_key (bpf/lib/config.h). */
const PORT = 8;

if (insideNamespace(import.meta.url)) {
  const node = await ShimNode.start(t);
  const { shim, wire } = node;
  const sessions = new ParkedSessions(node);

  const ask = (session: Session, seq: number, ack: number, change: PacketSpec = {}): void =>
    session.adopt({
      payload: '',
      ...change,
      ixp: { type: IxpType.query, session: QUESTION, confirm: seq, ...change.ixp },
      tcp: { seq, ack, flags: 'A' },
    });
  const owned = (session: Session, seq: number, ack: number, reason = 0, nonce?: number) =>
    session.expectNotice(IxcpType.owned, { seq, ack, reason, flags: ANSWERS }, nonce);
  const times = (counter: string): number => {
    const sums = shim.object.mapSums('counters', SHIM_NAMES.length);
    return sums[(SHIM_NAMES as readonly string[]).indexOf(counter)] ?? Number.NaN;
  };
  /** The question is handled, and has no answer. */
  const unanswered = async (
    t: Test,
    session: Session,
    asks: () => void,
    counter = 'query_not_ours',
  ): Promise<void> => {
    const before = times(counter);
    asks();
    await until(counter, () => times(counter) === before + 1);
    t.strictSame(await session.rest(), [], 'no answer');
  };
  /** A session that node and client have. */
  const adopted = async () => {
    const port = node.nextPort;
    const session = node.newSession();
    const accepted = session.socket();
    session.adopt();
    const { socket } = await accepted;
    await session.expectNotice(Ixcp.adopted);
    await session.rest();
    const key = sessionKey.slice();
    new DataView(key.buffer).setUint16(PORT, port);
    return { port, session, socket, key };
  };

  t.test('the node of a socket answers with the next numbers of the socket', async () => {
    const { session, socket } = await adopted();
    ask(session, REQUEST_END, ACK);
    await owned(session, ACK, REQUEST_END);
    socket.write('an answer');
    await session.sent('the answer', {}, 'an answer');
    const end = ACK + 9;
    // The client has got all of it, or nothing, or has sent bytes that were lost.
    for (const [seq, ack] of [
      [REQUEST_END, end],
      [REQUEST_END, ACK],
      [plus(REQUEST_END, 3_000), end],
      [plus(REQUEST_END, -1), end],
    ] as const) {
      ask(session, seq, ack);
      await owned(session, end, REQUEST_END);
    }
    socket.resetAndDestroy();
  });

  t.test('a socket counts only if the client can have sent the segment to it', async (t) => {
    const { session, socket } = await adopted();
    socket.write('an answer');
    await session.sent('the answer', {}, 'an answer');
    for (const [seq, ack] of [
      [REQUEST_END, ACK - 1],
      [REQUEST_END, ACK + 10],
      [plus(REQUEST_END, 1 << 25), ACK],
      [plus(REQUEST_END, -(1 << 25)), ACK],
    ] as const)
      await unanswered(t, session, () => ask(session, seq, ack));
    socket.resetAndDestroy();
    await session.expectNotice(Ixcp.rst);
    await session.rest();
    await unanswered(t, session, () => ask(session, REQUEST_END, ACK + 9));
    const stranger = node.newSession();
    await unanswered(t, stranger, () => ask(stranger, SEQ, ACK));
  });

  t.test('a forged question changes nothing', async (t) => {
    const { session, socket, key } = await adopted();
    const before = shim.object.mapLookup('sessions', key);
    for (const [counter, ixp] of [
      ['drop_tag', { tag: 1n }],
      ['drop_unknown_balancer', { balancer: '10.78.0.9' }],
      ['drop_version', { version: 2 }],
    ] as const)
      await unanswered(t, session, () => ask(session, REQUEST_END, ACK, { ixp }), counter);
    t.same(shim.object.mapLookup('sessions', key), before);
    ask(session, REQUEST_END, ACK);
    await owned(session, ACK, REQUEST_END);
    t.same(shim.object.mapLookup('sessions', key), before, 'nor does one of the same balancer');
    socket.resetAndDestroy();
  });

  t.test('a session that the shim has forgotten gets an entry', async () => {
    const { session, socket, key } = await adopted();
    shim.object.mapDelete('sessions', key);
    ask(session, REQUEST_END, ACK);
    await owned(session, ACK, REQUEST_END, 0, QUESTION);
    socket.end();
    await session.expectNotice(Ixcp.fin, {}, QUESTION);
    socket.resetAndDestroy();
  });

  t.test('a socket that has sent FIN says so', async (t) => {
    const { port, session, socket } = await adopted();
    socket.end();
    await session.expectNotice(Ixcp.fin);
    await session.rest();
    ask(session, REQUEST_END, ACK + 1);
    await owned(session, ACK + 1, REQUEST_END, IxcpReason.closing);
    wire.send(node.plain(port, { seq: REQUEST_END, ack: ACK + 1, flags: 'FA' }));
    await once(socket, 'close');
    await session.rest();
    // In TIME_WAIT.
    await unanswered(t, session, () => ask(session, plus(REQUEST_END, 1), ACK + 1));
  });

  t.test('a session that came back is known by the numbers of its stream', async (t) => {
    const followed = await sessions.parked();
    await sessions.resume(followed);
    await sessions.answer(followed, `${LENGTH_3}tw`);
    await sessions.adopted(followed);
    const { session, seq, ack } = followed;
    ask(session, seq, ack);
    await owned(session, ack, seq);
    // It is followed no more, so the end of its answer is not told.
    await sessions.answer(followed, 'o');
    await sessions.quiet(t, followed);
    followed.socket.resetAndDestroy();
  });

  t.test('a parked session says so, and stays parked', async (t) => {
    const followed = await sessions.parked();
    const { session, seq, ack } = followed;
    ask(session, seq, ack);
    await owned(session, ack, seq, IxcpReason.parked);
    await unanswered(t, session, () => ask(session, plus(seq, 500), plus(ack, 1)));
    followed.socket.end();
    await sessions.held(followed, IxcpType.fin);
    followed.socket.resetAndDestroy();
  });

  t.test('a session that has left its node is not there any more', async (t) => {
    const followed = await sessions.adopt(TELL);
    await sessions.answer(followed, `${LENGTH_3}one`);
    await sessions.ended(followed);
    sessions.ask(followed, IxpType.leave);
    await sessions.told(followed, IxcpType.left);
    const { session, seq, ack } = followed;
    await unanswered(t, session, () => ask(session, seq, ack));
    followed.socket.resetAndDestroy();
  });
}
