import t from 'tap';
import { build, type TcpOptionsSpec } from '../../lab/packet.js';
import { FrameFlags } from '../../src/datapath/datapath.js';
import { unfinished } from '../sim/frames.js';
import {
  CLIENT,
  Conversation,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
  KEY,
  MSS,
  toClient,
} from '../support/conversation.js';

const ALL: TcpOptionsSpec = { mss: 1460, windowScale: 9, sackPermitted: true, timestamps: [77, 0] };

t.test('a SYN with all options is answered with all of ours', async (t) => {
  const talk = new Conversation(t);
  talk.send(0, fromClient({ flags: 'S', seq: 1000, options: ALL }));
  const answer = talk.expect(
    0,
    toClient({
      flags: 'SA',
      seq: ISN,
      ack: 1001,
      options: { mss: MSS, windowScale: 7, sackPermitted: true },
    }),
  );
  t.equal(answer.tcp!.options.timestamps![1], 77, 'the TSval is echoed');
  talk.send(
    20,
    fromClient({
      flags: 'A',
      seq: 1001,
      ack: ISN + 1,
      options: { timestamps: [97, answer.tcp!.options.timestamps![0]] },
    }),
  );
  talk.end(500, 1);
  t.same(talk.events, ['opened', 'established']);
  talk.counted({ syn: 1, established: 1, sent: 1 });
});

t.test('a SYN/ACK has only options that the SYN offered', async (t) => {
  const cases: TcpOptionsSpec[] = [
    {},
    { mss: 536 },
    { windowScale: 0 },
    { sackPermitted: true },
    { timestamps: [0xffff_ffff, 0] },
    { mss: 9000, windowScale: 14 },
    { raw: Uint8Array.of(1, 1, 2, 4, 5, 180, 30, 4, 0, 0, 0, 0) },
  ];
  for (const options of cases) {
    const talk = new Conversation(t);
    talk.send(0, fromClient({ flags: 'S', seq: 1, options }));
    const { options: ours } = talk.expect(0, toClient({ flags: 'SA', ack: 2 })).tcp!;
    t.equal(ours.mss, MSS);
    t.equal(ours.windowScale, options.windowScale === undefined ? undefined : 7);
    t.equal(ours.sackPermitted, options.sackPermitted);
    t.equal(ours.timestamps?.[1], options.timestamps?.[0]);
    talk.end(0, 1);
  }
});

t.test('a SYN with malformed options opens no session', async (t) => {
  for (const raw of [
    Uint8Array.of(2, 4, 5),
    Uint8Array.of(2, 0, 0, 0),
    Uint8Array.of(8, 10, 0, 0),
    Uint8Array.of(3, 1, 0, 0),
  ]) {
    const talk = new Conversation(t);
    const padded = raw.length % 4 === 0 ? raw : Uint8Array.from([1, ...raw]);
    talk.send(0, fromClient({ flags: 'S', options: { raw: padded } }));
    talk.end(100, 0);
    talk.counted({ drop_malformed_tcp: 1, syn: 0 });
  }
});

t.test('a repeated SYN gets the same SYN/ACK', async (t) => {
  const talk = new Conversation(t);
  const syn = fromClient({ flags: 'S', seq: 1000, options: { mss: 1400 } });
  const answer = toClient({ flags: 'SA', seq: ISN, ack: 1001, options: { mss: MSS } });
  talk.send(0, syn);
  talk.expect(0, answer);
  talk.send(200, syn);
  talk.expect(200, answer);
  talk.end(300, 1);
  talk.counted({ syn: 1, syn_retransmitted: 1 });
});

t.test('a SYN/ACK is sent again with back-off, and given up', async (t) => {
  const talk = new Conversation(t);
  const answer = toClient({ flags: 'SA', seq: ISN, ack: 1001 });
  talk.send(0, fromClient({ flags: 'S', seq: 1000 }));
  for (const time of [0, 1000, 3000, 7000, 15_000]) talk.expect(time, answer);
  talk.quiet(30_950);
  t.equal(talk.engine.sessions.size, 1);
  talk.end(31_200, 0);
  t.same(talk.events, ['opened', 'closed handshake-timeout']);
  talk.counted({ syn_ack_retransmitted: 4, closed_handshake_timeout: 1 });
});

t.test('if the last ACK is lost, data completes the handshake as well', async (t) => {
  const talk = new Conversation(t);
  talk.send(0, fromClient({ flags: 'S', seq: 1000 }));
  talk.expect(0, toClient({ flags: 'SA' }));
  talk.send(30, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, get('/0')));
  talk.expect(30, inIxp(0, { type: IXP_TYPE.adopt }, { seq: 1001, ack: ISN + 1 }, get('/0')));
  t.same(talk.events.slice(0, 2), ['opened', 'established']);
});

t.test('an ACK of what was never sent establishes nothing', async (t) => {
  const talk = new Conversation(t);
  talk.send(0, fromClient({ flags: 'S', seq: 1000 }));
  talk.expect(0, toClient({ flags: 'SA' }));
  // RFC 9293 section 3.10.7.4: an unacceptable acknowledgement is answered with a reset.
  for (const ack of [ISN, ISN + 2, ISN + 0x8000_0000]) {
    talk.send(10, fromClient({ flags: 'A', seq: 1001, ack }));
    talk.expect(10, toClient({ flags: 'R', seq: ack }));
  }
  talk.end(900, 1);
  t.same(talk.events, ['opened']);
  talk.counted({ drop_bad_ack: 3, established: 0 });
});

t.test('half open, only an RST at exactly the next number resets', async (t) => {
  const talk = new Conversation(t);
  talk.send(0, fromClient({ flags: 'S', seq: 1000 }));
  talk.expect(0, toClient({ flags: 'SA' }));
  for (const seq of [999, 1000, 1002, 700_000]) talk.send(10, fromClient({ flags: 'R', seq }));
  talk.end(100, 1);
  talk.send(100, fromClient({ flags: 'R', seq: 1001 }));
  talk.end(5000, 0);
  t.same(talk.events, ['opened', 'closed client-reset']);
});

t.test('another SYN of the same port replaces a half-open session', async (t) => {
  const talk = new Conversation(t);
  talk.send(0, fromClient({ flags: 'S', seq: 1000 }));
  talk.expect(0, toClient({ flags: 'SA', ack: 1001 }));
  talk.send(10, fromClient({ flags: 'S', seq: 77_000 }));
  talk.expect(10, toClient({ flags: 'SA', ack: 77_001 }));
  talk.end(20, 1);
  t.same(talk.events, ['opened', 'closed replaced', 'opened']);
});

t.test(
  'sessions of recorded clients are kept beyond the limit: they cannot acknowledge a cookie',
  async (t) => {
    const talk = new Conversation(t, { limits: { halfOpen: 2 } });
    for (const port of [1001, 1002, 1003]) {
      talk.send(port, fromClient({ flags: 'S', seq: 1000, sourcePort: port }));
      talk.expect(port, toClient({ flags: 'SA', seq: ISN, destinationPort: port }));
    }
    talk.send(1003, fromClient({ flags: 'A', seq: 1001, ack: ISN + 1, sourcePort: 1001 }));
    talk.end(1990, 3);
    talk.counted({ syn: 3, syn_cookie: 0, established: 1, evicted_half_open: 0 });
  },
);

t.test('a full table evicts half-open sessions, and never those further on', async (t) => {
  const talk = new Conversation(t, { limits: { sessions: 2 } });
  talk.handshake(0, { sourcePort: 1 });
  talk.send(0, fromClient({ flags: 'S', seq: 5, sourcePort: 2 }));
  talk.expect(0, toClient({ flags: 'SA', destinationPort: 2 }));
  talk.handshake(10, { sourcePort: 3 });
  talk.counted({ evicted_half_open: 1, drop_sessions_full: 0 });
  talk.send(20, fromClient({ flags: 'S', seq: 5, sourcePort: 4 }));
  talk.end(100, 2);
  talk.counted({ evicted_half_open: 1, drop_sessions_full: 1 });
});

t.test('an initial sequence number is a cookie even if the session is kept', async (t) => {
  const isnAt = (time: number, port: number, seq = 1): number => {
    const talk = new Conversation(t, { isn: undefined });
    talk.send(time, fromClient({ flags: 'S', seq, sourcePort: port }));
    const answer = talk.expect(time, toClient({ flags: 'SA', destinationPort: port })).tcp!.seq;
    talk.counted({ syn: 1, syn_cookie: 0 });
    return answer;
  };
  const first = isnAt(0, 1000);
  t.equal(isnAt(100, 1000), first, 'it holds the options of the SYN');
  t.not(isnAt(0, 1000, 2), first, "it covers the client's ISN");
  t.not(isnAt(0, 1001), first, "it covers the client's port");
  t.not(isnAt(70_000, 1000), first, 'it covers the time');
});

t.test('sequence numbers wrap around', async (t) => {
  const talk = new Conversation(t, { isn: 0xffff_ffff });
  talk.send(0, fromClient({ flags: 'S', seq: 0xffff_ffff }));
  talk.expect(0, toClient({ flags: 'SA', seq: 0xffff_ffff, ack: 0 }));
  talk.send(0, fromClient({ flags: 'A', seq: 0, ack: 0 }));
  talk.send(0, fromClient({ flags: 'PA', seq: 0, ack: 0 }, get('/0')));
  talk.expect(0, inIxp(0, { type: IXP_TYPE.adopt }, { seq: 0, ack: 0 }, get('/0')));
});

t.test('segments without a session get an RST', async (t) => {
  const talk = new Conversation(t);
  talk.send(0, fromClient({ flags: 'A', seq: 7, ack: 9 }));
  talk.expect(0, toClient({ flags: 'R', seq: 9 }));
  talk.send(1, fromClient({ flags: 'FA', seq: 7, ack: 9 }, 'text'));
  talk.expect(1, toClient({ flags: 'R', seq: 9 }));
  talk.send(2, fromClient({ flags: 'SA', seq: 7, ack: 9 }));
  talk.expect(2, toClient({ flags: 'R', seq: 9 }));
  talk.send(3, fromClient({ flags: 'F', seq: 7 }, 'text'));
  talk.expect(3, toClient({ flags: 'RA', seq: 0, ack: 12 }));
  talk.send(4, fromClient({ flags: 'R', seq: 7 }));
  talk.send(4, fromClient({ flags: 'RA', seq: 7, ack: 9 }));
  talk.end(10, 0);
  talk.counted({ drop_no_session: 6 });
});

t.test('other addresses and ports are not ours', async (t) => {
  const talk = new Conversation(t);
  talk.send(0, fromClient({ flags: 'S', destinationPort: 443 }));
  talk.send(0, fromClient({ flags: 'S' }, undefined, { ip: { destination: '10.9.0.101' } }));
  talk.end(10, 0);
  talk.counted({ drop_not_ours: 2 });
});

t.test('an unfinished checksum is accepted, a wrong one is not', async (t) => {
  const talk = new Conversation(t);
  const syn = build(fromClient({ flags: 'S', seq: 1000 }), KEY);
  talk.send(0, unfinished(syn));
  talk.end(5, 0);
  talk.counted({ drop_tcp_checksum: 1 });
  talk.send(5, unfinished(syn), FrameFlags.checksumPartial);
  talk.expect(5, toClient({ flags: 'SA', ack: 1001 }));
});

t.test('answers go to the source of the frame', async (t) => {
  const talk = new Conversation(t);
  const router = '02:00:00:00:00:fe';
  talk.send(0, fromClient({ flags: 'S', seq: 1000 }, undefined, { ethernet: { source: router } }));
  talk.expect(0, toClient({ flags: 'SA' }, { ethernet: { destination: router } }));
  talk.expect(1000, toClient({ flags: 'SA' }, { ethernet: { destination: router } }));
});

t.test('a full transmit ring loses frames and nothing else', async (t) => {
  const talk = new Conversation(t);
  talk.datapath.roomsLeft = 0;
  talk.send(0, fromClient({ flags: 'S', seq: 1000 }));
  talk.quiet(500);
  talk.counted({ drop_transmit_full: 1 });
  talk.datapath.roomsLeft = 10;
  talk.expect(1000, toClient({ flags: 'SA', destinationPort: CLIENT.port, ack: 1001 }));
});
