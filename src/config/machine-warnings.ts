/** Checks a config against the machine on which it is checked. */
import { BatonError } from '../base/errors.js';
import { ownAddresses, requireInterface } from '../host/interfaces.js';
import type { Config } from './load.js';

/**
 * One line for each problem; empty if there is none. They are only warnings, since a config may be
 * checked on another machine than the one that will use it.
 */
export function machineWarnings(config: Config): string[] {
  const ownVirtual =
    config.kind === 'balancer'
      ? config.virtualServers.map(({ address }) => address)
      : config.virtualAddresses;
  const peers =
    config.kind === 'balancer' ? config.nodes.map(({ address }) => address) : config.balancers;
  const clients = config.interface;
  const nodes = (config.kind === 'balancer' ? config.nodeInterface?.name : undefined) ?? clients;
  return [...new Set([clients, nodes])].flatMap((name) => {
    try {
      const info = requireInterface(name);
      // Packets to nodes have our own address. Clients see only the virtual addresses.
      if (name === nodes) ownAddresses(name, info, config.address, ownVirtual, peers);
      return [];
    } catch (error) {
      if (!(error instanceof BatonError)) throw error;
      const line = error.toLine();
      if (error.code === 'BATON_INTERFACE') return [`on this machine, interface ${line}`];
      return [`interface ${name} was not checked: ${line}`];
    }
  });
}
