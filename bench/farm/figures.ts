/** Figures of tables and goals, computed from the samples. */
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

/** Percentile by nearest rank: the value that `share` of the values do not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

export function samplesOf({ rounds }: CaseResult, id: ContenderId): Sample[] {
  return rounds.flatMap((round) => round[id] ?? []);
}

/**
 * CPU time per request above direct, in us, for each round. Within a round both met the machine in
 * the same state. Empty if the contender was not measured.
 */
export function taxes({ rounds }: CaseResult, id: ContenderId): number[] {
  return rounds.flatMap(({ direct, [id]: one }) =>
    direct === undefined || one === undefined ? [] : [one.cpu - direct.cpu],
  );
}

/**
 * The median of `values` as a share of the median of `whole`. Undefined if either was not measured;
 * NaN if the median of `whole` is not above 0.
 */
export function shareOf(values: readonly number[], whole: readonly number[]): number | undefined {
  if (values.length === 0 || whole.length === 0) return undefined;
  const denominator = median(whole);
  return denominator > 0 ? median(values) / denominator : Number.NaN;
}

/** Returned packets per second, of each flood. */
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

/** The contender that the goals judge. */
export const JUDGED: ContenderId = 'xdp';

export function caseNamed({ cases }: Results, start: string): CaseResult | undefined {
  return cases.find((result) => result.case.name.startsWith(start));
}
