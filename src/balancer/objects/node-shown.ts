/**
 * The state of a node as people see it. Several sources have each something to say about a node:
 * operators, what the balancer has found out, the config. The worst state is shown:
 *
 *     up  <  draining  <  down  <  maintenance
 */
import type { NodeSource, NodeState } from '../../api/documents.js';
import type { NodeStatus } from '../node-state.js';

/** By state: the higher rank is shown. */
const RANK: Readonly<Record<NodeState, number>> = { up: 0, draining: 1, down: 2, maintenance: 3 };

/** What is shown of a node, except for the time. */
export type Shown = Pick<NodeSource, 'state' | 'by' | 'why'>;

/** The state to show. Of several sources with the same state, the first one is named. */
export function shown(sources: readonly NodeSource[]): Shown {
  const worst = sources.reduce<NodeSource | undefined>(
    (so, source) => (so === undefined || RANK[source.state] > RANK[so.state] ? source : so),
    undefined,
  );
  if (worst === undefined) return { state: 'up', by: 'config', why: '' };
  const { state, by } = worst;
  if (state !== 'up') return { state, by, why: worst.why };
  // All of them say up: what each has to add is worth knowing.
  const why = sources.map((source) => source.why).filter((text) => text !== '');
  return { state, by, why: why.join('; ') };
}

/** The state that a condition means. */
export function stateOf({ condition }: NodeStatus): NodeState {
  switch (condition) {
    case 'up':
    case 'unheard':
      return 'up';
    case 'removed':
      return 'draining';
    default:
      return 'down';
  }
}

/** Who has found the condition. */
export function finderOf({ condition }: NodeStatus): 'balancer' | 'config' {
  return condition === 'removed' ? 'config' : 'balancer';
}
