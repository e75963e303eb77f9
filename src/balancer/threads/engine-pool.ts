/**
 * All engine threads as one engine. A hash of client, port and virtual server decides which thread
 * owns a session (bpf/lib/session.h), so each thread has a table of its own. A question to the
 * balancer goes to all threads.
 *
 *     neighbour   goes to all threads
 *     change      of the farm: prepared in all threads, then committed in all, or in none
 *     snapshot    of all threads, added up
 *     sessions    of one thread after the other: those of thread w have the numbers from
 *                 w * (sessions of each thread) on
 *     end         the end of one thread is the end of all
 */

import type { SessionPage } from '../../api/documents.js';
import { type CounterName, Counters } from '../../base/counters.js';
import { ObjectCounters } from '../../base/object-counters.js';
import { readStages, type StageTotals, stageMemory } from '../../base/stages.js';
import { MAX_XDP_NODES, MOST_VIRTUAL_SERVERS } from '../../datapath/xdp-layout.js';
import type { NodeStates } from '../../directory/node-states.js';
import { sessionHash, sessionWorker } from '../../engine/table/session-record.js';
import type { Address } from '../../wire/address.js';
import { Aliases } from '../../wire/alias.js';
import type { Farm } from '../objects/farm.js';
import { clearReused, farmStates, writeFarm } from '../objects/farm-states.js';
import { EngineHandle, type EngineListener } from './engine-handle.js';
import type {
  EngineSnapshot,
  EngineStart,
  ExplainAnswer,
  ExplainQuestion,
  Secrets,
  TapStart,
} from './engine-messages.js';
import { shareOfLimits } from './limits.js';
import { addSnapshots } from './snapshots.js';

/** The start data that the pool adds for each thread. */
type FromPool = 'worker' | 'workers' | 'counters' | 'objects' | 'stages';

export interface PoolOptions {
  /** The thread's composition root. */
  program: URL;
  workers: number;
  /**
   * The other start data. The limits are those of all threads together. The farm is written in
   * `nodes` already (`writeFarm`).
   */
  given: Omit<EngineStart, FromPool>;
  listener: EngineListener;
  /** Adds to a snapshot what no engine thread knows. */
  complete?: (snapshot: EngineSnapshot) => EngineSnapshot;
}

export class EnginePool {
  private readonly engines: EngineHandle[] = [];
  private readonly counted: Counters[] = [];
  /** Counters of single nodes and virtual servers, of each thread. */
  readonly objects: ObjectCounters[] = [];
  private readonly timed: SharedArrayBuffer[] = [];
  /** Session numbers of each thread. */
  private readonly slots: number;
  private readonly seeds: Secrets['seeds'];
  private readonly aliases: Aliases;
  private readonly states: NodeStates;
  private farm: Farm;
  private complete = (snapshot: EngineSnapshot): EngineSnapshot => snapshot;

  private constructor(
    slots: number,
    seeds: Secrets['seeds'],
    key: Uint8Array,
    states: NodeStates,
    farm: Farm,
  ) {
    this.aliases = new Aliases(key);
    this.slots = slots;
    this.seeds = seeds;
    this.states = states;
    this.farm = farm;
  }

  /**
   * Starts the threads, one after the other, and waits until all are ready for frames.
   * @throws the error that kept a thread from starting; no thread runs then
   */
  static async start(options: PoolOptions): Promise<EnginePool> {
    const { program, workers, given, listener } = options;
    const limits = shareOfLimits(given.limits, workers);
    const states = farmStates(given.nodes, workers);
    const pool = new EnginePool(
      limits.sessions,
      given.datapath.seeds,
      given.key,
      states,
      given.farm,
    );
    if (options.complete !== undefined) pool.complete = options.complete;
    try {
      for (let worker = 0; worker < workers; worker++) {
        const counters = new Counters();
        const objects = new ObjectCounters(MAX_XDP_NODES, MOST_VIRTUAL_SERVERS);
        const stages = stageMemory();
        pool.counted.push(counters);
        pool.objects.push(objects);
        pool.timed.push(stages);
        pool.engines.push(
          await EngineHandle.start(
            program,
            {
              ...given,
              limits,
              worker,
              workers,
              counters: counters.memory,
              objects: objects.memory,
              stages,
            },
            listener,
          ),
        );
      }
    } catch (error) {
      await pool.stop();
      throw error;
    }
    return pool;
  }

  /** Number of sessions of an earlier run that the threads have taken over. */
  get takenOver(): number {
    return this.engines.reduce((sum, engine) => sum + engine.takenOver, 0);
  }

  /** Sets a node's MAC address; undefined: it is not known any more. */
  setNeighbour(node: number, mac: Uint8Array | undefined): void {
    for (const engine of this.engines) engine.setNeighbour(node, mac);
  }

  /**
   * Changes the farm in all threads, or in none. Waits until it is in effect in all of them. The
   * MAC addresses of new nodes must be set after that, because a slot that another node takes
   * forgets everything.
   *
   * @param farm the present one, in which a slot is freed or given to another address only if its
   *   owner is retired and has no sessions. Its weights count from now on.
   * @throws BatonError why a thread cannot take the farm; nothing has changed then
   */
  async change(farm: Farm): Promise<void> {
    const { engines } = this;
    const prepared = await Promise.allSettled(engines.map((engine) => engine.prepare(farm)));
    const failed = prepared.find((result) => result.status === 'rejected');
    if (failed !== undefined) {
      await Promise.allSettled(engines.map((engine) => engine.discard()));
      throw failed.reason;
    }
    writeFarm(this.states, farm, this.farm);
    for (const objects of this.objects) clearReused(objects, farm, this.farm);
    this.farm = farm;
    await Promise.all(engines.map((engine) => engine.commit()));
  }

  get workers(): number {
    return this.engines.length;
  }

  /** The thread that owns the sessions of a client at a virtual server, named by its slot. */
  workerOf(client: Address, port: number, server: number): number {
    const { seeds } = this;
    const number = this.aliases.of(client);
    const hash = sessionHash(number, ((port << 16) | server) >>> 0, seeds.client, seeds.port);
    return sessionWorker(hash, this.engines.length);
  }

  /**
   * Which node a request would get in a thread. Undefined: the thread has another farm than the
   * question is about.
   */
  async explain(worker: number, question: ExplainQuestion): Promise<ExplainAnswer | undefined> {
    return await this.engines[worker]?.explain(question);
  }

  /** To be called when the XDP program works: the engines read what the program before it did. */
  activated(): void {
    for (const engine of this.engines) engine.activated();
  }

  /**
   * Other threads of this process are about to need much time, or do not any more: whether the
   * engines take the CPU from them at once when a frame wakes them.
   */
  setPrompt(prompt: boolean): void {
    for (const engine of this.engines) engine.setPrompt(prompt);
  }

  /** The node is in maintenance: its sessions end, within a few seconds. */
  endSessionsOfNode(node: number): void {
    for (const engine of this.engines) engine.endSessionsOfNode(node);
  }

  /** The sessions of a virtual server that gets no new ones end, within a few seconds. */
  endSessionsOfServer(server: number): void {
    for (const engine of this.engines) engine.endSessionsOfServer(server);
  }

  /** The snapshots of all threads, added up. Rejects when a thread does not answer. */
  async snapshot(): Promise<EngineSnapshot> {
    const all = await Promise.all(this.engines.map((engine) => engine.snapshot()));
    return this.complete(addSnapshots(all));
  }

  /** Counters of all threads together, by name. */
  counters(): Record<CounterName, number> {
    return Counters.sum(this.counted);
  }

  /** Where the time of each thread went. */
  stages(): (StageTotals & { worker: number })[] {
    return this.timed.map((memory, worker) => ({ worker, ...readStages(memory) }));
  }

  /**
   * The sessions numbered from `after` on, at most `limit` of them. Rejects when a thread does not
   * answer.
   */
  async sessions(after: number, limit: number): Promise<SessionPage> {
    const { slots } = this;
    const page: SessionPage = { sessions: [], total: 0, next: null };
    for (const [worker, engine] of this.engines.entries()) {
      const first = worker * slots;
      const wanted = page.next === null && after < first + slots;
      // An answer from behind the last session has only their total.
      const part = await engine.sessions(
        wanted ? Math.max(0, after - first) : slots,
        limit - page.sessions.length,
      );
      page.total += part.total;
      if (!wanted) continue;
      page.sessions.push(...part.sessions);
      if (part.next !== null) page.next = first + part.next;
    }
    return page;
  }

  /**
   * Shows frames to a capture from now on. `start` is called for each thread, which gets a memory
   * of its own; undefined: to none. Rejects when a thread does not answer.
   */
  async setTaps(start: () => TapStart | undefined): Promise<void> {
    await Promise.all(this.engines.map((engine) => engine.setTap(start())));
  }

  /**
   * Has each thread record sessions for the access log in a memory of its own; undefined: no more.
   */
  async setAccessLog(rings: readonly SharedArrayBuffer[] | undefined): Promise<void> {
    await Promise.all(this.engines.map((engine, worker) => engine.setAccessLog(rings?.[worker])));
  }

  /** Ends the threads that have not ended already. */
  async stop(): Promise<void> {
    await Promise.all(this.engines.map((engine) => engine.stop()));
  }
}
