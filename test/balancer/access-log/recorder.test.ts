/** The ring between an engine thread and the log thread: records come whole, or are counted. */
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { addressNumber } from '../../../lab/packet.js';
import { AccessRecorder } from '../../../src/balancer/access-log/recorder.js';
import {
  MOST_RECORDED_BYTES,
  RecordKind,
  ringMemory,
} from '../../../src/balancer/access-log/records.js';
import { type ClosedSession, RingReader } from '../../../src/balancer/access-log/ring-reader.js';
import { Answer } from '../../../src/directory/answers.js';
import { NO_NODE } from '../../../src/engine/node-table.js';
import { joinObservers } from '../../../src/engine/observers.js';
import { SessionTable } from '../../../src/engine/table/session-table.js';
import {
  CLIENT,
  Conversation,
  fromClient,
  get,
  ISN,
  NOTICE,
  notice,
} from '../../support/conversation.js';

interface Recorded {
  what: string;
  slot: number;
  clock: number;
  text?: string;
  cut?: boolean;
  node?: number;
  session?: ClosedSession;
}

/** Reads all records. */
function readAll(reader: RingReader): Recorded[] {
  const records: Recorded[] = [];
  reader.drain({
    request: ({ slot, clock }, text, cut) =>
      records.push({ what: 'request', slot, clock, text, cut }),
    rewritten: ({ slot, clock }, text) => records.push({ what: 'rewritten', slot, clock, text }),
    event: ({ slot, clock }, kind, node) =>
      records.push({ what: `event ${kind}`, slot, clock, node }),
    closed: (session) =>
      records.push({ what: 'closed', slot: session.slot, clock: session.clock, session }),
  });
  return records;
}

t.test('texts in place of heads, before and between heads', async (t) => {
  const sessions = new SessionTable(4, 1, 1, 2);
  const slot = sessions.insert(1, 2, 3);
  const memory = ringMemory(16_384);
  const recorder = new AccessRecorder(memory, sessions);
  const heads = new Uint8Array(8_192).fill('h'.charCodeAt(0));
  const text = Buffer.from('TLS www.example.org h2\r\n\r\n....');
  const none = new Uint8Array(0);
  for (const [bytes, filled] of [
    [none, 0],
    [text, 26],
    [heads, 9],
    [text, 26],
    [none, 0],
    [heads, 5],
  ] as const)
    recorder.request(slot, 1, bytes, 0, 0, 7, filled);
  const tls = 'TLS www.example.org h2\r\n\r\n';
  t.same(
    readAll(new RingReader(memory)).map((record) => record.text),
    ['', tls, 'h'.repeat(9), tls, '', 'h'.repeat(5)],
  );
});

t.test('heads of any length, read at any time: each is whole, or counted', async (t) => {
  const heads = new Uint8Array(8_192);
  fc.assert(
    fc.property(
      fc.array(fc.record({ length: fc.nat(5_000), start: fc.nat(7) }), { maxLength: 60 }),
      fc.integer({ min: 1, max: 9 }),
      fc.boolean(),
      (pieces, every, aligned) => {
        const sessions = new SessionTable(4, 1, 1, 2);
        const slot = sessions.insert(1, 2, 3);
        const memory = ringMemory(16_384);
        const recorder = new AccessRecorder(memory, sessions);
        const reader = new RingReader(memory);
        const taken: Recorded[] = [];
        const bytes = aligned ? heads : heads.subarray(1);
        for (const [index, { length, start }] of pieces.entries()) {
          bytes.fill(index + 1, start, start + length);
          recorder.request(slot, 1, bytes, start, start, index, start + length);
          if (index % every === 0) taken.push(...readAll(reader));
        }
        taken.push(...readAll(reader));
        for (const { text = '', cut, clock } of taken) {
          const { length } = pieces[clock]!;
          const kept = Math.min(length, MOST_RECORDED_BYTES);
          if (text !== String.fromCharCode(clock + 1).repeat(kept)) throw new Error('another text');
          if (cut !== length > kept) throw new Error('cut');
        }
        return taken.length + reader.takeLost() === pieces.length && reader.takeLost() === 0;
      },
    ),
  );
  t.pass();
});

/** A conversation whose sessions are recorded. */
function recorded(t: Test): { talk: Conversation; read: () => Recorded[] } {
  const talk = new Conversation(t);
  const memory = ringMemory(65_536);
  const recorder = new AccessRecorder(memory, talk.engine.sessions);
  talk.engine.setObserver(joinObservers([{}, recorder]));
  const reader = new RingReader(memory);
  return { talk, read: () => readAll(reader) };
}

t.test('a session, from its request to its end', async (t) => {
  const { talk, read } = recorded(t);
  const next = talk.passing(100);
  const request = get('/0').toString();
  const [first, ...none] = read();
  t.match(first, { what: 'request', text: request, cut: false });
  t.same(none, [], 'the first handoff has the time of the request');
  // 5 bytes more, then FINs of both sides.
  talk.send(200, fromClient({ flags: 'PA', seq: next, ack: ISN + 1 }, Buffer.from('12345')));
  talk.send(300, fromClient({ flags: 'FA', seq: next + 5, ack: ISN + 1 }));
  talk.send(400, notice(0, NOTICE.fin, { seq: ISN + 1, ack: next + 6 }));
  talk.rest(400);
  const [end, ...more] = read();
  t.same(more, []);
  t.match(end?.session, {
    client: addressNumber(CLIENT.address),
    clientPort: CLIENT.port,
    server: 0,
    packets: 2,
    bytes: request.length + 5,
    node: 0,
    answer: Answer.none,
    reason: 'fin',
    request: 'GET /0',
    requestCut: false,
  });
  t.equal((end!.session!.clock - end!.session!.openedAt) | 0, 300);
});

t.test('a node is silent, and the next one gets the session', async (t) => {
  const { talk, read } = recorded(t);
  talk.handshake(0);
  // Both nodes 0 and 1 hold it.
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, get('/01')));
  talk.rest(700);
  const records = read();
  t.same(
    records.map(({ what, node }) => [what, node]),
    [
      ['request', undefined],
      [`event ${RecordKind.unconfirmed}`, 0],
      [`event ${RecordKind.unconfirmed}`, 0],
      [`event ${RecordKind.silent}`, 0],
      [`event ${RecordKind.handoff}`, 1],
    ],
  );
});

t.test('only sessions that completed the handshake are recorded', async (t) => {
  const { talk, read } = recorded(t);
  talk.send(0, fromClient({ flags: 'S', seq: 1000 }));
  talk.send(1, fromClient({ flags: 'R', seq: 1001 }));
  talk.rest(2);
  t.equal(talk.engine.sessions.size, 0);
  t.same(read(), []);
  talk.handshake(3);
  talk.send(4, fromClient({ flags: 'R', seq: 1001 }));
  talk.rest(5);
  const [end] = read();
  t.match(end?.session, { node: NO_NODE, reason: 'client-reset', bytes: 0, request: '' });
});

t.test('a request that gets a 404', async (t) => {
  const { talk, read } = recorded(t);
  talk.handshake(0);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, get('/none')));
  talk.rest(0);
  const slot = talk.engine.sessions.find(addressNumber(CLIENT.address), (CLIENT.port << 16) >>> 0);
  t.equal(talk.engine.sessions.node(slot), NO_NODE);
  t.match(read(), [{ what: 'request', text: get('/none').toString() }]);
});
