/** The table against a naive model, and as the kernel sees it. */
import fc from 'fast-check';
import t from 'tap';
import { LOCAL_NODE } from '../../src/tcp/dispatcher.js';
import {
  RecordReader,
  SESSION_RECORD_BYTES,
  SessionAction,
  sessionHash,
} from '../../src/tcp/session-record.js';
import {
  indexWordsFor,
  SessionFlag,
  type SessionMemory,
  SessionState,
  SessionTable,
} from '../../src/tcp/session-table.js';

const CLIENT_SEED = 0x1234_5678;
const PORT_SEED = 0x9abc_def0;
const CAPACITY = 12;

/** One worker's part in the middle of memory that belongs to several. */
function sharedMemory(): SessionMemory {
  const indexWords = indexWordsFor(CAPACITY);
  return {
    records: new ArrayBuffer(3 * CAPACITY * SESSION_RECORD_BYTES),
    recordsOffset: CAPACITY * SESSION_RECORD_BYTES,
    index: new ArrayBuffer(3 * indexWords * 4),
    indexOffset: indexWords * 4,
    indexWords,
  };
}

/** Finds a session as the kernel does, from the memory alone. */
function kernelFind(memory: SessionMemory, client: number, portServer: number): number {
  const index = new Uint32Array(memory.index, memory.indexOffset, memory.indexWords);
  const records = new RecordReader(memory.records, memory.recordsOffset, CAPACITY);
  const hash = sessionHash(client, portServer, CLIENT_SEED, PORT_SEED);
  for (let probe = 0; probe < 64; probe++) {
    const word = index[(hash + probe) & (memory.indexWords - 1)]!;
    if (word === 0) return -1;
    if (word >>> 24 !== hash >>> 24) continue;
    const slot = (word & 0xff_ffff) - 1;
    if (records.client(slot) === client && records.portServer(slot) === portServer) return slot;
  }
  return -1;
}

t.test('index sizes', async (t) => {
  for (const [capacity, words] of [
    [1, 16],
    [8, 16],
    [9, 32],
    [1_000_000, 2_097_152],
    [1_048_576, 2_097_152],
  ] as const) {
    t.equal(indexWordsFor(capacity), words);
  }
});

t.test('inserts, removes and finds like a map, for the kernel as well', async () => {
  const action = fc.record({ insert: fc.boolean(), key: fc.nat(23) });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 200 }), (actions) => {
      const memory = sharedMemory();
      const table = new SessionTable(CAPACITY, 2, CLIENT_SEED, PORT_SEED, memory);
      const model = new Map<number, number>();
      const client = (key: number): number => 0xc0a8_0000 + (key >> 3);
      const portServer = (key: number): number => ((40_000 + key) * 0x1_0000 + (key & 1)) >>> 0;
      for (const { insert, key } of actions) {
        const known = model.get(key);
        if (insert && known === undefined) {
          const slot = table.insert(client(key), portServer(key), key);
          if (slot >= 0) model.set(key, slot);
          else if (model.size !== CAPACITY) throw new Error('full before it is');
        } else if (!insert && known !== undefined) {
          table.remove(known);
          model.delete(key);
        }
        if (table.size !== model.size) throw new Error('the size is wrong');
        for (let each = 0; each < 24; each++) {
          const expected = model.get(each) ?? -1;
          if (table.find(client(each), portServer(each)) !== expected) throw new Error(`not found: ${each}`);
          if (kernelFind(memory, client(each), portServer(each)) !== expected)
            throw new Error(`the kernel does not find ${each}`);
        }
      }
      let walked = 0;
      for (let slot = table.nextUsed(0); slot >= 0; slot = table.nextUsed(slot + 1)) walked += 1;
      const used = new Uint32Array(memory.index).filter((word) => word !== 0).length;
      const odd = [...model.keys()].filter((key) => (key & 1) === 1).length;
      return walked === model.size && used === model.size && table.ofServer[1] === odd;
    }),
    { numRuns: 300 },
  );
});

t.test('a slot used again is fresh', async (t) => {
  const table = new SessionTable(1, 1, 0, 0);
  const first = table.insert(1, 2, 3);
  table.setNode(first, 7);
  table.raise(first, SessionFlag.adopted | SessionFlag.watched);
  table.setState(first, SessionState.passing);
  table.setReceiveNext(first, 99);
  table.countPacket(first);
  t.equal(table.insert(4, 5, 6), -1, 'full');
  table.remove(first);
  t.equal(table.nextUsed(0), -1);
  const second = table.insert(4, 5, 6);
  t.equal(second, first);
  t.same(
    [table.flags(second), table.node(second), table.action(second), table.receiveNext(second)],
    [0, 0, 0, 0],
  );
  t.same([table.packets(second), table.openedAt(second), table.lastSeen(second)], [0, 6, 6]);
  t.equal(table.head[second], -1);
});

t.test('what the kernel does follows the state', async (t) => {
  const table = new SessionTable(4, 1, 0, 0);
  const actionOf = (node: number, flags: number, ...states: number[]): number => {
    const slot = table.insert(1, 2, 0);
    table.setNode(slot, node);
    table.raise(slot, flags);
    for (const state of states) table.setState(slot, state);
    const action = table.action(slot);
    table.remove(slot);
    t.equal(table.action(slot), 0, 'none after the end');
    return action;
  };
  const { collecting, handing, passing, lingering } = SessionState;
  const { adopted, watched } = SessionFlag;
  const { forward, payloadUp } = SessionAction;
  t.equal(actionOf(1, 0), 0);
  t.equal(actionOf(1, 0, collecting), 0);
  t.equal(actionOf(1, 0, collecting, handing), 0);
  t.equal(actionOf(1, adopted, collecting, handing, passing), forward);
  t.equal(actionOf(1, adopted, collecting, handing, passing, lingering), forward);
  t.equal(actionOf(1, 0, collecting, handing, lingering), 0, 'a node that may not know the session');
  t.equal(actionOf(LOCAL_NODE, adopted, passing), 0);
  t.equal(actionOf(LOCAL_NODE, adopted, passing, lingering), 0);
  t.equal(actionOf(1, adopted | watched, passing), forward | payloadUp);

  const slot = table.insert(1, 2, 0);
  table.setState(slot, handing);
  table.watch(slot, true);
  t.equal(table.action(slot), 0);
  table.wrapInKernel(slot);
  t.equal(table.action(slot), SessionAction.wrap);
  table.hold(slot);
  t.equal(table.action(slot), 0);
  table.setState(slot, passing);
  t.equal(table.action(slot), forward | payloadUp);
  table.watch(slot, false);
  t.equal(table.action(slot), forward);
  t.notOk(table.has(slot, watched));
});

t.test('memory of a session', async (t) => {
  const table = new SessionTable(100_000, 1, 0, 0);
  t.ok(table.bytesPerSession <= 64 + 10.5 + 67, `${table.bytesPerSession} bytes`);
});
