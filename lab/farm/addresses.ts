/** Addresses that every farm has, and the machines of one farm with theirs. */
import type { Wired } from './network.js';
import { planRouted } from './routed.js';

export const VIRTUAL_ADDRESS = '10.99.0.100';
/** Of farms with `ipv6`. */
export const VIRTUAL_ADDRESS_6 = 'fd99::100';
export const BALANCER_ADDRESS = '10.99.0.2';
/** The balancer's address in the network of the nodes, when the nodes have one. */
export const NODE_SIDE_ADDRESS = '10.98.0.2';

/** Last octets of addresses; the first node and the first client have these. */
const BALANCER = 2;
const FIRST_NODE = 3;
const FIRST_CLIENT = 200;
/** The router between the networks of clients and nodes. */
const ROUTER = 254;

/** The machines of a farm and the wires between them. */
export interface Layout {
  /** Default 3. */
  nodes?: number;
  /** Default 1. */
  clients?: number;
  /** More machines on the clients' network: name to last octet of the address. */
  others?: Record<string, number>;
  /**
   * The nodes have a network of their own, and the balancer its `nodeInterface` there. Default: one
   * network for all.
   */
  nodeNetwork?: boolean;
  /** The clients have a network of their own, behind a router. Default: one network for all. */
  clientNetwork?: boolean;
  /** Clients, balancer and nodes have a network each, and three routers (routed.ts). */
  routed?: boolean;
  /** Every machine also has an IPv6 address: fd99::N where its IPv4 address is 10.99.0.N. */
  ipv6?: boolean;
}

/** Names and addresses every machine of a farm. Throws when the layout asks for three networks. */
export function planMachines(tag: string, layout: Layout): Wired[] {
  const machines: Wired[] = [];
  if (layout.routed === true) return planRouted(tag, layout);
  const { nodeNetwork = false, clientNetwork = false, ipv6 = false } = layout;
  if (nodeNetwork && clientNetwork) throw new Error('a farm has at most two networks');
  const mac = (network: number, last: number): string =>
    `02:00:0a:${network.toString(16)}:00:${last.toString(16).padStart(2, '0')}`;
  /** `far`: on the network behind the router; `near`: on the balancer's; `both`: on each. */
  const add = (name: string, last: number, legs: 'near' | 'far' | 'both' = 'near'): void => {
    const network = legs === 'far' ? 98 : 99;
    const routed = legs === 'far' || (legs === 'near' && clientNetwork);
    machines.push({
      name,
      namespace: `${tag}-${name}`,
      address: `10.${network}.0.${last}`,
      address6: ipv6 ? `fd${network}::${last}` : undefined,
      mac: mac(network, last),
      bridge: legs === 'far' ? 'br1' : 'br0',
      eth1:
        legs === 'both'
          ? { address: `10.98.0.${last}`, mac: mac(98, last), bridge: 'br1' }
          : undefined,
      gateway: routed ? `10.${network}.0.${ROUTER}` : undefined,
      routes: name === 'router',
    });
  };
  for (let index = 0; index < (layout.clients ?? 1); index++) {
    const name = index === 0 ? 'client' : `client${index + 1}`;
    add(name, FIRST_CLIENT + index, clientNetwork ? 'far' : 'near');
  }
  add('balancer', BALANCER, nodeNetwork ? 'both' : 'near');
  for (let index = 0; index < (layout.nodes ?? 3); index++) {
    add(`n${index + 1}`, FIRST_NODE + index, nodeNetwork ? 'far' : 'near');
  }
  if (nodeNetwork || clientNetwork) add('router', ROUTER, 'both');
  for (const [name, last] of Object.entries(layout.others ?? {})) {
    add(name, last);
  }
  return machines;
}
