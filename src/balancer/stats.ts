/** The data of `baton stats` and `baton sessions`, from engine threads, machine and config. */

import type { ApiCounters } from '../api/counters.js';
import type { SessionPage, StatsDocument } from '../api/documents.js';
import type { CounterName } from '../base/counters.js';
import {
  COUNTER_PREFIX,
  FRAMES_OF_KERNEL,
  RING_NAMES,
  type XdpCounter,
} from '../base/kernel-counters.js';
import type { Log } from '../base/log.js';
import { VERSION } from '../base/version.js';
import type { BalancerConfig } from '../config/load.js';
import { SessionState } from '../engine/table/session-table.js';
import type { AccessLog } from './access-log/access-log.js';
import type { Forwarder } from './forward/forwarder.js';
import { LossWatch } from './loss-watch.js';
import type { Machine } from './machine/machine.js';
import { Scrapes } from './metrics/scrapes.js';
import { metricsInput } from './metrics/source.js';
import type { NodeWatch } from './node-watch.js';
import type { FarmSlots } from './objects/farm.js';
import type { NodeObjects } from './objects/node-objects.js';
import { serverDocument } from './objects/server-document.js';
import type { EngineSnapshot } from './threads/engine-messages.js';
import type { EnginePool } from './threads/engine-pool.js';

/** The parts of a running balancer that its documents are made of. */
export interface BalancerParts {
  config: Pick<BalancerConfig, 'interface' | 'limits'>;
  /** What is in the slots now. */
  slots(): FarmSlots;
  objects: NodeObjects;
  engine: EnginePool;
  machine: Machine;
  watch: NodeWatch;
  accessLog: AccessLog;
  forwarder: Pick<Forwarder, 'counts'>;
  /** What the callers of the API did. */
  api: ApiCounters;
  log: Log;
}

export class BalancerStats {
  private readonly parts: BalancerParts;
  private readonly startedAt = Date.now();
  private readonly startedOn = performance.now();
  private readonly losses: LossWatch;
  private readonly scrapes = new Scrapes(() => this.scrape());

  constructor(parts: BalancerParts) {
    this.parts = parts;
    this.losses = new LossWatch(parts.log);
  }

  /** Checks whether frames were lost, and logs a warning if so. */
  async look(): Promise<void> {
    this.counters(await this.parts.engine.snapshot());
  }

  async stats(): Promise<StatsDocument> {
    const { config, objects, engine, machine, watch } = this.parts;
    const snapshot = await engine.snapshot();
    const slots = this.parts.slots();
    const forwards = slots.servers.some(({ mode }) => mode === 'forward');
    const forwarded = this.parts.forwarder.counts();
    const counters = this.counters(snapshot);
    const inState = (state: number): number => snapshot.inState[state] ?? 0;
    const states = [
      SessionState.synReceived,
      SessionState.collecting,
      SessionState.handing,
      SessionState.passing,
      SessionState.lingering,
    ];
    return {
      version: VERSION,
      startedAt: this.startedAt,
      uptimeMs: Math.round(performance.now() - this.startedOn),
      interface: config.interface,
      datapath: machine.datapath,
      virtualServers: slots.servers.map((server) => ({
        ...serverDocument(server),
        active: snapshot.perServer[server.slot] ?? 0,
        ...(server.mode === 'forward' ? { forwarded: forwarded.ofServer(server.slot) } : {}),
      })),
      nodes: slots.nodes.flatMap(({ slot, retired }) => {
        const { active = 0, adopted = 0 } = snapshot.nodes[slot] ?? {};
        const document = objects.document(slot, { active, adopted });
        const node =
          document && forwards ? { ...document, forwarded: forwarded.ofNode(slot) } : document;
        // A node that is not in the config disappears with its last session.
        return node === undefined || (retired && active === 0) ? [] : [node];
      }),
      notOffered: watch.notOffered(),
      sessions: {
        total: states.reduce((sum, state) => sum + inState(state), 0),
        halfOpen: inState(SessionState.synReceived),
        collecting: inState(SessionState.collecting),
        handing: inState(SessionState.handing),
        passing: inState(SessionState.passing),
        answering: inState(SessionState.answering),
        closing: inState(SessionState.lingering),
      },
      counters,
      losses: this.losses.losses(performance.now()),
      stages: engine.stages(),
      kernel: machine.runTime(),
    };
  }

  sessions(after: number, limit: number): Promise<SessionPage> {
    return this.parts.engine.sessions(after, limit);
  }

  metrics(): Promise<string> {
    return this.scrapes.text();
  }

  private async scrape(): Promise<string> {
    const { config, engine } = this.parts;
    const input = await metricsInput({
      stats: () => this.stats(),
      engine,
      slots: () => this.parts.slots(),
      sessionLimit: config.limits.sessions,
    });
    // Loaded with the first scrape: a balancer that nobody scrapes saves the library's memory.
    const { renderMetrics } = await import('./metrics/exposition.js');
    return renderMetrics(input);
  }

  /** All counters as they are now. */
  private counters({ ring }: EngineSnapshot): Record<string, number> {
    const { guard, xdp } = this.parts.machine.counters();
    const counters = {
      ...withKernel(this.parts.engine.counters(), xdp),
      ...Object.fromEntries(RING_NAMES.map((name, index) => [name, ring[index] ?? 0])),
      ...prefixed(COUNTER_PREFIX.guard, guard),
      ...prefixed(COUNTER_PREFIX.xdp, xdp ?? {}),
      ...prefixed(COUNTER_PREFIX.accessLog, this.parts.accessLog.counters()),
      ...this.parts.api.read(),
    };
    this.losses.look(counters, performance.now());
    return counters;
  }
}

/**
 * Adds what the XDP program did in place of the engine to the engine's counters. The sum is as if
 * the engine had done everything.
 */
function withKernel(
  engine: Record<CounterName, number>,
  kernel: Record<XdpCounter, number> | undefined,
): Record<CounterName, number> {
  if (kernel === undefined) return engine;
  const { forwarded, forwarded_bytes, wrapped, syn_cookie, drop_unresolved } = kernel;
  return {
    ...engine,
    frames: FRAMES_OF_KERNEL.reduce((sum, name) => sum + kernel[name], engine.frames),
    forwarded: engine.forwarded + forwarded,
    forwarded_bytes: engine.forwarded_bytes + forwarded_bytes,
    wrapped: engine.wrapped + wrapped,
    syn_cookie: engine.syn_cookie + syn_cookie,
    drop_unresolved: engine.drop_unresolved + drop_unresolved,
  };
}

function prefixed(prefix: string, counts: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).map(([name, count]) => [prefix + name, count]));
}
