/** Sessions whose node has confirmed and does not answer: IXP_RELEASE and its results. */
import t from 'tap';
import { addressNumber, type PacketSpec } from '../../lab/packet.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import { IxcpFlag } from '../../src/wire/ixcp.js';
import {
  CLIENT,
  Conversation,
  FIRST_NONCE,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
  NOTICE,
  notice,
  toClient,
} from '../support/conversation.js';
import { START } from '../support/uptime.js';

const { adopt, segment, release } = IXP_TYPE;
const ANSWER_MS = 1_000;
const HANDOFF_MS = 300;

function handed(node: number, request: string): PacketSpec {
  return inIxp(node, { type: adopt }, { flags: 'PA', seq: 1001, ack: ISN + 1 }, request);
}

function question(node: number, request: string): PacketSpec {
  const confirm = 1001 + request.length;
  return inIxp(node, { type: release, confirm }, { flags: 'A', seq: 1001, ack: ISN + 1 }, '');
}

function stateOf(talk: Conversation): number {
  const { sessions } = talk.engine;
  return sessions.state(sessions.find(addressNumber(CLIENT.address), (CLIENT.port << 16) >>> 0));
}

/**
 * Runs up to node 0's confirmation of a request at 10 ms. The nodes support RELEASE unless `flags`
 * say otherwise.
 */
function confirmed(
  talk: Conversation,
  request = get('/01'),
  flags: number = IxcpFlag.canRelease,
): number {
  for (const node of [0, 1, 2]) talk.states.reported(node, 1, 1, IxcpFlag.canAdopt | flags, START);
  talk.handshake(0);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1, window: 4321 }, request));
  talk.expect(0, handed(0, request));
  const end = 1001 + request.length;
  talk.send(10, notice(0, NOTICE.adopted, { ack: end }));
  return end;
}

t.test(
  'no server reads the request: the next holder gets the session, and the node none for a while',
  async (t) => {
    const talk = new Conversation(t);
    const request = get('/01');
    const end = confirmed(talk, request);
    talk.quiet(10 + ANSWER_MS - 1);
    talk.expect(10 + ANSWER_MS, question(0, request));
    // What the client sends meanwhile must not reach a kernel without the socket.
    talk.send(1035, fromClient({ flags: 'A', seq: end, ack: ISN + 1 }));
    talk.expect(1035, inIxp(0, { type: segment }, { flags: 'A', seq: end }, ''));
    talk.send(1040, notice(0, NOTICE.released));
    talk.expect(1040, handed(1, request));
    talk.send(1041, notice(0, NOTICE.released));
    talk.send(1042, notice(0, NOTICE.reset));
    talk.send(1043, notice(1, NOTICE.adopted, { ack: end }));
    const ack = fromClient({ flags: 'A', seq: end, ack: ISN + 500 });
    talk.send(1050, ack);
    talk.expectForwarded(1050, 1, ack);
    talk.quiet(4000);
    talk.counted({
      unanswered_asked: 1,
      handoff_taken_back: 1,
      adopted: 2,
      drop_ixcp_stale: 2,
      answer_503: 0,
    });
    t.equal(talk.states.active[0], 0);
    t.equal(talk.states.active[1], 1);
    t.ok(talk.events.includes('released node 0'));

    // Its kernel goes on adopting, which says nothing about its server. The node is the last choice
    // until it is tried again.
    talk.states.handoffConfirmed(0, 0);
    const other = (port: number, time: number, node: number): void => {
      talk.handshake(time, { sourcePort: port });
      talk.send(
        time,
        fromClient({ flags: 'PA', sourcePort: port, seq: 1001, ack: ISN + 1 }, request),
      );
      const session = FIRST_NONCE + port;
      talk.expect(time, inIxp(node, { type: adopt, session }, { sourcePort: port }, request));
      talk.send(time, notice(node, NOTICE.adopted, { session, clientPort: port, ack: end }));
    };
    other(1, 4001, 1);
    // One session tries the node. Others do not, until the result is known.
    other(2, 6100, 0);
    other(3, 6101, 1);
    talk.send(6110, notice(0, NOTICE.fin, { session: FIRST_NONCE + 2, clientPort: 2, ack: end }));
    other(4, 6111, 0);
  },
);

t.test('the node keeps the session: its server is working', async (t) => {
  const talk = new Conversation(t);
  const request = get('/01');
  const end = confirmed(talk, request);
  talk.expect(10 + ANSWER_MS, question(0, request));
  talk.send(1040, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: end }));
  t.equal(stateOf(talk), SessionState.passing);
  const ack = fromClient({ flags: 'A', seq: end, ack: ISN + 1 });
  talk.send(1041, ack);
  talk.expectForwarded(1041, 0, ack);
  // The head is kept, and the node is asked again, ever more seldom.
  talk.expect(1040 + 2 * ANSWER_MS, question(0, request));
  talk.send(3050, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: end }));
  talk.expect(3050 + 4 * ANSWER_MS, question(0, request));
  talk.send(7060, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: end }));
  talk.expect(7060 + 8 * ANSWER_MS, question(0, request));
  talk.send(15_070, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: end }));
  const answered = fromClient({ flags: 'A', seq: end, ack: ISN + 200 });
  talk.send(15_080, answered);
  talk.expectForwarded(15_080, 0, answered);
  talk.quiet(60_000);
  talk.counted({ unanswered_asked: 4, handoff_taken_back: 0 });
});

t.test('a node that does not answer the question keeps the session', async (t) => {
  const talk = new Conversation(t);
  const request = get('/01');
  confirmed(talk, request);
  talk.expect(10 + ANSWER_MS, question(0, request));
  talk.expect(10 + ANSWER_MS + HANDOFF_MS, question(0, request));
  talk.quiet(10 + ANSWER_MS + 2 * HANDOFF_MS + 20);
  t.equal(stateOf(talk), SessionState.passing);
  // A late answer to the question: the socket is gone, and the head is still kept.
  talk.send(3000, notice(0, NOTICE.released));
  talk.expect(3000, handed(1, request));
});

t.test('an answer that crosses the question', async (t) => {
  const talk = new Conversation(t);
  const request = get('/01');
  const end = confirmed(talk, request);
  talk.expect(10 + ANSWER_MS, question(0, request));
  talk.send(1040, fromClient({ flags: 'A', seq: end, ack: ISN + 200 }));
  talk.expect(1040, inIxp(0, { type: segment }, { flags: 'A', seq: end, ack: ISN + 200 }, ''));
  talk.quiet(1000 + HANDOFF_MS + 30);
  t.equal(stateOf(talk), SessionState.passing);
});

t.test('sessions whose node is not asked', async (t) => {
  const post = 'POST /01 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx';
  const cases: [string, (talk: Conversation) => void][] = [
    ['a request that must not be repeated', (talk) => confirmed(talk, post)],
    ['no other node holds it', (talk) => confirmed(talk, get('/0'))],
    ['a node of an earlier version', (talk) => confirmed(talk, get('/01'), 0)],
    [
      'the client has had some of the answer',
      (talk) => {
        const end = confirmed(talk);
        const ack = fromClient({ flags: 'A', seq: end, ack: ISN + 100 });
        talk.send(500, ack);
        talk.expectForwarded(500, 0, ack);
      },
    ],
    [
      'the client has sent more',
      (talk) => {
        const end = confirmed(talk);
        const more = fromClient({ flags: 'A', seq: end, ack: ISN + 1 }, 'GET');
        talk.send(500, more);
        talk.expectForwarded(500, 0, more);
      },
    ],
    [
      'the node has closed',
      (talk) => talk.send(500, notice(0, NOTICE.fin, { ack: confirmed(talk) })),
    ],
    [
      'the other holder stands still too',
      (talk) => {
        confirmed(talk);
        talk.states.serverStalled(1, 0, START + 10);
      },
    ],
  ];
  for (const [name, run] of cases) {
    const talk = new Conversation(t);
    run(talk);
    talk.quiet(4_900);
    talk.counted({ unanswered_asked: 0, handoff_taken_back: 0 });
    t.pass(name);
  }
});

t.test('heads that are kept for a recall make room for others', async (t) => {
  const talk = new Conversation(t, { limits: { heads: 16 } });
  confirmed(talk);
  for (let sourcePort = 1; sourcePort <= 16; sourcePort++) {
    talk.handshake(20, { sourcePort });
    talk.send(20, fromClient({ flags: 'A', sourcePort, seq: 1001, ack: ISN + 1 }, 'GET'));
    talk.expect(20, toClient({ flags: 'A', destinationPort: sourcePort, ack: 1004 }));
  }
  talk.quiet(2_000);
  t.equal(stateOf(talk), SessionState.passing);
  talk.counted({ unanswered_asked: 0, evicted_head: 0, evicted_kept_head: 1 });
});
