/** What a predictor with turns would pick, for people who ask. */
import type { HolderSets } from '../holders.js';
import type { Candidates } from './candidates.js';
import type { Preview, PreviewedHolder } from './predictor.js';
import type { Turns } from './turns.js';

/**
 * Previews a pick among the holders with the least load for their weight; among all that are
 * available, if loads are not compared.
 *
 * @param loadOf the load of a candidate; null: loads are not compared
 */
export function previewTurn(
  sets: HolderSets,
  set: number,
  turns: Turns,
  candidates: Candidates,
  loadOf: (candidate: number) => number | null,
): Preview {
  const first = sets.start[set]!;
  const entries = [...sets.node.subarray(first, sets.start[set + 1])].map((candidate) => {
    const weight = candidates.weight(candidate);
    const takesPart = weight !== 0 && candidates.available(candidate);
    return { candidate, weight, takesPart, load: takesPart ? loadOf(candidate) : null };
  });
  // Loads are compared as fractions, by cross-multiplication, so that equal ones are exactly equal.
  let leastLoad = 1;
  let leastWeight = 0;
  for (const { weight, takesPart, load } of entries) {
    if (!takesPart || (load ?? 0) * leastWeight >= leastLoad * weight) continue;
    leastLoad = load ?? 0;
    leastWeight = weight;
  }
  let picked = -1;
  let most = Number.NEGATIVE_INFINITY;
  const holders = entries.map(
    ({ candidate, weight, takesPart, load }, position): PreviewedHolder => {
      const score = load === null ? null : load / weight;
      const isLeast = takesPart && (load ?? 0) * leastWeight === leastLoad * weight;
      if (!isLeast) return { score, credit: null };
      const credit = turns.creditOf(first, first + position, weight);
      if (credit > most) {
        most = credit;
        picked = candidate;
      }
      return { score, credit };
    },
  );
  return { picked, holders };
}
