/** What an engine and the XDP program exchange in each batch. */
import t from 'tap';
import { KernelExchange } from '../../../src/balancer/threads/kernel-exchange.js';
import {
  CONTROL,
  CONTROL_BYTES,
  eventRingBytes,
  eventRingRecords,
} from '../../../src/datapath/xdp-layout.js';
import { KERNEL_EVENT_WORDS } from '../../../src/engine/table/kernel-event.js';

const WORKER = 2;
const HALF_OPEN = 40_000;
/** Room for half-open sessions that is kept for events not yet read: what the ring buffer holds. */
const LEAST_ROOM = eventRingRecords(eventRingBytes(HALF_OPEN)) + 256;

interface Made {
  exchange: KernelExchange;
  control: Uint32Array;
  /** First words of the events that the engine was given, and when. */
  heard: [number, number][];
  cookies: number[];
  engine: {
    halfOpenRoom: number;
    kernelEvent: (words: Uint32Array, at: number, now: number) => void;
  };
  /** Events in the ring buffer. They are numbered from 0. */
  waiting: { count: number };
  /** How many events each call could have taken. */
  drains: number[];
}

function make(halfOpen = HALF_OPEN): Made {
  const control = new Uint32Array(CONTROL_BYTES / 4);
  const heard: [number, number][] = [];
  const cookies: number[] = [];
  const drains: number[] = [];
  const waiting = { count: 0 };
  let next = 0;
  const events = {
    drain: (into: Uint32Array): number => {
      const most = into.length / KERNEL_EVENT_WORDS;
      drains.push(most);
      const count = Math.min(most, waiting.count);
      waiting.count -= count;
      for (let i = 0; i < count; i++) into[i * KERNEL_EVENT_WORDS] = next++;
      return count;
    },
  };
  const engine = {
    halfOpenRoom: LEAST_ROOM + 1,
    kernelEvent: (words: Uint32Array, at: number, now: number) =>
      void heard.push([words[at] ?? -1, now]),
    cookieSent: (at: number) => void cookies.push(at),
  };
  const exchange = new KernelExchange(engine, { control, events, worker: WORKER, halfOpen });
  return { exchange, control, heard, cookies, engine, waiting, drains };
}

const halfOpenWord = (control: Uint32Array): number => control[CONTROL.halfOpen / 4 + WORKER] ?? -1;

t.test(
  'events are handed over in order, and the program sees that the engine is alive',
  async (t) => {
    const { exchange, control, heard, waiting } = make();
    waiting.count = 3;
    exchange.exchange(70);
    t.same(heard, [
      [0, 70],
      [1, 70],
      [2, 70],
    ]);
    t.equal(control[CONTROL.aliveAt / 4], 70);
    exchange.exchange(78);
    t.equal(heard.length, 3);
    t.equal(control[CONTROL.aliveAt / 4], 78, 'also when there was nothing to report');
  },
);

t.test('a full buffer is emptied in one exchange', async (t) => {
  const { exchange, heard, waiting } = make();
  const full = eventRingRecords(eventRingBytes(HALF_OPEN));
  waiting.count = full;
  exchange.exchange(1);
  t.equal(heard.length, full);
});

t.test('a flood that writes as fast as the engine reads does not block it', async (t) => {
  const { exchange, heard, waiting, drains } = make();
  waiting.count = Number.POSITIVE_INFINITY;
  exchange.exchange(1);
  t.ok(heard.length <= LEAST_ROOM + 256, `${heard.length} events`);
  t.equal(drains.length, Math.ceil(LEAST_ROOM / 256));
});

t.test('when room for half-open sessions runs out, the program sends cookies', async (t) => {
  const { exchange, control, engine } = make();
  exchange.exchange(1);
  t.equal(halfOpenWord(control), 0);
  engine.halfOpenRoom = LEAST_ROOM;
  exchange.exchange(2);
  t.equal(halfOpenWord(control), 1, 'the events in the buffer may add as many');
  engine.halfOpenRoom = LEAST_ROOM + 1;
  exchange.exchange(3);
  t.equal(halfOpenWord(control), 0);
  const others = [0, 1, 3].map((worker) => control[CONTROL.halfOpen / 4 + worker]);
  t.same(others, [0, 0, 0], 'the words of other workers do not change');
});

t.test('if the buffer holds more than the limit, a third of the limit is kept free', async (t) => {
  const { exchange, control, engine } = make(30);
  engine.halfOpenRoom = 11;
  exchange.exchange(1);
  t.equal(halfOpenWord(control), 0);
  engine.halfOpenRoom = 10;
  exchange.exchange(2);
  t.equal(halfOpenWord(control), 1);
});

t.test('a flood that keeps the buffer full never opens more sessions than the limit', async (t) => {
  for (const halfOpen of [2_500, 4_096, 8_192, 10_922, 40_000, 100_000]) {
    const { exchange, control, engine, heard, waiting } = make(halfOpen);
    const full = eventRingRecords(eventRingBytes(halfOpen));
    // The program reports a SYN as long as it may, and the buffer has room again after each drain.
    const fill = (): void => {
      if (halfOpenWord(control) === 0) waiting.count = full;
    };
    const opened = engine.kernelEvent;
    engine.halfOpenRoom = halfOpen;
    engine.kernelEvent = (words, at, now) => {
      fill();
      opened(words, at, now);
      engine.halfOpenRoom -= 1;
    };
    for (let batch = 1; batch < 100; batch++) {
      fill();
      exchange.exchange(batch);
    }
    t.ok(heard.length <= halfOpen, `${heard.length} of ${halfOpen}`);
    t.ok(heard.length > halfOpen / 4, 'it was a flood');
    t.equal(waiting.count, 0, 'no event is left');
  }
});

t.test('the engine gets each new time of a cookie once', async (t) => {
  const { exchange, control, cookies } = make();
  exchange.exchange(1);
  t.same(cookies, [], '0: none was ever sent');
  control[CONTROL.cookieAt / 4] = 500;
  exchange.exchange(2);
  exchange.exchange(3);
  control[CONTROL.cookieAt / 4] = 900;
  exchange.exchange(4);
  t.same(cookies, [500, 900]);
});
