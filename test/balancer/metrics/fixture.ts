/** The values of a scrape, for tests of metrics. */
import type {
  MetricsInput,
  NodeFigures,
  ServerFigures,
} from '../../../src/balancer/metrics/family.js';
import { Counters } from '../../../src/base/counters.js';
import { ObjectCounters } from '../../../src/base/object-counters.js';
import { GLOSSARY } from '../../../src/cli/glossary.js';

/** Every counter has a value of its own. */
export const COUNTER_VALUES: Readonly<Record<string, number>> = Object.fromEntries(
  [...GLOSSARY.keys()].map((name, index) => [name, 100_000 + index]),
);

export function nodeFigures(more: Partial<NodeFigures> = {}): NodeFigures {
  return {
    name: 'n1',
    address: '10.99.0.3',
    weight: 2,
    state: 'draining',
    condition: 'up',
    active: 4,
    lastReportMs: 400,
    counts: { handoffs: 50, adopted: 40, refused: 5, silent: 3, taken_back: 1 },
    ...more,
  };
}

export function serverFigures(more: Partial<ServerFigures> = {}): ServerFigures {
  const counters = new ObjectCounters(0, 1);
  for (const ms of [1, 4, 4, 700, 20_000]) counters.handedAfter(0, ms);
  return {
    name: 'www',
    address: '10.99.0.100',
    port: 80,
    predictor: 'round-robin',
    active: 6,
    counts: { ...ObjectCounters.ofServer([counters], 0), connections: 60, answer_404: 9 },
    ...more,
  };
}

export function metricsInput(more: Partial<MetricsInput> = {}): MetricsInput {
  return {
    stats: {
      version: '0.1.0',
      startedAt: 1_700_000_000_500,
      uptimeMs: 1_000,
      interface: 'eth0',
      datapath: 'xdp',
      notOffered: [],
      sessions: {
        total: 21,
        halfOpen: 1,
        collecting: 2,
        handing: 3,
        passing: 4,
        answering: 6,
        closing: 5,
      },
      counters: COUNTER_VALUES,
      losses: [],
      stages: [0, 1].map((worker) => ({
        worker,
        nanoseconds: {
          waiting: 6e9,
          loop: 1e9,
          receive: 5e8,
          engine: 2e9,
          timers: 1e8,
          flush: 4e8,
        },
        batches: 1_000,
        frames: 4_000,
      })),
      kernel: { runNanoseconds: 1.5e9, runCount: 20 },
    },
    engine: new Counters().toObject(),
    nodes: [nodeFigures()],
    servers: [serverFigures()],
    sessionLimit: 1_000_000,
    process: { cpuSeconds: 12.5, residentBytes: 1e8 },
    ...more,
  };
}
