/** `baton balancer --detach-all`: puts `detachAll` together from a config file. */
import { printable } from '../base/text.js';
import { loadBalancerConfig } from '../config/load.js';
import { detachAll } from './machine/detach.js';

/**
 * Removes what earlier runs left on the interfaces of the config, and prints it. Resolves to the
 * exit code: 1 when something could not be removed.
 * @throws BatonError BATON_IN_USE while a balancer runs there
 */
export async function detachBalancer(configFile: string): Promise<number> {
  const config = loadBalancerConfig(configFile);
  const also = config.nodeInterface === undefined ? [] : [config.nodeInterface.name];
  const { removed, left } = await detachAll({
    ...config,
    warn: (message) => process.stderr.write(`baton: ${printable(message)}\n`),
  });
  const lines = removed.map((what) => `removed ${what}`);
  if (removed.length === 0 && left.length === 0)
    lines.push(`nothing was left on ${[config.interface, ...also].join(' or ')}`);
  process.stdout.write(`${lines.map(printable).join('\n')}\n`);
  return left.length === 0 ? 0 : 1;
}
