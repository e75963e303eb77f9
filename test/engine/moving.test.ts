/** Kept-alive connections that move to another node between two requests (keepAlive: migrate). */
import t from 'tap';
import { Admin } from '../../src/directory/node-memory.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import { IxcpFlag, IxcpReason } from '../../src/wire/ixcp.js';
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

const { segment } = IXP_TYPE;
const HANDOFF_MS = 300;

t.test('another holder gets the second request, and the first the third', async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  client.first(0, get('/0'));
  const second = client.leaves(20, 0, 1, get('/1'));
  // The client sends it again meanwhile.
  talk.send(30, fromClient({ flags: 'PA', seq: second, ack: client.ack }, get('/1')));
  client.left(40, 0, 1, second, get('/1'));
  client.answered(50, 1);
  client.stays(60, 1, get('/1'));
  client.answered(70, 1);
  const fourth = client.leaves(80, 1, 2, get('/0'));
  client.left(90, 1, 0, fourth, get('/0'));
  client.answered(100, 0);
  const { sessions } = talk.engine;
  t.equal(sessions.movesOf(client.slot), 2);
  t.equal(sessions.clientBytes(client.slot), 4 * get('/0').length);
  t.equal(talk.states.active[0], 1);
  t.equal(talk.states.active[1], 0);
  talk.counted({ moved: 2, moves_asked: 2, moves_refused: 0, requests: 4, reset_sent: 0 });
});

t.test('a node that holds the content keeps the session', async (t) => {
  const client = new MovingClient(t);
  client.first(1, get('/1'));
  client.stays(20, 1, get('/01'));
  client.stays(30, 1, get('/012'));
  client.talk.counted({ moves_asked: 0, requests: 3 });
});

t.test('a node that drains keeps it only until the next request', async (t) => {
  const client = new MovingClient(t);
  client.first(0, get('/01'));
  client.talk.states.setAdmin(0, Admin.draining);
  const second = client.leaves(20, 0, 1, get('/01'));
  client.left(30, 0, 1, second, get('/01'));
});

t.test('a node that does not let the session go gets the request', async (t) => {
  for (const [reason, watched] of [
    [IxcpReason.unanswered, true],
    [IxcpReason.ending, true],
    [IxcpReason.unfollowed, false],
    [IxcpReason.unknownSession, false],
  ] as const) {
    const client = new MovingClient(t);
    const { talk } = client;
    client.first(0, get('/0'));
    const second = client.leaves(20, 0, 1, get('/1'));
    talk.send(30, notice(0, NOTICE.refused, { reason }));
    const tcp = { seq: second, ack: client.ack };
    talk.expect(30, inIxp(0, { type: segment }, tcp, get('/1')));
    t.ok(client.passes, 'nothing was acknowledged, so the client sends again what is lost');
    client.answered(50, 0);
    t.equal(client.watched, watched);
    talk.counted({ moves_refused: 1, moved: 0 });
  }
});

t.test('a request that has stayed is given to no other node, whatever its node says', async (t) => {
  const { refused, reset } = NOTICE;
  const heldBack = { reason: IxcpReason.heldBack };
  for (const [method, watched] of [
    ['GET', true],
    ['HEAD', false],
  ] as const) {
    const request = `${method} /1 HTTP/1.1\r\nHost: a\r\n\r\n`;
    const stayed = (): MovingClient => {
      const client = new MovingClient(t);
      client.first(0, get('/0'));
      const second = client.leaves(20, 0, 1, request);
      client.talk.send(30, notice(0, refused, { reason: IxcpReason.unanswered }));
      const tcp = { seq: second, ack: client.ack };
      client.talk.expect(30, inIxp(0, { type: segment }, tcp, request));
      t.equal(
        client.watched,
        watched,
        `${method}: ${watched ? 'it may move later' : 'it is pinned'}`,
      );
      return client;
    };
    // It has the session, so this is about something older.
    for (const reason of [
      IxcpReason.noListener,
      IxcpReason.tupleInUse,
      IxcpReason.unknownSession,
    ]) {
      const { talk } = stayed();
      talk.send(40, notice(0, refused, { reason }));
      talk.end(5_000, 1);
      talk.counted({ handoff_refused: 0, adopted: 1, moves_refused: 1 });
    }
    const held = stayed();
    held.talk.send(40, notice(0, reset, { ...heldBack, seq: held.ack, ack: held.seq }));
    held.talk.expect(40, inIxp(0, { type: segment }, { flags: 'R', seq: held.seq }, ''));
    held.talk.expect(40, toClient({ flags: 'RA', seq: held.ack, ack: held.seq }));
    t.equal(held.talk.events.at(-1), 'closed node-reset', 'the client has not seen the RST yet');
    held.talk.quiet(5_000);
    const seen = stayed();
    seen.talk.send(40, notice(0, reset, { seq: seen.ack, ack: seen.seq }));
    t.equal(seen.talk.events.at(-1), 'closed node-reset', 'it has the RST of the node');
    seen.talk.quiet(5_000);
  }
});

t.test('a node that does not answer LEAVE', async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  client.first(0, get('/0'));
  const second = client.leaves(20, 0, 1, get('/1'));
  talk.expect(20 + HANDOFF_MS, client.question(0, 1, second));
  // Without timestamps the client cannot be fenced off.
  const tcp = { seq: second, ack: client.ack };
  talk.expect(20 + 2 * HANDOFF_MS, inIxp(0, { type: segment }, tcp, get('/1')));
  talk.counted({ moves_silent: 1 });
});

t.test('requests that pin the session to its node', async (t) => {
  for (const [name, request, counter] of [
    ['Upgrade', 'GET /0 HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n', 'pinned_upgrade'],
    [
      'Expect',
      'POST /0 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n',
      'pinned_expect',
    ],
    ['pipelining', get('/0') + get('/0'), 'pinned_pipelining'],
    ['CONNECT', 'CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n', 'pinned_connect'],
    [
      'NTLM',
      'GET /0 HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM TlRMTVNTUAAB\r\n\r\n',
      'pinned_authentication',
    ],
    ['an unusual method', 'BREW /0 HTTP/1.1\r\nHost: a\r\n\r\n', 'pinned_method'],
    ['a malformed head', 'BAD', 'pinned_head'],
  ] as const) {
    const client = new MovingClient(t);
    client.first(0, get('/0'));
    client.stays(20, 0, request);
    t.notOk(client.watched, name);
    client.talk.counted({ [counter]: 1 });
    client.stays(30, 0, get('/1'));
  }
});

t.test('HEAD: the node is told that its answer has no body', async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  client.first(0, get('/0'));
  const first = client.seq;
  const request = get('/0').replace('GET', 'HEAD');
  client.send(20, request);
  const ixp = { type: segment, flags: IxpFlag.head, tsval: 2 };
  talk.expect(20, inIxp(0, ixp, { seq: first, ack: client.ack }, request));
  client.answered(30, 0);
  const third = client.leaves(40, 0, 2, get('/1'));
  client.left(50, 0, 1, third, get('/1'));
});

t.test('no node holds the content of a later request', async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  client.first(0, get('/0'));
  client.leaves(20, 0, 1, get('/nowhere'));
  talk.send(30, notice(0, NOTICE.left, { seq: client.ack, ack: client.seq }));
  talk.rest(31);
  talk.counted({ answer_404: 1 });
  t.equal(talk.states.active[0], 0);
});

t.test('a node that does not know LEAVE keeps the session', async (t) => {
  const client = new MovingClient(t, { able: IxcpFlag.canAdopt });
  const { talk } = client;
  client.first(0, get('/0'));
  const first = client.seq;
  client.send(20, get('/1'));
  talk.expect(20, inIxp(0, { type: segment }, { seq: first, ack: client.ack }, get('/1')));
  talk.counted({ pinned_unable: 1, moves_asked: 0 });
});

t.test('the client ends the connection while its node is asked', async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  client.first(0, get('/0'));
  client.leaves(20, 0, 1, get('/1'));
  talk.send(30, fromClient({ flags: 'R', seq: client.seq }));
  talk.expect(30, inIxp(0, { type: segment }, { flags: 'R', seq: client.seq }, ''));
  t.equal(talk.engine.sessions.state(client.slot), SessionState.lingering);
});

t.test(
  'a move believes the acknowledgement of the request, not that of an earlier frame',
  async (t) => {
    const client = new MovingClient(t);
    const { talk } = client;
    client.first(0, get('/0'));
    // Nothing was verified: the frame was only forwarded.
    const damaged = fromClient({ flags: 'A', seq: client.seq, ack: client.ack + 7_000 });
    talk.send(20, damaged);
    talk.expectForwarded(20, 0, damaged);
    const second = client.leaves(30, 0, 1, get('/1'));
    client.left(40, 0, 1, second, get('/1'));
  },
);

t.test("a segment that cannot be the client's pins nothing", async (t) => {
  const client = new MovingClient(t);
  const { talk } = client;
  client.first(0, get('/0'));
  const forged = fromClient(
    { flags: 'PA', seq: client.seq + 50_000, ack: client.ack + 0x1000_0000 },
    'GET /1',
  );
  talk.send(20, forged);
  talk.expectForwarded(20, 0, forged);
  t.ok(client.watched);
  const second = client.leaves(30, 0, 1, get('/1'));
  client.left(40, 0, 1, second, get('/1'));
});
