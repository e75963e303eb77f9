/** Handoffs that no node need confirm, because the client will do so soon: IXP_CLIENT_CONFIRMS. */
import t from 'tap';
import {
  addressNumber,
  build,
  type IxpSpec,
  type PacketSpec,
  type TcpOptionsSpec,
} from '../../lab/packet.js';
import { RecordReader } from '../../src/engine/table/session-record.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import {
  CLIENT,
  Conversation,
  FIRST_NONCE,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
  MSS,
  NOTICE,
  notice,
  SERVER,
  toClient,
} from '../support/conversation.js';
import { sessionMemory } from '../support/session-memory.js';
import { START } from '../support/uptime.js';

const { adopt, segment } = IXP_TYPE;
/** The acknowledgement number of a client that has received only our SYN. */
const OUR_SYN_ACKED = ISN + 1;
/** Timestamps, and the flag of a request that another node may answer. */
const AGREED = 4 | 64;
const LEFT_TO_CLIENT = AGREED | 8;
const SYN: TcpOptionsSpec = { mss: 1460, timestamps: [77, 0] };
/** A quarter of the 300 ms after which a handoff is sent again. */
const NEAR_MS = 75;

function slotOf(talk: Conversation, port: number = CLIENT.port): number {
  return talk.engine.sessions.find(addressNumber(CLIENT.address), (port << 16) >>> 0);
}

/**
 * A request for `path` at `time`. It echoes the TSval of the SYN/ACK, sent at 0, plus `later` ms.
 */
function asked(talk: Conversation, path: string, time: number, later = 0, syn = SYN): string {
  const answer = talk.handshake(0, { options: syn });
  const request = get(path);
  const tsval = answer.tcp!.options.timestamps?.[0];
  const options = tsval === undefined ? {} : { timestamps: [78, (tsval + later) >>> 0] as const };
  talk.send(time, fromClient({ flags: 'PA', seq: 1001, ack: OUR_SYN_ACKED, options }, request));
  return request;
}

function handed(node: number, request: string, ixp: IxpSpec): PacketSpec {
  return inIxp(node, { type: adopt, ...ixp }, { seq: 1001, ack: ISN + 1 }, request);
}

t.test('a client that reports bytes of an answer by SACK confirms as well', async (t) => {
  for (const [edge, confirms] of [
    [OUR_SYN_ACKED + 2_000, true],
    // Of a SYN/ACK that arrived twice.
    [OUR_SYN_ACKED, false],
  ] as const) {
    const talk = new Conversation(t);
    const request = asked(talk, '/01', 0, 0, { mss: 1460, sackPermitted: true });
    talk.rest(0);
    const options = { sack: [[edge - 1, edge]] as [number, number][] };
    const seq = 1001 + request.length;
    talk.send(1, fromClient({ flags: 'A', seq, ack: OUR_SYN_ACKED, options }));
    talk.rest(2_000);
    talk.counted({ adopted: confirms ? 1 : 0, handoff_silent: confirms ? 0 : 2 });
  }
});

t.test('only a client that is near is to confirm', async (t) => {
  const cases: [string, number, number, TcpOptionsSpec, number][] = [
    ['the SYN/ACK was sent just now', 0, 0, SYN, LEFT_TO_CLIENT],
    ['it was sent a quarter of the limit ago', NEAR_MS, 0, SYN, LEFT_TO_CLIENT],
    ['it was sent longer ago', NEAR_MS + 1, 0, SYN, AGREED],
    ['the kernel sent it and read the clock later', 0, 8, SYN, LEFT_TO_CLIENT],
    ['it was sent in the future', 0, NEAR_MS + 1, SYN, AGREED],
    ['an old timestamp', 0, -1_000_000, SYN, AGREED],
    ['without timestamps', 0, 0, { mss: 1460 }, AGREED & ~4],
  ];
  for (const [what, time, later, syn, flags] of cases) {
    await t.test(what, async (t) => {
      const talk = new Conversation(t);
      const request = asked(talk, '/0', time, later, syn);
      talk.expect(time, handed(0, request, { flags }));
    });
  }
});

t.test("the client's acknowledgement of the answer confirms", async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/0', 0);
  talk.expect(0, handed(0, request, { flags: LEFT_TO_CLIENT }));
  const ack = fromClient({ flags: 'A', seq: 1001 + request.length, ack: ISN + 500 });
  talk.send(40, ack);
  talk.expect(40, inIxp(0, { type: segment }, { flags: 'A', ack: ISN + 500 }, ''));
  talk.send(41, ack);
  talk.expectForwarded(41, 0, ack);
  talk.end(5000, 1);
  talk.counted({ adopted: 1, handoff_asked: 0, handoff_retransmitted: 0 });
  t.equal(talk.states.adopted[0], 1);
});

t.test('a notice confirms as well, if the node sends one', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/0', 0);
  talk.expect(0, handed(0, request, { flags: LEFT_TO_CLIENT }));
  talk.send(1, notice(0, NOTICE.adopted, { ack: 1001 + request.length }));
  talk.end(5000, 1);
  talk.counted({ adopted: 1, handoff_asked: 0 });
});

t.test('without an acknowledgement the node is asked, as often as any other', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/01', 0);
  const end = 1001 + request.length;
  talk.expect(0, handed(0, request, { flags: LEFT_TO_CLIENT }));
  talk.expect(300, handed(0, request, { flags: AGREED }));
  talk.counted({ handoff_asked: 1, handoff_retransmitted: 0 });
  talk.expect(600, handed(0, request, { flags: AGREED }));
  talk.counted({ handoff_asked: 1, handoff_retransmitted: 1, handoff_silent: 0 });
  talk.expect(900, inIxp(0, { type: segment }, { flags: 'R', seq: end }, ''));
  // The client's acknowledgement does not confirm the next node: two nodes may have answered.
  talk.expect(900, handed(1, request, { flags: AGREED }));
  talk.send(901, notice(1, NOTICE.adopted, { ack: end }));
  talk.end(3000, 1);
  talk.counted({ handoff_asked: 1, handoff_silent: 1, adopted: 1 });
});

t.test('a node that answers late, when asked, keeps the session', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/01', 0);
  talk.expect(0, handed(0, request, { flags: LEFT_TO_CLIENT }));
  talk.expect(300, handed(0, request, { flags: AGREED }));
  talk.send(301, notice(0, NOTICE.adopted, { ack: 1001 + request.length }));
  talk.end(3000, 1);
  talk.counted({ adopted: 1, handoff_asked: 1, handoff_retransmitted: 0 });
});

t.test('rooms for heads', async (t) => {
  /**
   * Hands over a session of this client port. Then the kernel sees its client acknowledge an
   * answer.
   */
  const hand = (talk: Conversation, port: number, flags: number, answered: boolean): void => {
    const [tsval] = talk.handshake(0, { sourcePort: port, options: SYN }).tcp!.options.timestamps!;
    const options = { timestamps: [78, tsval] as const };
    talk.send(
      0,
      fromClient(
        { flags: 'PA', sourcePort: port, seq: 1001, ack: OUR_SYN_ACKED, options },
        get('/0'),
      ),
    );
    const ixp = { type: adopt, flags, session: FIRST_NONCE + port - 1 };
    talk.expect(0, inIxp(0, ixp, { sourcePort: port }, get('/0')));
    if (answered) talk.engine.sessions.setClientAck(slotOf(talk, port), ISN + 300);
  };
  /** A client that begins a head and sends no more. */
  const begin = (talk: Conversation, port: number): void => {
    talk.handshake(1, { sourcePort: port });
    talk.send(
      1,
      fromClient({ flags: 'PA', sourcePort: port, seq: 1001, ack: OUR_SYN_ACKED }, 'GET'),
    );
    talk.expect(1, toClient({ flags: 'A', ack: 1004, destinationPort: port }));
  };

  await t.test('when less than half are free, the node is asked', async () => {
    const talk = new Conversation(t, { limits: { heads: 4 } });
    hand(talk, 1, LEFT_TO_CLIENT, false);
    hand(talk, 2, LEFT_TO_CLIENT, false);
    hand(talk, 3, AGREED, false);
  });

  await t.test(
    'when none is free, a session whose client has an answer gives its room back',
    async (t) => {
      const talk = new Conversation(t, { limits: { heads: 3 } });
      hand(talk, 1, LEFT_TO_CLIENT, true);
      begin(talk, 2);
      begin(talk, 3);
      begin(talk, 4);
      talk.counted({ evicted_head: 0, adopted: 1 });
      t.equal(talk.engine.sessions.inState[SessionState.passing], 1);
      talk.end(2000, 4);
    },
  );
});

t.test(
  'an upload after an answer passes from the first segment that the engine sees',
  async (t) => {
    const talk = new Conversation(t);
    const request = asked(talk, '/0', 0);
    talk.expect(0, handed(0, request, { flags: LEFT_TO_CLIENT }));
    const end = 1001 + request.length;
    // The kernel forwards what lies behind the head, but nothing beyond the window that the
    // handshake offered.
    talk.engine.sessions.setClientAck(slotOf(talk), ISN + 26);
    const far = fromClient(
      { flags: 'A', seq: end + 70_000, ack: ISN + 26 },
      'a later part of the body',
    );
    talk.send(20, far);
    talk.expectForwarded(20, 0, far);
    talk.counted({ adopted: 1, drop_out_of_window: 0 });
  },
);

t.test('an RST at the end of an upload counts as well', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/0', 0);
  talk.expect(0, handed(0, request, { flags: LEFT_TO_CLIENT }));
  const end = 1001 + request.length + 70_000;
  talk.engine.sessions.setClientAck(slotOf(talk), ISN + 26);
  talk.engine.sessions.setReceiveNext(slotOf(talk), end);
  const reset = fromClient({ flags: 'R', seq: end });
  talk.send(20, reset);
  talk.expectForwarded(20, 0, reset);
  t.equal(talk.events.at(-1), 'closed client-reset');
});

t.test('the node gets the ICMP error about the beginning of its answer', async () => {
  const talk = new Conversation(t);
  const request = asked(talk, '/0', 0);
  talk.expect(0, handed(0, request, { flags: LEFT_TO_CLIENT }));
  const answer = toClient({ flags: 'A', seq: OUR_SYN_ACKED, ack: 1001 + request.length });
  const error: PacketSpec = {
    ethernet: { source: CLIENT.mac },
    ip: { source: '192.0.2.1', destination: SERVER.address },
    icmp: {
      type: 3,
      code: 4,
      rest: 1280,
      quoted: build({ ...answer, payload: 'x' }).slice(14, 42),
    },
  };
  talk.send(5, error);
  talk.expectForwarded(5, 0, error);
  talk.counted({ icmp_forwarded: 1, drop_malformed_icmp: 0 });
});

t.test('after an RST of the node, the node answers what the client still sends', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/0', 0);
  talk.expect(0, handed(0, request, { flags: LEFT_TO_CLIENT }));
  talk.send(5, notice(0, NOTICE.reset, { seq: OUR_SYN_ACKED, ack: 1001 + request.length }));
  t.equal(talk.events.at(-1), 'closed node-reset');
  const late = fromClient({ flags: 'A', seq: 1001 + request.length, ack: ISN + 100 });
  talk.send(6, late);
  talk.expectForwarded(6, 0, late);
});

t.test(
  'a later process takes over sessions that a node may have, and none whose head was incomplete',
  async (t) => {
    const records = sessionMemory(64);
    const before = new Conversation(t, { engine: { memory: records } });
    const head = get('/01');
    // 1: handed over. 2: handed over to its second node, because the first was silent. 3: in
    // several segments. 4: not handed over yet.
    const heads = new Map([
      [2, head],
      [1, get('/0')],
      [3, `GET /0 HTTP/1.1\r\nX: ${'x'.repeat(1500)}\r\n\r\n`],
      [4, 'GET /0'],
    ]);
    for (const [port, text] of heads) {
      const time = port === 2 ? 0 : 950;
      const [tsval] = before.handshake(time, { sourcePort: port, options: SYN }).tcp!.options
        .timestamps!;
      const options = { timestamps: [78, tsval] as const };
      const from = { flags: 'PA', sourcePort: port, seq: 1001, ack: OUR_SYN_ACKED, options };
      before.send(time, fromClient(from, text.slice(0, 1400)));
      if (text.length > 1400)
        before.send(time, fromClient({ ...from, seq: 2401 }, text.slice(1400)));
      before.rest(port === 2 ? 950 : time);
    }
    const old = new RecordReader(records.records);
    const talk = new Conversation(t, { start: START + 1_000 });
    for (let slot = 0; slot < old.capacity; slot++)
      t.ok(talk.engine.takeOver(old, slot, 2, 0, START + 1_000));
    talk.counted({ taken_over: 3 });
    const { sessions } = talk.engine;
    for (const port of [1, 2, 3]) {
      const seq = 1001 + heads.get(port)!.length;
      const more = fromClient({ flags: 'PA', sourcePort: port, seq, ack: 7000 }, 'more');
      const slot = sessions.find(addressNumber(CLIENT.address), (port << 16) >>> 0);
      const ixcp = {
        session: sessions.nonce(slot),
        clientPort: port,
        seq: OUR_SYN_ACKED,
        ack: seq,
      };
      // It acknowledges an answer. A session that two nodes may have answered is not confirmed by
      // that.
      talk.send(port, more);
      talk.expect(
        port,
        inIxp(2, { type: segment, session: ixcp.session }, { sourcePort: port, seq }, 'more'),
      );
      t.equal(sessions.state(slot), port === 2 ? SessionState.handing : SessionState.passing);
      if (port === 2) talk.send(port, notice(2, NOTICE.adopted, ixcp));
      talk.send(port, more);
      talk.expectForwarded(port, 2, more);
    }
    talk.end(2000, 3);
  },
);

t.test('a node that was silent before is asked at once, until it answers', async (t) => {
  const talk = new Conversation(t);
  talk.states.handoffTimedOut(0, 0);
  const request = asked(talk, '/0', 0);
  talk.expect(0, handed(0, request, { flags: AGREED }));
  t.ok(talk.states.hasFailed(0, 0));
  talk.send(1, notice(0, NOTICE.adopted, { ack: 1001 + request.length }));
  t.notOk(talk.states.hasFailed(0, 0));
});

t.test('the next holder after a refusal is asked', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/01', 0);
  talk.expect(0, handed(0, request, { flags: LEFT_TO_CLIENT }));
  talk.send(1, notice(0, NOTICE.refused, { reason: 1, ack: 1001, seq: ISN + 1 }));
  talk.expect(1, handed(1, request, { flags: AGREED }));
});

t.test('the node must confirm a head in several segments', async (t) => {
  const talk = new Conversation(t);
  const [tsval] = talk.handshake(0, { options: SYN }).tcp!.options.timestamps!;
  const request = `GET /0 HTTP/1.1\r\nX: ${'x'.repeat(2500)}\r\n\r\n`;
  const options = { timestamps: [78, tsval] as const };
  talk.send(
    0,
    fromClient({ flags: 'A', seq: 1001, ack: OUR_SYN_ACKED, options }, request.slice(0, 1400)),
  );
  talk.rest(0);
  talk.send(
    0,
    fromClient({ flags: 'A', seq: 2401, ack: OUR_SYN_ACKED, options }, request.slice(1400)),
  );
  talk.expect(
    0,
    inIxp(0, { type: adopt, flags: AGREED }, { seq: 1001 }, request.slice(0, MSS - 12)),
  );
});
