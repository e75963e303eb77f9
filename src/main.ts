/**
 * The `baton` command. The programs are loaded when they are asked for: `baton check` needs no
 * addon.
 */
import { run, tell } from './cli/cli.js';

// The reader of our output may go at any time (`baton sessions | head`): that is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) =>
  process.exit(error.code === 'EPIPE' ? 0 : tell(error)),
);
process.stderr.on('error', () => {});
process.on('uncaughtException', (error) => process.exit(tell(error)));

process.exit(
  await run(process.argv.slice(2), {
    balancer: async (configFile, replace) =>
      (await import('./balancer/run.js')).runBalancer(configFile, replace),
    detachAll: async (configFile) =>
      (await import('./balancer/detach-run.js')).detachBalancer(configFile),
    node: async (configFile) => (await import('./node/run.js')).runNode(configFile),
    capture: async (options) => (await import('./capture/run.js')).runCapture(options),
    replay: async (options) => (await import('./replay/run.js')).replay(options),
  }),
);
