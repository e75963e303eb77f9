/**
 * The `baton` command: connects the command line with the programs. A program is loaded only when
 * it is asked for, so `baton check` needs no addon.
 */
import { printError, run } from './cli/cli.js';

// A reader may close our output at any time, as in `baton sessions | head`. That is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) =>
  process.exit(error.code === 'EPIPE' ? 0 : printError(error)),
);
process.stderr.on('error', () => {});
process.on('uncaughtException', (error) => process.exit(printError(error)));

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
