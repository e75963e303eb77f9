/** The predictors by the names that a config gives them. */
import type { HolderSets } from '../holders.js';
import type { Candidates } from './candidates.js';
import { LeastConnections } from './least-connections.js';
import type { Predictor } from './predictor.js';
import { RoundRobin } from './round-robin.js';

export const PREDICTOR_NAMES = ['round-robin', 'least-connections'] as const;
export type PredictorName = (typeof PREDICTOR_NAMES)[number];

const makers: Record<PredictorName, (sets: HolderSets, candidates: Candidates) => Predictor> = {
  'round-robin': (sets, candidates) => new RoundRobin(sets, candidates),
  'least-connections': (sets, candidates) => new LeastConnections(sets, candidates),
};

/** Creates a predictor. Its turns are its own: two predictors over the same sets share nothing. */
export function createPredictor(
  name: PredictorName,
  sets: HolderSets,
  candidates: Candidates,
): Predictor {
  return makers[name](sets, candidates);
}
