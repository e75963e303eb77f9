/** From the complete head to a node that has confirmed it. */

import t from 'tap';
import type { TcpOptionsSpec } from '../../lab/packet.js';
import { Answer } from '../../src/directory/answers.js';
import { IxpFlag } from '../../src/wire/ixp.js';
import {
  answerEnd,
  Conversation,
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

const { adopt, segment } = IXP_TYPE;

t.test('IXP carries all that was agreed', async (t) => {
  const cases: [TcpOptionsSpec, { flags: number; scales: number; mss: number }][] = [
    [{}, { flags: 0, scales: 0, mss: 536 }],
    [{ mss: 1460 }, { flags: 0, scales: 0, mss: 1460 }],
    [{ mss: 100 }, { flags: 0, scales: 0, mss: 536 }],
    [
      { mss: 1400, windowScale: 9 },
      { flags: 1, scales: 0x97, mss: 1400 },
    ],
    [
      { mss: 1400, windowScale: 14, sackPermitted: true },
      { flags: 3, scales: 0xe7, mss: 1400 },
    ],
    [
      { mss: 1400, windowScale: 200 },
      { flags: 1, scales: 0xe7, mss: 1400 },
    ],
    [
      { mss: 1400, sackPermitted: true },
      { flags: 2, scales: 0, mss: 1400 },
    ],
  ];
  for (const [options, ixp] of cases) {
    const talk = new Conversation(t);
    const request = asked(talk, '/0', options);
    talk.expect(
      0,
      inIxp(
        0,
        {
          type: adopt,
          service: 0,
          confirm: 1001 + request.length,
          tsval: 0,
          ...ixp,
          // The request may go to another node.
          flags: ixp.flags | IxpFlag.holdReset,
        },
        { seq: 1001, ack: ISN + 1, window: 4321 },
        request,
      ),
    );
    talk.end(0, 1);
  }
});

t.test(
  'the window of a SYN is not scaled, so it is never handed over as a scaled one',
  async (t) => {
    const talk = new Conversation(t);
    talk.send(
      0,
      fromClient({ flags: 'S', seq: 1000, window: 60_000, options: { windowScale: 8 } }),
    );
    talk.expect(0, toClient({ flags: 'SA' }));
    const request = get('/0');
    // The ACK was lost, and the data comes in reverse order.
    talk.send(
      1,
      fromClient({ flags: 'PA', seq: 1011, ack: ISN + 1, window: 250 }, request.slice(10)),
    );
    talk.expect(1, toClient({ flags: 'A', ack: 1001 }));
    talk.send(
      2,
      fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1, window: 249 }, request.slice(0, 10)),
    );
    talk.expect(2, inIxp(0, { type: adopt }, { window: 249 }, request));
  },
);

t.test('a confirmed session passes', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  talk.end(5000, 1);
  t.same(talk.events, [
    'opened',
    'established',
    'request 1 GET /0',
    'handoff node 0 attempt 1',
    'adopted node 0',
  ]);
  t.equal(talk.states.active[0], 1);
  t.equal(talk.states.adopted[0], 1);
  const more = fromClient({ flags: 'A', seq: end, ack: 9999 });
  talk.send(5000, more);
  talk.expectForwarded(5000, 0, more);
});

t.test('silence: two tries of 300 ms, then the next holder, in the end 503', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/01');
  const end = 1001 + request.length;
  talk.expect(0, handed(0, request));
  talk.expect(300, handed(0, request));
  talk.expect(600, withdrawn(0, end));
  talk.expect(600, handed(1, request));
  talk.expect(900, handed(1, request));
  talk.expect(1200, withdrawn(1, end));
  talk.expect(1200, unavailable(request));
  talk.send(
    1201,
    fromClient({ flags: 'A', seq: end, ack: answerEnd(Answer.unavailable, request.length) }),
  );
  talk.end(2000, 1);
  t.same([...talk.states.active], [0, 0, 0]);
  talk.counted({
    handoffs: 2,
    handoff_retransmitted: 2,
    handoff_silent: 2,
    answer_503: 1,
    answers: 1,
  });
});

t.test(
  'after a refusal the next holder gets the session at once, and nothing is withdrawn',
  async (t) => {
    const talk = new Conversation(t);
    const request = asked(talk, '/012');
    talk.expect(0, handed(0, request));
    talk.send(1, notice(0, NOTICE.refused, { reason: 1, ack: 1001, seq: ISN + 1 }));
    talk.expect(1, handed(1, request));
    talk.send(2, notice(1, NOTICE.refused, { reason: 2 }));
    talk.expect(2, handed(2, request));
    // A repeated notice, and one of a node that is no longer asked, change nothing.
    talk.send(3, notice(1, NOTICE.refused, { reason: 2 }));
    talk.send(3, notice(2, NOTICE.refused, { reason: 2 }));
    talk.expect(3, unavailable(request));
    talk.end(4, 1);
    talk.counted({ handoff_refused: 3, answer_503: 1, drop_ixcp_stale: 1 });
    t.same(
      talk.events.filter((event) => event.startsWith('refused')),
      ['refused node 0 reason 1', 'refused node 1 reason 2', 'refused node 2 reason 2'],
    );
  },
);

t.test('a four-tuple in use: the next holder, or the same node a moment later', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/01');
  talk.expect(0, handed(0, request));
  talk.send(1, notice(0, NOTICE.refused, { reason: 3 }));
  talk.expect(1, handed(1, request));
  talk.send(2, notice(1, NOTICE.refused, { reason: 3 }));
  talk.quiet(300);
  talk.expect(301, handed(1, request));
  talk.send(302, notice(1, NOTICE.adopted, { ack: 1001 + request.length }));
  talk.end(2000, 1);
  talk.counted({ handoff_refused: 2, handoff_silent: 0, adopted: 1, answer_503: 0 });

  // As long as handoffs are sent at all, and no longer.
  const other = new Conversation(t);
  asked(other, '/0');
  other.expect(0, handed(0, request.replace('/01', '/0')));
  other.send(1, notice(0, NOTICE.refused, { reason: 3 }));
  other.expect(300, handed(0, request.replace('/01', '/0')));
  other.send(301, notice(0, NOTICE.refused, { reason: 3 }));
  other.expect(301, unavailable(request.replace('/01', '/0')));
  other.counted({
    handoff_refused: 2,
    handoff_silent: 0,
    adopted: 0,
    answer_503: 1,
    closed_no_node: 0,
  });
});

t.test('a client that has more than our 503 has an answer of a node: it is reset', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/0');
  talk.expect(0, handed(0, request));
  talk.expect(300, handed(0, request));
  talk.expect(600, withdrawn(0, 1001 + request.length));
  talk.expect(600, unavailable(request));
  const more = ISN + 1 + 5_000;
  talk.send(601, fromClient({ flags: 'A', seq: 1001 + request.length, ack: more }));
  talk.expect(601, toClient({ flags: 'RA', seq: ISN + 1, ack: 1001 + request.length }));
  talk.end(20_000, 0);
  t.equal(talk.events.at(-1), 'closed no-node');
  talk.counted({ closed_no_node: 1, reset_sent: 1, drop_bad_ack: 1 });
});

t.test('nodes that cannot take the session are left out', async (t) => {
  const talk = new Conversation(t);
  talk.nodes.setMac(0, undefined);
  const request = asked(talk, '/01');
  talk.expect(0, handed(1, request));
  const other = new Conversation(t);
  other.nodes.setMac(0, undefined);
  other.nodes.setMac(1, undefined);
  asked(other, '/01');
  other.expect(0, unavailable(request));
});

t.test('three silent handoffs in a row suspend a node', async (t) => {
  const talk = new Conversation(t, { timeouts: { handoff: 50 } });
  const request = get('/01');
  let time = 0;
  for (let i = 1; i <= 3; i++) {
    talk.handshake(time, { sourcePort: i });
    talk.send(time, fromClient({ flags: 'PA', sourcePort: i, seq: 1001, ack: ISN + 1 }, request));
    const session = 99 + i;
    talk.expect(time, inIxp(0, { type: adopt, session }, { sourcePort: i }, request));
    talk.expect(time + 50, inIxp(0, { type: adopt, session }, { sourcePort: i }, request));
    talk.expect(time + 100, inIxp(0, { type: segment, session }, { sourcePort: i, flags: 'R' }));
    talk.expect(time + 100, inIxp(1, { type: adopt, session }, { sourcePort: i }, request));
    talk.send(
      time + 110,
      notice(1, NOTICE.adopted, { session, clientPort: i, ack: 1001 + request.length }),
    );
    time += 200;
  }
  talk.handshake(time, { sourcePort: 9 });
  talk.send(time, fromClient({ flags: 'PA', sourcePort: 9, seq: 1001, ack: ISN + 1 }, request));
  talk.expect(time, inIxp(1, { type: adopt, session: 103 }, { sourcePort: 9 }, request));
});

t.test('after a confirmation of a part, the rest is sent again', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  const request = `GET /0 HTTP/1.1\r\nX: ${'x'.repeat(2500)}\r\n\r\n`;
  const end = 1001 + request.length;
  talk.send(0, fromClient({ flags: 'A', seq: 1001, ack: ISN + 1 }, request.slice(0, 1400)));
  talk.expect(0, toClient({ flags: 'A', ack: 2401 }));
  talk.send(0, fromClient({ flags: 'A', seq: 2401, ack: ISN + 1 }, request.slice(1400)));
  talk.expect(0, inIxp(0, { type: adopt, confirm: end }, { seq: 1001 }, request.slice(0, MSS)));
  talk.expect(
    0,
    inIxp(0, { type: segment, confirm: end }, { seq: 1001 + MSS }, request.slice(MSS)),
  );
  talk.send(10, notice(0, NOTICE.adopted, { ack: 1001 + MSS }));
  // The session does not pass yet: the client's next segment goes in IXP.
  talk.send(20, fromClient({ flags: 'A', seq: end, ack: ISN + 1 }, 'body'));
  talk.expect(20, inIxp(0, { type: segment }, { seq: end }, 'body'));
  talk.expect(
    310,
    inIxp(0, { type: segment, confirm: end }, { seq: 1001 + MSS }, request.slice(MSS)),
  );
  talk.send(320, notice(0, NOTICE.adopted, { ack: end }));
  talk.end(2000, 1);
  t.equal(talk.events.filter((event) => event.startsWith('adopted')).length, 1);
});

t.test(
  'a client that acknowledges an answer has it from the node, which confirms as well',
  async (t) => {
    const talk = new Conversation(t);
    const request = asked(talk, '/0');
    const end = 1001 + request.length;
    talk.expect(0, handed(0, request));
    const ack = fromClient({ flags: 'A', seq: end, ack: ISN + 1 + 500 });
    talk.send(10, ack);
    talk.expect(10, inIxp(0, { type: segment }, { flags: 'A', seq: end, ack: ISN + 501 }));
    talk.send(11, ack);
    talk.expectForwarded(11, 0, ack);
    talk.end(1000, 1);
  },
);

t.test('once a client has bytes of an answer, no other node gets the session', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/012');
  const end = 1001 + request.length;
  talk.expect(0, handed(0, request));
  talk.expect(300, handed(0, request));
  talk.expect(600, withdrawn(0, end));
  talk.expect(600, handed(1, request));
  // Node 0 had adopted, and its notices were lost: this acknowledges its answer. A second answer
  // from the same sequence number would mix two answers into one.
  talk.send(650, fromClient({ flags: 'A', seq: end, ack: ISN + 1 + 500 }));
  talk.send(5000, fromClient({ flags: 'A', seq: end, ack: ISN + 1 + 500 }));
  const others = talk.events.filter((event) => /^(handoff node 2|answered)/.test(event));
  t.same(others, []);
});

t.test('the FIN of a node confirms as well', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/0');
  const end = 1001 + request.length;
  talk.expect(0, handed(0, request));
  talk.send(10, notice(0, NOTICE.fin, { seq: 9000, ack: end }));
  const ack = fromClient({ flags: 'FA', seq: end, ack: 9001 });
  talk.send(11, ack);
  talk.expectForwarded(11, 0, ack);
  talk.end(5100, 0);
  t.equal(talk.events.at(-1), 'closed fin');
});

t.test('a node that confirms too late is reset', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/01');
  const end = 1001 + request.length;
  talk.expect(0, handed(0, request));
  talk.expect(300, handed(0, request));
  talk.expect(600, withdrawn(0, end));
  talk.expect(600, handed(1, request));
  talk.send(610, notice(0, NOTICE.adopted, { ack: end }));
  talk.expect(610, withdrawn(0, end));
  talk.send(620, notice(1, NOTICE.adopted, { ack: end }));
  talk.send(630, notice(0, NOTICE.adopted, { ack: end }));
  talk.expect(630, withdrawn(0, end));
  const more = fromClient({ flags: 'A', seq: end, ack: 7000 });
  talk.send(640, more);
  talk.expectForwarded(640, 1, more);
  t.same([...talk.states.active], [0, 1, 0]);
});

t.test('an RST of the node during the handoff ends the session', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/01');
  talk.expect(0, handed(0, request));
  talk.send(10, notice(0, NOTICE.reset, { seq: ISN + 1 }));
  talk.end(6000, 0);
  t.equal(talk.events.at(-1), 'closed node-reset');
  t.same([...talk.states.active], [0, 0, 0]);
});

t.test('an RST of the client during the handoff', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/01');
  const end = 1001 + request.length;
  talk.expect(0, handed(0, request));
  talk.send(10, fromClient({ flags: 'R', seq: end + 5 }));
  talk.send(10, fromClient({ flags: 'R', seq: 1001 }));
  talk.quiet(10);
  talk.counted({ drop_out_of_window: 2 });
  const reset = fromClient({ flags: 'R', seq: end });
  talk.send(20, reset);
  talk.expect(20, inIxp(0, { type: segment }, { flags: 'R', seq: end }));
  // Once more, and data that was overtaken. The node has never confirmed, so it gets nothing in
  // plain form.
  talk.send(21, reset);
  talk.send(22, fromClient({ flags: 'PA', seq: end, ack: ISN + 1 }, 'late'));
  t.ok(
    talk.rest(30).every((packet) => packet.ixp !== undefined),
    'the node gets it in IXP',
  );
  talk.end(6000, 0);
  t.equal(talk.events.at(-1), 'closed client-reset');
  talk.counted({ forwarded: 0 });
});
