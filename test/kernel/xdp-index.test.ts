/** The XDP program finds sessions in the index at every size and position, and look-ups end. */
import t from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { insideNamespace } from './namespace.js';
import { Fast } from './xdp-fixture.js';
import { CLIENT, CLIENT_ISN, SERVER_ISN, segment, Verdict } from './xdp-packets.js';

const { tx } = Verdict;
const FIRST = (CLIENT_ISN + 1) >>> 0;
const ANSWER = SERVER_ISN + 1;
const plain = { flags: 'A', seq: FIRST, ack: ANSWER };
const LIMIT_PROBES = 64;

if (insideNamespace(import.meta.url)) {
  t.test('sessions of all workers are found, at every position of the index', async (t) => {
    const workers = 3;
    const fast = new Fast({ workers, capacity: 256 });
    t.teardown(() => fast.close());
    fast.engine(true);
    const client = addressNumber(CLIENT.address);
    const inside: { port: number; worker: number; slot: number }[] = [];
    const states = new Set<number>();
    for (let port = 1; port <= 600; port++) {
      const worker = fast.workerOf(client, (port << 16) >>> 0);
      const slot = fast.insert(client, (port << 16) >>> 0);
      if (slot >= 0) inside.push({ port, worker, slot });
      const state = fast.indexState(worker)[0]!;
      if (states.has(state)) continue;
      states.add(state);
      // The index has just grown or moved: all earlier sessions are still found.
      for (const { port: sourcePort, worker: owner } of inside) {
        const outcome = fast.run(segment({ ...plain, sourcePort }));
        if (outcome.verdict === tx) continue;
        t.fail(
          `port ${sourcePort} is not found: ${outcome.counters}, ${owner}'s index is ${fast.indexState(owner)}`,
        );
      }
    }
    t.ok(inside.length > 500, `${inside.length} sessions`);
    t.strictSame(
      [...states].sort((one, other) => one - other),
      [17, 32, 65, 128, 257, 259, 512, 514],
      'each size at either end, and during growth',
    );
    for (const removed of inside.splice(0, 200)) {
      fast.tables[removed.worker]!.remove(removed.slot);
      const outcome = fast.run(segment({ ...plain, sourcePort: removed.port }));
      if (outcome.counters[0] !== 'to_engine_unknown') t.fail(`port ${removed.port} was removed`);
    }
    for (const { port, worker, slot } of inside) {
      const before = fast.tables[worker]!.packets(slot);
      const outcome = fast.run(segment({ ...plain, sourcePort: port }));
      if (outcome.verdict !== tx || fast.tables[worker]!.packets(slot) !== before + 1)
        t.fail(`port ${port} is not found`);
    }
    t.match(fast.run(segment({ ...plain, sourcePort: 700 })), { counters: ['to_engine_unknown'] });
  });

  t.test('a look-up ends', async (t) => {
    const fast = new Fast({ capacity: 256 });
    t.teardown(() => fast.close());
    fast.engine(true);
    const slot = fast.session();
    // The first table, of 16 words, would be too small.
    const words = new Uint32Array(fast.object.mapMemory('session_index'), 0, 512);
    fast.indexState(0)[0] = words.length;
    const hash = fast.hashOf(addressNumber(CLIENT.address), (CLIENT.port << 16) >>> 0);
    const home = hash % words.length;
    const word = ((hash & 0xff00_0000) | (slot + 1)) >>> 0;
    const other = word ^ 0x5500_0000;
    /** The number of words of other sessions before ours. */
    const behind = (count: number): void => {
      words.fill(0);
      for (let i = 0; i < count; i++) words[(home + i) % words.length] = other;
      words[(home + count) % words.length] = word;
    };
    behind(LIMIT_PROBES - 1);
    t.match(fast.run(segment(plain)), { verdict: tx, counters: ['forwarded'] });
    behind(LIMIT_PROBES);
    t.strictSame(fast.run(segment(plain)).counters.sort(), ['index_limit', 'to_engine_unknown']);
    words.fill(0);
    for (const wrong of [word & 0xff00_0000, (word & 0xff00_0000) | 0x00ff_ffff, word + 1]) {
      words[home] = wrong;
      t.match(
        fast.run(segment(plain)),
        { counters: ['to_engine_unknown'] },
        'a word without a session',
      );
    }
    words[(home + 1) % words.length] = word;
    t.match(fast.run(segment(plain)), { verdict: tx }, 'the next word is read, too');
  });
}
