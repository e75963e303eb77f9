/** A new process continues the answers of an earlier one. */
import t, { type Test } from 'tap';
import { Answer } from '../../src/directory/answers.js';
import { RecordReader } from '../../src/engine/table/session-record.js';
import {
  answerEnd,
  answered,
  Conversation,
  fromClient,
  get,
  ISN,
  toClient,
} from '../support/conversation.js';
import { answerText, KnownAnswers } from '../support/known-answers.js';
import { sessionMemory } from '../support/session-memory.js';
import { START } from '../support/uptime.js';

const REQUEST = get('/nowhere');
const NEXT = 1001 + REQUEST.length;
/** A process that takes over has no bytes of the head. */
const AGAIN = answerText(Answer.notFound, 0).padEnd(answerText(Answer.notFound, 10).length);
const END = answerEnd(Answer.notFound, REQUEST.length);

/** Answers of the same length whatever was collected, as those of HTTP but for HEAD. */
class EvenAnswers extends KnownAnswers {
  override write(answer: number, argument: number, bytes: Uint8Array, at: number): number {
    const length = super.write(answer, argument, bytes, at);
    return length === 0 ? 0 : bytes.fill(0x20, at + length, at + AGAIN.length) && AGAIN.length;
  }
}

/** A client that was answered by one process, and the next process, which knows of it. */
function takenOver(t: Test, acked: number, answers: KnownAnswers): Conversation {
  const memory = sessionMemory(64);
  const before = new Conversation(t, { engine: { memory, answers: new EvenAnswers() } });
  before.handshake(0);
  before.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, REQUEST));
  before.rest(0);
  if (acked > 0) before.send(1, fromClient({ flags: 'A', seq: NEXT, ack: acked }));
  const talk = new Conversation(t, { start: START + 1_000, engine: { answers } });
  const old = new RecordReader(memory.records);
  for (let slot = 0; slot < old.capacity; slot++)
    t.ok(talk.engine.takeOver(old, slot, -1, 0, START + 1_000));
  talk.counted({ taken_over: 1 });
  return talk;
}

const LAST = ISN + 1 + AGAIN.length + 1;

t.test('a client that has the answer closes at the new process', async (t) => {
  const talk = takenOver(t, LAST, new EvenAnswers());
  talk.send(1, fromClient({ flags: 'FA', seq: NEXT, ack: LAST }));
  talk.expect(1, toClient({ flags: 'A', seq: LAST, ack: NEXT + 1 }));
  talk.end(2, 1);
  t.equal(talk.events.at(-1), 'closed fin');
});

t.test('a client whose acknowledgement was on its way', async (t) => {
  const talk = takenOver(t, 0, new EvenAnswers());
  // Its MAC address is not known, so nothing can be sent before it speaks.
  talk.quiet(900);
  talk.send(900, fromClient({ flags: 'A', seq: NEXT, ack: LAST }));
  talk.send(901, fromClient({ flags: 'FA', seq: NEXT, ack: LAST }));
  talk.expect(901, toClient({ flags: 'A', seq: LAST, ack: NEXT + 1 }));
});

t.test('a client that has nothing of the answer sends its request again', async (t) => {
  const talk = takenOver(t, 0, new EvenAnswers());
  talk.send(1, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, REQUEST));
  talk.expect(1, { ...toClient({ flags: 'FPA', seq: ISN + 1, ack: NEXT }), payload: AGAIN });
});

t.test('where the answer would be another one, the request is read again', async (t) => {
  const talk = takenOver(t, 0, new KnownAnswers());
  talk.send(1, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, REQUEST));
  talk.expect(1, answered(Answer.notFound, REQUEST.length));
  talk.send(2, fromClient({ flags: 'FA', seq: NEXT, ack: END }));
  talk.expect(2, toClient({ flags: 'A', seq: END, ack: NEXT + 1 }));
});

t.test('a session is taken over once', async (t) => {
  const memory = sessionMemory(64);
  const before = new Conversation(t, { engine: { memory } });
  before.handshake(0);
  before.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, REQUEST));
  before.rest(0);
  const old = new RecordReader(memory.records);
  const talk = new Conversation(t, { start: START + 1_000 });
  for (let time = 0; time < 2; time++) t.ok(talk.engine.takeOver(old, 0, -1, 0, START + 1_000));
  talk.counted({ taken_over: 1 });
});
