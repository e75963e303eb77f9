/** The column WHY of tables of nodes. */
import type { NodeDocument } from '../api/documents.js';
import { formatDuration } from '../base/format.js';

/**
 * What an operator has set, and what the balancer has found out, of one node:
 *
 *     by local: disk swap, 3m05s ago; unresolved: no ARP answer
 *
 * @param now the balancer's time, in ms since 1970
 */
export function nodeWhy(node: Pick<NodeDocument, 'condition' | 'sources'>, now: number): string {
  const texts = node.sources.map(({ source, state, by, why, since }) => {
    if (source === 'operator') {
      // That somebody has ended a maintenance is no news without a reason.
      if (state === 'up' && why === '') return '';
      return `by ${by}${why === '' ? '' : `: ${why}`}, ${formatDuration(now - since)} ago`;
    }
    if (source !== 'balancer' || node.condition === 'up') return why;
    return `${node.condition}${why === '' ? '' : `: ${why}`}`;
  });
  return texts.filter((text) => text !== '').join('; ');
}
