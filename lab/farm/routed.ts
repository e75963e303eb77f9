/**
 * A farm of three networks. Answers take another way than requests, and no router is on both.
 *
 *     client 10.97.0.200 ---- r1 ---- balancer 10.99.0.2
 *            |                          |
 *            r3 ---- n1 10.98.0.3 ---- r2
 *
 * r1 has what clients send, r2 the balancer's packets and the notices of nodes, r3 the answers.
 * The networks are 10.99.0.0/24 (br0), 10.98.0.0/24 (br1) and 10.97.0.0/24 (br2).
 */
import type { Wired } from './network.js';

/** The third octet of a network in its addresses, by bridge. */
const NETWORKS = { br0: 99, br1: 98, br2: 97 } as const;
type Bridge = keyof typeof NETWORKS;

const BALANCER = 2;
const FIRST_NODE = 3;
const FIRST_CLIENT = 200;
/** Last octets of the routers. */
const R1 = 251;
const R2 = 252;
const R3 = 253;

function leg(bridge: Bridge, last: number): { address: string; mac: string; bridge: Bridge } {
  const network = NETWORKS[bridge];
  const octet = (value: number): string => value.toString(16).padStart(2, '0');
  return {
    address: `10.${network}.0.${last}`,
    mac: `02:00:0a:${octet(network)}:00:${octet(last)}`,
    bridge,
  };
}

/** Names and addresses the machines of such a farm. */
export function planRouted(
  tag: string,
  { nodes = 3, clients = 1 }: { nodes?: number; clients?: number },
): Wired[] {
  const named = (name: string): Pick<Wired, 'name' | 'namespace' | 'address6'> => ({
    name,
    namespace: `${tag}-${name}`,
    address6: undefined,
  });
  const machine = (
    name: string,
    bridge: Bridge,
    last: number,
    ...ways: [string, string][]
  ): Wired => ({
    ...named(name),
    ...leg(bridge, last),
    eth1: undefined,
    gateway: undefined,
    routeTo: ways,
    routes: false,
  });
  const router = (name: string, last: number, one: Bridge, other: Bridge): Wired => ({
    ...named(name),
    ...leg(one, last),
    eth1: leg(other, last),
    gateway: undefined,
    routes: true,
  });
  const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
  return [
    ...numbers(clients).map((index) => {
      const name = index === 0 ? 'client' : `client${index + 1}`;
      return machine(name, 'br2', FIRST_CLIENT + index, ['10.99.0.0/24', leg('br2', R1).address]);
    }),
    machine(
      'balancer',
      'br0',
      BALANCER,
      ['10.97.0.0/24', leg('br0', R1).address],
      ['10.98.0.0/24', leg('br0', R2).address],
    ),
    ...numbers(nodes).map((index) =>
      machine(
        `n${index + 1}`,
        'br1',
        FIRST_NODE + index,
        ['10.97.0.0/24', leg('br1', R3).address],
        ['10.99.0.0/24', leg('br1', R2).address],
      ),
    ),
    router('r1', R1, 'br2', 'br0'),
    router('r2', R2, 'br0', 'br1'),
    router('r3', R3, 'br1', 'br2'),
  ];
}
