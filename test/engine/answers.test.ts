/** Answers that the engine sends itself. */
import t from 'tap';
import { Answer } from '../../src/directory/answers.js';
import { Conversation, fromClient, ISN, toClient } from '../support/conversation.js';
import { ack, text } from '../support/head-frames.js';
import { answerText } from '../support/known-answers.js';
import { HEAD_BYTES } from '../support/known-paths.js';

t.test('a head that is too large is answered with data and FIN in one segment', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  const huge = `GET /0 HTTP/1.1\r\nX: ${'x'.repeat(HEAD_BYTES)}`;
  for (let at = 0; at < huge.length; at += 1000) {
    talk.send(1, text(huge.slice(at, at + 1000), at));
    if (at + 1000 < huge.length) talk.expect(1, ack(at + 1000));
  }
  const answer = answerText(Answer.headTooLarge, huge.length);
  const next = 1001 + huge.length;
  talk.expect(1, {
    ...toClient({ flags: 'FPA', seq: ISN + 1, ack: next }),
    payload: answer,
  });
  const end = ISN + 1 + answer.length + 1;
  talk.send(2, fromClient({ flags: 'A', seq: next, ack: end }));
  talk.send(3, fromClient({ flags: 'FA', seq: next, ack: end }));
  talk.expect(3, toClient({ flags: 'A', seq: end, ack: next + 1 }));
  talk.end(4_000, 1);
  talk.end(6_000, 0);
  talk.counted({ answer_431: 1, closed_fin: 1, handoffs: 0 });
});
