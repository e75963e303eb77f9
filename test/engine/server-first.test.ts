/** Virtual servers of which nothing is read: the server may speak first. */
import t, { type Test } from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { Protocol } from '../../src/directory/dispatcher.js';
import { inSlots } from '../../src/engine/farm.js';
import { RecordReader } from '../../src/engine/table/session-record.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import {
  Conversation,
  type ConversationOptions,
  fromClient,
  ISN,
  IXP_TYPE,
  inIxp,
  NOTICE,
  notice,
  SERVER,
  toClient,
} from '../support/conversation.js';
import { sessionMemory } from '../support/session-memory.js';
import { START } from '../support/uptime.js';

const { adopt, segment } = IXP_TYPE;
const FIRST_BYTES = 50;
const virtualServers = inSlots([
  {
    address: addressNumber(SERVER.address),
    port: SERVER.port,
    protocol: Protocol.tcp,
    firstBytes: FIRST_BYTES,
  },
]);

/** Nodes 0 and 1 have the server. */
function talking(t: Test, options: ConversationOptions = {}): Conversation {
  const talk = new Conversation(t, {
    ...options,
    engine: { virtualServers, ...options.engine },
  });
  talk.dispatcher.anyBytes.set(0, '/01');
  return talk;
}

const empty = (node: number) =>
  inIxp(node, { type: adopt, confirm: 1001 }, { flags: 'A', seq: 1001, ack: ISN + 1 }, '');

t.test('a client that says nothing is handed over after firstBytes', async (t) => {
  const talk = talking(t);
  talk.handshake(0);
  talk.quiet(FIRST_BYTES - 1);
  talk.expect(FIRST_BYTES, empty(0));
  talk.send(80, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: 1001 }));
  const greeted = fromClient({ flags: 'A', seq: 1001, ack: ISN + 20 });
  talk.send(90, greeted);
  talk.expectForwarded(90, 0, greeted);
  t.equal(talk.engine.sessions.inState[SessionState.passing], 1);
  talk.end(20_000, 1);
  talk.counted({ handed_without_bytes: 1, requests: 1, adopted: 1, answer_408: 0 });
  t.same(talk.events, [
    'opened',
    'established',
    'request 1 ',
    'handoff node 0 attempt 0',
    'adopted node 0',
  ]);
});

t.test('first bytes are handed over at once, whatever they are', async (t) => {
  for (const bytes of ['x', '\x16\x03\x01', 'GET / HTTP/1.1\r\n']) {
    const talk = talking(t);
    talk.handshake(0);
    talk.send(10, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, bytes));
    talk.expect(10, inIxp(0, { type: adopt, confirm: 1001 + bytes.length }, {}, bytes));
    talk.counted({ handed_without_bytes: 0, handoffs: 1 });
  }
});

t.test('a node whose server is silent is asked, and then counts as silent', async (t) => {
  const talk = talking(t);
  talk.handshake(0);
  talk.expect(FIRST_BYTES, empty(0));
  // The first one need not be confirmed.
  talk.expect(FIRST_BYTES + 302, empty(0));
  talk.counted({ handoff_asked: 1, handoff_retransmitted: 0 });
  talk.expect(FIRST_BYTES + 606, empty(0));
  talk.counted({ handoff_retransmitted: 1, handoff_silent: 0 });
  const reset = inIxp(0, { type: segment }, { flags: 'R', seq: 1001 }, '');
  talk.expect(FIRST_BYTES + 910, reset);
  talk.expect(FIRST_BYTES + 910, empty(1));
  talk.counted({ handoff_silent: 1 });
});

t.test('a node that refuses: the next one gets the session', async (t) => {
  const talk = talking(t);
  talk.handshake(0);
  talk.expect(FIRST_BYTES, empty(0));
  talk.send(60, notice(0, NOTICE.refused, { reason: 1, seq: ISN + 1, ack: 1001 }));
  talk.expect(60, empty(1));
  talk.send(70, notice(1, NOTICE.adopted, { seq: ISN + 1, ack: 1001 }));
  talk.end(5_000, 1);
});

t.test('a client that sends FIN and nothing else', async (t) => {
  const talk = talking(t);
  talk.handshake(0);
  talk.send(10, fromClient({ flags: 'FA', seq: 1001, ack: ISN + 1 }));
  const confirm = { confirm: 1002 };
  talk.expect(10, inIxp(0, { type: adopt, ...confirm }, { flags: 'A', seq: 1001 }, ''));
  talk.expect(10, inIxp(0, { type: segment, ...confirm }, { flags: 'FA', seq: 1001 }, ''));
  talk.send(20, notice(0, NOTICE.fin, { seq: ISN + 20, ack: 1002 }));
  talk.end(5_000, 1);
  talk.counted({ closed_silent_client: 0 });
});

t.test('what the client says during the handoff is wrapped', async (t) => {
  const talk = talking(t);
  talk.handshake(0);
  talk.expect(FIRST_BYTES, empty(0));
  talk.send(60, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, 'early'));
  talk.expect(60, inIxp(0, { type: segment }, { flags: 'PA', seq: 1001 }, 'early'));
});

t.test('without a room for its head a session is reset, and no other one waits', async (t) => {
  const talk = talking(t, { limits: { heads: 1 } });
  talk.handshake(0, { sourcePort: 1 });
  talk.handshake(0, { sourcePort: 2 });
  const sent = talk.rest(FIRST_BYTES + 20);
  t.equal(sent.filter(({ ixp }) => ixp?.type === adopt).length, 2, 'the second takes the room');
});

/** The next process, which finds the record of the usual client. */
function later(t: Test, until: number): { talk: Conversation; old: RecordReader } {
  const records = sessionMemory(64);
  const before = talking(t, { engine: { memory: records } });
  before.handshake(0);
  before.rest(until);
  const talk = talking(t, { start: START + until + 10 });
  return { talk, old: new RecordReader(records.records) };
}

t.test('after a restart a client that waits is still handed over', async (t) => {
  const { talk, old } = later(t, 10);
  t.equal(old.state(0), SessionState.collecting);
  talk.engine.takeLoss(old, 0, 0, START + 20);
  t.equal(talk.engine.sessions.size, 1);
  talk.expect(FIRST_BYTES, empty(0));
});

t.test('after a restart during a handoff the node is asked', async (t) => {
  const { talk, old } = later(t, FIRST_BYTES + 20);
  t.equal(old.state(0), SessionState.handing);
  t.ok(talk.engine.takeOver(old, 0, 0, 0, START + FIRST_BYTES + 30));
  const question = inIxp(0, { type: segment }, { flags: 'A', seq: 1000, ack: ISN + 1 }, '');
  talk.expect(302, question);
  talk.send(310, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: 1001 }));
  t.equal(talk.engine.sessions.inState[SessionState.passing], 1);
});

t.test('after a restart a node that knows nothing gets the handoff again', async (t) => {
  const { talk, old } = later(t, FIRST_BYTES + 20);
  talk.engine.takeOver(old, 0, 0, 0, START + FIRST_BYTES + 30);
  for (let i = 0; i < 5; i++)
    talk.expect(302 + 304 * i, inIxp(0, { type: segment }, { seq: 1000 }, ''));
  talk.rest(302 + 304 * 5 + FIRST_BYTES - 20);
  const sent = talk.rest(302 + 304 * 6 + FIRST_BYTES);
  t.ok(
    sent.some(({ ixp }) => ixp?.type === adopt),
    'it was asked in vain, and is tried again',
  );
});

t.test('nothing can be said to a client without a node', async (t) => {
  const talk = talking(t);
  for (const node of [0, 1]) talk.states.setWeight(node, 0);
  talk.dispatcher.use({ '/01': [] });
  talk.handshake(0);
  talk.expect(FIRST_BYTES, toClient({ flags: 'RA', seq: ISN + 1 }));
  talk.end(1_000, 0);
  talk.counted({ closed_no_node: 1, answer_503: 0 });
});
