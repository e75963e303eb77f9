/** Round-robin: each holder in turn, as often as its weight says. */
import { type HolderSets, holderBit } from '../holders.js';
import type { Candidates } from './candidates.js';
import type { Predictor, Preview } from './predictor.js';
import { previewTurn } from './preview-turn.js';
import { Turns } from './turns.js';

export class RoundRobin implements Predictor {
  pickedBit = 0;
  private readonly sets: HolderSets;
  private readonly candidates: Candidates;
  private readonly turns: Turns;

  constructor(sets: HolderSets, candidates: Candidates) {
    this.sets = sets;
    this.candidates = candidates;
    this.turns = new Turns(sets);
  }

  pick(set: number, tried: number): number {
    const { sets, candidates, turns } = this;
    const first = sets.start[set]!;
    const end = sets.start[set + 1]!;
    turns.begin(first);
    for (let holder = first; holder < end; holder++) {
      const candidate = sets.node[holder]!;
      const weight = candidates.weight(candidate);
      if (
        (tried & holderBit(holder - first)) !== 0 ||
        weight === 0 ||
        !candidates.available(candidate)
      )
        continue;
      turns.enter(holder, weight);
    }
    const picked = turns.end();
    this.pickedBit = picked < 0 ? 0 : holderBit(picked - first);
    return picked < 0 ? -1 : sets.node[picked]!;
  }

  preview(set: number): Preview {
    const { sets, candidates, turns } = this;
    return previewTurn(sets, set, turns, candidates, () => null);
  }
}
