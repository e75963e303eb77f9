/** What the engine leaves to the kernel, seen in the records that both share. */

import t from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { Answer } from '../../src/directory/answers.js';
import { inSlots, KeepAlive } from '../../src/engine/farm.js';
import { SESSION_RECORD_BYTES, SessionAction } from '../../src/engine/table/session-record.js';
import { SessionFlag, SessionState } from '../../src/engine/table/session-table.js';
import {
  answerEnd,
  CLIENT,
  Conversation,
  FIRST_NONCE,
  fromClient,
  get,
  ISN,
  inIxp,
  NOTICE,
  notice,
  SERVER,
} from '../support/conversation.js';
import { sessionMemory } from '../support/session-memory.js';
import { START } from '../support/uptime.js';

const SESSIONS = 64;
const HEAD = get('/01');
const HEAD_END = 1001 + HEAD.length;

function slotOf(talk: Conversation, port: number = CLIENT.port): number {
  return talk.engine.sessions.find(addressNumber(CLIENT.address), (port << 16) >>> 0);
}

function actionOf(talk: Conversation): number {
  return talk.engine.sessions.action(slotOf(talk));
}

t.test('the kernel forwards from the confirmation to the end', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  t.equal(actionOf(talk), 0);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, HEAD));
  talk.expect(0, inIxp(0, {}, {}, HEAD));
  t.equal(
    actionOf(talk),
    SessionAction.answered,
    'before the node has confirmed, for a client that has its answer',
  );
  talk.send(1, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: HEAD_END }));
  t.equal(actionOf(talk), SessionAction.forward);
  talk.send(2, fromClient({ flags: 'FA', seq: HEAD_END, ack: 7000 }));
  talk.expectForwarded(2, 0, fromClient({ flags: 'FA', seq: HEAD_END, ack: 7000 }));
  t.equal(actionOf(talk), SessionAction.forward, 'half closed');
  talk.send(3, notice(0, NOTICE.fin, { seq: 7000, ack: HEAD_END + 1 }));
  t.equal(talk.engine.sessions.inState[SessionState.lingering], 1);
  t.equal(actionOf(talk), SessionAction.forward, 'late packets still pass');
  talk.end(10_000, 0);
  t.equal(talk.engine.sessions.action(0), 0, 'none after its removal');
});

t.test('an answer does not confirm a node when a second one may know the session', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, HEAD));
  t.equal(actionOf(talk), SessionAction.answered);
  // Two silent tries: the next node gets it.
  talk.rest(700);
  t.ok(talk.engine.sessions.has(slotOf(talk), SessionFlag.moved));
  t.equal(actionOf(talk), 0);
});

t.test('a FIN that the kernel has forwarded', async (t) => {
  const talk = new Conversation(t);
  const forwardedFin = (nonce: number): Uint32Array =>
    Uint32Array.of(
      addressNumber(CLIENT.address),
      (CLIENT.port << 16) >>> 0,
      0,
      nonce,
      0,
      0,
      0,
      0x8000,
      0,
    );
  talk.handshake(0);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, HEAD));
  talk.rest(0);
  const slot = slotOf(talk);
  const { sessions } = talk.engine;
  talk.engine.kernelEvent(forwardedFin(FIRST_NONCE + 1), 0, START);
  t.notOk(sessions.has(slot, SessionFlag.clientFin), 'the FIN of an earlier session');
  talk.send(1, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: HEAD_END }));
  talk.engine.kernelEvent(forwardedFin(sessions.nonce(slot)), 0, START + 1);
  t.ok(sessions.has(slot, SessionFlag.clientFin));
  t.equal(sessions.inState[SessionState.passing], 1);
  talk.send(2, notice(0, NOTICE.fin, { seq: 7000, ack: HEAD_END + 1 }));
  t.equal(sessions.inState[SessionState.lingering], 1);
  talk.counted({ closed_fin: 1 });
});

t.test('sessions that the balancer answers stay with the engine', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  const head = get('/nowhere');
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, head));
  talk.rest(1);
  talk.send(1, fromClient({ flags: 'A', seq: 1001 + head.length, ack: ISN + 1 }, 'more'));
  talk.rest(2);
  t.equal(actionOf(talk), SessionAction.closing, 'but for the end of the answer');
  const end = answerEnd(Answer.notFound, head.length);
  talk.send(2, fromClient({ flags: 'FA', seq: 1005 + head.length, ack: end }));
  talk.rest(2);
  t.equal(talk.engine.sessions.inState[SessionState.lingering], 1);
  t.equal(actionOf(talk), SessionAction.ended, 'but for a new SYN');
});

t.test(
  'the kernel wraps for a client that goes on sending, once the handoff is sent',
  async (t) => {
    const talk = new Conversation(t);
    talk.handshake(0);
    const body = (at: number): Parameters<Conversation['send']>[1] =>
      fromClient({ flags: 'A', seq: HEAD_END + at * 4, ack: ISN + 1 }, 'body');
    talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, HEAD));
    talk.expect(0, inIxp(0, {}, {}, HEAD));
    talk.send(0, body(0));
    talk.expect(0, inIxp(0, { type: 2 }, { seq: HEAD_END }, 'body'));
    const { answered, wrap } = SessionAction;
    t.equal(
      actionOf(talk),
      answered,
      'not in the batch in which the handoff is sent: the segment would overtake it',
    );
    talk.send(1, body(1));
    talk.expect(1, inIxp(0, { type: 2 }, { seq: HEAD_END + 4 }, 'body'));
    t.equal(actionOf(talk), answered | wrap);

    // Refused: the next node does not have the session yet.
    talk.send(2, notice(0, NOTICE.refused, { ack: 1001 }));
    talk.expect(2, inIxp(1, { type: 1 }, {}, HEAD));
    t.equal(actionOf(talk), answered);
    talk.send(2, body(2));
    talk.expect(2, inIxp(1, { type: 2 }, { seq: HEAD_END + 8 }, 'body'));
    t.equal(actionOf(talk), answered);
    talk.send(3, body(3));
    talk.expect(3, inIxp(1, { type: 2 }, { seq: HEAD_END + 12 }, 'body'));
    t.equal(actionOf(talk), answered | wrap);
    t.equal(talk.engine.sessions.node(slotOf(talk)), 1);
    talk.send(4, notice(1, NOTICE.adopted, { seq: ISN + 1, ack: HEAD_END }));
    t.equal(actionOf(talk), SessionAction.forward);
  },
);

t.test("an RST of the client before the confirmation ends the kernel's part", async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, HEAD));
  talk.send(1, fromClient({ flags: 'A', seq: HEAD_END, ack: ISN + 1 }, 'body'));
  t.equal(actionOf(talk), SessionAction.answered | SessionAction.wrap);
  talk.rest(2);
  talk.send(2, fromClient({ flags: 'R', seq: HEAD_END + 4 }));
  talk.rest(3);
  t.equal(talk.engine.sessions.inState[SessionState.lingering], 1);
  t.equal(actionOf(talk), 0, 'the node may not know the session');
});

t.test('payload of a watched session comes to the engine, which forwards it', async (t) => {
  const server = { address: addressNumber(SERVER.address), port: SERVER.port };
  const virtualServers = inSlots([{ ...server, keepAlive: KeepAlive.migrate }]);
  const talk = new Conversation(t, { engine: { virtualServers } });
  const end = talk.passing(0);
  talk.rest(0);
  t.equal(actionOf(talk), SessionAction.forward | SessionAction.payloadUp);
  const more = fromClient({ flags: 'PA', seq: end, ack: 7000 }, get('/0'));
  talk.send(1, more);
  talk.expectForwarded(1, 0, more);
  talk.engine.sessions.watch(slotOf(talk), false);
  t.equal(actionOf(talk), SessionAction.forward);
});

t.test('what the kernel has seen counts: time, numbers and packets', async (t) => {
  const records = sessionMemory(SESSIONS);
  const talk = new Conversation(t, { engine: { memory: records }, timeouts: { idle: 10_000 } });
  const end = talk.passing(0);
  const slot = slotOf(talk);
  const kernel = new DataView(records.records, slot * SESSION_RECORD_BYTES, SESSION_RECORD_BYTES);
  // The kernel reads the clock later than the datapath: at a tick its time may be ahead.
  kernel.setUint32(12, START + 9_000, true);
  kernel.setUint32(16, 41, true);
  kernel.setUint32(20, end + 5_000, true);
  kernel.setUint32(24, 90_000, true);
  talk.quiet(10_500);
  t.equal(talk.engine.sessions.size, 1, 'not idle');
  kernel.setUint32(12, START + 19_050, true);
  talk.quiet(19_030);
  t.equal(talk.engine.sessions.size, 1, 'a time ahead of ours is not an old one');
  const fin = fromClient({ flags: 'FA', seq: end + 5_000, ack: 90_000 });
  talk.send(19_100, fin);
  talk.expectForwarded(19_100, 0, fin);
  t.ok(talk.engine.sessions.has(slot, SessionFlag.clientFin), 'the FIN is in sequence');
  t.equal(talk.engine.sessions.packets(slot), 42);
});

t.test('a FIN counts even if the kernel has forwarded a later segment', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, HEAD));
  talk.expect(0, inIxp(0, {}, {}, HEAD));
  talk.send(1, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: HEAD_END }));
  const slot = slotOf(talk);
  const { sessions } = talk.engine;
  const fin = fromClient({ flags: 'FA', seq: HEAD_END, ack: 7000 });
  // The client's ACK of the node's FIN: the kernel forwards it before the engine processes the FIN.
  sessions.setReceiveNext(slot, HEAD_END + 1);
  talk.send(2, fin);
  talk.expectForwarded(2, 0, fin);
  t.ok(sessions.has(slot, SessionFlag.clientFin));
  t.equal(sessions.receiveNext(slot), HEAD_END + 1);
  talk.send(3, notice(0, NOTICE.fin, { seq: 7000, ack: HEAD_END + 1 }));
  talk.counted({ closed_fin: 1 });

  // A FIN further back is not in sequence.
  const other = new Conversation(t);
  other.handshake(0);
  other.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, HEAD));
  other.rest(0);
  other.send(1, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: HEAD_END }));
  other.engine.sessions.setReceiveNext(slotOf(other), HEAD_END + 2);
  other.send(2, fin);
  t.notOk(other.engine.sessions.has(slotOf(other), SessionFlag.clientFin));
});
