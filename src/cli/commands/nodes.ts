/** Commands that set the state and the weight of a node: drain, enable, disable, weight. */
import type { Command } from 'commander';
import { type AdminState, MOST_REASON } from '../../api/documents.js';
import { MOST_WEIGHT } from '../../config/schema-objects.js';
import { parseWeight } from '../arguments.js';
import { addClientOptions, type ClientOptions } from '../connect.js';
import { makeChange } from './changed.js';

interface StateCommand {
  name: string;
  state: AdminState;
  description: string;
}

const STATE_COMMANDS: readonly StateCommand[] = [
  {
    name: 'drain',
    state: 'draining',
    description: 'give a node no new sessions; those that it has go on',
  },
  {
    name: 'disable',
    state: 'maintenance',
    description: 'end what a node has and give it nothing more, for maintenance; drain it first',
  },
  { name: 'enable', state: 'up', description: 'give a node sessions again' },
];

export function addNodeCommands(baton: Command): void {
  for (const { name, state, description } of STATE_COMMANDS) {
    addClientOptions(baton.command(name).description(description))
      .argument('<node>', 'name of the node')
      .option('--reason <text>', `why; it is shown with the state (at most ${MOST_REASON} letters)`)
      .action((node: string, options: ClientOptions & { reason?: string }) => {
        const { reason } = options;
        return makeChange(options, {
          kind: 'node-state',
          node,
          state,
          ...(reason === undefined ? {} : { reason }),
        });
      });
  }
  addClientOptions(
    baton.command('weight').description('set the share of sessions that a node gets'),
  )
    .argument('<node>', 'name of the node')
    .argument('<weight>', `1 to ${MOST_WEIGHT}, relative to the other holders`, parseWeight)
    .action((node: string, weight: number, options: ClientOptions) =>
      makeChange(options, { kind: 'weight', node, weight }),
    );
}
