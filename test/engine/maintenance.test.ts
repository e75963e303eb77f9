/** Nodes that drain, and nodes in maintenance: who gets new sessions, and how sessions end. */
import t from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { Admin } from '../../src/directory/node-memory.js';
import { AGAIN_MS, ENDS_A_BATCH, SLOTS_A_BATCH } from '../../src/engine/sweep.js';
import { RecordReader, SessionAction } from '../../src/engine/table/session-record.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import { IxcpFlag, IxcpReason } from '../../src/wire/ixcp.js';
import {
  CLIENT,
  Conversation,
  type ConversationOptions,
  FIRST_NONCE,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
  MSS,
  NOTICE,
  notice,
  toClient,
} from '../support/conversation.js';
import { asked, handed, unavailable, withdrawn } from '../support/handoff-frames.js';
import { sessionMemory } from '../support/session-memory.js';
import { START } from '../support/uptime.js';

const LINGER_MS = 5_000;

function slotOf(talk: Conversation, port: number = CLIENT.port): number {
  return talk.engine.sessions.find(addressNumber(CLIENT.address), (port << 16) >>> 0);
}

/** From now on the node is in maintenance. */
function maintain(talk: Conversation, node: number): void {
  talk.states.setAdmin(node, Admin.maintenance);
  talk.engine.sweep.endNode(node);
}

/** Sessions of these ports that node 0 has taken. */
function taken(talk: Conversation, ports: readonly number[], path = '/0', time = 0): void {
  const request = get(path);
  for (const [index, port] of ports.entries()) {
    talk.handshake(time, { sourcePort: port });
    talk.send(
      time,
      fromClient({ flags: 'PA', sourcePort: port, seq: 1001, ack: ISN + 1 }, request),
    );
    talk.rest(time);
    const session = FIRST_NONCE + index;
    talk.send(
      time,
      notice(0, NOTICE.adopted, { session, clientPort: port, ack: 1001 + request.length }),
    );
  }
}

t.test('a node that drains keeps its sessions and gets no new ones', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  talk.states.setAdmin(0, Admin.draining);
  const more = fromClient({ flags: 'PA', seq: end, ack: ISN + 1 }, 'more');
  talk.send(1, more);
  talk.expectForwarded(1, 0, more);
  talk.handshake(2, { sourcePort: 2 });
  talk.send(2, fromClient({ flags: 'PA', sourcePort: 2, seq: 1001, ack: ISN + 1 }, get('/01')));
  const session = FIRST_NONCE + 1;
  talk.expect(2, inIxp(1, { type: IXP_TYPE.adopt, session }, { sourcePort: 2 }, get('/01')));
  talk.send(
    2,
    notice(1, NOTICE.adopted, { session, clientPort: 2, ack: 1001 + get('/01').length }),
  );
  talk.quiet(1_000);
  talk.counted({ closed_maintenance: 0 });
});

t.test('with all holders draining a request gets 503', async (t) => {
  const talk = new Conversation(t);
  for (const node of [0, 1]) talk.states.setAdmin(node, Admin.draining);
  const request = asked(talk, '/01');
  talk.expect(0, unavailable(request));
  talk.counted({ answer_503: 1 });
});

t.test('a node that drains is no next holder and no last choice', async (t) => {
  await t.test('after silence', async (t) => {
    const talk = new Conversation(t);
    const request = asked(talk, '/01');
    talk.expect(0, handed(0, request));
    talk.states.setAdmin(1, Admin.draining);
    talk.expect(300, handed(0, request));
    talk.expect(600, withdrawn(0, 1001 + request.length));
    talk.expect(600, unavailable(request));
  });
  await t.test('after a refusal', async (t) => {
    const talk = new Conversation(t);
    const request = asked(talk, '/01');
    talk.expect(0, handed(0, request));
    talk.states.setAdmin(1, Admin.draining);
    talk.send(10, notice(0, NOTICE.refused, { reason: IxcpReason.noListener }));
    talk.expect(10, unavailable(request));
  });
  await t.test('when nobody answers', async (t) => {
    const talk = new Conversation(t);
    for (const node of [0, 1, 2])
      talk.states.reported(node, 1, 1, IxcpFlag.canAdopt | IxcpFlag.canRelease, START);
    const request = asked(talk, '/01');
    talk.expect(0, handed(0, request));
    talk.states.setAdmin(1, Admin.draining);
    talk.send(10, notice(0, NOTICE.adopted, { ack: 1001 + request.length }));
    talk.quiet(3_000);
    t.equal(talk.engine.sessions.state(slotOf(talk)), SessionState.passing);
  });
});

t.test('maintenance resets the node and the client of a session that passes', async (t) => {
  const records = sessionMemory(64);
  const talk = new Conversation(t, { engine: { memory: records } });
  const end = talk.passing(0);
  const ack = fromClient({ flags: 'A', seq: end, ack: ISN + 501 });
  talk.send(1, ack);
  talk.expectForwarded(1, 0, ack);
  maintain(talk, 0);
  talk.expect(2, withdrawn(0, end));
  talk.expect(2, toClient({ flags: 'RA', seq: ISN + 501, ack: end }));
  talk.counted({ closed_maintenance: 1, reset_sent: 1 });
  t.equal(
    new RecordReader(records.records).action(slotOf(talk)),
    SessionAction.ended,
    'the kernel forwards nothing, and answers a new SYN',
  );
  t.same([talk.states.active[0], talk.states.held(0)], [0, 0]);
  t.ok(talk.events.includes('closed maintenance'));
  // Data was on its way when the client got its RST, so it has another number now.
  talk.send(3, fromClient({ flags: 'A', seq: end, ack: ISN + 1_501 }));
  talk.expect(3, toClient({ flags: 'R', seq: ISN + 1_501 }));
  // A node that was not reached, or not in time.
  talk.send(4, notice(0, NOTICE.fin, { ack: end }));
  talk.expect(4, withdrawn(0, end));
  talk.quiet(LINGER_MS - 10);
  talk.end(LINGER_MS + 60, 0);
  talk.send(LINGER_MS + 100, fromClient({ flags: 'A', seq: end, ack: ISN + 1_501 }));
  talk.expect(LINGER_MS + 100, toClient({ flags: 'R', seq: ISN + 1_501 }));
});

t.test('a client that has reset its side is forgotten at once', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  maintain(talk, 0);
  talk.expect(1, withdrawn(0, end));
  talk.expect(1, toClient({ flags: 'RA', seq: ISN + 1 }));
  talk.send(2, fromClient({ flags: 'R', seq: end }));
  talk.end(3, 0);
  talk.handshake(4);
  talk.counted({ closed_replaced: 0, closed_maintenance: 1 });
});

t.test('the same client port may connect again at once', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0, '/01');
  maintain(talk, 0);
  talk.expect(1, withdrawn(0, end));
  talk.expect(1, toClient({ flags: 'RA' }));
  const request = get('/01');
  talk.handshake(2, { seq: 90_000 });
  talk.send(2, fromClient({ flags: 'PA', seq: 90_001, ack: ISN + 1 }, request));
  const session = FIRST_NONCE + 1;
  talk.expect(2, inIxp(1, { type: IXP_TYPE.adopt, session }, { seq: 90_001 }, request));
});

t.test('a GET that is being handed over goes to the next holder, or gets 503', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/01');
  talk.expect(0, handed(0, request));
  maintain(talk, 0);
  talk.expect(1, withdrawn(0, 1001 + request.length));
  talk.expect(1, handed(1, request));
  t.same([talk.states.held(0), talk.states.held(1)], [0, 1]);
  maintain(talk, 1);
  talk.expect(2, withdrawn(1, 1001 + request.length));
  talk.expect(2, unavailable(request));
  talk.counted({ closed_maintenance: 0, handoffs: 2, answer_503: 1 });
});

t.test('a POST that is being handed over waits for the word of its node', async (t) => {
  const talk = new Conversation(t);
  const request = 'POST /01 HTTP/1.1\r\nHost: a\r\n\r\n';
  const end = 1001 + request.length;
  talk.handshake(0);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, request));
  talk.expect(0, handed(0, request));
  maintain(talk, 0);
  talk.quiet(100);
  t.equal(talk.states.held(0), 1);
  talk.send(100, notice(0, NOTICE.adopted, { ack: end }));
  talk.expect(AGAIN_MS, withdrawn(0, end));
  talk.expect(AGAIN_MS, toClient({ flags: 'RA', seq: ISN + 1, ack: end }));
  talk.counted({ closed_maintenance: 1, handoffs: 1 });
});

t.test('a node that has part of a head keeps the session from others', async (t) => {
  const talk = new Conversation(t);
  const request = `GET /01 HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(MSS)}\r\n\r\n`;
  const end = 1001 + request.length;
  talk.handshake(0);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, request));
  talk.rest(0);
  talk.send(10, notice(0, NOTICE.adopted, { ack: 1001 + MSS }));
  maintain(talk, 0);
  const sent = talk.rest(12).map(({ ip, tcp }) => [ip?.protocol, tcp?.flags, tcp?.seq]);
  t.same(sent, [
    [253, 'R', end],
    [253, 'R', 1001 + MSS],
    [253, 'R', end],
    [6, 'RA', ISN + 1],
  ]);
  talk.counted({ closed_maintenance: 1 });
});

t.test('a client that has part of the answer does not get another one', async (t) => {
  const memory = sessionMemory(64);
  const talk = new Conversation(t, { engine: { memory } });
  const request = asked(talk, '/01');
  talk.expect(0, handed(0, request));
  // The kernel has forwarded an acknowledgement of the answer.
  talk.engine.sessions.setClientAck(slotOf(talk), ISN + 501);
  maintain(talk, 0);
  talk.expect(1, withdrawn(0, 1001 + request.length));
  talk.expect(1, toClient({ flags: 'RA', seq: ISN + 501 }));
});

t.test(
  'a session that has ended is forgotten: its late packets do not reach the node',
  async (t) => {
    const talk = new Conversation(t);
    const end = talk.passing(0);
    talk.send(1, notice(0, NOTICE.fin, { ack: end }));
    const fin = fromClient({ flags: 'FA', seq: end, ack: ISN + 501 });
    talk.send(1, fin);
    talk.expectForwarded(1, 0, fin);
    t.equal(talk.states.held(0), 1);
    maintain(talk, 0);
    talk.quiet(5);
    t.equal(talk.states.held(0), 0);
    talk.send(6, fromClient({ flags: 'A', seq: end + 1, ack: ISN + 502 }));
    talk.expect(6, toClient({ flags: 'R', seq: ISN + 502 }));
    talk.counted({ closed_fin: 1, closed_maintenance: 0 });
  },
);

t.test(
  'sessions of an earlier process: those that pass end, those in doubt begin again',
  async (t) => {
    const records = sessionMemory(64);
    const before = new Conversation(t, { engine: { memory: records } });
    taken(before, [1], '/01');
    const request = get('/01');
    before.handshake(1, { sourcePort: 2 });
    before.send(1, fromClient({ flags: 'PA', sourcePort: 2, seq: 1001, ack: ISN + 1 }, request));
    before.rest(1);
    const talk = new Conversation(t, {
      start: START + 50,
      engine: { seeds: { client: 7, port: 8, nonce: 900 } },
    });
    maintain(talk, 0);
    talk.quiet(8);
    const old = new RecordReader(records.records);
    for (let slot = 0; slot < 64; slot++) talk.engine.takeOver(old, slot, 0, 0, START + 58);
    const end = 1001 + request.length;
    const sent = talk.rest(AGAIN_MS + 10);
    t.same(
      sent.map(({ ixp, tcp }) => [ixp?.session, tcp?.sourcePort, tcp?.flags, tcp?.seq]),
      [
        [FIRST_NONCE, 1, 'R', end],
        [FIRST_NONCE + 1, 2, 'R', end],
      ],
      'no MAC address of the client is known yet',
    );
    talk.send(300, fromClient({ flags: 'A', sourcePort: 1, seq: end, ack: ISN + 501 }));
    talk.expect(300, toClient({ flags: 'R', destinationPort: 1, seq: ISN + 501 }));
    talk.send(301, fromClient({ flags: 'PA', sourcePort: 2, seq: 1001, ack: ISN + 1 }, request));
    const session = FIRST_NONCE + 1;
    talk.expect(301, inIxp(1, { type: IXP_TYPE.adopt, session }, { sourcePort: 2 }, request));
  },
);

t.test('a node that is up again keeps the sessions that it gets', async (t) => {
  const talk = new Conversation(t);
  maintain(talk, 0);
  talk.quiet(10);
  talk.states.setAdmin(0, Admin.up);
  const end = talk.passing(11);
  talk.quiet(2 * AGAIN_MS);
  const more = fromClient({ flags: 'A', seq: end, ack: ISN + 9 });
  talk.send(2 * AGAIN_MS, more);
  talk.expectForwarded(2 * AGAIN_MS, 0, more);
});

t.test('without room for frames a session waits', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  talk.datapath.roomsLeft = 0;
  maintain(talk, 0);
  talk.quiet(50);
  t.equal(talk.states.held(0), 1);
  talk.datapath.roomsLeft = undefined;
  talk.expect(51, withdrawn(0, end));
  talk.expect(51, toClient({ flags: 'RA' }));
});

const MANY: ConversationOptions = {
  limits: { sessions: SLOTS_A_BATCH + 1_000, halfOpen: 32, heads: 32 },
};

t.test('a batch ends a bounded number of sessions, and looks at a bounded number', async (t) => {
  const talk = new Conversation(t, MANY);
  const count = ENDS_A_BATCH * 2 + 1;
  const ports = Array.from({ length: count }, (_, index) => 1_000 + index);
  taken(talk, ports);
  maintain(talk, 0);
  const sent = [1, 2, 3, 4].map((time) => {
    t.equal(
      talk.engine.sweep.underway,
      time < 4,
      `a pass is under way until the third tick: ${time}`,
    );
    return talk.rest(time).length;
  });
  t.same(sent, [2 * ENDS_A_BATCH, 2 * ENDS_A_BATCH, 2, 0]);
  talk.counted({ closed_maintenance: count });
  t.same([talk.states.active[0], talk.states.held(0)], [0, 0]);
});

t.test('the sessions of a virtual server end in every state', async (t) => {
  const talk = new Conversation(t);
  const request = get('/0');
  const end = 1001 + request.length;
  taken(talk, [1]);
  talk.send(1, fromClient({ flags: 'S', sourcePort: 2, seq: 1000 }));
  talk.rest(1);
  talk.handshake(1, { sourcePort: 3 });
  talk.handshake(1, { sourcePort: 4 });
  talk.send(1, fromClient({ flags: 'PA', sourcePort: 4, seq: 1001, ack: ISN + 1 }, request));
  talk.rest(1);
  talk.handshake(1, { sourcePort: 5 });
  talk.send(1, fromClient({ flags: 'PA', sourcePort: 5, seq: 1001, ack: ISN + 1 }, get('/none')));
  talk.rest(1);
  talk.engine.sweep.endServer(0);
  const sent = talk.rest(2);
  const ofClients = sent.filter(({ ixp }) => ixp === undefined);
  t.same(
    ofClients.map(({ tcp }) => [tcp?.destinationPort, tcp?.flags, tcp?.seq]),
    [1, 2, 3, 4, 5].map((port) => [port, 'RA', ISN + 1]),
  );
  const ofNode = sent.filter(({ ixp, tcp }) => ixp !== undefined && tcp?.sourcePort === 1);
  t.same(
    ofNode.map(({ tcp }) => [tcp?.flags, tcp?.seq]),
    [['R', end]],
  );
  talk.counted({ closed_removed: 5, closed_maintenance: 0 });
  t.equal(talk.engine.sessions.ofServer[0], 0);
  talk.end(LINGER_MS + 100, 0);
  // The work is done: what comes later is not concerned.
  talk.handshake(LINGER_MS + 101);
  talk.quiet(LINGER_MS + 2 * AGAIN_MS);
  t.equal(talk.engine.sessions.size, 1);
});
