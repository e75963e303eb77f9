/**
 * Least connections: the holder with the fewest sessions for its weight. Holders with the same load
 * take turns by weight, so that an idle farm is used evenly too.
 */
import { type HolderSets, holderBit } from '../holders.js';
import type { Candidates } from './candidates.js';
import type { Predictor, Preview } from './predictor.js';
import { previewTurn } from './preview-turn.js';
import { Turns } from './turns.js';

/** In place of a load: the holder may not be picked now. */
const UNAVAILABLE = -1;

export class LeastConnections implements Predictor {
  pickedBit = 0;
  private readonly sets: HolderSets;
  private readonly candidates: Candidates;
  private readonly turns: Turns;
  /**
   * By position in the set: the holder's load at the beginning of the pick, or UNAVAILABLE. Other
   * threads may change a load during the pick.
   */
  private readonly loads: Float64Array;

  constructor(sets: HolderSets, candidates: Candidates) {
    this.sets = sets;
    this.candidates = candidates;
    this.turns = new Turns(sets);
    this.loads = new Float64Array(sets.largest);
  }

  pick(set: number, tried: number): number {
    const { sets, candidates, turns, loads } = this;
    const first = sets.start[set]!;
    const end = sets.start[set + 1]!;

    // Two loads are compared as fractions, by cross-multiplication. That is exact while load times
    // weight stays below 2^53.
    let leastLoad = 1;
    let leastWeight = 0;
    for (let holder = first; holder < end; holder++) {
      loads[holder - first] = UNAVAILABLE;
      const candidate = sets.node[holder]!;
      const weight = candidates.weight(candidate);
      if (
        (tried & holderBit(holder - first)) !== 0 ||
        weight === 0 ||
        !candidates.available(candidate)
      )
        continue;
      const load = candidates.load(candidate);
      loads[holder - first] = load;
      // The initial value, 1/0, is more than any load.
      if (load * leastWeight < leastLoad * weight) {
        leastLoad = load;
        leastWeight = weight;
      }
    }
    turns.begin(first);
    for (let holder = first; holder < end; holder++) {
      const load = loads[holder - first]!;
      if (load === UNAVAILABLE) continue;
      const weight = candidates.weight(sets.node[holder]!);
      if (load * leastWeight === leastLoad * weight) turns.enter(holder, weight);
    }
    const picked = turns.end();
    this.pickedBit = picked < 0 ? 0 : holderBit(picked - first);
    return picked < 0 ? -1 : sets.node[picked]!;
  }

  preview(set: number): Preview {
    const { sets, candidates, turns } = this;
    return previewTurn(sets, set, turns, candidates, (candidate) => candidates.load(candidate));
  }
}
