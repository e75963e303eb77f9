/**
 * What a second engine thread brings: one workload, done in turns by one thread and by two that
 * share it by flow, each with its own engine and memory. This thread sleeps meanwhile.
 */
import { Worker } from 'node:worker_threads';
import { type Span, seconds, sharedNodes } from './run.js';

/** How much more so many threads must do than one. */
export const WORKERS_GOAL = 1.8;
const WORKERS = 2;
const CONNECTIONS = 20_000;
const PACKETS = 4_000_000;
const ROUNDS = 9;
const WARM_UP_ROUNDS = 3;
const THREAD = new URL('./worker-thread.js', import.meta.url);

export interface WorkerFigures {
  workers: number;
  /** Per second, of each round: by one thread, and by all. */
  handoffs: { one: number[]; all: number[] };
  packets: { one: number[]; all: number[] };
  /** All over one, round by round. */
  handoffRatios: number[];
  packetRatios: number[];
}

/** What a thread is started with. */
export interface ThreadStart {
  worker: number;
  workers: number;
  connections: number;
  /** Of all threads together. */
  packets: number;
  nodes: SharedArrayBuffer;
  /** Two words, for `meet`. */
  barrier: SharedArrayBuffer;
}

/** What a thread tells of a round. */
export interface Round {
  handoffs: Span;
  packets: Span;
}

/** Returns when every one of the threads has called it as often as this one. */
export function meet(barrier: Int32Array, workers: number): void {
  const turn = Atomics.load(barrier, 1);
  if (Atomics.add(barrier, 0, 1) + 1 === workers) {
    Atomics.store(barrier, 0, 0);
    Atomics.add(barrier, 1, 1);
    Atomics.notify(barrier, 1);
  } else {
    while (Atomics.load(barrier, 1) === turn) Atomics.wait(barrier, 1, turn);
  }
}

/** Threads that share the workload. */
class Team {
  private readonly threads: Worker[];

  constructor(workers: number) {
    const nodes = sharedNodes(workers);
    const barrier = new SharedArrayBuffer(8);
    this.threads = Array.from({ length: workers }, (_, worker) => {
      const start: ThreadStart = {
        worker,
        workers,
        connections: CONNECTIONS,
        packets: PACKETS,
        nodes,
        barrier,
      };
      return new Worker(THREAD, { workerData: start });
    });
  }

  /**
   * One round of all: how much was done a second, from when the first began until the last was
   * done.
   */
  async round(): Promise<{ handoffs: number; packets: number }> {
    const rounds = await Promise.all(
      this.threads.map(
        (thread) =>
          new Promise<Round>((resolve, reject) => {
            thread.once('error', reject);
            thread.once('message', (round: Round) => {
              thread.off('error', reject);
              resolve(round);
            });
            thread.postMessage('round');
          }),
      ),
    );
    const whole = (spans: readonly Span[]): number =>
      seconds({
        start: Math.min(...spans.map(({ start }) => start)),
        end: Math.max(...spans.map(({ end }) => end)),
      });
    return {
      handoffs: CONNECTIONS / whole(rounds.map(({ handoffs }) => handoffs)),
      packets: PACKETS / whole(rounds.map(({ packets }) => packets)),
    };
  }

  async stop(): Promise<void> {
    await Promise.all(this.threads.map((thread) => thread.terminate()));
  }
}

export async function measureWorkers(): Promise<WorkerFigures> {
  const figures: WorkerFigures = {
    workers: WORKERS,
    handoffs: { one: [], all: [] },
    packets: { one: [], all: [] },
    handoffRatios: [],
    packetRatios: [],
  };
  const one = new Team(1);
  const all = new Team(WORKERS);
  try {
    for (let round = 0; round < ROUNDS + WARM_UP_ROUNDS; round++) {
      const alone = await one.round();
      const together = await all.round();
      if (round < WARM_UP_ROUNDS) continue;
      figures.handoffs.one.push(alone.handoffs);
      figures.handoffs.all.push(together.handoffs);
      figures.packets.one.push(alone.packets);
      figures.packets.all.push(together.packets);
      figures.handoffRatios.push(together.handoffs / alone.handoffs);
      figures.packetRatios.push(together.packets / alone.packets);
    }
  } finally {
    await Promise.all([one.stop(), all.stop()]);
  }
  return figures;
}
