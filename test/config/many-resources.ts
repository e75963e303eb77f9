import type { BalancerData } from '../../src/config/data.js';

/** A config with many nodes and resources; each resource has two holders. */
export function manyResources(resources: number, nodes: number): BalancerData {
  const name = (index: number): string => `node-${index % nodes}`;
  return {
    interface: 'eth0',
    keyFile: 'key.hex',
    virtualServers: [{ name: 'www', address: '10.99.0.100', port: 80 }],
    nodes: Array.from({ length: nodes }, (_, index) => ({
      name: name(index),
      address: `10.${1 + (index >> 8)}.0.${index & 255}`,
    })),
    resources: Array.from({ length: resources }, (_, index) => ({
      host: `www${index % 100}.example.org`,
      path: `/collection/${index}/`,
      nodes: [name(index), name(index * 7 + 1)],
    })),
  };
}
