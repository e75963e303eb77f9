/**
 * The access log as the main thread sees it: turns it on and off, changes its file, and reads its
 * counters. The lines themselves never pass the main thread:
 *
 *     engine threads -- records in rings of shared memory --> log thread --> file
 */
import { Worker } from 'node:worker_threads';
import { ACCESS_LOG_COUNTER_NAMES, type AccessLogCounter } from '../../base/access-log-counters.js';
import { BatonError, reasonOf } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import type { AccessLogConfig } from '../../config/load.js';
import type { FarmSlots } from '../objects/farm.js';
import type { SlotNames } from './joiner.js';
import { type FromLog, type LogStart, START_ID, type ToLog } from './messages.js';
import { ringMemory } from './records.js';

const PROGRAM = new URL('./log-thread.js', import.meta.url);
/** How long the thread may take to answer, in ms. */
const ANSWER_MS = 5_000;
/** How long a full buffer may take to reach the disk when the balancer ends, in ms. */
const STOP_MS = 5_000;

/** The source of records: the engine threads. */
export interface Recordable {
  /** Gives each thread a memory of `ringMemory` to write to; undefined: they record nothing. */
  setAccessLog(rings: readonly SharedArrayBuffer[] | undefined): Promise<void>;
}

export interface AccessLogOptions {
  /** Number of engine threads. */
  workers: number;
  log: Log;
}

interface Answer {
  resolve(): void;
  reject(error: Error): void;
}

interface Thread {
  worker: Worker;
  rings: readonly SharedArrayBuffer[];
  exited: Promise<void>;
  /** Messages that it has not answered, by their id. */
  waiting: Map<number, Answer>;
  nextId: number;
}

export class AccessLog {
  private readonly options: AccessLogOptions;
  /** Outlives the thread: a counter only grows. */
  private readonly counted = new SharedArrayBuffer(
    ACCESS_LOG_COUNTER_NAMES.length * Float64Array.BYTES_PER_ELEMENT,
  );
  private names: SlotNames = { nodes: new Map(), servers: new Map() };
  private engine: Recordable | undefined;
  private thread: Thread | undefined;

  constructor(options: AccessLogOptions) {
    this.options = options;
  }

  /**
   * Turns the log on or off, or changes its file or format. One call after the other.
   * @throws BatonError BATON_LOG: the file cannot be opened, and nothing has changed
   */
  async change(wish: AccessLogConfig | undefined): Promise<void> {
    const { thread } = this;
    if (wish === undefined) {
      await this.engine?.setAccessLog(undefined);
      await this.stop();
    } else if (thread === undefined) {
      await this.start(wish);
    } else {
      await ask(thread, (id) => ({ kind: 'change', id, wish }));
    }
  }

  /** Whether its thread runs. */
  get isOn(): boolean {
    return this.thread !== undefined;
  }

  /** Has the engine threads record what happens to sessions, if and when the log is on. */
  async attach(engine: Recordable): Promise<void> {
    this.engine = engine;
    if (this.thread !== undefined) await engine.setAccessLog(this.thread.rings);
  }

  /**
   * Sets the names of nodes and virtual servers, for sessions that end from now on. To be awaited
   * before the engine threads get the farm, so that no session is without the name of its node.
   */
  async setNames({ nodes, servers }: FarmSlots): Promise<void> {
    const named = (slots: readonly { slot: number; name: string }[]): Map<number, string> =>
      new Map(slots.map(({ slot, name }) => [slot, name]));
    const names = { nodes: named(nodes), servers: named(servers) };
    this.names = names;
    if (this.thread === undefined) return;
    try {
      await ask(this.thread, (id) => ({ kind: 'names', id, names }));
    } catch (error) {
      // The names come into effect when the disk answers. A change of the farm must not fail.
      this.options.log.warn(`access log: ${reasonOf(error)}`);
    }
  }

  /** Opens the file by its name again, after the present one was renamed. */
  reopen(): void {
    this.thread?.worker.postMessage({ kind: 'reopen' } satisfies ToLog);
  }

  /** The counters, by name. */
  counters(): Record<AccessLogCounter, number> {
    const values = new Float64Array(this.counted);
    return Object.fromEntries(
      ACCESS_LOG_COUNTER_NAMES.map((name, index) => [name, values[index] ?? 0]),
    ) as Record<AccessLogCounter, number>;
  }

  /** Writes what the engine threads have recorded, and ends the thread. */
  async stop(): Promise<void> {
    const { thread } = this;
    if (thread === undefined) return;
    this.thread = undefined;
    thread.worker.postMessage({ kind: 'stop' } satisfies ToLog);
    const timer = setTimeout(() => {
      this.options.log.warn('the access log did not end in time: its last lines are lost');
      void thread.worker.terminate();
    }, STOP_MS);
    await thread.exited;
    clearTimeout(timer);
  }

  private async start(wish: AccessLogConfig): Promise<void> {
    const rings = Array.from({ length: this.options.workers }, () => ringMemory());
    const given: LogStart = { wish, names: this.names, rings, counters: this.counted };
    const worker = new Worker(PROGRAM, { workerData: given, name: 'access-log' });
    const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
    const thread: Thread = { worker, rings, exited, waiting: new Map(), nextId: START_ID };
    const opened = answerOf(thread);
    worker.on('message', (message: FromLog) => this.take(thread, message));
    worker.on('error', (error) => this.options.log.error(`access log: ${reasonOf(error)}`));
    worker.on('exit', () => this.ended(thread));
    try {
      await opened;
    } catch (error) {
      void worker.terminate();
      throw error;
    }
    this.thread = thread;
    try {
      await this.engine?.setAccessLog(rings);
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  private take(thread: Thread, message: FromLog): void {
    switch (message.kind) {
      case 'done':
        settle(thread, message.id)?.resolve();
        return;
      case 'refused': {
        const { message: text, where, hint } = message.failure;
        const more = {
          ...(where === undefined ? {} : { where }),
          ...(hint === undefined ? {} : { hint }),
        };
        settle(thread, message.id)?.reject(new BatonError('BATON_LOG', text, more));
        return;
      }
      case 'warning':
        this.options.log.warn(message.message);
        return;
      case 'info':
        this.options.log.info(message.message);
    }
  }

  private ended(thread: Thread): void {
    const why = 'the log thread has ended';
    for (const id of [...thread.waiting.keys()])
      settle(thread, id)?.reject(new BatonError('BATON_SYSTEM', why));
    if (this.thread !== thread) return;
    // Sessions do not depend on it. A reload turns the log on again.
    this.thread = undefined;
    this.options.log.error(`${why}: no access log is written until the next reload`);
    this.engine?.setAccessLog(undefined).catch(() => {});
  }
}

/** Sends a message, and resolves or rejects when the thread has answered it. */
function ask(thread: Thread, message: (id: number) => ToLog): Promise<void> {
  const { nextId } = thread;
  const answer = answerOf(thread);
  thread.worker.postMessage(message(nextId));
  return answer;
}

/**
 * Resolves or rejects when the thread has answered the next message. Rejects when that takes too
 * long: a disk may hang.
 */
function answerOf(thread: Thread): Promise<void> {
  const id = thread.nextId++;
  return new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      const why = `the log thread has not answered for ${ANSWER_MS / 1000} s: its disk may hang`;
      settle(thread, id)?.reject(new BatonError('BATON_LOG', why));
    }, ANSWER_MS);
    const ended = (settled: () => void): void => {
      clearTimeout(timer);
      settled();
    };
    thread.waiting.set(id, {
      resolve: () => ended(resolve),
      reject: (error) => ended(() => reject(error)),
    });
  });
}

function settle(thread: Thread, id: number): Answer | undefined {
  const answer = thread.waiting.get(id);
  thread.waiting.delete(id);
  return answer;
}
