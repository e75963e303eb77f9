/** The predictors by the names that a config gives them. */

import type { HolderSets } from '../holders.js';
import type { NodeTable } from '../node-states.js';
import { LeastConnections } from './least-connections.js';
import type { Predictor } from './predictor.js';
import { RoundRobin } from './round-robin.js';

export const PREDICTOR_NAMES = ['round-robin', 'least-connections'] as const;
export type PredictorName = (typeof PREDICTOR_NAMES)[number];

const makers: Record<
  PredictorName,
  (sets: HolderSets, nodes: NodeTable, server: number) => Predictor
> = {
  'round-robin': (sets, nodes, server) => new RoundRobin(sets, nodes, server),
  'least-connections': (sets, nodes, server) => new LeastConnections(sets, nodes, server),
};

/**
 * A predictor of its own for one virtual server, by its index: what it remembers is shared with no
 * other.
 */
export function createPredictor(
  name: PredictorName,
  sets: HolderSets,
  nodes: NodeTable,
  server = 0,
): Predictor {
  return makers[name](sets, nodes, server);
}
