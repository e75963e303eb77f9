/** Answers that the engine sends itself, up to the end of the connection. */
import fc from 'fast-check';
import t, { type Test } from 'tap';
import type { TcpSpec } from '../../lab/packet.js';
import { Answer } from '../../src/directory/answers.js';
import {
  answerEnd,
  answered,
  Conversation,
  type ConversationOptions,
  fromClient,
  get,
  ISN,
  toClient,
} from '../support/conversation.js';
import { ack, text } from '../support/head-frames.js';
import { answerText } from '../support/known-answers.js';
import { HEAD_BYTES } from '../support/known-paths.js';

const REQUEST = get('/nowhere');
const NEXT = 1001 + REQUEST.length;
const TEXT = answerText(Answer.notFound, REQUEST.length);
const END = answerEnd(Answer.notFound, REQUEST.length);
const ANSWER = answered(Answer.notFound, REQUEST.length);

/** A conversation up to the request for what is nowhere, with this window and SYN. */
function asked(
  t: Test,
  tcp: TcpSpec = {},
  syn: TcpSpec = {},
  options: ConversationOptions = {},
): Conversation {
  const talk = new Conversation(t, options);
  talk.handshake(0, syn);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1, ...tcp }, REQUEST));
  return talk;
}

function closes(talk: Conversation, time: number, seq = NEXT): void {
  talk.send(time, fromClient({ flags: 'FA', seq, ack: END }));
  talk.expect(time, toClient({ flags: 'A', seq: END, ack: seq + 1 }));
}

t.test('a head that is too large is answered with data and FIN in one segment', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  const huge = `GET /0 HTTP/1.1\r\nX: ${'x'.repeat(HEAD_BYTES)}`;
  for (let at = 0; at < huge.length; at += 1000) {
    talk.send(1, text(huge.slice(at, at + 1000), at));
    if (at + 1000 < huge.length) talk.expect(1, ack(at + 1000));
  }
  talk.expect(1, answered(Answer.headTooLarge, huge.length));
  const next = 1001 + huge.length;
  const end = answerEnd(Answer.headTooLarge, huge.length);
  talk.send(2, fromClient({ flags: 'A', seq: next, ack: end }));
  talk.send(3, fromClient({ flags: 'FA', seq: next, ack: end }));
  talk.expect(3, toClient({ flags: 'A', seq: end, ack: next + 1 }));
  talk.end(4_000, 1);
  talk.end(6_000, 0);
  talk.counted({ answer_431: 1, closed_fin: 1, handoffs: 0 });
});

t.test('an answer that is not acknowledged comes again, later and later', async (t) => {
  const talk = asked(t);
  for (const time of [0, 1_000, 3_000, 7_000, 15_000, 31_000]) talk.expect(time, ANSWER);
  talk.end(62_900, 1);
  talk.end(63_100, 0);
  t.equal(talk.events.at(-1), 'closed idle');
  talk.counted({ answers_retransmitted: 5, answers_unacknowledged: 1, closed_idle: 1 });
});

t.test(
  'a request that comes again has not been answered: the answer goes out at once',
  async (t) => {
    const talk = asked(t);
    talk.expect(0, ANSWER);
    talk.send(200, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, REQUEST));
    talk.expect(200, ANSWER);
    talk.send(201, fromClient({ flags: 'A', seq: NEXT, ack: END }));
    closes(talk, 202);
    talk.end(2_000, 1);
  },
);

t.test('a FIN that is lost comes again alone', async (t) => {
  const talk = asked(t);
  talk.expect(0, ANSWER);
  talk.send(1, fromClient({ flags: 'A', seq: NEXT, ack: END - 1 }));
  talk.expect(1_001, toClient({ flags: 'FA', seq: END - 1, ack: NEXT }));
  talk.send(1_010, fromClient({ flags: 'A', seq: NEXT, ack: END }));
  closes(talk, 1_020);
});

t.test('no segment is larger than the MSS of the client', async (t) => {
  const talk = asked(t, {}, { options: { mss: 48 } });
  let at = 0;
  for (; at + 48 < TEXT.length; at += 48)
    talk.expect(0, { ...toClient({ flags: 'A', seq: ISN + 1 + at }), payload: TEXT.slice(at, 48) });
  talk.expect(0, { ...toClient({ flags: 'FPA', seq: ISN + 1 + at }), payload: TEXT.slice(at) });
});

t.test('what the window has no room for waits until it opens', async (t) => {
  const talk = asked(t, { window: 10 });
  talk.expect(0, { ...toClient({ flags: 'A', seq: ISN + 1 }), payload: TEXT.slice(0, 10) });
  talk.quiet(1);
  talk.send(2, fromClient({ flags: 'A', seq: NEXT, ack: ISN + 11, window: 0 }));
  talk.quiet(900);
  // The client is asked with one byte, and says the same again.
  talk.expect(1_002, { ...toClient({ flags: 'A', seq: ISN + 11 }), payload: TEXT[10]! });
  talk.send(1_003, fromClient({ flags: 'A', seq: NEXT, ack: ISN + 11, window: 0 }));
  talk.send(1_500, fromClient({ flags: 'A', seq: NEXT, ack: ISN + 11, window: TEXT.length - 10 }));
  // The window ends before the FIN.
  talk.expect(1_500, { ...toClient({ flags: 'PA', seq: ISN + 12 }), payload: TEXT.slice(11) });
  talk.send(1_510, fromClient({ flags: 'A', seq: NEXT, ack: END - 1, window: 100 }));
  talk.expect(1_510, toClient({ flags: 'FA', seq: END - 1 }));
  talk.send(1_520, fromClient({ flags: 'A', seq: NEXT, ack: END }));
  closes(talk, 1_530);
  talk.counted({ answers_unacknowledged: 0 });
});

t.test('a scaled window', async (t) => {
  const talk = asked(t, { window: 1 }, { options: { windowScale: 3 } });
  talk.expect(0, { ...toClient({ flags: 'A', seq: ISN + 1 }), payload: TEXT.slice(0, 8) });
});

t.test('what the client still sends is acknowledged and thrown away', async (t) => {
  const talk = asked(t);
  talk.expect(0, ANSWER);
  let next = NEXT;
  for (let time = 10; time < 29_000; time += 1_000) {
    talk.send(time, fromClient({ flags: 'A', seq: next, ack: END }, 'x'.repeat(1_000)));
    next += 1_000;
    talk.expect(time, toClient({ flags: 'A', seq: END, ack: next }));
  }
  // A gap is not acknowledged.
  talk.send(29_000, fromClient({ flags: 'A', seq: next + 5, ack: END }, 'later'));
  talk.expect(29_000, toClient({ flags: 'A', seq: END, ack: next }));
  talk.counted({ discarded_bytes: 29_000 });
  // Its time is over.
  talk.expect(30_000, toClient({ flags: 'RA', seq: END, ack: next }));
  talk.end(31_000, 0);
  t.equal(talk.events.at(-1), 'closed answered');
});

t.test('a client that has the answer and is silent is forgotten', async (t) => {
  const talk = asked(t);
  talk.expect(0, ANSWER);
  talk.send(10, fromClient({ flags: 'A', seq: NEXT, ack: END }));
  talk.end(4_990, 1);
  talk.end(5_050, 0);
  talk.counted({ closed_answered: 1, reset_sent: 0 });
});

t.test('half-close: the answer acknowledges the FIN, and its own ends the session', async (t) => {
  const talk = asked(t, { flags: 'FPA' });
  talk.expect(0, answered(Answer.notFound, REQUEST.length, { ack: NEXT + 1 }));
  talk.send(1, fromClient({ flags: 'A', seq: NEXT + 1, ack: END }));
  talk.end(2, 1);
  t.equal(talk.events.at(-1), 'closed fin');
});

t.test('both FINs at once', async (t) => {
  const talk = asked(t);
  talk.expect(0, ANSWER);
  talk.send(1, fromClient({ flags: 'FA', seq: NEXT, ack: ISN + 1 }));
  talk.expect(1, toClient({ flags: 'A', seq: END, ack: NEXT + 1 }));
  talk.send(2, fromClient({ flags: 'A', seq: NEXT + 1, ack: END }));
  talk.end(3, 1);
  t.equal(talk.events.at(-1), 'closed fin');
});

t.test('after the end a FIN is acknowledged again, and a new SYN is welcome', async (t) => {
  const talk = asked(t);
  talk.expect(0, ANSWER);
  closes(talk, 1);
  closes(talk, 300);
  talk.send(301, fromClient({ flags: 'A', seq: NEXT + 1, ack: END }));
  talk.send(302, fromClient({ flags: 'R', seq: NEXT + 1 }));
  talk.quiet(303);
  talk.send(304, fromClient({ flags: 'S', seq: 77_000 }));
  talk.expect(304, toClient({ flags: 'SA', ack: 77_001 }));
});

t.test('resets, SYNs and wrong numbers inside an answer', async (t) => {
  const talk = asked(t);
  talk.expect(0, ANSWER);
  const challenge = toClient({ flags: 'A', seq: END, ack: NEXT });
  talk.send(1, fromClient({ flags: 'S', seq: 1000 }));
  talk.expect(1, challenge);
  talk.send(2, fromClient({ flags: 'R', seq: NEXT + 10 }));
  talk.expect(2, challenge);
  talk.send(3, fromClient({ flags: 'A', seq: NEXT, ack: END + 1 }));
  talk.expect(3, challenge);
  talk.send(4, fromClient({ flags: 'A', seq: NEXT + 1_000_000, ack: END }));
  talk.expect(4, challenge);
  talk.send(5, fromClient({ flags: '', seq: NEXT }, 'x'));
  talk.send(6, fromClient({ flags: 'R', seq: NEXT - 1_000_000 }));
  talk.counted({ drop_bad_ack: 1, drop_out_of_window: 2, drop_malformed_tcp: 1 });
  talk.send(7, fromClient({ flags: 'R', seq: NEXT }));
  talk.end(8, 0);
  t.equal(talk.events.at(-1), 'closed client-reset');
});

t.test('whatever a client sends, all that it gets is the answer, in its window', async (t) => {
  const step = fc.record({
    wait: fc.nat(1_500),
    acked: fc.nat(TEXT.length + 1),
    window: fc.oneof(fc.nat(5), fc.nat(200)),
    more: fc.nat(20),
    at: fc.integer({ min: -30, max: 30 }),
    fin: fc.boolean(),
  });
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 12 }),
      fc.integer({ min: 0, max: 60 }),
      (steps, first) => {
        const talk = asked(t, { window: first }, { options: { mss: 60 } });
        let time = 0;
        let una = 0;
        let edge = first;
        const check = (): boolean =>
          talk.rest(time).every(({ tcp, payload }) => {
            if (tcp!.flags.includes('R')) return true;
            const at = tcp!.seq - ISN - 1;
            const end = at + payload.length + (tcp!.flags.includes('F') ? 1 : 0);
            // A window may be probed with one byte.
            const fits = end <= edge || end - at <= 1;
            return (
              fits && payload.length <= 60 && TEXT.startsWith(Buffer.from(payload).toString(), at)
            );
          });
        if (!check()) return false;
        for (const { wait, acked, window, more, at, fin } of steps) {
          time += wait;
          if (!check()) return false;
          una = Math.max(una, acked);
          edge = Math.max(edge, una + window);
          const flags = fin ? 'FA' : 'A';
          const spec = { flags, seq: NEXT + at, ack: ISN + 1 + una, window };
          talk.send(time, fromClient(spec, 'x'.repeat(more)));
          if (!check()) return false;
        }
        time += 120_000;
        return check() && talk.engine.sessions.size === 0;
      },
    ),
    { numRuns: 60 },
  );
  t.pass('60 clients');
});
