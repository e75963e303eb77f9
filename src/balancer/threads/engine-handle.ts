/** The main thread's handle of one engine thread: starts it, asks it questions, gets its events. */
import { Worker } from 'node:worker_threads';
import type { SessionPage } from '../../api/documents.js';
import { BatonError } from '../../base/errors.js';
import { errorOfThread } from '../../base/thread-errors.js';
import type { Farm } from '../objects/farm.js';
import type {
  EngineEvent,
  EngineSnapshot,
  EngineStart,
  ExplainAnswer,
  ExplainQuestion,
  FromEngine,
  TapStart,
  ToEngine,
} from './engine-messages.js';

/**
 * An answer takes one turn of the engine's event loop. After this time, in ms, the engine hangs.
 */
const ANSWER_MS = 5_000;
const STOP_MS = 2_000;

export interface EngineListener {
  event(event: EngineEvent): void;
  /** The thread ended without being asked: it forwards nothing any more. */
  died(reason: string): void;
}

interface Waiting {
  resolve(message: FromEngine): void;
  reject(error: Error): void;
  timer: NodeJS.Timeout;
}

export class EngineHandle {
  private readonly worker: Worker;
  private readonly waiting = new Map<number, Waiting>();
  private readonly exited: Promise<void>;
  private nextId = 1;
  private stopping = false;
  private hasEnded = false;
  /** Number of sessions of an earlier run that the engine has taken over. */
  takenOver = 0;

  private constructor(worker: Worker) {
    this.worker = worker;
    this.exited = new Promise((resolve) => worker.once('exit', () => resolve()));
  }

  /**
   * Starts the thread and waits until it is ready for frames.
   * @param program the thread's composition root
   * @throws the error that kept it from starting
   */
  static async start(
    program: URL,
    given: EngineStart,
    listener: EngineListener,
  ): Promise<EngineHandle> {
    const worker = new Worker(program, { workerData: given, name: 'engine' });
    const handle = new EngineHandle(worker);
    let ready = false;
    await new Promise<void>((resolve, reject) => {
      let reason: Error = new BatonError('BATON_SYSTEM', 'the engine thread ended unexpectedly');
      worker.on('message', (message: FromEngine) => {
        if (message.kind === 'event') listener.event(message);
        else if (message.kind !== 'ready') handle.settle(message);
        else {
          ready = true;
          handle.takenOver = message.takenOver;
          resolve();
        }
      });
      worker.on('error', (error) => {
        reason = errorOfThread(error);
      });
      worker.on('exit', () => {
        handle.abandon();
        if (!ready) reject(reason);
        else if (!handle.stopping) listener.died(reason.stack ?? reason.message);
      });
    });
    return handle;
  }

  /** Sets a node's MAC address; undefined: it is not known any more. */
  setNeighbour(node: number, mac: Uint8Array | undefined): void {
    this.post({ kind: 'neighbour', node, mac: mac ?? null });
  }

  /** To be called when the XDP program works: the engine reads what the program before it did. */
  activated(): void {
    this.post({ kind: 'activated' });
  }

  /**
   * Other threads of this process are about to need much time, or do not any more: whether the
   * engine takes the CPU from them at once when a frame wakes it.
   */
  setPrompt(prompt: boolean): void {
    this.post({ kind: 'prompt', prompt });
  }

  /** The node is in maintenance: its sessions end. */
  endSessionsOfNode(node: number): void {
    this.post({ kind: 'end-node', node });
  }

  /** The sessions of a virtual server that gets no new ones end. */
  endSessionsOfServer(server: number): void {
    this.post({ kind: 'end-server', server });
  }

  async snapshot(): Promise<EngineSnapshot> {
    const answer = await this.ask((id) => ({ kind: 'snapshot', id }));
    if (answer.kind !== 'snapshot')
      throw new BatonError('BATON_SYSTEM', 'the engine gave no snapshot');
    return answer.snapshot;
  }

  async sessions(after: number, limit: number): Promise<SessionPage> {
    const answer = await this.ask((id) => ({ kind: 'sessions', id, after, limit }));
    if (answer.kind !== 'sessions')
      throw new BatonError('BATON_SYSTEM', 'the engine gave no sessions');
    return answer.page;
  }

  /** Shows frames to a capture from now on; undefined: to none. Resolves when that is in effect. */
  async setTap(tap: TapStart | undefined): Promise<void> {
    await this.ask((id) => ({ kind: 'tap', id, tap }));
  }

  /**
   * Records sessions for the access log in this memory; undefined: no more. Resolves when it does.
   */
  async setAccessLog(ring: SharedArrayBuffer | undefined): Promise<void> {
    await this.ask((id) => ({ kind: 'accessLog', id, ring }));
  }

  /** Which node a request would get. Undefined: the thread has another farm. */
  async explain(question: ExplainQuestion): Promise<ExplainAnswer | undefined> {
    const answer = await this.ask((id) => ({ kind: 'explain', id, question }));
    return answer.kind === 'explained' ? answer.answer : undefined;
  }

  /**
   * Makes everything that the next farm needs, and changes nothing yet.
   * @throws BatonError why the engine cannot take the farm
   */
  async prepare(farm: Farm): Promise<void> {
    const answer = await this.ask((id) => ({ kind: 'prepare', id, farm }));
    if (answer.kind === 'prepared' && answer.fault !== undefined) throw errorOfThread(answer.fault);
  }

  /**
   * Puts the prepared farm in place. Resolves when it is in effect. With a thread that does not
   * answer in time it will be: the thread reads this message before any other that follows.
   * @throws BatonError when the thread has ended
   */
  async commit(): Promise<void> {
    try {
      await this.ask((id) => ({ kind: 'commit', id }));
    } catch (error) {
      if (this.hasEnded) throw error;
    }
  }

  /** Forgets the prepared farm. */
  async discard(): Promise<void> {
    await this.ask((id) => ({ kind: 'discard', id }));
  }

  /** Ends the thread, unless it has ended already. The thread closes its rings first. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.post({ kind: 'stop' });
    const timer = setTimeout(() => void this.worker.terminate(), STOP_MS);
    await this.exited;
    clearTimeout(timer);
  }

  private post(message: ToEngine): void {
    this.worker.postMessage(message);
  }

  private ask(message: (id: number) => ToEngine): Promise<FromEngine> {
    if (this.hasEnded) return Promise.reject(ended());
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new BatonError('BATON_SYSTEM', `the engine did not answer within ${ANSWER_MS} ms`));
      }, ANSWER_MS);
      this.waiting.set(id, { resolve, reject, timer });
      this.post(message(id));
    });
  }

  private settle(message: Extract<FromEngine, { id: number }>): void {
    const waiting = this.waiting.get(message.id);
    if (waiting === undefined) return;
    this.waiting.delete(message.id);
    clearTimeout(waiting.timer);
    waiting.resolve(message);
  }

  private abandon(): void {
    this.hasEnded = true;
    for (const waiting of this.waiting.values()) {
      clearTimeout(waiting.timer);
      waiting.reject(ended());
    }
    this.waiting.clear();
  }
}

function ended(): BatonError {
  return new BatonError('BATON_SYSTEM', 'the engine has ended');
}
