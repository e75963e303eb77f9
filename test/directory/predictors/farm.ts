/** Candidates whose weight, load and availability a test sets. */
import { type HolderSets, holderSets } from '../../../src/directory/holders.js';
import type { Candidates } from '../../../src/directory/predictors/candidates.js';

export class Farm implements Candidates {
  readonly weights: readonly number[];
  readonly loads: number[];
  readonly up: boolean[];

  constructor(...weights: number[]) {
    this.weights = weights;
    this.loads = weights.map(() => 0);
    this.up = weights.map(() => true);
  }

  weight(candidate: number): number {
    return this.weights[candidate]!;
  }

  load(candidate: number): number {
    return this.loads[candidate]!;
  }

  available(candidate: number): boolean {
    return this.up[candidate]!;
  }

  /** One holder set with all candidates. */
  all(): HolderSets {
    return holderSets([{ nodes: this.weights.map((_, index) => index) }]);
  }
}
