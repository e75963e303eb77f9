/** The table against a naive model, and as the kernel sees it. */
import fc from 'fast-check';
import t from 'tap';
import { NO_NODE } from '../../../src/engine/node-table.js';
import { IndexFlag, indexWordsFor, SessionIndex } from '../../../src/engine/table/session-index.js';
import {
  RecordReader,
  SESSION_RECORD_BYTES,
  SessionAction,
  sessionHash,
} from '../../../src/engine/table/session-record.js';
import {
  SessionFlag,
  type SessionMemory,
  SessionState,
  SessionTable,
} from '../../../src/engine/table/session-table.js';
import { sessionMemory } from '../../support/session-memory.js';

const CLIENT_SEED = 0x1234_5678;
const PORT_SEED = 0x9abc_def0;
const CAPACITY = 150;
/** Keys of the clients that come and go: more than there is room for. */
const KEYS = 180;

/** One engine thread's part in the middle of memory that belongs to several. */
function sharedMemory(): SessionMemory {
  const indexWords = indexWordsFor(CAPACITY);
  return {
    records: new ArrayBuffer(3 * CAPACITY * SESSION_RECORD_BYTES),
    recordsOffset: CAPACITY * SESSION_RECORD_BYTES,
    index: new ArrayBuffer(3 * indexWords * 4),
    indexOffset: indexWords * 4,
    indexWords,
    indexState: new Uint32Array(1),
  };
}

const client = (key: number): number => 0xc0a8_0000 + (key >> 3);
const portServer = (key: number): number => ((40_000 + key) * 0x1_0000 + (key & 1)) >>> 0;

/**
 * The table from which this index grows, if it does, and the current table, as the kernel sees
 * them.
 */
function tables(memory: SessionMemory): Uint32Array[] {
  const room = new Uint32Array(memory.index, memory.indexOffset, memory.indexWords);
  const state = memory.indexState[0]!;
  const words = state & ~(IndexFlag.atEnd | IndexFlag.growing);
  const atEnd = (state & IndexFlag.atEnd) !== 0;
  const lying = (words: number, atEnd: boolean): Uint32Array =>
    atEnd ? room.subarray(room.length - words) : room.subarray(0, words);
  const now = lying(words, atEnd);
  return state & IndexFlag.growing ? [lying(words / 2, !atEnd), now] : [now];
}

/** Finds a session as the kernel does, from the memory alone. */
function kernelFind(memory: SessionMemory, key: number): number {
  const records = new RecordReader(memory.records, memory.recordsOffset, CAPACITY);
  const hash = sessionHash(client(key), portServer(key), CLIENT_SEED, PORT_SEED);
  for (const table of tables(memory)) {
    for (let probe = 0; probe < 64; probe++) {
      const word = table[(hash + probe) & (table.length - 1)]!;
      if (word === 0) break;
      if (word >>> 24 !== hash >>> 24) continue;
      const slot = (word & 0xff_ffff) - 1;
      if (records.client(slot) === client(key) && records.portServer(slot) === portServer(key))
        return slot;
    }
  }
  return -1;
}

t.test('index sizes', async (t) => {
  for (const [capacity, words] of [
    [1, 48],
    [16, 48],
    [17, 96],
    [1_000_000, 3_145_728],
    [1_048_576, 3_145_728],
    [1_048_577, 6_291_456],
  ] as const) {
    t.equal(indexWordsFor(capacity), words);
  }
});

t.test('inserts, removes and finds like a Map, for the kernel as well', async (t) => {
  /** The sizes that the index had, and how often it was seen growing. */
  const sizes = new Set<number>();
  let growing = 0;
  // More sessions are added than removed, so that most runs fill the table.
  const action = fc.record({ insert: fc.integer({ min: 0, max: 3 }), key: fc.nat(KEYS - 1) });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 500, size: 'max' }), (actions) => {
      const memory = sharedMemory();
      const table = new SessionTable(CAPACITY, 2, CLIENT_SEED, PORT_SEED, memory);
      const model = new Map<number, number>();
      for (const { insert, key } of actions) {
        const known = model.get(key);
        if (insert > 0 && known === undefined) {
          const slot = table.insert(client(key), portServer(key), key);
          if (slot >= 0) model.set(key, slot);
          else if (model.size !== CAPACITY) throw new Error('full before it is');
        } else if (insert === 0 && known !== undefined) {
          table.remove(known);
          model.delete(key);
        }
        if (table.size !== model.size) throw new Error('the size is wrong');
        for (let each = 0; each < KEYS; each++) {
          const expected = model.get(each) ?? -1;
          if (table.find(client(each), portServer(each)) !== expected)
            throw new Error(`not found: ${each}`);
          if (kernelFind(memory, each) !== expected)
            throw new Error(`the kernel does not find ${each}`);
        }
        const now = tables(memory).at(-1);
        sizes.add(now?.length ?? 0);
        if (tables(memory).length > 1) growing += 1;
        if (now !== undefined && model.size * 2 > now.length)
          throw new Error('more than half full');
      }
      let walked = 0;
      for (let slot = table.nextUsed(0); slot >= 0; slot = table.nextUsed(slot + 1)) walked += 1;
      const used = new Uint32Array(memory.index).filter((word) => word !== 0).length;
      const odd = [...model.keys()].filter((key) => (key & 1) === 1).length;
      return walked === model.size && used === model.size && table.ofServer[1] === odd;
    }),
    { numRuns: 200 },
  );
  t.strictSame(
    [...sizes].sort((one, other) => one - other),
    [16, 32, 64, 128, 256, 512],
  );
  t.ok(growing > 200, `seen growing ${growing} times`);
});

t.test('the index grows in small steps', async (t) => {
  const capacity = 40_000;
  const memory = sessionMemory(capacity);
  const table = new SessionTable(capacity, 2, CLIENT_SEED, PORT_SEED, memory);
  const index = new Uint32Array(memory.index);
  const before = index.slice();
  let most = 0;
  let growing = 0;
  for (let key = 0; key < capacity; key++) {
    const slot = table.insert(client(key), portServer(key), 0);
    if (slot !== key) t.fail(`slot ${slot}`);
    growing = (memory.indexState[0]! & IndexFlag.growing) === 0 ? 0 : growing + 1;
    if (growing > (memory.indexState[0]! >>> 2) / 16)
      t.fail(`still growing with ${key + 1} sessions`);
    // Every 97th: comparing all words takes longer than adding one.
    if (key % 97 !== 0) continue;
    before.set(index);
    table.remove(slot);
    table.insert(client(key), portServer(key), 0);
    let changed = 0;
    for (let at = 0; at < index.length; at++) if (before[at] !== index[at]) changed += 1;
    most = Math.max(most, changed);
  }
  t.ok(most > 8 && most < 200, `at most ${most} words change`);
  t.same(
    tables(memory).map(({ length }) => length),
    [131_072],
  );
  for (let key = 0; key < capacity; key++) {
    if (table.find(client(key), portServer(key)) !== key) t.fail(`not found: ${key}`);
  }
  t.equal(table.find(client(capacity), portServer(capacity)), -1);
  t.equal(index.filter((word) => word !== 0).length, capacity, 'nothing is left in the old place');
});

t.test(
  'a reader that searches the old table first finds every session between any two stores',
  async (t) => {
    const capacity = 64;
    const keys = Array.from({ length: capacity }, (_, key) => key);
    const recordWords = new Uint32Array((capacity * SESSION_RECORD_BYTES) / 4);
    for (const key of keys)
      recordWords.set([client(key), portServer(key)], (key * SESSION_RECORD_BYTES) / 4);
    const records = new RecordReader(recordWords.buffer);
    const words = new Uint32Array(indexWordsFor(capacity));
    const state = new Uint32Array(1);
    const memory: SessionMemory = {
      records: new ArrayBuffer(0),
      recordsOffset: 0,
      index: words.buffer,
      indexOffset: 0,
      indexWords: words.length,
      indexState: state,
    };
    let added = 0;
    let stores = 0;
    let missed = 0;
    const look = (): void => {
      stores += 1;
      for (const key of keys.slice(0, added)) {
        const hash = sessionHash(client(key), portServer(key), CLIENT_SEED, PORT_SEED);
        const word = ((hash & 0xff00_0000) | (key + 1)) >>> 0;
        const found = tables(memory).some((table) => {
          for (
            let at = hash & (table.length - 1);
            table[at] !== 0;
            at = (at + 1) & (table.length - 1)
          ) {
            if (table[at] === word) return true;
          }
          return false;
        });
        if (!found) missed += 1;
      }
    };
    const watched = new Proxy(words, {
      get: (target, name) => Reflect.get(target, name, target),
      set: (target, name, value) => {
        Reflect.set(target, name, value, target);
        look();
        return true;
      },
    });
    const index = new SessionIndex(records, CLIENT_SEED, PORT_SEED, { words: watched, state });
    for (const key of keys) {
      index.add(key);
      added = key + 1;
    }
    t.equal(missed, 0);
    // Each is stored once, and moved by two stores whenever the index grows.
    t.ok(stores > 2 * capacity, `${stores} stores`);
  },
);

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

t.test("the kernel's action follows the state", async (t) => {
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
  t.equal(
    actionOf(1, 0, collecting, handing, lingering),
    0,
    'a node that may not know the session',
  );
  t.equal(actionOf(NO_NODE, adopted, passing), 0);
  t.equal(actionOf(NO_NODE, adopted, passing, lingering), SessionAction.ended);
  t.equal(actionOf(1, adopted | watched, passing), forward | payloadUp);

  const slot = table.insert(1, 2, 0);
  table.setState(slot, handing);
  table.watch(slot, true);
  t.equal(table.action(slot), 0);
  table.wrapInKernel(slot);
  t.equal(table.action(slot), SessionAction.wrap);
  table.takeFromKernel(slot);
  t.equal(table.action(slot), 0);
  table.setState(slot, passing);
  t.equal(table.action(slot), forward | payloadUp);
  table.watch(slot, false);
  t.equal(table.action(slot), forward);
  t.notOk(table.has(slot, watched));
});

t.test('memory of a session', async (t) => {
  const table = new SessionTable(100_000, 1, 0, 0);
  t.ok(table.bytesPerSession <= 64 + 15.8 + 67, `${table.bytesPerSession} bytes`);
});

t.test('a session that has ended no longer counts at its virtual server', async (t) => {
  const table = new SessionTable(4, 2, CLIENT_SEED, PORT_SEED);
  const ended = table.insert(1, 0x0001_0001, 0);
  const live = table.insert(2, 0x0001_0001, 0);
  table.setState(ended, SessionState.passing);
  t.same([...table.ofServer], [0, 2]);
  table.setState(ended, SessionState.lingering);
  t.same([...table.ofServer], [0, 1]);
  t.equal(table.size, 2, 'the session is still there');
  table.remove(ended);
  t.same([...table.ofServer], [0, 1]);
  table.remove(live);
  t.same([...table.ofServer], [0, 0]);
});
