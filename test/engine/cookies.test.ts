/** SYN floods: cookies instead of half-open sessions. */
import t, { type Test } from 'tap';
import { addressNumber, type TcpOptionsSpec } from '../../lab/packet.js';
import { COOKIE_LIFE_MS, cookieBits, SynCookies } from '../../src/engine/syn-cookie.js';
import { sessionHash, sessionWorker } from '../../src/engine/table/session-record.js';
import { SessionFlag, SessionState } from '../../src/engine/table/session-table.js';
import { IxpFlag } from '../../src/wire/ixp.js';
import {
  CLIENT,
  Conversation,
  type ConversationOptions,
  FIRST_NONCE,
  fromClient,
  get,
  IXP_TYPE,
  inIxp,
  MSS,
  SECRET,
  SERVER,
  toClient,
} from '../support/conversation.js';
import { IN_COOKIE_PERIOD as START } from '../support/uptime.js';

const HOLD_RESET = IxpFlag.holdReset;
const ALL: TcpOptionsSpec = { mss: 1460, windowScale: 9, sackPermitted: true, timestamps: [77, 0] };

/** A conversation with one half-open session, which is the limit. */
function flooded(t: Test, options: ConversationOptions = {}): Conversation {
  const talk = new Conversation(t, {
    isn: undefined,
    limits: { halfOpen: 1 },
    start: START,
    ...options,
  });
  talk.send(0, fromClient({ flags: 'S', seq: 1, sourcePort: 9 }));
  talk.expect(0, toClient({ flags: 'SA', destinationPort: 9 }));
  t.ok(talk.engine.stateless);
  return talk;
}

t.test(
  'with too many half-open sessions nothing is kept of a SYN, and its client is served',
  async (t) => {
    const talk = flooded(t);
    talk.send(1, fromClient({ flags: 'S', seq: 1000, window: 5000, options: ALL }));
    const answer = talk.expect(
      1,
      toClient({
        flags: 'SA',
        ack: 1001,
        window: 20_480,
        options: { mss: MSS, windowScale: 7, sackPermitted: true },
      }),
    );
    t.equal(talk.engine.sessions.size, 1, 'nothing is kept');
    talk.counted({ syn: 1, syn_cookie: 1, evicted_half_open: 0 });
    const { seq, options } = answer.tcp!;
    t.equal(options.timestamps![1], 77, 'the TSval is echoed');

    const ack = (seq + 1) >>> 0;
    const timestamps = [97, options.timestamps![0]] as const;
    talk.send(30, fromClient({ flags: 'A', seq: 1001, ack, window: 300, options: { timestamps } }));
    talk.quiet(40);
    t.same(talk.events, ['opened', 'opened', 'established']);
    const slot = talk.engine.sessions.find(
      addressNumber(CLIENT.address),
      (CLIENT.port << 16) >>> 0,
    );
    const { sessions } = talk.engine;
    t.equal(sessions.state(slot), SessionState.collecting);
    t.same(
      [sessions.flags(slot), sessions.scales(slot), sessions.mss(slot), sessions.window(slot)],
      [SessionFlag.windowScaleOk | SessionFlag.sackOk | SessionFlag.timestampsOk, 0x97, 1460, 300],
    );
    talk.send(50, fromClient({ flags: 'PA', seq: 1001, ack, options: { timestamps } }, get('/0')));
    talk.expect(
      50,
      inIxp(
        0,
        // All three options, and a client that is near: its request arrives 50 ms after the
        // SYN/ACK.
        {
          type: IXP_TYPE.adopt,
          mss: 1460,
          flags: 15 | HOLD_RESET,
          scales: 0x97,
          tsval: 97,
          session: FIRST_NONCE + 1,
        },
        { flags: 'PA', seq: 1001, ack },
        get('/0'),
      ),
    );
    talk.counted({ syn: 1, established: 1, cookie_accepted: 1, drop_cookie: 0, requests: 1 });
  },
);

t.test('data in the first segment is taken, and only offered options are agreed', async (t) => {
  for (const [options, agreed] of [
    [{}, { mss: 536, flags: HOLD_RESET, scales: 0 }],
    [{ mss: 1400 }, { mss: 1400, flags: HOLD_RESET, scales: 0 }],
    [
      { mss: 1459, windowScale: 0 },
      { mss: 1452, flags: 1 | HOLD_RESET, scales: 0x07 },
    ],
    [
      { mss: 200, sackPermitted: true },
      { mss: 536, flags: 2 | HOLD_RESET, scales: 0 },
    ],
  ] as const) {
    const talk = flooded(t);
    talk.send(1, fromClient({ flags: 'S', seq: 0xffff_ffff, options }));
    const { seq } = talk.expect(1, toClient({ flags: 'SA', ack: 0 })).tcp!;
    const ack = (seq + 1) >>> 0;
    talk.send(2, fromClient({ flags: 'PA', seq: 0, ack }, get('/0')));
    talk.expect(2, inIxp(0, { session: FIRST_NONCE + 1, ...agreed }, { seq: 0, ack }, get('/0')));
  }
});

t.test(
  'while cookies are outstanding, segments after a lost first one are dropped without an RST',
  async (t) => {
    const talk = flooded(t);
    talk.send(1, fromClient({ flags: 'S', seq: 1000 }));
    const ack = (talk.expect(1, toClient({ flags: 'SA' })).tcp!.seq + 1) >>> 0;
    talk.send(2, fromClient({ flags: 'A', seq: 2461, ack }));
    talk.quiet(10);
    talk.counted({ drop_cookie: 1, cookie_accepted: 0, reset_sent: 0 });
    // An unknown client gets an RST at once.
    const strange = (ack ^ 0x4000_0000) >>> 0;
    talk.send(11, fromClient({ flags: 'A', seq: 1001, ack: strange }));
    talk.expect(11, toClient({ flags: 'R', seq: strange }));
    talk.send(12, fromClient({ flags: 'A', seq: 1001, ack, sourcePort: 8 }));
    talk.expect(12, toClient({ flags: 'R', seq: ack, destinationPort: 8 }));
    talk.send(13, fromClient({ flags: 'F', seq: 1001 }));
    talk.expect(13, toClient({ flags: 'RA', seq: 0, ack: 1002 }));
    talk.send(14, fromClient({ flags: 'RA', seq: 1001, ack }));
    talk.end(20, 1);
    talk.send(21, fromClient({ flags: 'A', seq: 1001, ack }));
    talk.end(30, 2);
    talk.counted({ cookie_accepted: 1, drop_cookie: 1, reset_sent: 3 });
  },
);

t.test('with timestamps, the client must echo one from the time of the cookie', async (t) => {
  const talk = flooded(t);
  talk.send(1, fromClient({ flags: 'S', seq: 1000, options: ALL }));
  const { seq, options } = talk.expect(1, toClient({ flags: 'SA' })).tcp!;
  const ack = (seq + 1) >>> 0;
  const [tsval] = options.timestamps!;
  for (const tsecr of [tsval - COOKIE_LIFE_MS, tsval + 1000, tsval ^ 0x8000_0000]) {
    const timestamps = [97, tsecr >>> 0] as const;
    talk.send(2, fromClient({ flags: 'A', seq: 1001, ack, options: { timestamps } }));
  }
  talk.send(2, fromClient({ flags: 'A', seq: 1001, ack }));
  talk.quiet(3);
  talk.counted({ drop_cookie: 4 });
  talk.send(3, fromClient({ flags: 'A', seq: 1001, ack, options: { timestamps: [97, tsval] } }));
  talk.counted({ drop_cookie: 4, cookie_accepted: 1 });
});

/** The cookie for the usual client's SYN without options, sent `at` ms into a conversation. */
function cookieAt(at: number, seq = 1000): number {
  return new SynCookies(SECRET.subarray(16)).make(
    addressNumber(CLIENT.address),
    addressNumber(SERVER.address),
    ((CLIENT.port << 16) | SERVER.port) >>> 0,
    seq,
    cookieBits(1400, 0, 0),
    START + at,
  );
}

t.test(
  "a cookie of the kernel is accepted like the engine's own, until it is too old",
  async (t) => {
    // Another period begins 48,576 ms after the start.
    for (const [sent, received, good] of [
      [0, 0, true],
      [0, 48_500, true],
      [0, 114_100, true],
      [0, 114_200, false],
      [48_500, 48_600, true],
    ] as const) {
      const talk = new Conversation(t, { isn: undefined, start: START });
      talk.quiet(sent);
      talk.engine.cookieSent((START + sent + 2) >>> 0);
      t.notOk(talk.engine.stateless);
      const ack = (cookieAt(sent) + 1) >>> 0;
      talk.send(received, fromClient({ flags: 'A', seq: 1001, ack }));
      if (!good) talk.expect(received, toClient({ flags: 'R', seq: ack }));
      talk.quiet(received + 1);
      talk.counted({ cookie_accepted: good ? 1 : 0, drop_cookie: 0, reset_sent: good ? 0 : 1 });
    }
  },
);

t.test('an engine accepts cookies only for a while after a SYN was answered', async (t) => {
  const talk = new Conversation(t, { isn: undefined, start: START });
  const good = fromClient({ flags: 'A', seq: 1001, ack: (cookieAt(0) + 1) >>> 0 });
  talk.send(0, good);
  talk.expect(0, toClient({ flags: 'R' }));
  talk.engine.cookieSent(START >>> 0);
  talk.engine.cookieSent((START - 5_000) >>> 0);
  // From the period in which the cookie is checked.
  const late = (at: number) => fromClient({ flags: 'A', seq: 1001, ack: (cookieAt(at) + 1) >>> 0 });
  talk.send(COOKIE_LIFE_MS, late(COOKIE_LIFE_MS));
  talk.expect(COOKIE_LIFE_MS, toClient({ flags: 'R' }));
  talk.counted({ drop_cookie: 0, cookie_accepted: 0, drop_no_session: 2 });
});

t.test('an engine that starts continues the handshakes of another', async (t) => {
  const isn = (at: number, options: TcpOptionsSpec): number => {
    // This engine answers a SYN as always, and ends before the client sends more.
    const gone = new Conversation(t, { isn: undefined, start: START });
    gone.send(at, fromClient({ flags: 'S', seq: 1000, options }));
    const { seq } = gone.expect(at, toClient({ flags: 'SA', ack: 1001 })).tcp!;
    gone.counted({ syn: 1, syn_cookie: 0 });
    return seq;
  };
  const ack = (isn(0, { mss: 1400 }) + 1) >>> 0;
  const talk = new Conversation(t, { isn: undefined, start: START });
  talk.engine.begin(START + 3_000);
  talk.send(3_000, fromClient({ flags: 'PA', seq: 1001, ack }, get('/0')));
  talk.expect(3_000, inIxp(0, { mss: 1400, flags: HOLD_RESET }, { seq: 1001, ack }, get('/0')));
  talk.counted({ cookie_accepted: 1, established: 1, reset_sent: 0 });
  // A segment from the middle of an unknown connection gets an RST, when no node has it.
  talk.send(3_010, fromClient({ flags: 'PA', seq: 77, ack: 99, sourcePort: 7 }, 'more'));
  const sent = talk.rest(3_700).filter(({ tcp }) => tcp?.sourcePort === 7 || tcp?.seq === 99);
  t.same(
    sent.map(({ ixp, tcp }) => ixp?.type ?? tcp?.flags),
    [...Array<number>(6).fill(IXP_TYPE.query), 'R'],
  );
});

t.test(
  'a client that acknowledges an earlier cookie gets the session of its second SYN',
  async (t) => {
    const talk = new Conversation(t, { isn: undefined, start: START });
    talk.engine.cookieSent(START >>> 0);
    talk.send(1000, fromClient({ flags: 'S', seq: 1000, options: { mss: 900, windowScale: 3 } }));
    talk.expect(1000, toClient({ flags: 'SA', ack: 1001 }));
    const ack = (cookieAt(0) + 1) >>> 0;
    talk.send(1001, fromClient({ flags: 'PA', seq: 1001, ack }, get('/0')));
    // The options agreed in the kernel's SYN/ACK count.
    talk.expect(
      1001,
      inIxp(
        0,
        { mss: 1400, flags: HOLD_RESET, session: FIRST_NONCE + 1 },
        { seq: 1001, ack },
        get('/0'),
      ),
    );
    t.same(talk.events.slice(0, 2), ['opened', 'established']);
    talk.counted({ established: 1, cookie_accepted: 1, syn: 1 });
  },
);

t.test(
  "half open, a late copy of an earlier connection's first segment counts for nothing",
  async (t) => {
    const talk = new Conversation(t, { isn: undefined, start: START });
    talk.engine.begin(START);
    const syn = (at: number, seq: number): number => {
      talk.send(at, fromClient({ flags: 'S', seq }));
      return (talk.expect(at, toClient({ flags: 'SA', ack: seq + 1 })).tcp!.seq + 1) >>> 0;
    };
    const earlier = syn(0, 1000);
    const request = get('/0');
    const ack = syn(10, 70_000);
    talk.send(11, fromClient({ flags: 'PA', seq: 1001, ack: earlier }, request));
    t.notOk(
      talk.events.includes('established'),
      'the engine waits for the client of the second SYN',
    );
    talk.send(12, fromClient({ flags: 'PA', seq: 70_001, ack }, request));
    talk.expect(
      12,
      inIxp(0, { flags: HOLD_RESET, session: FIRST_NONCE + 1 }, { seq: 70_001, ack }, request),
    );
    talk.counted({ cookie_accepted: 0, established: 1 });
  },
);

t.test('half open, an acknowledgement of neither ISN nor cookie gets an RST', async (t) => {
  const talk = new Conversation(t, { isn: undefined, start: START });
  talk.engine.cookieSent(START >>> 0);
  talk.send(0, fromClient({ flags: 'S', seq: 1000 }));
  talk.expect(0, toClient({ flags: 'SA', ack: 1001 }));
  talk.send(1, fromClient({ flags: 'A', seq: 1001, ack: 7 }));
  talk.expect(1, toClient({ flags: 'R', seq: 7 }));
  talk.end(5, 1);
  talk.counted({ drop_bad_ack: 1, cookie_accepted: 0 });
});

t.test("in a full table a cookie's client can replace only a half-open session", async (t) => {
  const talk = flooded(t, { limits: { sessions: 2, halfOpen: 1 } });
  const acks = [1, 2, 3].map((port) => {
    talk.send(port, fromClient({ flags: 'S', seq: 1000, sourcePort: port }));
    return (talk.expect(port, toClient({ flags: 'SA', destinationPort: port })).tcp!.seq + 1) >>> 0;
  });
  acks.forEach((ack, index) => {
    talk.send(10 + index, fromClient({ flags: 'A', seq: 1001, ack, sourcePort: 1 + index }));
  });
  talk.end(20, 2);
  talk.counted({ cookie_accepted: 2, evicted_half_open: 1, drop_sessions_full: 1, established: 2 });
  t.notOk(talk.engine.stateless);
});

t.test('no cookie is sent when the transmit ring is full', async (t) => {
  const talk = flooded(t);
  talk.datapath.roomsLeft = 0;
  talk.send(1, fromClient({ flags: 'S', seq: 1000 }));
  talk.end(5, 1);
  talk.counted({ syn_cookie: 0, drop_transmit_full: 1 });
});

t.test('engine threads give every session a nonce of its own', async (t) => {
  const numbers: number[] = [];
  const client = addressNumber(CLIENT.address);
  for (const worker of [0, 1, 2]) {
    const talk = new Conversation(t, { engine: { shard: { worker, workers: 3 } } });
    for (let port = 1; port <= 30; port++) {
      const key = (port << 16) >>> 0;
      // The hash of a conversation has no seeds.
      if (sessionWorker(sessionHash(client, key, 0, 0), 3) !== worker) continue;
      talk.handshake(port, { sourcePort: port });
      numbers.push(talk.engine.sessions.nonce(talk.engine.sessions.find(client, key)));
    }
  }
  t.equal(numbers.length, 30);
  t.equal(new Set(numbers).size, 30);
});
