/**
 * Segments of an attacker who knows addresses and ports of a connection, and sees none of its
 * segments.
 */
import t from 'tap';
import { Conversation, fromClient, get, ISN, IXP_TYPE, inIxp } from '../support/conversation.js';

const { adopt, segment } = IXP_TYPE;
const request = get('/0');
const end = 1001 + request.length;

/** A conversation in which node 0 has got the ADOPT. */
function asked(t: ConstructorParameters<typeof Conversation>[0]): Conversation {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, request));
  talk.expect(0, inIxp(0, { type: adopt }, { flags: 'PA', seq: 1001, ack: ISN + 1 }, request));
  return talk;
}

t.test('forged segments during the handoff', async (t) => {
  const talk = asked(t);
  // Far outside any window: not from the client, so the node gets nothing.
  for (const seq of [end + 100_000_000, end - 100_000_000, end + 0x8000_0000]) {
    talk.send(10, fromClient({ flags: 'A', seq: seq >>> 0, ack: ISN + 1 + 5000 }));
    talk.send(10, fromClient({ flags: 'FA', seq: seq >>> 0, ack: ISN + 1 }));
    talk.send(10, fromClient({ flags: 'PA', seq: seq >>> 0, ack: ISN + 1 }, 'forged'));
  }
  talk.quiet(11);
  t.notOk(talk.events.includes('adopted node 0'), 'a forged acknowledgement proves nothing');
  // The session is unchanged: it is handed over again in time, and reset by its client's exact
  // number.
  talk.expect(300, inIxp(0, { type: adopt }, { seq: 1001 }, request));
  talk.send(310, fromClient({ flags: 'R', seq: end }));
  talk.expect(310, inIxp(0, { type: segment }, { flags: 'R', seq: end }));
});

t.test('a segment without ACK does not belong to a session', async (t) => {
  const talk = asked(t);
  talk.send(10, fromClient({ flags: '', seq: end }, 'no flags'));
  talk.send(10, fromClient({ flags: 'F', seq: end }));
  talk.quiet(20);
  talk.counted({ wrapped: 0 });
});

t.test('forged FINs and RSTs after the handoff are forwarded, and end nothing', async (t) => {
  const talk = new Conversation(t);
  const next = talk.passing(0);
  for (const [flags, ahead] of [
    ['FA', 100_000_000],
    ['R', 100_000_000],
    ['RA', 5_000_000],
  ] as const) {
    const packet = fromClient({ flags, seq: next + ahead, ack: ISN + 1 });
    talk.send(10, packet);
    talk.expectForwarded(10, 0, packet);
  }
  t.notOk(talk.events.some((event) => event.startsWith('closed')));
  // The client's own FIN still counts.
  const fin = fromClient({ flags: 'RA', seq: next, ack: ISN + 1 });
  talk.send(20, fin);
  talk.expectForwarded(20, 0, fin);
  t.equal(talk.events.at(-1), 'closed client-reset');
});

t.test(
  'data with a plausible sequence number needs a plausible acknowledgement as well',
  async (t) => {
    const talk = new Conversation(t);
    const next = talk.passing(0);
    // One of these lands in the window. Alone it moves nothing, so the RST after it is not exact.
    for (let i = 0; i < 256; i++) {
      const seq = (next + i * ((1 << 24) - 1)) >>> 0;
      const text = fromClient({ flags: 'A', seq, ack: (ISN + 0x4000_0000) >>> 0 }, 'x');
      const reset = fromClient({ flags: 'R', seq: (seq + 1) >>> 0 });
      for (const packet of [text, reset]) {
        talk.send(10, packet);
        talk.expectForwarded(10, 0, packet);
      }
    }
    t.notOk(talk.events.some((event) => event.startsWith('closed')));
  },
);

t.test('a session that an RST ended stays while its client goes on sending', async (t) => {
  const talk = new Conversation(t);
  const next = talk.passing(0);
  const reset = fromClient({ flags: 'R', seq: next });
  talk.send(10, reset);
  talk.expectForwarded(10, 0, reset);
  t.equal(talk.events.at(-1), 'closed client-reset');
  for (let time = 4000; time <= 40_000; time += 4000) {
    const ack = fromClient({ flags: 'A', seq: next, ack: ISN + 1 + time });
    talk.send(time, ack);
    talk.expectForwarded(time, 0, ack);
  }
  talk.end(44_900, 1);
  talk.end(45_100, 0);
});
