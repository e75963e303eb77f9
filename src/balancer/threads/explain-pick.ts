/** Answers which node a request would get. Changes no turn. */
import type { RequestDispatcher } from '../../directory/request-dispatcher.js';
import type { NodeTable } from '../../engine/node-table.js';
import { IxpFlag } from '../../wire/ixp.js';
import type { ExplainAnswer, ExplainQuestion } from './engine-messages.js';

const ALL_OPTIONS = IxpFlag.windowScaleOk | IxpFlag.sackOk | IxpFlag.timestampsOk;

/**
 * What `dispatcher.pick` would do now for a client that offers every TCP option, as usual clients
 * do. Such a session has the options that SYN/ACKs offer.
 *
 * @param now ms on the engine's clock
 */
export function explainPick(
  dispatcher: Pick<RequestDispatcher, 'preview'>,
  nodes: NodeTable,
  { resource, server }: ExplainQuestion,
  now: number,
): ExplainAnswer {
  const { states, withheld } = nodes;
  const options = ALL_OPTIONS & ~withheld.current;
  const { picked, holders } = dispatcher.preview(resource, server, options, now);
  return {
    node: picked,
    holders: holders.map((holder) => {
      const found = nodes.obstacle(holder.node, server, options, now);
      return {
        ...holder,
        weight: states.weight[holder.node]!,
        load: states.load(holder.node),
        obstacle: found?.obstacle ?? null,
        forMs: found?.forMs ?? null,
      };
    }),
  };
}
