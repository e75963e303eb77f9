/** The predictors by the names that a config gives them. */
import type { NodeTable } from '../../tcp/node-table.js';
import type { HolderSets } from '../holders.js';
import { LeastConnections } from './least-connections.js';
import type { Predictor } from './predictor.js';
import { RoundRobin } from './round-robin.js';

export const PREDICTOR_NAMES = ['round-robin', 'least-connections'] as const;
export type PredictorName = (typeof PREDICTOR_NAMES)[number];

const makers: Record<PredictorName, (sets: HolderSets, nodes: NodeTable) => Predictor> = {
  'round-robin': (sets, nodes) => new RoundRobin(sets, nodes),
  'least-connections': (sets, nodes) => new LeastConnections(sets, nodes),
};

/** A predictor of its own for one virtual server: what it remembers is shared with no other. */
export function createPredictor(name: PredictorName, sets: HolderSets, nodes: NodeTable): Predictor {
  return makers[name](sets, nodes);
}
