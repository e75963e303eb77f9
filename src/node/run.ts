/** `baton node`: runs the agent of a node with its config file. */

import { createLog } from '../base/log.js';
import { untilEndSignal } from '../base/signals.js';
import { readKey } from '../config/key.js';
import { loadNodeConfig } from '../config/load.js';
import { shimKernel } from '../host/kernel.js';
import { requirePrivileges } from '../host/privilege.js';
import { runAgent } from './agent.js';

/**
 * Runs the agent until a signal ends it. Resolves to the exit code.
 * @throws BatonError when it cannot start; then nothing stays set up
 */
export async function runNode(configFile: string): Promise<number> {
  // First of all: no change of the config helps with an old kernel.
  shimKernel();
  const config = loadNodeConfig(configFile);
  // Before the key: only root may read it, and a message about the key file would be misleading.
  requirePrivileges();
  const key = readKey(config.keyFile);
  const log = createLog({ level: config.log.level, program: 'node' });
  for (const warning of config.warnings) log.warn(warning);
  await untilEndSignal((signal) => runAgent({ ...config, key, log }, signal));
  log.info('stopped');
  return 0;
}
