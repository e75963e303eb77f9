/** `baton node`: puts the node agent together from its config file. */

import { createLog } from '../base/log.js';
import { untilEndSignal } from '../base/signals.js';
import { readKey } from '../config/key.js';
import { loadNodeConfig } from '../config/load.js';
import { requireAdoption } from '../host/kernel.js';
import { requirePrivileges } from '../host/privilege.js';
import { runAgent } from './agent.js';

/**
 * Runs the agent until a signal ends it. Resolves to the exit code.
 * @throws BatonError for whatever keeps it from starting; nothing is left set up then.
 */
export async function runNode(configFile: string): Promise<number> {
  // Before anything else: nothing that is put right in the config helps an old kernel.
  requireAdoption();
  const config = loadNodeConfig(configFile);
  // Before the key, which only root may read: its absence would be a puzzling complaint.
  requirePrivileges();
  const key = readKey(config.keyFile);
  const log = createLog({ level: config.log.level, program: 'node' });
  for (const warning of config.warnings) log.warn(warning);
  await untilEndSignal((signal) => runAgent({ ...config, key, log }, signal));
  log.info('stopped');
  return 0;
}
