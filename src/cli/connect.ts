/** How a command finds the running balancer that it asks. */
import { type Command, Option } from 'commander';
import { ControlClient } from '../api/client.js';
import { loadBalancerConfig } from '../config/load.js';
import { DEFAULT_CONTROL_SOCKET } from '../config/schema.js';

/** Options of the commands that ask a running balancer. */
export interface ClientOptions {
  config?: string;
  socket?: string;
  json: boolean;
}

export function addClientOptions(command: Command): Command {
  return command
    .option('-c, --config <file>', 'config file of the balancer, which names its control socket')
    .addOption(
      new Option(
        '--socket <path>',
        `control socket of the balancer; default: ${DEFAULT_CONTROL_SOCKET}`,
      ).conflicts('config'),
    )
    .option('--json', 'print JSON', false);
}

export function client({ config, socket }: ClientOptions): ControlClient {
  if (socket !== undefined) return new ControlClient(socket);
  return new ControlClient(
    config === undefined ? DEFAULT_CONTROL_SOCKET : loadBalancerConfig(config).controlSocket,
  );
}
