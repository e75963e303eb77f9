/** What the tables and the goals say of the samples. */
import { median } from '../report.js';
import type { ContenderId } from './contenders.js';
import type { CaseResult, FloodSample, ForwarderId, Results, Sample } from './results.js';

export interface Spread {
  median: number;
  least: number;
  most: number;
}

export function spread(values: readonly number[]): Spread {
  return { median: median(values), least: Math.min(...values), most: Math.max(...values) };
}

/** Value that `share` of the values do not exceed, by the nearest rank. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

export function samplesOf({ rounds }: CaseResult, id: ContenderId): Sample[] {
  return rounds.flatMap((round) => round[id] ?? []);
}

/**
 * CPU time per request above direct, in us, of each round: both of a pair met the machine in the
 * same state. Empty when the contender was not measured.
 */
export function taxes({ rounds }: CaseResult, id: ContenderId): number[] {
  return rounds.flatMap(({ direct, [id]: one }) =>
    direct === undefined || one === undefined ? [] : [one.cpu - direct.cpu],
  );
}

/**
 * One median as a share of another; undefined when either was not measured, NaN when the other is
 * not above 0.
 */
export function shareOf(values: readonly number[], whole: readonly number[]): number | undefined {
  if (values.length === 0 || whole.length === 0) return undefined;
  const denominator = median(whole);
  return denominator > 0 ? median(values) / denominator : Number.NaN;
}

/** Packets per second that came back. */
export function rates(
  floods: readonly FloodSample[],
  forwarder: ForwarderId,
  sessions?: number,
): number[] {
  return floods
    .filter(
      (flood) => flood.forwarder === forwarder && (sessions ?? flood.sessions) === flood.sessions,
    )
    .map(({ returned, seconds }) => returned / seconds);
}

/** What is judged: Baton in the kernel. */
export const JUDGED: ContenderId = 'xdp';

export function caseNamed({ cases }: Results, start: string): CaseResult | undefined {
  return cases.find((result) => result.case.name.startsWith(start));
}
