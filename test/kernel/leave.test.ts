/**
 * IXP_LEAVE on a real interface: when a session may move on, and what becomes of its old socket.
 */
import { once } from 'node:events';
import t from 'tap';
import { IxpFlag, IxpType } from '../../src/wire/ixp.js';
import { type Followed, FollowedSessions, LENGTH_3, plus } from './followed.js';
import { insideNamespace, until } from './namespace.js';
import { Ixcp, REQUEST_END, ShimNode } from './shim-node.js';

const LEFT = 9;
const Reason = { unknownSession: 4, unfollowed: 5, unanswered: 6, ending: 7 } as const;
const FOLLOW = IxpFlag.follow;
const HEAD = IxpFlag.head;

if (insideNamespace(import.meta.url)) {
  const node = await ShimNode.start(t);
  const { wire } = node;

  const sessions = new FollowedSessions(node);
  const count: FollowedSessions['count'] = (name) => sessions.count(name);
  const adopt: FollowedSessions['adopt'] = (...args) => sessions.adopt(...args);
  const answer: FollowedSessions['answer'] = (...args) => sessions.answer(...args);
  const next: FollowedSessions['next'] = (...args) => sessions.next(...args);
  const gone: FollowedSessions['gone'] = (port) => sessions.gone(port);
  const ask = (followed: Followed, request = 1): void =>
    sessions.ask(followed, IxpType.leave, request);
  const refused = async (followed: Followed, reason: number, request = 1): Promise<void> => {
    ask(followed, request);
    const { seq, ack } = followed;
    await followed.session.expectNotice(Ixcp.refused, { reason, seq: ack, ack: seq });
  };
  const left = async (followed: Followed, request = 1): Promise<void> => {
    const { session, socket, seq, ack } = followed;
    const ended = once(socket, 'end');
    ask(followed, request);
    await session.expectNotice(LEFT, { seq: ack, ack: seq });
    await ended;
  };

  t.test('a session leaves when its answer has ended, and comes back', async (t) => {
    const first = await adopt(FOLLOW);
    await refused(first, Reason.unanswered);
    await answer(first, `${LENGTH_3}on`);
    await refused(first, Reason.unanswered);
    await answer(first, 'e');
    await refused({ ...first, ack: plus(first.ack, -1) }, Reason.unanswered);
    await refused({ ...first, seq: plus(first.seq, -1) }, Reason.unanswered);
    await refused(first, Reason.unanswered, 2);
    const turned = count('left_turned');
    await left(first);
    t.ok(sessions.socketsOf(first.port).includes('CLOSE-WAIT'));
    ask(first);
    await first.session.expectNotice(LEFT);
    first.socket.end();
    await gone(first.port);
    t.equal(count('left_turned'), turned + 1);
    t.strictSame(await first.session.rest(), [], 'the client hears nothing of it');

    // Segments that were slower than the session.
    const late = count('drop_late');
    first.session.adopt({ ixp: { flags: FOLLOW, confirm: first.seq } });
    first.session.adopt({ ixp: { type: IxpType.segment }, tcp: { seq: REQUEST_END } });
    await until('both are dropped', () => count('drop_late') === late + 2);
    wire.send(node.plain(first.port, { seq: first.seq, ack: first.ack, flags: 'A' }));
    await until('the RST is dropped', () => count('left_dropped') > 0);
    t.strictSame(await first.session.rest(), [], 'no RST either');

    // It was elsewhere for a while, and its numbers have grown.
    const again = await adopt(FOLLOW, {
      port: first.port,
      seq: plus(first.seq, 5_000),
      ack: plus(first.ack, 70_000),
    });
    await answer(again, `${LENGTH_3}two`);
    await left(again);
    again.socket.end();
    await gone(first.port);
    t.strictSame(await again.session.rest(), []);
  });

  t.test('a session that comes back finds its old socket', async (t) => {
    const first = await adopt(FOLLOW);
    await answer(first, `${LENGTH_3}one`);
    await left(first);
    const cleared = count('adopt_cleared');
    // A request that was rewritten to a longer one begins earlier.
    const again = await adopt(FOLLOW, {
      port: first.port,
      seq: plus(first.seq, -4),
      ack: first.ack,
    });
    t.equal(count('adopt_cleared'), cleared + 1);
    await answer(again, `${LENGTH_3}two`);
    t.strictSame(await again.session.rest(), []);
    first.socket.destroy();
    again.socket.destroy();
  });

  t.test('answers of every form, in pieces', async (t) => {
    const followed = await adopt(FOLLOW);
    await answer(followed, 'HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n');
    await refused(followed, Reason.unanswered);
    await answer(followed, 'HTTP/1.1 200 OK\r\ntransfer-enco');
    await answer(followed, 'ding:  Chunked \r');
    await answer(followed, '\n\r\n5;note="x"\r\nab');
    await answer(followed, 'cde\r\n1');
    await answer(followed, '0\r\n0123456789abcdef\r');
    await refused(followed, Reason.unanswered);
    await answer(followed, '\n0\r\nExpires: never\r\n');
    await refused(followed, Reason.unanswered);
    await answer(followed, '\r\n');
    await next(followed);
    await refused(followed, Reason.unanswered, 2);
    await answer(followed, 'HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n');
    await next(followed, HEAD, 3);
    await answer(followed, 'HTTP/1.0 200 OK\r\nContent-Length: 77\r\n\r\n');
    await next(followed);
    await answer(followed, 'HTTP/1.1 204 No Content\r\n\r\n');
    await next(followed);
    // Larger than any frame of the wire, so it is cut behind the shim.
    const large = 'x'.repeat(50_000);
    followed.socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${large.length}\r\n\r\n${large}`);
    const { port, seq, session } = followed;
    const end = plus(followed.ack, 42 + large.length);
    while (followed.ack !== end) {
      const { payload } = await session.sent('more of it', { seq: followed.ack });
      followed.ack = plus(followed.ack, payload.length);
      wire.send(node.plain(port, { seq, ack: followed.ack, flags: 'A' }));
    }
    await left(followed, 5);
    followed.socket.end();
    await gone(followed.port);
    t.pass();
  });

  t.test('the first request may be HEAD', async (t) => {
    const followed = await adopt(FOLLOW | HEAD);
    await answer(followed, 'HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n');
    await left(followed);
    followed.socket.end();
    await gone(followed.port);
    t.pass();
  });

  t.test('what cannot be followed stays', async (t) => {
    const heads = [
      'HTTP/1.1 200 OK\r\n\r\n',
      'HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\n\r\n',
      'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n',
      'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      'SSH-2.0-OpenSSH\r\n',
    ];
    const unfollowed = count('unfollowed');
    for (const head of heads) {
      const followed = await adopt(FOLLOW);
      await answer(followed, head);
      await refused(followed, Reason.unfollowed);
      followed.socket.destroy();
    }
    t.equal(count('unfollowed'), unfollowed + heads.length);
    const other = await adopt(0);
    await answer(other, `${LENGTH_3}one`);
    await refused(other, Reason.unfollowed);
    other.socket.destroy();
    const stranger = { ...other, session: node.newSession(77, other.port) };
    await refused(stranger, Reason.unknownSession);
  });

  t.test('two requests at once are two answers', async (t) => {
    const followed = await adopt(FOLLOW);
    await next(followed);
    await answer(followed, `${LENGTH_3}one`);
    await refused(followed, Reason.unanswered, 2);
    await answer(followed, `${LENGTH_3}two`);
    await left(followed, 2);
    followed.socket.end();
    await gone(followed.port);
    t.pass();
  });

  t.test('a server that has not read everything, or closes, keeps its session', async (t) => {
    const followed = await adopt(FOLLOW);
    await answer(followed, `${LENGTH_3}one`);
    followed.socket.pause();
    const { port, seq, ack, session, socket } = followed;
    wire.send({ ...node.plain(port, { seq, ack, flags: 'PA' }), payload: 'more' });
    await session.sent('the ACK of it', { flags: 'A', ack: plus(seq, 4) });
    await refused(followed, Reason.unanswered);
    await refused({ ...followed, seq: plus(seq, 4) }, Reason.unanswered, 2);
    socket.resume();
    socket.end();
    await session.sent('its FIN', { flags: 'FA' });
    await session.expectNotice(Ixcp.fin);
    await refused({ ...followed, seq: plus(seq, 4) }, Reason.ending);
    socket.destroy();
    t.pass();
  });

  t.test('a server that goes on is not heard, and gets an RST after 1 s', async (t) => {
    const followed = await adopt(FOLLOW);
    await answer(followed, `${LENGTH_3}one`);
    await left(followed);
    const { socket, session, port } = followed;
    socket.write('HTTP/1.1 408 Request Timeout\r\n\r\n');
    await gone(port);
    t.equal(count('left_reset'), 1);
    socket.destroy();
    t.strictSame(await session.rest(), []);
  });
}
