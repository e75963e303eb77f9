/** Config files of a farm's balancer and nodes, as text. */
import { stringify } from 'yaml';
import { BALANCER_ADDRESS, NODE_SIDE_ADDRESS, VIRTUAL_ADDRESS } from './addresses.js';
import type { Host } from './host.js';

/**
 * The datapath of every farm's balancer, unless a test asks for another one. End to end tests run
 * once on each datapath.
 */
export const DATAPATH = process.env.BATON_DATAPATH ?? 'packet';

/** How nodes take connections, unless a test says it for a node. End to end tests run with both. */
export const HANDOFF = process.env.BATON_HANDOFF ?? 'auto';

/** Both files are in the farm's directory. */
export const KEY_FILE = 'key.hex';
export const CONTROL_SOCKET = 'baton.sock';

/** An entry of `resources` in balancer.yaml. */
export interface Resource {
  path: string;
  host?: string;
  rewrite?: string;
  /** Names of the nodes that hold it. */
  nodes: string[];
}

type Keys = Record<string, unknown>;

/**
 * The text of balancer.yaml.
 * @param handoffs how nodes take connections, by index; default `HANDOFF`
 * @param more keys that replace or follow the default ones
 */
export function balancerYaml(
  nodes: readonly Host[],
  nodeNetwork: boolean,
  resources: readonly Resource[],
  handoffs: readonly string[],
  more: Keys,
): string {
  return stringify({
    interface: 'eth0',
    ...(nodeNetwork ? { nodeInterface: 'eth1' } : {}),
    datapath: DATAPATH,
    keyFile: KEY_FILE,
    controlSocket: CONTROL_SOCKET,
    virtualServers: [{ name: 'www', address: VIRTUAL_ADDRESS, port: 80, predictor: 'round-robin' }],
    nodes: nodes.map(({ name, address }, index) => ({
      name,
      address,
      handoff: handoffs[index] ?? HANDOFF,
    })),
    resources,
    ...more,
  });
}

/** The text of a node's config; `more` as above. */
export function nodeYaml(nodeNetwork: boolean, more: Keys): string {
  return stringify({
    interface: 'eth0',
    keyFile: KEY_FILE,
    virtualAddresses: [VIRTUAL_ADDRESS],
    balancers: [nodeNetwork ? NODE_SIDE_ADDRESS : BALANCER_ADDRESS],
    ...more,
  });
}
