/**
 * Sessions that a later process takes over while it is unknown whether their node has them, or that
 * cannot continue.
 */
import t, { type Test } from 'tap';
import { addressNumber } from '../../lab/packet.js';
import {
  RecordReader,
  SESSION_RECORD,
  SessionAction,
} from '../../src/engine/table/session-record.js';
import { SessionFlag, SessionState } from '../../src/engine/table/session-table.js';
import {
  CLIENT,
  Conversation,
  fromClient,
  get,
  ISN,
  inIxp,
  NOTICE,
  notice,
  toClient,
} from '../support/conversation.js';
import { sessionMemory } from '../support/session-memory.js';
import { START } from '../support/uptime.js';

const SESSIONS = 64;
const HEAD = get('/01');
const HEAD_END = 1001 + HEAD.length;

function slotOf(talk: Conversation): number {
  return talk.engine.sessions.find(addressNumber(CLIENT.address), (CLIENT.port << 16) >>> 0);
}

function actionOf(talk: Conversation): number {
  return talk.engine.sessions.action(slotOf(talk));
}

/**
 * The next process, which takes over one session of the usual client in doubt: `head` was to go to
 * node 0.
 */
function inDoubt(
  t: Test,
  head: readonly string[] = [HEAD],
  change?: (record: DataView) => void,
): Conversation {
  const records = sessionMemory(SESSIONS);
  const before = new Conversation(t, { engine: { memory: records } });
  before.handshake(0);
  let seq = 1001;
  for (const piece of head) {
    before.send(1, fromClient({ flags: 'PA', seq, ack: ISN + 1 }, piece));
    seq += piece.length;
  }
  const old = new RecordReader(records.records);
  t.equal(old.state(0), SessionState.handing);
  change?.(new DataView(records.records));
  const talk = new Conversation(t, { start: START + 50 });
  // Once before the earlier program ends, and once after that.
  for (let time = 0; time < 2; time++) t.ok(talk.engine.takeOver(old, 0, 0, 0, START + 50));
  t.ok(
    talk.engine.takeOver(old, 0, -1, 0, START + 50),
    'a session whose node is not in this config is skipped',
  );
  talk.counted({ taken_over: 1 });
  t.equal(talk.states.active[0], 1);
  if (change === undefined) t.equal(actionOf(talk), 0, 'the kernel forwards nothing');
  return talk;
}

function stateOf(talk: Conversation): number {
  return talk.engine.sessions.state(slotOf(talk));
}

const SENT_HEAD = fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, HEAD);
const ADOPT_AGAIN = inIxp(
  0,
  { type: 1, confirm: HEAD_END },
  { flags: 'PA', seq: 1001, ack: ISN + 1 },
  HEAD,
);
const QUESTION = inIxp(
  0,
  { type: 2, confirm: HEAD_END },
  { flags: 'A', seq: 1001, ack: ISN + 1 },
  '',
);

t.test('in doubt: the handoff was never sent, and the client sends its head again', async (t) => {
  const talk = inDoubt(t);
  talk.send(10, SENT_HEAD);
  talk.expect(10, ADOPT_AGAIN);
  talk.send(11, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: HEAD_END }));
  t.equal(actionOf(talk), SessionAction.forward);
  const more = fromClient({ flags: 'PA', seq: HEAD_END, ack: 7000 }, get('/0'));
  talk.send(12, more);
  talk.expectForwarded(12, 0, more);
  talk.end(2_000, 1);
});

t.test('in doubt: the node has the session, and the client waits', async (t) => {
  const talk = inDoubt(t);
  talk.expect(300, QUESTION);
  talk.expect(600, QUESTION);
  talk.send(610, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: HEAD_END }));
  t.equal(actionOf(talk), SessionAction.forward);
  talk.end(5_000, 1);
  talk.counted({ node_asked: 2, handoffs: 0 });
});

t.test('in doubt: the client goes on before the node has answered', async (t) => {
  const talk = inDoubt(t);
  const next = (seq: number): Parameters<Conversation['send']>[1] =>
    fromClient({ flags: 'PA', seq, ack: ISN + 1 }, 'body');
  // Never in plain form to a node that has not confirmed.
  talk.send(10, next(HEAD_END));
  talk.expect(10, inIxp(0, { type: 2 }, { flags: 'PA', seq: HEAD_END }, 'body'));
  // The client has acknowledged an answer, so the node has the session.
  const ack = fromClient({ flags: 'A', seq: HEAD_END + 4, ack: ISN + 500 });
  talk.send(20, ack);
  talk.expect(20, inIxp(0, { type: 2 }, { flags: 'A', seq: HEAD_END + 4, ack: ISN + 500 }, ''));
  t.equal(actionOf(talk), SessionAction.forward);
  talk.send(21, next(HEAD_END + 4));
  talk.expectForwarded(21, 0, next(HEAD_END + 4));
});

t.test('in doubt: the last of several segments of a head comes again', async (t) => {
  const half = HEAD.length >> 1;
  const talk = inDoubt(t, [HEAD.slice(0, half), HEAD.slice(half)]);
  const last = { flags: 'PA', seq: 1001 + half, ack: ISN + 1 };
  talk.send(10, fromClient(last, HEAD.slice(half)));
  talk.expect(10, inIxp(0, { type: 2 }, last, HEAD.slice(half)));
  // The client sends what the node still lacks.
  talk.send(11, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: 1001 + half }));
  t.equal(actionOf(talk), SessionAction.forward);
});

t.test('in doubt: the node refuses, and the head is collected again', async (t) => {
  const talk = inDoubt(t);
  talk.send(10, SENT_HEAD);
  talk.expect(10, ADOPT_AGAIN);
  talk.send(11, notice(0, NOTICE.refused, { reason: 1, ack: 1001 }));
  talk.quiet(20);
  t.equal(stateOf(talk), SessionState.collecting);
  t.equal(talk.states.active[0], 0);
  talk.send(410, SENT_HEAD);
  const [handed] = talk.rest(410);
  t.match(handed?.ixp, { type: 1, confirm: HEAD_END });
  t.equal(Buffer.from(handed?.payload ?? []).toString('latin1'), HEAD);
  talk.counted({ requests: 1, handoffs: 1, handoff_refused: 1 });
});

t.test('in doubt: the node answers no question', async (t) => {
  const silent = (t: Test): Conversation => {
    const talk = inDoubt(t);
    // The node may still have the session, so in the end its socket is reset.
    const question = [2, 'A', 1001];
    t.same(
      talk.rest(1_900).map(({ ixp, tcp }) => [ixp?.type, tcp?.flags, tcp?.seq]),
      [question, question, question, question, question, [2, 'R', HEAD_END]],
    );
    t.equal(stateOf(talk), SessionState.collecting);
    t.ok(talk.nodes.takesHandoffs(0, 0, 0, 0), 'a question says nothing against a node');
    return talk;
  };
  await t.test('the head comes again', async (t) => {
    const talk = silent(t);
    talk.send(2_000, SENT_HEAD);
    t.match(
      talk.rest(2_000).map(({ ixp, tcp }) => [ixp?.type, tcp?.seq]),
      [[1, 1001]],
    );
    talk.send(2_001, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: HEAD_END }));
    t.equal(stateOf(talk), SessionState.passing);
    talk.counted({ closed_lost: 0 });
  });
  await t.test('something else comes', async (t) => {
    const talk = silent(t);
    talk.send(2_000, fromClient({ flags: 'PA', seq: HEAD_END, ack: ISN + 1 }, 'body'));
    talk.expect(2_000, toClient({ flags: 'R', seq: ISN + 1 }));
    talk.end(2_010, 0);
    talk.counted({ closed_lost: 1 });
    t.equal(talk.states.active[0], 0);
  });
  await t.test('nothing comes', async () => {
    const talk = silent(t);
    talk.end(12_000, 0);
    talk.counted({ closed_lost: 1 });
  });
});

t.test('in doubt: the client has given up, and opens a new connection', async (t) => {
  const talk = inDoubt(t);
  const syn = fromClient({ flags: 'S', seq: 9000 });
  talk.send(10, syn);
  talk.expect(10, inIxp(0, { type: 2 }, { flags: 'S', seq: 9000 }));
  talk.send(11, notice(0, NOTICE.reset, { reason: 4, ack: 9000 }));
  talk.send(1_010, syn);
  talk.expect(1_010, toClient({ flags: 'SA', ack: 9001 }));
});

t.test('not in doubt: the record proves that the node has the session', async (t) => {
  const { nodeFin, adopted } = SessionFlag;
  for (const flag of [nodeFin, adopted]) {
    const talk = inDoubt(t, [HEAD], (record) =>
      record.setUint8(SESSION_RECORD.flags, record.getUint8(SESSION_RECORD.flags) | flag),
    );
    t.equal(actionOf(talk), SessionAction.forward, `flag ${flag}`);
  }
  const acknowledged = (record: DataView): void =>
    record.setUint32(SESSION_RECORD.clientAck, ISN + 500, true);
  t.equal(
    actionOf(inDoubt(t, [HEAD], acknowledged)),
    SessionAction.forward,
    'the client has an answer',
  );
  // It is unknown which node answered.
  const moved = inDoubt(t, [HEAD], (record) => {
    acknowledged(record);
    record.setUint8(SESSION_RECORD.flags, SessionFlag.moved);
  });
  t.equal(actionOf(moved), 0);
});

t.test('what the earlier XDP program records of a session in doubt is taken over', async (t) => {
  const records = sessionMemory(SESSIONS);
  const before = new Conversation(t, { engine: { memory: records } });
  before.handshake(0);
  before.send(1, SENT_HEAD);
  const old = new RecordReader(records.records);
  const talk = new Conversation(t, { start: START + 50 });
  t.ok(talk.engine.takeOver(old, 0, 0, 0, START + 50));
  t.equal(actionOf(talk), 0);
  new DataView(records.records).setUint32(SESSION_RECORD.clientAck, ISN + 500, true);
  t.ok(talk.engine.takeOver(old, 0, 0, 0, START + 60));
  t.equal(actionOf(talk), SessionAction.forward);
});

t.test('a part of a head that was not acknowledged comes again', async (t) => {
  const records = sessionMemory(SESSIONS);
  const before = new Conversation(t, { engine: { memory: records } });
  before.handshake(0);
  const half = HEAD.length >> 1;
  before.send(1, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, HEAD.slice(0, half)));
  const old = new RecordReader(records.records);
  const talk = new Conversation(t, { start: START + 50 });
  talk.engine.takeLoss(old, 0, 0, START + 50);
  // The acknowledgement was written into the record, and the bytes ended with the process.
  talk.send(200, SENT_HEAD);
  t.match(
    talk.rest(200).map(({ ixp, tcp }) => [ixp?.type, tcp?.seq]),
    [[1, 1001]],
  );
  talk.counted({ closed_lost: 0, requests: 1 });
});

t.test(
  'acknowledged bytes of a head are lost: the client gets an RST when it sends more',
  async (t) => {
    const records = sessionMemory(SESSIONS);
    const before = new Conversation(t, { engine: { memory: records } });
    before.handshake(0, { sourcePort: 1 });
    before.handshake(0, { sourcePort: 2 });
    before.send(1, fromClient({ flags: 'PA', sourcePort: 1, seq: 1001, ack: ISN + 1 }, 'GET /0'));
    before.expect(1, toClient({ flags: 'A', destinationPort: 1, ack: 1007 }));
    const old = new RecordReader(records.records);
    const start = (): Conversation => {
      const talk = new Conversation(t, { start: START + 50 });
      for (let slot = 0; slot < old.capacity; slot++) {
        t.ok(talk.engine.takeOver(old, slot, -1, 0, START + 50));
        talk.engine.takeLoss(old, slot, 0, START + 50);
        talk.engine.takeLoss(old, slot, 0, START + 50);
      }
      t.equal(talk.engine.sessions.size, 1, 'only that one');
      return talk;
    };
    const talk = start();
    talk.send(
      60,
      fromClient({ flags: 'PA', sourcePort: 1, seq: 1007, ack: ISN + 1 }, ' HTTP/1.1\r\n'),
    );
    talk.expect(60, toClient({ flags: 'R', destinationPort: 1, seq: ISN + 1 }));
    talk.end(70, 0);
    talk.counted({ closed_lost: 1, taken_over: 0 });
    // A session whose client sends no more is removed.
    const silent = start();
    silent.end(60_000, 0);
    silent.counted({ closed_lost: 1, sent: 0 });
  },
);
