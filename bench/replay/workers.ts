/**
 * Measures the gain of a second engine thread. One thread, and two threads that share the work by
 * flow, run the same workload in turns. Each has its own engine and memory. The main thread sleeps.
 */
import { Worker } from 'node:worker_threads';
import { type Span, seconds, sharedNodes } from './run.js';

/** The goal: rate of all threads as a multiple of one thread's. */
export const WORKERS_GOAL = 1.8;
const WORKERS = 2;
const CONNECTIONS = 20_000;
const PACKETS = 4_000_000;
const ROUNDS = 9;
const WARM_UP_ROUNDS = 3;
const THREAD = new URL('./worker-thread.js', import.meta.url);

export interface WorkerFigures {
  workers: number;
  /** Rate per second of each round, of one thread and of all. */
  handoffs: { one: number[]; all: number[] };
  packets: { one: number[]; all: number[] };
  /** Rate of all threads divided by that of one, round by round. */
  handoffRatios: number[];
  packetRatios: number[];
}

/** The start parameters of a thread. */
export interface ThreadStart {
  worker: number;
  workers: number;
  connections: number;
  /** Packets of all threads together. */
  packets: number;
  nodes: SharedArrayBuffer;
  /** Two words for `meet`. */
  barrier: SharedArrayBuffer;
}

/** The result of a thread for one round. */
export interface Round {
  handoffs: Span;
  packets: Span;
}

/** A barrier: returns when every thread has called it as often as this one. */
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

  /** Runs one round of all threads. The rates count from the first start to the last end. */
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
