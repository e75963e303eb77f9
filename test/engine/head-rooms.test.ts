/** The rooms in which request heads are collected: how many gaps and heads there may be. */
import t from 'tap';
import {
  Conversation,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
  toClient,
} from '../support/conversation.js';
import { ack, adopt, text } from '../support/head-frames.js';

const REQUEST = get('/0');

t.test('more gaps than are tracked only cost time', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  for (let at = 2; at < 20; at += 2) {
    talk.send(1, text(REQUEST[at]!, at));
    talk.expect(1, ack(0));
  }
  t.ok(talk.counters.get('drop_out_of_order_full') > 0);
  talk.send(2, text(REQUEST, 0));
  talk.expect(2, adopt(REQUEST));
});

t.test('rooms for heads are bounded: another slow client makes room', async (t) => {
  const talk = new Conversation(t, { limits: { heads: 2 } });
  for (const port of [1, 2, 3]) {
    talk.handshake(port, { sourcePort: port });
    talk.send(port, fromClient({ flags: 'PA', sourcePort: port, seq: 1001, ack: ISN + 1 }, 'GET'));
    if (port === 3)
      talk.expect(3, toClient({ flags: 'RA', seq: ISN + 1, ack: 1004, destinationPort: 2 }));
    if (port === 3) talk.expect(3, toClient({ flags: 'A', ack: 1004, destinationPort: 3 }));
    else talk.expect(port, toClient({ flags: 'A', ack: 1004, destinationPort: port }));
  }
  talk.end(4, 2);
  talk.counted({ evicted_head: 1 });
});

t.test(
  'a session that was handed over gives up its room last, and its node is reset',
  async (t) => {
    const talk = new Conversation(t, { limits: { heads: 2 } });
    const begin = (port: number, payload: string): void => {
      talk.handshake(port, { sourcePort: port });
      talk.send(
        port,
        fromClient({ flags: 'PA', sourcePort: port, seq: 1001, ack: ISN + 1 }, payload),
      );
    };
    begin(1, REQUEST);
    talk.expect(1, inIxp(0, { type: IXP_TYPE.adopt }, { sourcePort: 1 }, REQUEST));
    begin(2, 'GET');
    talk.expect(2, toClient({ flags: 'A', ack: 1004, destinationPort: 2 }));
    begin(3, 'GET');
    talk.expect(3, toClient({ flags: 'RA', seq: ISN + 1, ack: 1004, destinationPort: 2 }));
    talk.expect(3, toClient({ flags: 'A', ack: 1004, destinationPort: 3 }));

    const only = new Conversation(t, { limits: { heads: 1 } });
    only.handshake(0, { sourcePort: 1 });
    only.send(0, fromClient({ flags: 'PA', sourcePort: 1, seq: 1001, ack: ISN + 1 }, REQUEST));
    only.expect(0, inIxp(0, { type: IXP_TYPE.adopt }, { sourcePort: 1 }, REQUEST));
    only.handshake(5, { sourcePort: 2 });
    only.send(5, fromClient({ flags: 'PA', sourcePort: 2, seq: 1001, ack: ISN + 1 }, 'GET'));
    const end = 1001 + REQUEST.length;
    only.expect(
      5,
      inIxp(0, { type: IXP_TYPE.segment }, { sourcePort: 1, flags: 'R', seq: end }, ''),
    );
    only.expect(5, toClient({ flags: 'RA', seq: ISN + 1, ack: end, destinationPort: 1 }));
    only.expect(5, toClient({ flags: 'A', ack: 1004, destinationPort: 2 }));
    t.equal(only.states.active[0], 0);
  },
);
