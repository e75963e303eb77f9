/** What of a config does not fit the machine that it is checked on. */
import { BatonError } from '../base/errors.js';
import { ownAddress, requireInterface } from '../host/interfaces.js';
import type { Config } from './load.js';

/**
 * A line for each, none where all is well. They are warnings, for a config may be checked on
 * another machine than the one that it is for.
 */
export function machineWarnings(config: Config): string[] {
  const ownVirtual =
    config.kind === 'balancer'
      ? config.virtualServers.map(({ address }) => address)
      : config.virtualAddresses;
  const clients = config.interface;
  const nodes = (config.kind === 'balancer' ? config.nodeInterface?.name : undefined) ?? clients;
  return [...new Set([clients, nodes])].flatMap((name) => {
    try {
      const info = requireInterface(name);
      // Nodes are spoken to from our own address; clients only see the virtual ones.
      if (name === nodes) ownAddress(name, info, config.address, ownVirtual);
      return [];
    } catch (error) {
      if (!(error instanceof BatonError)) throw error;
      const line = error.toLine();
      if (error.code === 'BATON_INTERFACE') return [`on this machine, interface ${line}`];
      return [`interface ${name} was not looked at: ${line}`];
    }
  });
}
