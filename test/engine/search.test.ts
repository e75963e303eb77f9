/** Connections that the balancer does not know, and looks for at the nodes. */
import t, { type Test } from 'tap';
import type { IxcpSpec } from '../../lab/packet.js';
import { IxcpFlag } from '../../src/wire/ixcp.js';
import {
  CLIENT,
  Conversation,
  type ConversationOptions,
  fromClient,
  get,
  inIxp,
  NOTICE,
  notice,
  SERVER,
  toClient,
} from '../support/conversation.js';
import { START } from '../support/uptime.js';

const QUERY = 10;
const PARKED = 9;
const CLOSING = 10;
/** An ACK from the middle of a download. */
const ACK = fromClient({ flags: 'A', seq: 70_000, ack: 900_000 });
const RESET = toClient({ flags: 'R', seq: 900_000 });
const OWNED: IxcpSpec = { session: 77, flags: 100, seq: 950_000, ack: 70_000 };

/** An engine that has just started, at nodes of which it has heard nothing. */
function started(t: Test, options: ConversationOptions = {}): Conversation {
  const talk = new Conversation(t, options);
  talk.engine.begin(START);
  return talk;
}

/** The questions about the usual segment, to all nodes. */
function expectQuestions(talk: Conversation, time: number, session = 100): void {
  for (const node of [0, 1, 2])
    talk.expect(
      time,
      inIxp(
        node,
        { type: QUERY, session, confirm: 70_000, mss: 536, flags: 0 },
        { flags: 'A', seq: 70_000, ack: 900_000 },
      ),
    );
}

t.test('a node has the connection: it goes on there', async (t) => {
  const talk = started(t);
  talk.send(0, ACK);
  expectQuestions(talk, 0);
  talk.send(1, notice(1, NOTICE.owned, OWNED));
  talk.send(2, ACK);
  talk.expectForwarded(2, 1, ACK);
  const request = fromClient({ flags: 'PA', seq: 70_000, ack: 950_000 }, get('/1'));
  talk.send(3, request);
  talk.expectForwarded(3, 1, request);
  talk.counted({
    searched: 1,
    search_questions: 3,
    found: 1,
    drop_searching: 1,
    not_found: 0,
    pinned_found: 0,
    reset_sent: 0,
  });
  t.equal(talk.states.active[1], 1, 'it is one of the sessions of its node');
  t.same(talk.events, ['opened']);
  // Its ends are followed as those of any session.
  talk.send(4, notice(1, NOTICE.fin, { session: 77, ack: 70_000 + get('/1').length }));
  const fin = fromClient({ flags: 'FA', seq: 70_000 + get('/1').length, ack: 960_000 });
  talk.send(5, fin);
  talk.expectForwarded(5, 1, fin);
  t.same(talk.events, ['opened', 'closed fin']);
  talk.end(15_000, 0);
});

t.test('no node has it: RST after two questions', async (t) => {
  const talk = started(t);
  talk.send(0, ACK);
  expectQuestions(talk, 0);
  talk.send(100, ACK);
  talk.quiet(299);
  expectQuestions(talk, 300);
  talk.quiet(599);
  talk.expect(600, RESET);
  talk.counted({ searched: 1, not_found: 1, drop_searching: 2, reset_sent: 1, found: 0 });
  // A late answer counts no more.
  talk.send(700, notice(1, NOTICE.owned, OWNED));
  talk.counted({ drop_ixcp_stale: 1 });
  talk.end(2_000, 0);
});

t.test('the answer to the second question counts', async (t) => {
  const talk = started(t);
  talk.send(0, ACK);
  expectQuestions(talk, 0);
  expectQuestions(talk, 300);
  talk.send(400, notice(2, NOTICE.owned, OWNED));
  talk.send(401, ACK);
  talk.expectForwarded(401, 2, ACK);
  talk.end(1_000, 1);
});

t.test('only nodes that may answer are asked', async (t) => {
  const talk = started(t);
  const report = (node: number, flags: number) =>
    notice(node, NOTICE.report, {
      client: '0.0.0.0',
      virtualAddress: '0.0.0.0',
      clientPort: 0,
      virtualPort: 0,
      flags,
      seq: 1,
    });
  talk.send(0, report(0, IxcpFlag.canAdopt));
  talk.send(0, report(1, IxcpFlag.canAdopt | IxcpFlag.canOwn));
  talk.rest(0);
  talk.send(1, ACK);
  const question = (node: number, session: number) =>
    inIxp(node, { type: QUERY, session }, { seq: 70_000 });
  talk.expect(1, question(1, 100));
  talk.expect(1, question(2, 100));
  talk.rest(1_000);
  // A minute after the start, a node that has never reported is none that answers.
  talk.send(60_001, ACK);
  talk.expect(60_001, question(1, 101));
  talk.rest(61_000);
  talk.send(61_500, report(1, IxcpFlag.canAdopt));
  talk.rest(61_500);
  talk.send(62_000, ACK);
  talk.expect(62_000, RESET);
  talk.end(63_000, 0);
});

t.test('an engine without a start before asks nobody, and resets at once', async (t) => {
  const talk = new Conversation(t);
  talk.send(0, ACK);
  talk.expect(0, RESET);
  talk.counted({ searched: 0 });
  talk.end(1_000, 0);
});

t.test('a forged or late answer changes nothing', async (t) => {
  const talk = started(t);
  talk.send(0, ACK);
  expectQuestions(talk, 0);
  talk.send(1, notice(1, NOTICE.owned, { ...OWNED, tag: 1n }));
  talk.counted({ drop_ixcp_tag: 1 });
  const stale: IxcpSpec[] = [
    { ...OWNED, flags: 99 },
    { ...OWNED, clientPort: CLIENT.port + 1 },
    { ...OWNED, client: '10.1.0.2' },
    { ...OWNED, virtualPort: SERVER.port + 1 },
    { ...OWNED, ack: 70_000 + (1 << 25) },
  ];
  for (const ixcp of stale) talk.send(2, notice(1, NOTICE.owned, ixcp));
  talk.counted({ drop_ixcp_stale: stale.length, found: 0 });
  t.equal(talk.engine.sessions.size, 0);
  talk.quiet(299);
});

t.test('a segment that asks for nothing is not looked for', async (t) => {
  const talk = started(t);
  talk.send(0, fromClient({ flags: 'R', seq: 70_000 }));
  talk.send(0, fromClient({ flags: 'RA', seq: 70_000, ack: 900_000 }));
  talk.quiet(1);
  talk.send(1, fromClient({ flags: 'P', seq: 70_000 }, 'x'));
  talk.expect(1, toClient({ flags: 'RA', seq: 0, ack: 70_001 }));
  talk.send(2, fromClient({ flags: 'SA', seq: 70_000, ack: 900_000 }));
  talk.expect(2, RESET);
  talk.counted({ searched: 0 });
  talk.end(1_000, 0);
});

t.test('a damaged segment is not looked for', async (t) => {
  const talk = started(t);
  talk.send(0, { ...ACK, tcp: { ...ACK.tcp, checksum: 1 } });
  talk.end(1_000, 0);
  talk.counted({ drop_tcp_checksum: 1, searched: 0 });
});

t.test('a node where the connection is parked has it if no other node has', async (t) => {
  const parked = notice(0, NOTICE.owned, { ...OWNED, reason: PARKED });
  const talk = started(t);
  talk.send(0, ACK);
  expectQuestions(talk, 0);
  talk.send(1, parked);
  talk.quiet(299);
  // The word of the node that has it may be lost.
  expectQuestions(talk, 300);
  talk.quiet(599);
  talk.send(620, ACK);
  talk.expectForwarded(620, 0, ACK);
  talk.end(1_000, 1);

  const other = started(t);
  other.send(0, ACK);
  expectQuestions(other, 0);
  other.send(1, parked);
  other.send(2, notice(1, NOTICE.owned, OWNED));
  other.send(3, ACK);
  other.expectForwarded(3, 1, ACK);
  other.end(1_000, 1);
});

t.test('a socket that has sent FIN ends with the FIN of its client', async (t) => {
  const talk = started(t);
  talk.send(0, ACK);
  expectQuestions(talk, 0);
  talk.send(1, notice(1, NOTICE.owned, { ...OWNED, reason: CLOSING }));
  const fin = fromClient({ flags: 'FA', seq: 70_000, ack: 950_001 });
  talk.send(2, fin);
  talk.expectForwarded(2, 1, fin);
  t.same(talk.events, ['opened', 'closed fin']);
  talk.end(15_000, 0);
});

t.test('a new connection of the client wins', async (t) => {
  const talk = started(t);
  talk.send(0, ACK);
  expectQuestions(talk, 0);
  talk.handshake(1, { seq: 1000 });
  talk.send(2, notice(1, NOTICE.owned, OWNED));
  talk.counted({ found: 0 });
  talk.end(290, 1);
});

t.test('a question goes to a session of each client, within a bound', async (t) => {
  const talk = started(t);
  const clients = 5_000;
  let questions = 0;
  for (let port = 10_000; port < 10_000 + clients; port++) {
    talk.send(0, fromClient({ flags: 'A', sourcePort: port, seq: 70_000, ack: 900_000 }));
    questions += talk.rest(0).length;
  }
  const asked = talk.counters.get('searched');
  t.ok(questions <= 10_000 + 3 && questions === asked * 3, `${questions} questions`);
  t.equal(talk.counters.get('drop_search_limit') + asked, clients, 'the rest is dropped');
  t.equal(talk.counters.get('reset_sent'), 0, 'and nobody is reset');
  // An answer finds the right one among them.
  t.equal(talk.engine.sessions.size, 0);
});

t.test('the session has what questions and resets need later', async (t) => {
  const talk = started(t, { timeouts: { idle: 900_000 } });
  const stamped = fromClient({
    flags: 'A',
    seq: 70_000,
    ack: 900_000,
    options: { timestamps: [5_000, 9_000] },
  });
  talk.send(0, stamped);
  talk.rest(0);
  talk.send(0, notice(1, NOTICE.owned, OWNED));
  const fin = fromClient({
    flags: 'FA',
    seq: 70_000,
    ack: 900_000,
    options: { timestamps: [5_001, 9_000] },
  });
  talk.send(1, fin);
  talk.expectForwarded(1, 1, fin);
  // Its node is asked whether it goes on, with a number that its socket has and a clock that goes
  // on.
  const asked = talk.expect(10_001, inIxp(1, { type: 2, session: 77, flags: 4 }, { flags: 'A' }));
  t.match(asked.tcp, { seq: 69_999, ack: 900_000 });
  const [tsval, tsecr] = asked.tcp?.options.timestamps ?? [0, 0];
  t.equal(tsval, 5_000);
  t.ok(tsecr >= 19_000 && tsecr < 19_100, String(tsecr));
});
