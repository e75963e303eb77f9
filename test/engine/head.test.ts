/** Collecting the request head from any segments. */
import t from 'tap';
import { Answer } from '../../src/directory/answers.js';
import { Random } from '../sim/random.js';
import {
  answered,
  Conversation,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
  MSS,
  toClient,
} from '../support/conversation.js';
import { ack, adopt, text } from '../support/head-frames.js';
import { HEAD_BYTES } from '../support/known-paths.js';
import { START, USUAL_START } from '../support/uptime.js';

const REQUEST = get('/0');
const LENGTH = REQUEST.length;

t.test('a head in one segment is handed over at once, unacknowledged', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(5, text(REQUEST, 0));
  talk.expect(5, adopt(REQUEST));
  talk.end(250, 1);
  t.same(talk.events, ['opened', 'established', 'request 1 GET /0', 'handoff node 0 attempt 1']);
  talk.counted({ requests: 1, handoffs: 1 });
});

t.test('a head in two segments, cut at every place', async (t) => {
  for (let cut = 1; cut < LENGTH; cut++) {
    const talk = new Conversation(t);
    talk.handshake(0);
    talk.send(1, text(REQUEST.slice(0, cut), 0));
    talk.expect(1, ack(cut));
    talk.send(2, text(REQUEST.slice(cut), cut));
    talk.expect(2, adopt(REQUEST));
    talk.end(2, 1);
  }
});

t.test('the same in the wrong order', async (t) => {
  for (let cut = 1; cut < LENGTH; cut++) {
    const talk = new Conversation(t);
    talk.handshake(0);
    talk.send(1, text(REQUEST.slice(cut), cut));
    talk.expect(1, ack(0));
    talk.send(2, text(REQUEST.slice(0, cut), 0));
    talk.expect(2, adopt(REQUEST));
    talk.end(2, 1);
  }
});

t.test('byte by byte, each acknowledged', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  for (let i = 0; i < LENGTH - 1; i++) {
    talk.send(i * 10, text(REQUEST[i]!, i));
    talk.expect(i * 10, ack(i + 1));
  }
  talk.send(LENGTH * 10, text(REQUEST[LENGTH - 1]!, LENGTH - 1));
  talk.expect(LENGTH * 10, adopt(REQUEST));
  t.equal(talk.dispatcher.looked, LENGTH, 'each byte is inspected once');
});

t.test('any pieces, in any order, overlapping and repeated', async (t) => {
  // Each uptime has seeds of its own.
  const usual = START === USUAL_START;
  const first = usual ? 1 : 1_000 + (START % 100_003);
  for (let seed = first; seed < first + (usual ? 200 : 50); seed++) {
    const random = new Random(seed);
    const isn = random.pick([1000, 0xffff_ffff, 0xffff_fff0, 0x7fff_fffa]);
    const talk = new Conversation(t);
    talk.handshake(0, { seq: isn });
    let time = 0;
    for (let handed = false; !handed; ) {
      const start = random.between(0, LENGTH - 1);
      const end = random.between(start + 1, LENGTH);
      talk.send(++time, text(REQUEST.slice(start, end), start, 'PA', isn));
      if (talk.events.includes('request 1 GET /0')) {
        talk.expect(time, adopt(REQUEST, isn));
        handed = true;
      } else talk.expect(time, toClient({ flags: 'A', seq: ISN + 1 }));
    }
    talk.end(time, 1);
  }
});

t.test('bytes that were inspected do not change', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(1, text('GET /0 ', 0));
  talk.expect(1, ack(7));
  talk.send(2, text('GET /1 HTTP/1.1\r\n\r\n', 0));
  talk.expect(2, adopt('GET /0 HTTP/1.1\r\n\r\n'));
});

t.test('data after the head is handed over with it', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  const both = REQUEST + get('/1');
  talk.send(1, text(both, 0));
  talk.expect(1, adopt(both));
});

t.test(
  'a long head is handed over in several frames, of which only the first builds the socket',
  async (t) => {
    const talk = new Conversation(t);
    talk.handshake(0);
    const head = `GET /0 HTTP/1.1\r\nX: ${'x'.repeat(3000)}\r\n\r\n`;
    for (let at = 0; at < head.length; at += 1000) {
      talk.send(1, text(head.slice(at, at + 1000), at));
      if (at + 1000 < head.length) talk.expect(1, ack(at + 1000));
    }
    const confirm = 1001 + head.length;
    for (let at = 0; at < head.length; at += MSS) {
      const payload = head.slice(at, at + MSS);
      const type = at === 0 ? IXP_TYPE.adopt : IXP_TYPE.segment;
      const got = talk.expect(
        1,
        inIxp(0, { type, confirm }, { seq: 1001 + at, ack: ISN + 1 }, payload),
      );
      t.ok(got.frame.length <= 1514, 'within the MTU');
    }
    talk.end(2, 1);
  },
);

t.test('the offered window shrinks as bytes are kept', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(1, text('GET /0 HTTP/1.1\r\n', 0));
  const first = talk.expect(1, ack(17)).tcp!.window;
  talk.send(2, text(`X: ${'x'.repeat(997)}`, 17));
  t.equal(first - talk.expect(2, ack(1017)).tcp!.window, 1000);
});

t.test('a scaled window is offered with its scale', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0, { options: { windowScale: 3 } });
  talk.send(1, text('GET ', 0));
  const { window } = talk.expect(1, ack(4)).tcp!;
  t.ok(window * 128 >= HEAD_BYTES && window * 128 <= 65_535, `${window} times 128`);
});

t.test('refusals are answered by the balancer itself', async (t) => {
  const cases: [string, number, string][] = [
    ['BAD\r\n\r\n', Answer.badRequest, 'answer_400'],
    ['BAD', Answer.badRequest, 'answer_400'],
    [get('/nowhere'), Answer.notFound, 'answer_404'],
  ];
  for (const [request, answer, counter] of cases) {
    const talk = new Conversation(t);
    talk.handshake(0);
    for (let at = 0; at < request.length; at += 1000) {
      talk.send(1, text(request.slice(at, at + 1000), at));
      if (at + 1000 < request.length) talk.expect(1, ack(at + 1000));
    }
    talk.expect(1, answered(answer, request.length));
    talk.end(2, 1);
    talk.counted({ [counter]: 1, answers: 1 });
  }
});

t.test('a head that is not complete in time gets 408', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(3000, text('GET /0 HT', 0));
  talk.expect(3000, ack(9));
  // The time counts from the end of the handshake: more bytes do not extend it.
  talk.expect(10_000, answered(Answer.timeout, 9));
  talk.counted({ answer_408: 1 });
});

t.test('a client that never sends a byte is closed without an answer', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.expect(10_000, answered(Answer.silentClose, 0));
  talk.counted({ closed_silent_client: 1, answer_408: 0 });
});

t.test('a client that leaves a gap at the start is closed without an answer as well', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(1, text('late', 5));
  talk.expect(1, ack(0));
  talk.expect(10_000, answered(Answer.silentClose, 0));
});

t.test('FIN instead of a request', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(1, text('', 0, 'FA'));
  talk.expect(1, answered(Answer.silentClose, 0, { ack: 1002 }));
  talk.end(2, 1);
});

t.test('FIN in the middle of a head', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(1, text('GET /0 H', 0, 'FPA'));
  talk.expect(1, answered(Answer.badRequest, 8, { ack: 1010 }));
});

t.test('a FIN with the last bytes of a head is handed over with them', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(1, text(REQUEST, 0, 'FPA'));
  talk.expect(
    1,
    inIxp(0, { type: IXP_TYPE.adopt, confirm: 1002 + LENGTH }, { flags: 'PA', seq: 1001 }, REQUEST),
  );
  talk.expect(1, inIxp(0, { type: IXP_TYPE.segment }, { flags: 'FA', seq: 1001 + LENGTH }, ''));
  talk.end(2, 1);
});

t.test('a FIN behind a gap waits until the gap is filled', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(1, text(REQUEST.slice(10), 10, 'FPA'));
  talk.expect(1, ack(0));
  talk.send(2, text(REQUEST.slice(0, 10), 0));
  talk.expect(
    2,
    inIxp(0, { type: IXP_TYPE.adopt, confirm: 1001 + LENGTH }, { flags: 'PA' }, REQUEST),
  );
  t.equal(talk.engine.sessions.size, 1);
});

t.test('an RST while collecting: exact, near, far', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(1, text('GET', 0));
  talk.expect(1, ack(3));
  talk.send(2, text('', 100, 'R'));
  talk.expect(2, ack(3));
  talk.send(3, text('', 10_000_000, 'R'));
  talk.send(3, text('', 0, 'R'));
  talk.quiet(3);
  t.equal(talk.engine.sessions.size, 1);
  talk.counted({ drop_out_of_window: 2 });
  talk.send(4, text('', 3, 'R'));
  talk.end(20_000, 0);
  t.equal(talk.events.at(-1), 'closed client-reset');
});

t.test('a SYN while collecting is answered with an ACK (RFC 5961)', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  for (const seq of [1000, 99_000]) {
    talk.send(1, fromClient({ flags: 'S', seq }));
    talk.expect(1, ack(0));
  }
  talk.end(5, 1);
});

t.test('data outside the window is dropped', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(1, text('x', 1_000_000));
  talk.expect(1, ack(0));
  talk.send(2, text('xyz', -100));
  talk.expect(2, ack(0));
  talk.send(3, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 2 }, REQUEST));
  talk.expect(3, ack(0));
  talk.send(4, fromClient({ flags: '', seq: 1001 }, REQUEST));
  talk.end(5, 1);
  talk.counted({ drop_out_of_window: 2, drop_bad_ack: 1, drop_malformed_tcp: 1, requests: 0 });
});

t.test('a keep-alive probe is answered', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(1, text('GET', 0));
  talk.expect(1, ack(3));
  talk.send(2000, text('', 2, 'A'));
  talk.expect(2000, ack(3));
  talk.send(3000, text('', 3, 'A'));
  talk.end(4000, 1);
});

t.test('timestamps, once agreed, are in every answer', async (t) => {
  const talk = new Conversation(t);
  const first = talk.handshake(0, { options: { timestamps: [500, 0] } }).tcp!.options
    .timestamps![0];
  talk.send(
    40,
    fromClient(
      { flags: 'PA', seq: 1001, ack: ISN + 1, options: { timestamps: [540, first] } },
      'GET ',
    ),
  );
  const stamps = talk.expect(40, ack(4)).tcp!.options.timestamps!;
  t.equal((stamps[0] - first) >>> 0, 40, 'our timestamp clock advances');
  t.equal(stamps[1], 540, "the client's timestamp is echoed");
  const rest = REQUEST.slice(4);
  talk.send(
    90,
    fromClient(
      { flags: 'PA', seq: 1005, ack: ISN + 1, options: { timestamps: [590, first] } },
      rest,
    ),
  );
  const handed = talk.expect(
    90,
    inIxp(0, { type: IXP_TYPE.adopt, tsval: 590 }, { seq: 1001 }, REQUEST),
  );
  t.ok(
    ((handed.ixp!.tsecr - stamps[0]) | 0) >= 0,
    'the node continues from what the client has seen',
  );
  t.same(handed.tcp!.options.timestamps![0], 590);
});
