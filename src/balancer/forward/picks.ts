/**
 * The picks of a virtual server with mode forward: the nodes that its next flows get. The predictor
 * makes them in advance, so that no packet waits for it.
 */

import { holderSets } from '../../directory/holders.js';
import { createPredictor, type PredictorName } from '../../directory/predictors/index.js';
import { MOST_PICKS } from '../../engine/forward/layout.js';

/** A node that takes flows. */
export interface PickedNode {
  readonly slot: number;
  /** Above 0. */
  readonly weight: number;
  /** Sessions and flows that it has. */
  readonly load: number;
}

/**
 * The next picks, slots of nodes. With round-robin as many as there are until the turns begin
 * again, if that is possible.
 */
export function picksFor(predictor: PredictorName, nodes: readonly PickedNode[]): number[] {
  if (nodes.length === 0) return [];
  const loads = new Map(nodes.map(({ slot, load }) => [slot, load]));
  const weights = new Map(nodes.map(({ slot, weight }) => [slot, weight]));
  const sets = holderSets([{ nodes: nodes.map(({ slot }) => slot) }]);
  const turns = createPredictor(predictor, sets, {
    weight: (slot) => weights.get(slot) ?? 0,
    load: (slot) => loads.get(slot) ?? 0,
    available: () => true,
  });
  const count = predictor === 'round-robin' ? turnLength([...weights.values()]) : MOST_PICKS;
  return Array.from({ length: Math.min(count, MOST_PICKS) }, () => {
    const slot = turns.pick(0, 0);
    loads.set(slot, (loads.get(slot) ?? 0) + 1);
    return slot;
  });
}

/** Picks until the turns of round-robin begin again. */
function turnLength(weights: readonly number[]): number {
  const divisor = weights.reduce(greatestDivisor);
  return weights.reduce((sum, weight) => sum + weight, 0) / divisor;
}

function greatestDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestDivisor(b, a % b);
}
