/**
 * Later heads that come in pieces, and bodies: what the engine keeps of them, and what it
 * acknowledges (keepAlive: migrate).
 */
import t from 'tap';
import type { PacketSpec } from '../../lab/packet.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import { IxcpReason } from '../../src/wire/ixcp.js';
import { IxpFlag } from '../../src/wire/ixp.js';
import {
  fromClient,
  get,
  IXP_TYPE,
  inIxp,
  NOTICE,
  notice,
  toClient,
} from '../support/conversation.js';
import { MovingClient } from '../support/moving-client.js';

const { adopt, segment } = IXP_TYPE;
const HANDOFF_MS = 300;

t.test('a later head in pieces is collected, and moves or stays', async (t) => {
  for (const [path, to] of [
    ['/1', 1],
    ['/0', 0],
  ] as const) {
    const client = new MovingClient(t);
    const { talk } = client;
    client.first(0, get('/0'));
    const first = client.seq;
    const request = get(path);
    client.send(20, request.slice(0, 9));
    client.asksFor(20, 0, first);
    talk.send(25, notice(0, NOTICE.adopted, { ack: first }));
    talk.expect(25, toClient({ flags: 'A', seq: client.ack, ack: client.seq }));
    client.send(400, request.slice(9));
    if (to === 1) {
      talk.expect(400, client.question(0, 1, first));
      client.left(410, 0, 1, first, request);
    } else {
      talk.expect(400, inIxp(0, { type: segment }, { seq: first, ack: client.ack }, request));
      t.notOk(client.passes, 'the client does not send again what was acknowledged');
      talk.send(410, notice(0, NOTICE.adopted, { ack: client.seq }));
    }
    client.answered(420, to);
    client.stays(430, to, get(path));
  }
});

t.test('a later head that is not complete in time goes to the node', async (t) => {
  const client = new MovingClient(t, { timeouts: { head: 1_000 } });
  const { talk } = client;
  client.first(0, get('/0'));
  const first = client.seq;
  client.send(20, 'GET /1');
  client.asksFor(20, 0, first);
  talk.send(25, notice(0, NOTICE.adopted, { ack: first }));
  talk.expect(25, toClient({ flags: 'A', seq: client.ack, ack: client.seq }));
  talk.expect(1_020, inIxp(0, { type: segment }, { seq: first, ack: client.ack }, 'GET /1'));
  talk.counted({ pinned_head: 1 });
});

t.test('an upload by length passes unread, and the next head is found behind it', async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  const body = 'x'.repeat(1000);
  client.first(0, `POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n`, IxpFlag.follow);
  client.stays(20, 0, body);
  const { sessions } = talk.engine;
  t.equal(sessions.handedTo(client.slot), client.seq + 2000);
  client.stays(21, 0, body);
  // The last part overtakes nothing, but the kernel may have forwarded it.
  client.stays(22, 0, body);
  client.answered(30, 0);
  const next = client.leaves(40, 0, 1, get('/1'));
  client.left(50, 0, 1, next, get('/1'));
  talk.counted({ pinned_body: 0, requests: 2 });
});

t.test('an upload in chunks is followed to its end', async (t) => {
  const client = new MovingClient(t);
  client.first(
    0,
    `POST /0 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n`,
    IxpFlag.follow,
  );
  client.stays(20, 0, '5\r\nhel');
  client.stays(21, 0, 'lo\r\n0\r');
  client.stays(22, 0, '\n\r\n');
  client.answered(30, 0);
  const next = client.leaves(40, 0, 1, get('/1'));
  client.left(50, 0, 1, next, get('/1'));
});

t.test('the body of a request that moves follows it', async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  client.first(0, get('/0'));
  const head = `POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n`;
  const second = client.leaves(20, 0, 1, head);
  client.send(21, 'hello');
  talk.send(30, notice(0, NOTICE.left, { seq: client.ack, ack: second }));
  const tcp = { seq: second, ack: client.ack };
  talk.expect(30, inIxp(1, { type: adopt, flags: IxpFlag.follow }, tcp, `${head}hello`));
  talk.send(31, notice(1, NOTICE.adopted, { ack: client.seq }));
  client.stays(32, 1, 'world');
  client.answered(40, 1);
  client.stays(50, 1, get('/1'));
});

t.test('a later head that outgrows a small room, and the body behind it', async (t) => {
  const client = new MovingClient(t);
  client.first(0, get('/0'));
  const body = 'x'.repeat(5_000);
  const request = `POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n${body}`;
  const second = client.leaves(20, 0, 1, request);
  client.talk.send(30, notice(0, NOTICE.left, { seq: client.ack, ack: second }));
  const pieces = client.talk.rest(30);
  t.equal(pieces.map(({ payload }) => Buffer.from(payload).toString()).join(''), request);
  client.talk.send(31, notice(1, NOTICE.adopted, { ack: client.seq }));
  client.answered(40, 1);
  t.ok(client.watched);
  client.stays(50, 1, get('/1'));
});

t.test('a request that outgrows its room still gets another path', async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  client.first(0, get('/0'));
  talk.dispatcher.rewrites = { '/1': '/new/1' };
  const head = `POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n`;
  const body = 'x'.repeat(3000);
  const second = client.leaves(20, 0, 1, head);
  client.send(21, body.slice(0, 1400));
  client.send(22, body.slice(1400));
  talk.send(30, notice(0, NOTICE.left, { seq: client.ack, ack: second }));
  const sent = talk.rest(30).map(({ payload }) => Buffer.from(payload).toString());
  t.equal(sent.join(''), head.replace('/1', '/new/1') + body);
  talk.counted({ rewritten: 1 });
});

t.test('a part of a head without ACK takes no room', async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  client.first(0, get('/0'));
  const room = talk.engine.sessions.head[client.slot];
  talk.send(20, fromClient({ flags: 'P', seq: client.seq, ack: 0 }, 'GET'));
  t.equal(talk.engine.sessions.head[client.slot], room);
  t.equal(talk.engine.sessions.state(client.slot), SessionState.passing);
  talk.counted({ drop_malformed_tcp: 1 });
});

const UPLOAD = 'POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n';

/** An upload, whose second of three parts is lost on its way to the balancer. Returns that part. */
function losesPart(client: MovingClient): PacketSpec {
  const body = 'x'.repeat(1000);
  client.first(0, UPLOAD, IxpFlag.follow);
  client.stays(20, 0, body);
  const lost = fromClient({ flags: 'PA', seq: client.seq, ack: client.ack }, body);
  client.seq += body.length;
  client.stays(22, 0, body);
  return lost;
}

t.test('nothing is acknowledged behind bytes that the node misses', async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  const lost = losesPart(client);
  // The body before the last request is the one with the gap.
  client.stays(23, 0, get('/0'));
  const first = client.seq;
  const missing = first - get('/0').length - 2000;
  const part = client.send(30, 'GET /1');
  client.asksFor(30, 0, first);
  talk.send(31, notice(0, NOTICE.adopted, { ack: missing }));
  // The network makes copies. They prove nothing.
  for (const time of [40, 41, 42]) {
    talk.send(time, part);
    client.asksFor(time, 0, first);
  }
  talk.send(50, lost);
  talk.expect(50, inIxp(0, { type: segment }, { flags: 'PA', seq: missing }, 'x'.repeat(1000)));
  talk.quiet(51);
  talk.send(52, notice(0, NOTICE.adopted, { ack: first }));
  talk.expect(52, toClient({ flags: 'A', seq: client.ack, ack: client.seq }));
});

t.test('a segment with the end of a body and the next head is divided', async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  losesPart(client);
  const first = client.seq;
  const request = get('/1');
  client.send(30, request.slice(0, 9));
  client.asksFor(30, 0, first);
  const body = 'x'.repeat(1000);
  const both = { flags: 'PA', seq: first - body.length, ack: client.ack };
  talk.send(40, fromClient(both, body + request));
  client.seq = first + request.length;
  talk.expect(40, inIxp(0, { type: segment }, { ...both, flags: 'A' }, body));
  talk.expect(40, client.question(0, 1, first));
});

t.test('a node that may miss bytes gets the request, and the client repeats them', async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  const lost = losesPart(client);
  const first = client.leaves(30, 0, 1, get('/1'));
  talk.send(40, notice(0, NOTICE.refused, { reason: IxcpReason.unanswered }));
  talk.expect(40, inIxp(0, { type: segment }, { seq: first, ack: client.ack }, get('/1')));
  t.ok(client.passes);
  talk.send(50, lost);
  talk.expectForwarded(50, 0, lost);
});

t.test('a silent node that may miss bytes', async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  const lost = losesPart(client);
  const first = client.leaves(30, 0, 1, get('/1'));
  talk.expect(30 + HANDOFF_MS, client.question(0, 1, first));
  const tcp = { seq: first, ack: client.ack };
  talk.expect(30 + 2 * HANDOFF_MS, inIxp(0, { type: segment }, tcp, get('/1')));
  t.notOk(client.passes, 'it may be gone');
  talk.send(700, lost);
  talk.expect(700, inIxp(0, { type: segment }, { seq: first - 2000 }, 'x'.repeat(1000)));
  talk.send(710, notice(0, NOTICE.adopted, { ack: first - 2000 }));
  t.ok(client.passes, 'it is there, and the client repeats what it misses');
});

t.test('a kept head has the latest acknowledgement and timestamp', async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  client.first(0, get('/0'));
  const first = client.seq;
  const request = get('/0');
  client.send(20, request.slice(0, 9));
  client.asksFor(20, 0, first);
  talk.send(25, notice(0, NOTICE.adopted, { ack: first }));
  talk.expect(25, toClient({ flags: 'A', seq: client.ack, ack: client.seq }));
  client.send(40, request.slice(9));
  const tcp = { seq: first, ack: client.ack };
  talk.expect(40, inIxp(0, { type: segment }, tcp, request));
  // The answer before was not over.
  client.ack += 70_000;
  const acknowledged = { flags: 'A', seq: client.seq, ack: client.ack };
  talk.send(50, fromClient(acknowledged));
  talk.expect(50, inIxp(0, { type: segment }, acknowledged, ''));
  talk.expect(40 + HANDOFF_MS, inIxp(0, { type: segment }, { ...tcp, ack: client.ack }, request));
});

t.test('a request before the last word about the one ahead waits, and pins nothing', async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  const whole = get('/0').replace('\r\n\r\n', `\r\nX: ${'x'.repeat(2000)}\r\n\r\n`);
  client.send(0, whole);
  const pieces = talk.rest(0);
  t.ok(pieces.length > 1);
  talk.send(5, notice(0, NOTICE.adopted, { ack: 1001 + pieces[0]!.payload.length }));
  client.ack += 500;
  const next = client.seq;
  const early = client.send(10, get('/1'));
  t.same(talk.rest(10), []);
  talk.counted({ requests_early: 1, pinned_pipelining: 0 });
  talk.send(12, notice(0, NOTICE.adopted, { ack: next }));
  talk.send(20, early);
  talk.expect(20, client.question(0, 1, next));
  client.left(30, 0, 1, next, get('/1'));
});

t.test('a FIN that has overtaken a part of the last request', async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  client.first(0, get('/0'));
  const first = client.seq;
  const request = get('/1');
  const fin = { flags: 'FA', seq: first + request.length, ack: client.ack };
  // The network has made a copy, so that the FIN seems to be in sequence.
  for (const time of [20, 21]) {
    talk.send(time, fromClient(fin));
    talk.expectForwarded(time, 0, fromClient(fin));
  }
  client.stays(30, 0, request.slice(0, 9));
  client.stays(31, 0, request.slice(9));
  t.notOk(client.watched, 'its node has the FIN, so the session cannot move');
});

t.test('a config that no longer knows the request as one pins the session', async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  client.first(0, get('/0'));
  client.leaves(20, 0, 1, 'POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n');
  talk.dispatcher.refuses = true;
  client.send(21, 'hello');
  t.notOk(client.watched);
  talk.counted({ pinned_head: 1 });
});
