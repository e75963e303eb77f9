/** What the answers of HTTP become where a virtual server reads TLS. */
import t, { type Test } from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { AlertAnswer, Answer } from '../../src/directory/answers.js';
import { Protocol } from '../../src/directory/dispatcher.js';
import { inSlots } from '../../src/engine/farm.js';
import { Conversation, fromClient, get, ISN, SERVER, toClient } from '../support/conversation.js';
import { answerText } from '../support/known-answers.js';

const virtualServers = inSlots([
  { address: addressNumber(SERVER.address), port: SERVER.port, protocol: Protocol.tls },
]);

const talking = (test: Test): Conversation => {
  const talk = new Conversation(test, { engine: { virtualServers } });
  talk.handshake(0);
  return talk;
};

/** The answer in one segment with FIN, to a client that has sent this many numbers. */
const answer = (number: number, collected: number, sent = collected) => ({
  ...toClient({ flags: 'FPA', seq: ISN + 1, ack: 1001 + sent }),
  payload: answerText(number, collected),
});

t.test('no holder, no resource, a client that closes too early', async (t) => {
  const cases: [string, string, number, string][] = [
    ['no holder', get('/0'), AlertAnswer.unavailable, 'alert_no_holder'],
    ['no resource', get('/none'), AlertAnswer.unrecognizedName, 'alert_unrecognized_name'],
  ];
  for (const [name, request, alert, counter] of cases) {
    const talk = talking(t);
    talk.states.setWeight(0, 0);
    talk.dispatcher.use({ '/0': [] });
    talk.send(1, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, request));
    talk.expect(1, answer(alert, request.length));
    talk.counted({ [counter]: 1, answer_404: 0, answer_503: 0 });
    t.equal(talk.engine.sessions.size, 1, name);
  }
  const talk = talking(t);
  talk.send(1, fromClient({ flags: 'FPA', seq: 1001, ack: ISN + 1 }, 'GET'));
  talk.expect(1, answer(AlertAnswer.incomplete, 3, 4));
  talk.counted({ alert_malformed: 1, answer_400: 0 });
});

t.test('a ClientHello that is never complete, and one that never begins', async (t) => {
  const talk = talking(t);
  talk.send(1, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, 'GET'));
  talk.expect(1, toClient({ flags: 'A', ack: 1004 }));
  talk.expect(10_000, answer(AlertAnswer.timeout, 3));
  talk.counted({ alert_timeout: 1, answer_408: 0 });
  const silent = talking(t);
  silent.expect(10_000, toClient({ flags: 'FA', seq: ISN + 1, ack: 1001 }));
  silent.counted({ closed_silent_client: 1 });
  t.equal(answerText(Answer.silentClose, 0), '');
});
