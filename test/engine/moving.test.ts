/** Kept-alive connections that move to another node between two requests (keepAlive: migrate). */
import t, { type Test } from 'tap';
import { addressNumber, type PacketSpec, type TcpOptionsSpec } from '../../lab/packet.js';
import { Admin } from '../../src/directory/node-memory.js';
import { inSlots, KeepAlive } from '../../src/engine/farm.js';
import { SessionFlag, SessionState } from '../../src/engine/table/session-table.js';
import { IxcpFlag, IxcpReason } from '../../src/wire/ixcp.js';
import { IxpFlag } from '../../src/wire/ixp.js';
import {
  CLIENT,
  Conversation,
  type ConversationOptions,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
  NOTICE,
  notice,
  SERVER,
  toClient,
} from '../support/conversation.js';
import { START } from '../support/uptime.js';

const { adopt, segment, leave } = IXP_TYPE;
const HANDOFF_MS = 300;
const FOLLOWED = IxpFlag.follow | IxpFlag.holdReset;
const ABILITIES = IxcpFlag.canAdopt | IxcpFlag.canRelease | IxcpFlag.canLeave;

class Client {
  readonly talk: Conversation;
  /** The client's next number, and what it has acknowledged. */
  seq = 1001;
  ack = ISN + 1;

  constructor(
    readonly t: Test,
    options: ConversationOptions & { able?: number } = {},
    readonly stamps: TcpOptionsSpec = {},
  ) {
    const server = {
      address: addressNumber(SERVER.address),
      port: SERVER.port,
      keepAlive: KeepAlive.migrate,
    };
    this.talk = new Conversation(t, {
      ...options,
      engine: { virtualServers: inSlots([server]), ...options.engine },
    });
    for (const node of [0, 1, 2])
      this.talk.states.reported(node, 1, 1, options.able ?? ABILITIES, START);
    this.talk.handshake(0);
  }

  get slot(): number {
    return this.talk.engine.sessions.find(addressNumber(CLIENT.address), (CLIENT.port << 16) >>> 0);
  }

  /** Sends bytes at `time`; they are the client's from here on. */
  send(time: number, bytes: string, flags = 'PA'): PacketSpec {
    const packet = fromClient({ flags, seq: this.seq, ack: this.ack }, bytes);
    this.talk.send(time, packet);
    this.seq += bytes.length;
    return packet;
  }

  /** The first request goes to `node`, which answers 500 bytes. */
  first(node: number, request: string, flags = FOLLOWED): void {
    this.send(0, request);
    const tcp = { flags: 'PA', seq: 1001, ack: ISN + 1 };
    this.talk.expect(0, inIxp(node, { type: adopt, flags }, tcp, request));
    this.talk.send(5, notice(node, NOTICE.adopted, { ack: this.seq }));
    this.answered(10, node);
  }

  /** The client acknowledges 500 bytes more. */
  answered(time: number, node: number): void {
    this.ack += 500;
    const ack = fromClient({ flags: 'A', seq: this.seq, ack: this.ack });
    this.talk.send(time, ack);
    this.talk.expectForwarded(time, node, ack);
  }

  /** Something that goes to `node` as it is. */
  stays(time: number, node: number, bytes: string): PacketSpec {
    const packet = this.send(time, bytes);
    this.talk.expectForwarded(time, node, packet);
    return packet;
  }

  /** A request that makes the session leave `from`, its `count`-th request being the last one. */
  leaves(time: number, from: number, count: number, request: string): number {
    const first = this.seq;
    this.send(time, request);
    this.talk.expect(time, this.question(from, count, first));
    return first;
  }

  question(node: number, count: number, seq: number): PacketSpec {
    return inIxp(node, { type: leave, tsval: count }, { flags: 'A', seq, ack: this.ack }, '');
  }

  /** `from` lets the session go, and `to` gets the request that begins at `first`. */
  left(time: number, from: number, to: number, first: number, request: string): void {
    this.talk.send(time, notice(from, NOTICE.left, { seq: this.ack, ack: first }));
    const tcp = { seq: first, ack: this.ack };
    this.talk.expect(time, inIxp(to, { type: adopt, flags: FOLLOWED }, tcp, request));
    this.talk.send(time + 1, notice(to, NOTICE.adopted, { ack: this.seq }));
  }

  watched(): boolean {
    return this.talk.engine.sessions.has(this.slot, SessionFlag.watched);
  }
}

t.test('another holder gets the second request, and the first the third', async (t) => {
  const client = new Client(t);
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
  const client = new Client(t);
  client.first(1, get('/1'));
  client.stays(20, 1, get('/01'));
  client.stays(30, 1, get('/012'));
  client.talk.counted({ moves_asked: 0, requests: 3 });
});

t.test('a node that drains keeps it only until the next request', async (t) => {
  const client = new Client(t);
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
    const client = new Client(t);
    const { talk } = client;
    client.first(0, get('/0'));
    const second = client.leaves(20, 0, 1, get('/1'));
    talk.send(30, notice(0, NOTICE.refused, { reason }));
    const tcp = { seq: second, ack: client.ack };
    talk.expect(30, inIxp(0, { type: adopt }, tcp, get('/1')));
    talk.send(40, notice(0, NOTICE.adopted, { ack: client.seq }));
    t.equal(talk.engine.sessions.state(client.slot), SessionState.passing);
    client.answered(50, 0);
    t.equal(client.watched(), watched);
    talk.counted({ moves_refused: 1, moved: 0 });
  }
});

t.test('a node that does not answer LEAVE', async (t) => {
  const client = new Client(t);
  const { talk } = client;
  client.first(0, get('/0'));
  const second = client.leaves(20, 0, 1, get('/1'));
  talk.expect(20 + HANDOFF_MS, client.question(0, 1, second));
  // Without timestamps the client cannot be fenced off.
  const tcp = { seq: second, ack: client.ack };
  talk.expect(20 + 2 * HANDOFF_MS, inIxp(0, { type: adopt }, tcp, get('/1')));
  talk.counted({ moves_silent: 1 });
});

t.test('a later head in pieces is collected, and moves or stays', async (t) => {
  for (const [path, to] of [
    ['/1', 1],
    ['/0', 0],
  ] as const) {
    const client = new Client(t);
    const { talk } = client;
    client.first(0, get('/0'));
    const first = client.seq;
    const request = get(path);
    client.send(20, request.slice(0, 9));
    talk.expect(20, toClient({ flags: 'A', seq: client.ack, ack: client.seq }));
    client.send(400, request.slice(9));
    if (to === 1) {
      talk.expect(400, client.question(0, 1, first));
      client.left(410, 0, 1, first, request);
    } else {
      talk.expect(400, inIxp(0, { type: adopt }, { seq: first, ack: client.ack }, request));
      talk.send(410, notice(0, NOTICE.adopted, { ack: client.seq }));
    }
    client.answered(420, to);
    client.stays(430, to, get(path));
  }
});

t.test('a later head that is not complete in time goes to the node', async (t) => {
  const client = new Client(t, { timeouts: { head: 1_000 } });
  const { talk } = client;
  client.first(0, get('/0'));
  const first = client.seq;
  client.send(20, 'GET /1');
  talk.expect(20, toClient({ flags: 'A', seq: client.ack, ack: client.seq }));
  talk.expect(1_020, inIxp(0, { type: adopt }, { seq: first, ack: client.ack }, 'GET /1'));
  talk.counted({ pinned_head: 1 });
});

t.test('an upload by length passes unread, and the next head is found behind it', async (t) => {
  const client = new Client(t);
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
  const client = new Client(t);
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
  const client = new Client(t);
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
  const client = new Client(t);
  client.first(0, get('/0'));
  const body = 'x'.repeat(5_000);
  const request = `POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n${body}`;
  const second = client.leaves(20, 0, 1, request);
  client.talk.send(30, notice(0, NOTICE.left, { seq: client.ack, ack: second }));
  const pieces = client.talk.rest(30);
  t.equal(pieces.map(({ payload }) => Buffer.from(payload).toString()).join(''), request);
  client.talk.send(31, notice(1, NOTICE.adopted, { ack: client.seq }));
  client.answered(40, 1);
  t.ok(client.watched());
  client.stays(50, 1, get('/1'));
});

t.test('a request that outgrows its room still gets another path', async (t) => {
  const client = new Client(t);
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
  const client = new Client(t);
  const { talk } = client;
  client.first(0, get('/0'));
  const room = talk.engine.sessions.head[client.slot];
  talk.send(20, fromClient({ flags: 'P', seq: client.seq, ack: 0 }, 'GET'));
  t.equal(talk.engine.sessions.head[client.slot], room);
  t.equal(talk.engine.sessions.state(client.slot), SessionState.passing);
  talk.counted({ drop_malformed_tcp: 1 });
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
    ['a malformed head', 'BAD', 'pinned_head'],
  ] as const) {
    const client = new Client(t);
    client.first(0, get('/0'));
    client.stays(20, 0, request);
    t.notOk(client.watched(), name);
    client.talk.counted({ [counter]: 1 });
    client.stays(30, 0, get('/1'));
  }
});

t.test('HEAD: the node is told that its answer has no body', async (t) => {
  const client = new Client(t);
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
  const client = new Client(t);
  const { talk } = client;
  client.first(0, get('/0'));
  client.leaves(20, 0, 1, get('/nowhere'));
  talk.send(30, notice(0, NOTICE.left, { seq: client.ack, ack: client.seq }));
  talk.rest(31);
  talk.counted({ answer_404: 1 });
  t.equal(talk.states.active[0], 0);
});

t.test('a node that does not know LEAVE keeps the session', async (t) => {
  const client = new Client(t, { able: IxcpFlag.canAdopt });
  const { talk } = client;
  client.first(0, get('/0'));
  const first = client.seq;
  client.send(20, get('/1'));
  talk.expect(20, inIxp(0, { type: adopt }, { seq: first, ack: client.ack }, get('/1')));
  talk.counted({ pinned_unable: 1, moves_asked: 0 });
});

t.test('the client ends the connection while its node is asked', async (t) => {
  const client = new Client(t);
  const { talk } = client;
  client.first(0, get('/0'));
  client.leaves(20, 0, 1, get('/1'));
  talk.send(30, fromClient({ flags: 'R', seq: client.seq }));
  talk.expect(30, inIxp(0, { type: segment }, { flags: 'R', seq: client.seq }, ''));
  t.equal(talk.engine.sessions.state(client.slot), SessionState.lingering);
});

/** A request whose body of 5 bytes comes behind its head. */
const POST = `POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n`;

t.test('bytes before a later head still reach the node while the head is collected', async (t) => {
  const client = new Client(t);
  const { talk } = client;
  client.first(0, POST, IxpFlag.follow);
  const body = client.stays(20, 0, 'hello');
  client.answered(25, 0);
  client.send(30, 'GET /1');
  t.same(talk.rest(30), [], 'nothing is acknowledged: the node may lack the body');
  talk.send(31, body);
  talk.expect(
    31,
    inIxp(0, { type: segment }, { flags: 'PA', seq: client.seq - 11, ack: ISN + 501 }, 'hello'),
  );
  const rest = get('/1').slice('GET /1'.length);
  client.send(40, rest);
  talk.expect(40, client.question(0, 1, client.seq - get('/1').length));
});

t.test(
  'a move believes the acknowledgement of the request, not that of an earlier frame',
  async (t) => {
    const client = new Client(t);
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
  const client = new Client(t);
  const { talk } = client;
  client.first(0, get('/0'));
  const forged = fromClient(
    { flags: 'PA', seq: client.seq + 50_000, ack: client.ack + 0x1000_0000 },
    'GET /1',
  );
  talk.send(20, forged);
  talk.expectForwarded(20, 0, forged);
  t.ok(client.watched());
  const second = client.leaves(30, 0, 1, get('/1'));
  client.left(40, 0, 1, second, get('/1'));
});
