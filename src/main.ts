/** The `baton` command. The programs are loaded when they are asked for: `baton check` needs no addon. */
import { run, tell } from './control/cli.js';

// The reader of our output may go at any time (`baton sessions | head`): that is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) =>
  process.exit(error.code === 'EPIPE' ? 0 : tell(error)),
);
process.stderr.on('error', () => {});
process.on('uncaughtException', (error) => process.exit(tell(error)));

process.exit(
  await run(process.argv.slice(2), {
    balancer: async (configFile, replace) => (await import('./balancer.js')).runBalancer(configFile, replace),
    detachAll: async (configFile) => (await import('./balancer.js')).detachBalancer(configFile),
    node: async (configFile) => (await import('./node.js')).runNode(configFile),
    capture: async (options) => (await import('./control/capture-command.js')).runCapture(options),
    replay: async (options) => (await import('./control/replay.js')).replay(options),
  }),
);
