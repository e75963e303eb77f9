/** What a later process takes over of the sessions of an earlier one. */
import t, { type Test } from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { sessionRow } from '../../src/balancer/threads/session-page.js';
import { inSlots } from '../../src/engine/farm.js';
import {
  RecordReader,
  SESSION_RECORD,
  SessionAction,
  sessionHash,
  sessionWorker,
} from '../../src/engine/table/session-record.js';
import { SessionFlag, SessionState } from '../../src/engine/table/session-table.js';
import {
  CLIENT,
  Conversation,
  FIRST_NONCE,
  fromClient,
  get,
  ISN,
  NOTICE,
  notice,
  SERVER,
  toClient,
} from '../support/conversation.js';
import { sessionMemory } from '../support/session-memory.js';
import { START } from '../support/uptime.js';

const SESSIONS = 64;
const HEAD = get('/01');
const HEAD_END = 1001 + HEAD.length;

function slotOf(talk: Conversation, port: number = CLIENT.port): number {
  return talk.engine.sessions.find(addressNumber(CLIENT.address), (port << 16) >>> 0);
}

/** A balancer with sessions of these ports in pass-through, on memory that outlives it. */
function earlier(t: Test, ports: readonly number[]): { talk: Conversation; old: RecordReader } {
  const records = sessionMemory(SESSIONS);
  const talk = new Conversation(t, { engine: { memory: records } });
  for (const [index, port] of ports.entries()) {
    talk.handshake(0, { sourcePort: port });
    talk.send(0, fromClient({ flags: 'PA', sourcePort: port, seq: 1001, ack: ISN + 1 }, HEAD));
    talk.rest(0);
    const ixcp = { session: FIRST_NONCE + index, clientPort: port, seq: ISN + 1, ack: HEAD_END };
    talk.send(0, notice(0, NOTICE.adopted, ixcp));
  }
  return { talk, old: new RecordReader(records.records) };
}

t.test('a later process continues the sessions of an earlier one', async (t) => {
  const { talk: before, old } = earlier(t, [1, 2]);
  before.handshake(1, { sourcePort: 3 });
  before.quiet(40);
  const talk = new Conversation(t, {
    start: START + 50,
    engine: { seeds: { client: 7, port: 8, nonce: 900 } },
  });
  // The first node of the earlier process is the third here.
  for (let slot = 0; slot < old.capacity; slot++)
    t.ok(talk.engine.takeOver(old, slot, 2, 0, START + 50));
  t.equal(talk.engine.sessions.size, 2, 'sessions that pass, and no others');
  talk.counted({ taken_over: 2, established: 0 });
  t.equal(talk.states.active[2], 2);
  t.equal(talk.states.active[0], 0);
  t.equal(talk.engine.sessions.action(slotOf(talk, 1)), SessionAction.forward);
  t.equal(talk.engine.sessions.nonce(slotOf(talk, 2)), FIRST_NONCE + 1);
  for (let slot = 0; slot < old.capacity; slot++)
    t.ok(talk.engine.takeOver(old, slot, 2, 0, START + 50));
  t.equal(talk.engine.sessions.size, 2, 'none is taken twice');

  const more = fromClient({ flags: 'PA', sourcePort: 1, seq: HEAD_END, ack: 7000 }, 'more');
  talk.send(60, more);
  talk.expectForwarded(60, 2, more);
  const fin = fromClient({ flags: 'FA', sourcePort: 1, seq: HEAD_END + 4, ack: 7000 });
  talk.send(61, fin);
  talk.expectForwarded(61, 2, fin);
  talk.send(62, notice(2, NOTICE.fin, { clientPort: 1, seq: 7000, ack: HEAD_END + 5 }));
  talk.counted({ closed_fin: 1, drop_ixcp_stale: 0 });
  t.equal(talk.states.active[2], 1);
  // The other session was last active before the earlier process ended.
  talk.quiet(899_900);
  t.equal(talk.engine.sessions.size, 1);
  talk.end(900_030, 0);
  talk.counted({ closed_idle: 1 });
});

t.test('a session that was silent for weeks is idle, although its time has wrapped', async (t) => {
  const { old } = earlier(t, [1]);
  for (const days of [1, 20, 24, 25, 49]) {
    new DataView((old as unknown as { bytes: Uint8Array }).bytes.buffer).setUint32(
      SESSION_RECORD.lastSeen,
      START - days * 86_400_000,
      true,
    );
    const talk = new Conversation(t, { start: START, timeouts: { idle: 1_000 } });
    t.ok(talk.engine.takeOver(old, 0, 0, 0, START));
    const { idleMs } = sessionRow(
      talk.engine.sessions,
      0,
      { virtualServers: new Map(), nodes: new Map() },
      START >>> 0,
    );
    t.equal(idleMs, days * 86_400_000, 'as the session table shows it');
    talk.end(990, 1);
    talk.end(1_020, 0);
    talk.counted({ taken_over: 1, closed_idle: 1 });
  }
});

t.test('a FIN that the kernel has forwarded meanwhile counts', async (t) => {
  const { old } = earlier(t, [1]);
  const writable = old as unknown as { bytes: Uint8Array };
  writable.bytes[59]! |= SessionFlag.clientFin;
  const talk = new Conversation(t, { start: START + 50 });
  t.ok(talk.engine.takeOver(old, 0, 0, 0, START + 50));
  talk.send(1, notice(0, NOTICE.fin, { clientPort: 1, seq: 7000, ack: HEAD_END + 1 }));
  talk.counted({ closed_fin: 1 });
});

t.test("a node's FIN that the kernel has noted meanwhile counts", async (t) => {
  const { nodeFin, clientFin } = SessionFlag;
  for (const later of [false, true]) {
    for (const fins of [nodeFin, nodeFin | clientFin]) {
      const { old } = earlier(t, [1]);
      const talk = new Conversation(t, { start: START, timeouts: { closing: 2_000 } });
      const takeOver = (): unknown => t.ok(talk.engine.takeOver(old, 0, 0, 0, START));
      // Before the session is taken over, or between that and the moment when the earlier program
      // ends.
      if (later) takeOver();
      (old as unknown as { bytes: Uint8Array }).bytes[59]! |= fins;
      takeOver();
      takeOver();
      const over = fins === nodeFin ? 0 : 1;
      talk.counted({ taken_over: 1, closed_fin: over });
      t.equal(talk.engine.sessions.inState[SessionState.lingering], over);
      t.equal(talk.states.active[0], 1 - over);
      talk.end(1_990, 1);
      talk.end(over === 1 ? 5_030 : 2_030, 0);
    }
  }
});

t.test('what the earlier XDP program does after the take-over is taken over as well', async (t) => {
  const { old } = earlier(t, [1, 2]);
  const talk = new Conversation(t, { start: START + 50 });
  const takeOver = (): void => {
    for (let slot = 0; slot < old.capacity; slot++)
      t.ok(talk.engine.takeOver(old, slot, 0, 0, START + 60));
  };
  takeOver();
  const writable = old as unknown as { bytes: Uint8Array; words: Uint32Array };
  // More than any one segment could cause, and a FIN.
  const end = HEAD_END + 100_000_000;
  writable.words[5] = end + 1;
  writable.bytes[59]! |= SessionFlag.clientFin;
  const { sessions } = talk.engine;
  const other = slotOf(talk, 2);
  sessions.setReceiveNext(other, HEAD_END + 10);
  takeOver();
  t.equal(sessions.size, 2);
  t.equal(sessions.receiveNext(slotOf(talk, 1)), end + 1);
  t.equal(sessions.receiveNext(other), HEAD_END + 10, 'never back');
  talk.counted({ taken_over: 2 });
  talk.send(20, notice(0, NOTICE.fin, { clientPort: 1, seq: 7000, ack: end + 1 }));
  talk.counted({ closed_fin: 1 });
});

t.test('a full table takes over no further sessions', async (t) => {
  const { old } = earlier(t, [1, 2, 3]);
  const talk = new Conversation(t, { start: START, limits: { sessions: 2 } });
  t.same(
    [0, 1, 2].map((slot) => talk.engine.takeOver(old, slot, 0, 0, START)),
    [true, true, false],
  );
  talk.counted({ taken_over: 2 });
});

t.test('engine threads take over their own sessions', async (t) => {
  const ports = [1, 2, 3, 4, 5, 6, 7, 8, 9];
  const { old } = earlier(t, ports);
  const seeds = { client: 5, port: 6, nonce: 0 };
  const taken: number[] = [];
  for (const worker of [0, 1, 2]) {
    const talk = new Conversation(t, {
      start: START,
      engine: { seeds, shard: { worker, workers: 3 } },
    });
    for (let slot = 0; slot < old.capacity; slot++) talk.engine.takeOver(old, slot, 0, 0, START);
    for (const port of ports) {
      if (slotOf(talk, port) < 0) continue;
      taken.push(port);
      const hash = sessionHash(addressNumber(CLIENT.address), (port << 16) >>> 0, 5, 6);
      t.equal(sessionWorker(hash, 3), worker, `client port ${port}`);
    }
  }
  t.same(taken.sort(), ports);
});

t.test('sessions follow their virtual server to its new index', async (t) => {
  const { old } = earlier(t, [1]);
  const talk = new Conversation(t, {
    start: START,
    engine: {
      virtualServers: inSlots([
        { address: addressNumber('10.9.0.101'), port: 80 },
        { address: addressNumber(SERVER.address), port: SERVER.port },
      ]),
    },
  });
  talk.engine.takeOver(old, 0, 0, 1, START);
  const more = fromClient({ flags: 'A', sourcePort: 1, seq: HEAD_END, ack: 7000 });
  talk.send(1, more);
  talk.expectForwarded(1, 0, more);
  t.equal(talk.engine.sessions.ofServer[1], 1);
  talk.send(2, fromClient({ flags: 'A', sourcePort: 2, seq: HEAD_END, ack: 7000 }));
  talk.expect(2, toClient({ flags: 'R', destinationPort: 2 }));
});
