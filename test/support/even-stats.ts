/** Statistics of a balancer that works at constant rates. */
import type { StatsDocument } from '../../src/api/documents.js';

export const START = Date.UTC(2026, 0, 2, 3, 4, 5);

/** The document of a balancer that has run for `seconds` at constant rates. */
export function statsAt(seconds: number, change: Partial<StatsDocument> = {}): StatsDocument {
  const stage = (share: number): number => share * seconds * 1e9;
  return {
    version: '0.1.0',
    startedAt: START,
    uptimeMs: seconds * 1_000,
    interface: 'eth0',
    datapath: 'packet',
    virtualServers: [],
    nodes: [
      {
        name: 'n1',
        address: '10.99.0.3',
        mac: null,
        weight: 1,
        state: 'down',
        by: 'balancer',
        why: 'no reply\u001b[2J',
        since: 1_000,
        condition: 'unresolved',
        sources: [
          { source: 'config', state: 'up', by: 'config', why: '', since: 0 },
          {
            source: 'balancer',
            state: 'down',
            by: 'balancer',
            why: 'no reply\u001b[2J',
            since: 1_000,
          },
        ],
        active: 5,
        held: 5,
        adopted: 30 * seconds,
        lastReportMs: null,
      },
    ],
    notOffered: [],
    sessions: {
      total: 1_234,
      halfOpen: 4,
      collecting: 3,
      handing: 2,
      passing: 1_200,
      answering: 0,
      closing: 25,
    },
    counters: {
      frames: 5_000 * seconds,
      forwarded: 4_000 * seconds,
      forwarded_bytes: 400_000 * seconds,
      sent: 120 * seconds,
      syn: 40 * seconds,
      requests: 35 * seconds,
      handoffs: 34 * seconds,
      adopted: 30 * seconds,
      answer_404: 2 * seconds,
      answer_503: seconds,
      drop_bad_ack: 0,
      drop_no_session: 0.5 * seconds,
      drop_ixcp_tag: 7,
      ring_lost: 3 * seconds,
    },
    losses: [],
    stages: [
      {
        worker: 0,
        nanoseconds: {
          waiting: stage(0.7),
          loop: stage(0.1),
          receive: stage(0.05),
          engine: stage(0.1),
          timers: stage(0.01),
          flush: stage(0.04),
        },
        batches: 1_000 * seconds,
        frames: 5_000 * seconds,
      },
    ],
    kernel: null,
    ...change,
  };
}
