/** The goals of Baton, and whether a run met them. */
import { WORKERS_GOAL } from '../replay/workers.js';
import { median } from '../report.js';
import type { ContenderId } from './contenders.js';
import { caseNamed, JUDGED, percentile, rates, samplesOf, shareOf, taxes } from './figures.js';
import { FLOOD_SESSIONS } from './flood.js';
import type { Results } from './results.js';

export interface Goal {
  what: string;
  /** The limit as text, with its unit. */
  goal: string;
  /** undefined: not measured; NaN: a share of nothing. */
  value: number | undefined;
  /** The value with its unit. */
  shown: string;
  met: boolean | undefined;
  /** For shares of a stock proxy's tax: the share of the tuned proxy's tax. It is not a goal. */
  ofTuned?: string;
}

type Compare = 'at most' | 'at least' | 'below';

const MEGABYTE = 1e6;
const NONE: readonly number[] = [];
const PROXY_NAMES = { haproxy: 'HAProxy', nginx: 'nginx' };

function goal(
  what: string,
  compare: Compare,
  limit: number,
  value: number | undefined,
  show: (value: number) => string,
): Goal {
  const holds = {
    'at most': (v: number) => v <= limit,
    'at least': (v: number) => v >= limit,
    below: (v: number) => v < limit,
  }[compare];
  const judged = value !== undefined && !Number.isNaN(value);
  return {
    what,
    goal: `${compare} ${show(limit)}`,
    value,
    shown: shownValue(value, show),
    met: judged ? holds(value) : undefined,
  };
}

function shownValue(value: number | undefined, show: (value: number) => string): string {
  if (value === undefined) return 'not measured';
  // NaN: the other value is not above 0.
  return Number.isNaN(value) ? 'nothing to compare with' : show(value);
}

const ratio = (value: number): string => value.toFixed(2);
const microseconds = (value: number): string => `${Math.round(value)} us`;
const megabytes = (value: number): string => `${Math.round(value / MEGABYTE)} MB`;
const perSecond = (value: number): string => `${Math.round(value).toLocaleString('en-US')}/s`;

export function goalsOf(results: Results): Goal[] {
  const taxShare = (start: string, of: ContenderId): number | undefined => {
    const found = caseNamed(results, start);
    return found && shareOf(taxes(found, JUDGED), taxes(found, of));
  };
  const taxGoal = (
    start: string,
    of: 'haproxy' | 'nginx',
    compare: Compare,
    limit: number,
  ): Goal => {
    const what = `${start}: tax as a share of ${PROXY_NAMES[of]}'s`;
    const ofTuned = shownValue(taxShare(start, `${of}-tuned`), ratio);
    return { ...goal(what, compare, limit, taxShare(start, of), ratio), ofTuned };
  };
  const short = '1 KB, a connection per request';
  const kept = '1 KB, kept alive';
  const { firstByte, smallPackets, memory, engine } = results;
  const workersGoal = (of: string, ratios: readonly number[]): Goal =>
    goal(
      `${engine.workers.workers} workers as a multiple of one, capture in memory: ${of}`,
      'at least',
      WORKERS_GOAL,
      median(ratios),
      ratio,
    );
  const added = (share: number): number | undefined => {
    const { direct = NONE, [JUDGED]: judged = NONE } = firstByte;
    if (direct.length === 0 || judged.length === 0) return undefined;
    return percentile(judged, share) - percentile(direct, share);
  };
  const floods = (id: 'swap' | ContenderId): number[] =>
    rates(smallPackets.floods, id, FLOOD_SESSIONS);
  const held = memory.baton.find(({ datapath }) => datapath === JUDGED);
  const bytes = held && held.process + held.rings + held.maps;
  return [
    taxGoal(short, 'haproxy', 'at most', 0.33),
    taxGoal(short, 'nginx', 'below', 1),
    taxGoal(kept, 'haproxy', 'at most', 0.25),
    taxGoal('1 MB', 'haproxy', 'at most', 0.1),
    taxGoal('10 MB', 'haproxy', 'at most', 0.05),
    goal(
      '10 MB: throughput as a share of direct',
      'at least',
      0.95,
      throughputShare(results),
      ratio,
    ),
    goal(
      'small packets: rate as a share of an XDP program that only swaps MAC addresses',
      'at least',
      0.85,
      shareOf(floods(JUDGED), floods('swap')),
      ratio,
    ),
    goal(
      'time to first byte above direct, without other load, p50',
      'at most',
      150,
      added(0.5),
      microseconds,
    ),
    goal(
      'time to first byte above direct, without other load, p99',
      'at most',
      500,
      added(0.99),
      microseconds,
    ),
    goal(
      `memory with ${(held?.sessions ?? 1e6).toLocaleString('en-US')} sessions, kernel maps included`,
      'at most',
      300 * MEGABYTE,
      bytes,
      megabytes,
    ),
    goal(
      'engine alone: handoffs, one thread',
      'at least',
      250_000,
      median(engine.handoffsPerSecond),
      perSecond,
    ),
    goal(
      'engine alone: packets passed through in user space, one thread',
      'at least',
      5_000_000,
      median(engine.packetsPerSecond),
      perSecond,
    ),
    workersGoal('handoffs', engine.workers.handoffRatios),
    workersGoal('packets passed through', engine.workers.packetRatios),
  ];
}

function throughputShare(results: Results): number | undefined {
  const found = caseNamed(results, '10 MB');
  if (found === undefined) return undefined;
  const rate = (id: ContenderId): number[] =>
    samplesOf(found, id).map((sample) => sample.perSecond);
  return shareOf(rate(JUDGED), rate('direct'));
}

/** "met" or "missed"; empty if the value was not measured. */
export function verdict({ met }: Goal): string {
  if (met === undefined) return '';
  return met ? 'met' : '**missed**';
}
