/** After the handoff: what passes through, and how a session ends. */
import t from 'tap';
import type { PacketSpec, TcpSpec } from '../../lab/packet.js';
import { FrameFlags } from '../../src/datapath/datapath.js';
import {
  CLIENT,
  Conversation,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
  NOTICE,
  notice,
  SERVER,
  toClient,
} from '../support/conversation.js';

/** A segment that must pass: sent and expected at `time`. */
function passes(talk: Conversation, time: number, tcp: TcpSpec, payload = '', node = 0): void {
  const packet = fromClient(tcp, payload);
  talk.send(time, packet);
  talk.expectForwarded(time, node, packet);
}

/**
 * At `time` the engine asks the node whether it still has the session, whose client has sent FIN at
 * `end`, and has acknowledged everything before `ack`.
 */
function asksNode(talk: Conversation, time: number, end: number, ack = 7000): void {
  talk.expect(time, inIxp(0, { type: IXP_TYPE.segment }, { flags: 'A', seq: end - 1, ack }, ''));
}

t.test('nothing changes but the MAC addresses', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  const cases: PacketSpec[] = [
    fromClient({ flags: 'A', seq: end, ack: 7000 }),
    fromClient({ flags: 'PA', seq: end, ack: 7000 }, 'GET / HTTP/1.1\r\n\r\n'),
    fromClient({
      flags: 'A',
      seq: end,
      ack: 7000,
      options: {
        sack: [
          [1, 2],
          [3, 4],
        ],
      },
    }),
    fromClient({ flags: 'A', seq: end, ack: 7000, options: { raw: Uint8Array.of(254, 4, 1, 2) } }),
    fromClient({ flags: 'AUEC', seq: end, ack: 7000, urgent: 9, window: 0 }, 'urgent'),
    fromClient({ flags: 'A', seq: end, ack: 7000 }, '', {
      ip: { tos: 3, ttl: 1, id: 777, dontFragment: false },
      trailer: new Uint8Array(6).fill(7),
    }),
    fromClient({ flags: 'A', seq: (end - 1) >>> 0, ack: 7000 }),
    fromClient({ flags: 'A', seq: 5, ack: 6 }),
    fromClient({ flags: 'A', seq: end, ack: 7000 }, 'x'.repeat(1460)),
  ];
  let time = 10;
  for (const packet of cases) {
    const source = {
      ...packet,
      ip: { ...packet.ip, source: CLIENT.address, destination: SERVER.address },
    };
    talk.send(++time, source);
    talk.expectForwarded(time, 0, source);
  }
  // A wrong or unfinished checksum is left to the receiver.
  const damaged = fromClient({ flags: 'A', seq: end, ack: 7000, checksum: 0xbad });
  talk.send(++time, damaged);
  talk.expectForwarded(time, 0, damaged);
  talk.send(++time, damaged, FrameFlags.checksumPartial);
  talk.expectForwarded(time, 0, damaged, FrameFlags.checksumPartial);
  talk.counted({ forwarded: cases.length + 2 });
});

t.test('FIN of the client, FIN of the node, a while for late packets, removed', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  passes(talk, 100, { flags: 'FA', seq: end, ack: 7000 });
  t.equal(talk.states.active[0], 1);
  talk.send(200, notice(0, NOTICE.fin, { seq: 7000, ack: end + 1 }));
  t.equal(talk.events.at(-1), 'closed fin');
  t.equal(talk.states.active[0], 0);
  passes(talk, 300, { flags: 'A', seq: end + 1, ack: 7001 });
  passes(talk, 5000, { flags: 'FA', seq: end, ack: 7000 });
  // The wait is one without packets: a slow client may still be receiving the end of the answer.
  talk.end(9980, 1);
  talk.end(10_020, 0);
  talk.counted({ closed_fin: 1, closed_idle: 0 });
});

t.test('the node may close first', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  talk.send(100, notice(0, NOTICE.fin, { seq: 7000, ack: end }));
  talk.quiet(20_000);
  passes(talk, 20_000, { flags: 'PFA', seq: end, ack: 7001 }, 'bye');
  t.equal(talk.events.at(-1), 'closed fin');
  talk.end(25_100, 0);
});

t.test('half closed and silent: a shorter wait once the node has sent FIN', async (t) => {
  const byClient = new Conversation(t);
  const end = byClient.passing(0);
  passes(byClient, 100, { flags: 'FA', seq: end, ack: 7000 });
  // The client only listens now. Its window may be closed for minutes, and the node still has to
  // send FIN. The questions come after 10, 20, 40, 80 and 160 s.
  t.equal(byClient.rest(179_000).filter(({ ixp }) => ixp !== undefined).length, 5);
  byClient.end(180_000, 1);
  byClient.end(180_200, 0);
  const byNode = new Conversation(t);
  byNode.passing(0);
  byNode.send(100, notice(0, NOTICE.fin, { seq: 7000 }));
  byNode.end(59_000, 1);
  byNode.end(60_200, 0);
  byNode.counted({ closed_idle: 1 });
});

t.test("half closed, and the notice of the node's FIN is lost: the node is asked", async (t) => {
  const ended = new Conversation(t);
  const end = ended.passing(0);
  passes(ended, 100, { flags: 'FA', seq: end, ack: 7000 });
  passes(ended, 5000, { flags: 'A', seq: end + 1, ack: 8000 });
  asksNode(ended, 15_000, end, 8000);
  ended.send(15_001, notice(0, NOTICE.reset, { seq: 8000, ack: end - 1 }));
  t.equal(ended.events.at(-1), 'closed node-reset');
  ended.end(20_100, 0);
  ended.counted({ node_asked: 1, closed_idle: 0 });

  // A socket that is still there answers with an ACK, and the node reports it. The engine asks
  // again when the silence has doubled.
  const alive = new Conversation(t);
  alive.passing(0);
  passes(alive, 0, { flags: 'FA', seq: end, ack: 7000 });
  const answered = (seconds: readonly number[]): void => {
    for (const second of seconds) {
      asksNode(alive, second * 1_000, end);
      alive.send(second * 1_000 + 100, notice(0, NOTICE.adopted, { seq: 7000, ack: end + 1 }));
    }
  };
  answered([10, 20, 40, 80]);
  // One question, or its answer, may be lost.
  asksNode(alive, 160_000, end);
  answered([320, 640]);
  t.notOk(alive.events.some((event) => event.startsWith('closed')));
  // The node's answers are no sign of the client: no session may be silent for longer than the
  // idle timeout.
  alive.quiet(899_000);
  alive.end(901_000, 0);
  alive.counted({ node_asked: 7, closed_idle: 1 });
  t.equal(alive.events.at(-1), 'closed idle');
});

t.test('half closed: a node that stops answering is not believed forever', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  passes(talk, 0, { flags: 'FA', seq: end, ack: 7000 });
  asksNode(talk, 10_000, end);
  talk.send(10_200, notice(0, NOTICE.adopted, { seq: 7000, ack: end + 1 }));
  for (const second of [20, 40, 80, 160]) asksNode(talk, second * 1_000, end);
  talk.end(180_200, 0);
  talk.counted({ node_asked: 5, closed_idle: 1 });
});

t.test('a FIN out of sequence is forwarded but does not count', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  passes(talk, 10, { flags: 'FA', seq: end + 100, ack: 7000 });
  passes(talk, 11, { flags: 'FA', seq: (end + 0x8000_0000) >>> 0, ack: 7000 });
  talk.send(12, notice(0, NOTICE.fin, { seq: 7000, ack: end }));
  t.notOk(talk.events.some((event) => event.startsWith('closed')));
  talk.end(59_000, 1);
});

t.test('an RST of the client counts if it is exact, and is forwarded in any case', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  for (const seq of [end + 1, end - 1, end + 10_000_000]) passes(talk, 10, { flags: 'R', seq });
  t.notOk(talk.events.some((event) => event.startsWith('closed')));
  passes(talk, 20, { flags: 'PA', seq: end, ack: 7000 }, 'abcd');
  passes(talk, 30, { flags: 'RA', seq: end + 4, ack: 7000 });
  t.equal(talk.events.at(-1), 'closed client-reset');
  passes(talk, 40, { flags: 'A', seq: end, ack: 7000 });
  talk.end(5100, 0);
  t.equal(talk.states.active[0], 0);
});

t.test("after a FIN, an RST at the FIN's own number counts as well", async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  passes(talk, 10, { flags: 'FA', seq: end, ack: 7000 });
  for (const seq of [end - 1, end + 2]) passes(talk, 20, { flags: 'R', seq });
  t.notOk(talk.events.some((event) => event.startsWith('closed')));
  passes(talk, 30, { flags: 'R', seq: end });
  t.equal(talk.events.at(-1), 'closed client-reset');
});

t.test('an inexact RST does not make the next one exact', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  passes(talk, 10, { flags: 'R', seq: end + 50 });
  passes(talk, 11, { flags: 'R', seq: end + 50 });
  t.notOk(talk.events.some((event) => event.startsWith('closed')));
  passes(talk, 12, { flags: 'R', seq: end });
  t.equal(talk.events.at(-1), 'closed client-reset', "as after the node's challenge ACK");
});

t.test('a FIN after the end of a session keeps it no longer than any packet', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  passes(talk, 10, { flags: 'R', seq: end });
  t.equal(talk.events.at(-1), 'closed client-reset');
  passes(talk, 1000, { flags: 'FA', seq: end, ack: 7000 });
  talk.end(5900, 1);
  talk.end(6100, 0);
});

t.test('half closed: the wait is never longer than the idle timeout', async (t) => {
  const talk = new Conversation(t, { timeouts: { idle: 20_000, closing: 5000 } });
  const end = talk.passing(0);
  passes(talk, 100, { flags: 'FA', seq: end, ack: 7000 });
  asksNode(talk, 10_100, end);
  talk.end(19_900, 1);
  talk.end(20_200, 0);
});

t.test('an RST of the node', async (t) => {
  const talk = new Conversation(t);
  talk.passing(0);
  talk.send(100, notice(0, NOTICE.reset, { seq: 7000 }));
  t.equal(talk.events.at(-1), 'closed node-reset');
  talk.end(5200, 0);
  talk.counted({ closed_node_reset: 1 });
});

t.test('idle: either side keeps a session alive', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  passes(talk, 800_000, { flags: 'A', seq: end, ack: 7000 });
  talk.send(1_600_000, notice(0, NOTICE.adopted, { ack: end }));
  talk.end(2_400_000, 1);
  talk.end(2_500_100, 0);
  t.equal(talk.events.at(-1), 'closed idle');
  talk.counted({ closed_idle: 1 });
});

t.test('the clock may wrap around in the middle of a session', async (t) => {
  const talk = new Conversation(t, { start: 0xffff_ffff - 5000 });
  const end = talk.passing(0);
  passes(talk, 20_000, { flags: 'A', seq: end, ack: 7000 });
  talk.end(910_000, 1);
  talk.end(920_200, 0);
});

t.test('the clock may be that of a calendar', async (t) => {
  const talk = new Conversation(t, { start: 1_763_665_000_123.75 });
  const end = talk.passing(0);
  passes(talk, 100, { flags: 'FA', seq: end, ack: 7000 });
  talk.send(200, notice(0, NOTICE.fin, { seq: 7000 }));
  talk.end(5220, 0);
});

t.test('a port used again: while the old session lingers', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  passes(talk, 100, { flags: 'FA', seq: end, ack: 7000 });
  talk.send(110, notice(0, NOTICE.fin, { seq: 7000 }));
  // The old SYN, late: no new connection.
  talk.send(120, fromClient({ flags: 'S', seq: 1000 }));
  talk.quiet(130);
  talk.send(130, fromClient({ flags: 'S', seq: 90_000 }));
  talk.expect(130, toClient({ flags: 'SA', ack: 90_001 }));
  talk.send(140, fromClient({ flags: 'PA', seq: 90_001, ack: ISN + 1 }, get('/1')));
  talk.expect(140, inIxp(1, { type: IXP_TYPE.adopt, session: 101 }, { seq: 90_001 }, get('/1')));
  // Notices of the previous session mean nothing now.
  talk.send(150, notice(0, NOTICE.reset, { session: 100 }));
  talk.end(160, 1);
  talk.counted({ drop_ixcp_stale: 1, syn: 2 });
});

t.test('a SYN inside a session is never forwarded in plain form', async (t) => {
  const talk = new Conversation(t);
  talk.passing(0);
  for (const seq of [1000, 123_456]) {
    talk.send(10, fromClient({ flags: 'S', seq }));
    talk.expect(10, inIxp(0, { type: IXP_TYPE.segment }, { flags: 'S', seq }));
  }
  talk.end(50, 1);
  talk.counted({ forwarded: 0 });
});

t.test('a node whose address is lost', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  talk.nodes.setMac(0, undefined);
  talk.send(10, fromClient({ flags: 'A', seq: end, ack: 7000 }));
  talk.quiet(20);
  talk.counted({ drop_unresolved: 1 });
  talk.nodes.setMac(0, Uint8Array.of(2, 0, 0, 0, 0, 0x10));
  passes(talk, 30, { flags: 'A', seq: end, ack: 7000 });
});
