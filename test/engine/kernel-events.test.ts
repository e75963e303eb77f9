/**
 * What the kernel has done by itself and reports to the engine: notices, FINs, and SYNs of sessions
 * that had ended.
 */
import t from 'tap';
import { addressNumber, macBytes } from '../../lab/packet.js';
import { Answer } from '../../src/directory/answers.js';
import { KERNEL_EVENT_WORDS } from '../../src/engine/table/kernel-event.js';
import { SessionAction } from '../../src/engine/table/session-record.js';
import { SessionFlag, SessionState } from '../../src/engine/table/session-table.js';
import {
  answerEnd,
  answered,
  BALANCER,
  CLIENT,
  Conversation,
  FIRST_NONCE,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
  MSS,
  NODES,
  NOTICE,
  notice,
  toClient,
} from '../support/conversation.js';
import { START } from '../support/uptime.js';

const HEAD = get('/01');
const HEAD_END = 1001 + HEAD.length;
const CLIENT_FIN = 0x80;
const OF_NOTICE = 0x40;

interface EventFields {
  client?: string;
  port?: number;
  clientIsn?: number;
  serverIsn?: number;
  tsOffset?: number;
  flags?: number;
}

/** struct kernel_event, byte by byte, behind one word that is not part of it. */
function record(event: EventFields): Uint32Array {
  const words = new Uint32Array(1 + KERNEL_EVENT_WORDS);
  const view = new DataView(words.buffer, 4);
  view.setUint32(0, addressNumber(event.client ?? CLIENT.address), true);
  view.setUint32(4, ((event.port ?? CLIENT.port) << 16) >>> 0, true);
  view.setUint32(8, event.clientIsn ?? 0, true);
  view.setUint32(12, event.serverIsn ?? FIRST_NONCE, true);
  view.setUint32(16, event.tsOffset ?? 0, true);
  view.setUint8(29, event.flags ?? 0);
  return words;
}

/**
 * A node's notice about the session with the first nonce. The node has acknowledged up to `ack`.
 */
function checkedNotice(
  talk: Conversation,
  time: number,
  type: number,
  node: number,
  more: EventFields & { ack?: number } = {},
): void {
  talk.quiet(time);
  const { address } = NODES[node]!;
  const { ack = HEAD_END, ...rest } = more;
  const words = record({
    clientIsn: ack,
    tsOffset: addressNumber(address),
    flags: OF_NOTICE | type,
    ...rest,
  });
  talk.engine.kernelEvent(words, 1, START + time);
}

function forwardedFin(talk: Conversation, time: number, nonce = FIRST_NONCE): void {
  talk.quiet(time);
  talk.engine.kernelEvent(record({ serverIsn: nonce, flags: CLIENT_FIN }), 1, START + time);
}

/** A SYN that was answered with the number 9000. */
function answeredSyn(talk: Conversation, time: number, clientIsn: number): void {
  talk.quiet(time);
  const words = record({ clientIsn, serverIsn: 9000 });
  const view = new DataView(words.buffer, 4);
  view.setUint16(24, 1460, true);
  view.setUint16(26, 5000, true);
  new Uint8Array(words.buffer).set(macBytes(CLIENT.mac), 4 + 30);
  talk.engine.kernelEvent(words, 1, START + time);
}

function slotOf(talk: Conversation): number {
  return talk.engine.sessions.find(addressNumber(CLIENT.address), (CLIENT.port << 16) >>> 0);
}

function stateOf(talk: Conversation): number {
  return talk.engine.sessions.state(slotOf(talk));
}

/** The usual client has asked for a resource of nodes 0 and 1, and node 0 got the ADOPT at 0. */
function handed(talk: Conversation): void {
  talk.handshake(0);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, HEAD));
  talk.expect(0, inIxp(0, { type: IXP_TYPE.adopt }, {}, HEAD));
}

t.test('ADOPTED: the session passes', async (t) => {
  const talk = new Conversation(t);
  handed(talk);
  checkedNotice(talk, 7, NOTICE.adopted, 0);
  t.equal(stateOf(talk), SessionState.passing);
  t.equal(talk.engine.sessions.action(slotOf(talk)), SessionAction.forward);
  t.equal(talk.engine.sessions.lastSeen(slotOf(talk)), (START + 7) >>> 0);
  talk.counted({ adopted: 1, handoff_retransmitted: 0, drop_ixcp_stale: 0 });
  t.equal(talk.states.adopted[0], 1);
  checkedNotice(talk, 8, NOTICE.adopted, 0);
  talk.counted({ adopted: 1 });
  talk.end(2000, 1);
});

t.test('ADOPTED for a part: the rest is sent again', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  const request = `GET /0 HTTP/1.1\r\nX: ${'x'.repeat(2500)}\r\n\r\n`;
  talk.send(0, fromClient({ flags: 'A', seq: 1001, ack: ISN + 1 }, request.slice(0, 1400)));
  talk.send(0, fromClient({ flags: 'A', seq: 2401, ack: ISN + 1 }, request.slice(1400)));
  talk.rest(0);
  checkedNotice(talk, 10, NOTICE.adopted, 0, { ack: 1001 + MSS });
  t.equal(stateOf(talk), SessionState.handing);
  talk.expect(310, inIxp(0, { type: IXP_TYPE.segment }, { seq: 1001 + MSS }, request.slice(MSS)));
  checkedNotice(talk, 340, NOTICE.adopted, 0, { ack: 1001 + request.length });
  t.equal(stateOf(talk), SessionState.passing);
  talk.counted({ adopted: 1 });
  talk.end(2000, 1);
});

t.test('FIN confirms as well, and after both FINs the session has ended', async (t) => {
  const talk = new Conversation(t);
  handed(talk);
  checkedNotice(talk, 5, NOTICE.fin, 0);
  t.equal(stateOf(talk), SessionState.passing);
  t.ok(talk.engine.sessions.has(slotOf(talk), SessionFlag.nodeFin));
  talk.counted({ adopted: 1, closed_fin: 0 });
  forwardedFin(talk, 6);
  t.equal(stateOf(talk), SessionState.lingering);
  talk.counted({ closed_fin: 1 });
  t.equal(talk.states.active[0], 0);
  talk.end(5_100, 0);
});

t.test(
  'FIN of a session that passes: its client has less time than one of an open session',
  async (t) => {
    const talk = new Conversation(t, { timeouts: { closing: 2_000 } });
    talk.passing(0);
    checkedNotice(talk, 0, NOTICE.fin, 0);
    t.equal(stateOf(talk), SessionState.passing);
    talk.end(1_990, 1);
    talk.end(2_020, 0);
    talk.counted({ closed_idle: 1 });
  },
);

t.test('a session that the balancer answers gets no notices', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  const head = get('/nowhere');
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, head));
  talk.rest(0);
  checkedNotice(talk, 1, NOTICE.refused, 0, { ack: 1001 + head.length });
  t.equal(stateOf(talk), SessionState.answering);
  talk.counted({ drop_ixcp_stale: 1 });
});

t.test('the FIN of a client that has an answer ends the session', async (t) => {
  const talk = new Conversation(t);
  const { sessions } = talk.engine;
  talk.handshake(0);
  const request = get('/nowhere');
  const next = 1001 + request.length;
  const end = answerEnd(Answer.notFound, request.length);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, request));
  talk.expect(0, answered(Answer.notFound, request.length));
  t.equal(sessions.action(0), SessionAction.closing);
  // What the kernel writes into the record when it acknowledges the FIN.
  sessions.setClientAck(0, end);
  sessions.setReceiveNext(0, next + 1);
  talk.quiet(5);
  talk.engine.kernelEvent(record({ flags: CLIENT_FIN }), 1, START + 5);
  t.equal(sessions.state(0), SessionState.lingering);
  t.equal(sessions.action(0), SessionAction.ended);
  talk.send(210, fromClient({ flags: 'FA', seq: next, ack: end }));
  talk.expect(210, toClient({ flags: 'A', seq: end, ack: next + 1 }));
  talk.end(6_000, 0);
  talk.counted({ answer_404: 1, closed_fin: 1, answers_retransmitted: 0 });
});

t.test('a notice that is not about a session of its node changes nothing', async (t) => {
  for (const type of [NOTICE.adopted, NOTICE.fin]) {
    const cases: [
      string,
      number,
      Parameters<typeof checkedNotice>[4],
      'drop_ixcp_stale' | 'drop_ixcp_unknown_node',
    ][] = [
      ['an earlier nonce', 0, { serverIsn: FIRST_NONCE - 1 }, 'drop_ixcp_stale'],
      ['a later one', 0, { serverIsn: FIRST_NONCE + 1 }, 'drop_ixcp_stale'],
      ['another client', 0, { client: '10.1.0.2' }, 'drop_ixcp_stale'],
      ['another port', 0, { port: CLIENT.port + 1 }, 'drop_ixcp_stale'],
      ['no node', 0, { tsOffset: addressNumber('10.9.0.99') }, 'drop_ixcp_unknown_node'],
      ['the balancer', 0, { tsOffset: addressNumber(BALANCER.address) }, 'drop_ixcp_unknown_node'],
    ];
    for (const [name, node, more, counter] of cases) {
      const talk = new Conversation(t);
      handed(talk);
      const slot = slotOf(talk);
      checkedNotice(talk, 9, type, node, more);
      t.equal(talk.counters.get(counter), 1, `${name}: ${counter}`);
      t.equal(stateOf(talk), SessionState.handing, name);
      t.notOk(talk.engine.sessions.has(slot, SessionFlag.adopted | SessionFlag.nodeFin), name);
      t.equal(
        talk.engine.sessions.lastSeen(slot),
        START >>> 0,
        `${name}: nor is it a sign of life`,
      );
      talk.end(20, 1);
    }
  }
});

t.test('a notice before the handoff changes nothing', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  checkedNotice(talk, 1, NOTICE.adopted, 0);
  checkedNotice(talk, 1, NOTICE.fin, 0);
  talk.counted({ drop_ixcp_stale: 2, adopted: 0 });
  t.equal(talk.engine.sessions.flags(slotOf(talk)), 0);
});

t.test('a node that was given up, and says that it has the session, is reset', async (t) => {
  const talk = new Conversation(t);
  handed(talk);
  talk.expect(300, inIxp(0, { type: IXP_TYPE.adopt }, {}, HEAD));
  talk.expect(600, inIxp(0, { type: IXP_TYPE.segment }, { flags: 'R', seq: HEAD_END }, ''));
  talk.expect(600, inIxp(1, { type: IXP_TYPE.adopt }, {}, HEAD));
  checkedNotice(talk, 650, NOTICE.fin, 0, { ack: 4000 });
  // The only segment of a short answer, with FIN.
  talk.expect(650, inIxp(0, { type: IXP_TYPE.segment }, { flags: 'R', seq: 4000 }, ''));
  checkedNotice(talk, 660, NOTICE.adopted, 0, { ack: 4242 });
  talk.expect(660, inIxp(0, { type: IXP_TYPE.segment }, { flags: 'R', seq: 4242 }, ''));
  talk.counted({ drop_ixcp_stale: 2, adopted: 0 });
  checkedNotice(talk, 670, NOTICE.adopted, 1);
  t.equal(stateOf(talk), SessionState.passing);
  talk.end(2000, 1);
});

t.test("a client's FIN that was forwarded before the node's notice confirms", async (t) => {
  const talk = new Conversation(t);
  handed(talk);
  forwardedFin(talk, 4, FIRST_NONCE + 1);
  t.equal(stateOf(talk), SessionState.handing, 'one of an earlier session');
  forwardedFin(talk, 5);
  const slot = slotOf(talk);
  t.equal(stateOf(talk), SessionState.passing);
  t.ok(talk.engine.sessions.has(slot, SessionFlag.clientFin));
  talk.counted({ adopted: 1 });
  t.equal(talk.states.adopted[0], 1);
  talk.states.handoffTimedOut(0, 5);
  checkedNotice(talk, 6, NOTICE.fin, 0);
  t.equal(stateOf(talk), SessionState.lingering);
  t.equal(talk.states.adopted[0], 1, 'counted once');
  for (const now of [7, 8])
    t.notOk(talk.states.handoffTimedOut(0, now), 'its notice clears the count');
  talk.counted({ adopted: 1, closed_fin: 1, handoff_retransmitted: 0 });
  talk.end(5_100, 0);
});

t.test('a FIN when it is unknown which node has answered ends the session', async (t) => {
  const talk = new Conversation(t);
  handed(talk);
  talk.rest(650);
  t.ok(talk.engine.sessions.has(slotOf(talk), SessionFlag.moved));
  forwardedFin(talk, 660);
  talk.expect(660, inIxp(1, { type: IXP_TYPE.segment }, { flags: 'R', seq: HEAD_END }, ''));
  talk.expect(660, toClient({ flags: 'RA', seq: ISN + 1 }));
  talk.end(700, 0);
  talk.counted({ closed_no_node: 1, adopted: 0 });
  t.equal(talk.states.active[1], 0);
});

t.test(
  'a handoff is not sent again when the kernel has seen its answer acknowledged',
  async (t) => {
    const talk = new Conversation(t);
    handed(talk);
    const slot = slotOf(talk);
    talk.quiet(290);
    talk.engine.sessions.setClientAck(slot, ISN + 2);
    talk.quiet(330);
    t.equal(stateOf(talk), SessionState.passing);
    talk.counted({ handoff_retransmitted: 0, adopted: 1 });
    t.equal(talk.states.adopted[0], 1);
    talk.end(2000, 1);
  },
);

t.test('a handoff is sent again when no answer was acknowledged', async (t) => {
  const talk = new Conversation(t);
  handed(talk);
  t.equal(talk.engine.sessions.clientAck(slotOf(talk)), ISN + 1);
  talk.expect(300, inIxp(0, { type: IXP_TYPE.adopt }, {}, HEAD));
  talk.counted({ handoff_retransmitted: 1 });
});

t.test('the rest of a head in several segments is sent again nevertheless', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  const request = `GET /0 HTTP/1.1\r\nX: ${'x'.repeat(2500)}\r\n\r\n`;
  talk.send(0, fromClient({ flags: 'A', seq: 1001, ack: ISN + 1 }, request.slice(0, 1400)));
  talk.send(0, fromClient({ flags: 'A', seq: 2401, ack: ISN + 1 }, request.slice(1400)));
  talk.rest(0);
  talk.engine.sessions.setClientAck(slotOf(talk), ISN + 100);
  // The client has bytes of the answer, so the node has the session.
  talk.expect(300, inIxp(0, { type: IXP_TYPE.segment }, { seq: 1001 }, request.slice(0, MSS)));
  talk.expect(300, inIxp(0, { type: IXP_TYPE.segment }, { seq: 1001 + MSS }, request.slice(MSS)));
  t.equal(stateOf(talk), SessionState.handing);
  talk.counted({ adopted: 1, handoff_retransmitted: 1 });
});

t.test('an acknowledged answer of an unknown node ends the session at the next try', async (t) => {
  const talk = new Conversation(t);
  handed(talk);
  talk.rest(650);
  talk.engine.sessions.setClientAck(slotOf(talk), ISN + 100);
  talk.expect(900, inIxp(1, { type: IXP_TYPE.segment }, { flags: 'R', seq: HEAD_END }, ''));
  talk.expect(900, toClient({ flags: 'RA', seq: ISN + 100 }));
  talk.end(2000, 0);
  talk.counted({ closed_no_node: 1, adopted: 0 });
});

t.test('a SYN that was answered for a session that had ended opens a new session', async (t) => {
  const talk = new Conversation(t, { limits: { sessions: 1 } });
  const end = talk.passing(0);
  talk.send(10, fromClient({ flags: 'R', seq: end }));
  talk.rest(10);
  t.equal(stateOf(talk), SessionState.lingering);
  answeredSyn(talk, 20, 77_000);
  t.equal(stateOf(talk), SessionState.synReceived);
  const { sessions } = talk.engine;
  const slot = slotOf(talk);
  t.equal(sessions.size, 1);
  t.equal(sessions.nonce(slot), FIRST_NONCE + 1);
  t.equal(sessions.clientIsn(slot), 77_000);
  t.equal(sessions.flags(slot), 0, 'nothing of the old session is left');
  t.equal(sessions.action(slot), 0);
  talk.counted({
    syn_answered: 1,
    closed_client_reset: 1,
    closed_replaced: 0,
    drop_sessions_full: 0,
  });
  checkedNotice(talk, 21, NOTICE.fin, 0);
  talk.counted({ drop_ixcp_stale: 1 });

  talk.send(30, fromClient({ flags: 'PA', seq: 77_001, ack: 9001 }, HEAD));
  talk.expect(
    30,
    inIxp(0, { type: IXP_TYPE.adopt, session: FIRST_NONCE + 1 }, { seq: 77_001, ack: 9001 }, HEAD),
  );
  checkedNotice(talk, 31, NOTICE.adopted, 0, {
    serverIsn: FIRST_NONCE + 1,
    ack: 77_001 + HEAD.length,
  });
  t.equal(stateOf(talk), SessionState.passing);
  t.equal(talk.states.active[0], 1);
  talk.end(20_000, 1);
  talk.counted({ adopted: 2 });
});

t.test('the same SYN, or one of a session that has not ended, changes nothing', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  answeredSyn(talk, 1, 77_000);
  t.equal(stateOf(talk), SessionState.collecting);
  talk.send(1, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, HEAD));
  talk.rest(1);
  answeredSyn(talk, 2, 77_000);
  t.equal(stateOf(talk), SessionState.handing);
  talk.send(3, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: HEAD_END }));
  answeredSyn(talk, 4, 77_000);
  t.equal(stateOf(talk), SessionState.passing);
  talk.send(5, fromClient({ flags: 'R', seq: HEAD_END }));
  talk.rest(5);
  answeredSyn(talk, 6, 1000);
  t.equal(stateOf(talk), SessionState.lingering);
  t.equal(talk.engine.sessions.nonce(slotOf(talk)), FIRST_NONCE);
  talk.counted({ syn_answered: 0, closed_replaced: 0 });
  talk.end(5_100, 0);
});
