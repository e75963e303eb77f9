/**
 * The wires of a farm: one namespace per host, joined by a bridge in a namespace of its own.
 *
 *     client .200   balancer .2   n1 .3   n2 .4   n3 .5      10.99.0.0/24, virtual address .100
 *        |eth0         |eth0        |       |       |
 *     ---+-------------+------------+-------+-------+---     br0 in the switch's namespace
 *
 * Or with a network of their own for the nodes, which answer clients by way of a router:
 *
 *     client .200   router .254   balancer .2                10.99.0.0/24
 *        |eth0         |eth0         |eth0
 *     ---+-------------+-------------+---                    br0
 *                    eth1|           |eth1
 *     --------+-------+--+-----------+---                    br1
 *             |eth0   |eth0                                  10.98.0.0/24, last numbers as above
 *          n1 .3    n2 .4
 *
 * Or with the clients on br1 behind the router, and everybody else on br0.
 */
import { run } from './process.js';

export interface Wired {
  name: string;
  namespace: string;
  /** Of eth0. */
  address: string;
  mac: string;
  /** The bridge that eth0 is at. */
  bridge: 'br0' | 'br1';
  /** At br1; undefined: there is none. */
  eth1: { address: string; mac: string } | undefined;
  /** The router to what is not on the link. */
  gateway: string | undefined;
  /** Passes on what is not its own. */
  routes: boolean;
}

/**
 * Makes the namespaces and joins them. Names are in the caller's hands, and so is taking them down.
 */
export async function wire(switchNamespace: string, hosts: readonly Wired[]): Promise<void> {
  const bridges = [...new Set(['br0', ...hosts.map((host) => host.bridge)])];
  const names = [switchNamespace, ...hosts.map((host) => host.namespace)];
  await batch(
    [],
    names.map((name) => `netns add ${name}`),
  );
  await batch(
    ['-n', switchNamespace],
    [
      ...bridges.flatMap((bridge) => [
        `link add ${bridge} type bridge forward_delay 0 stp_state 0 mcast_snooping 0`,
        `link set ${bridge} up`,
      ]),
      ...hosts.flatMap((host) => [
        `link add ${host.name} type veth peer name eth0 address ${host.mac} netns ${host.namespace}`,
        `link set ${host.name} master ${host.bridge} up`,
        ...(host.eth1 === undefined
          ? []
          : [
              `link add ${host.name}-1 type veth peer name eth1 address ${host.eth1.mac} netns ${host.namespace}`,
              `link set ${host.name}-1 master br1 up`,
            ]),
      ]),
    ],
  );
  await Promise.all(
    hosts.map((host) =>
      batch(
        ['-n', host.namespace],
        [
          'link set lo up',
          `addr add ${host.address}/24 dev eth0`,
          'link set eth0 up',
          ...(host.eth1 === undefined
            ? []
            : [`addr add ${host.eth1.address}/24 dev eth1`, 'link set eth1 up']),
          ...(host.gateway === undefined ? [] : [`route add default via ${host.gateway}`]),
        ],
      ),
    ),
  );
  await Promise.all(
    hosts
      .filter((host) => host.routes)
      .map((host) =>
        run('nsenter', [`--net=/run/netns/${host.namespace}`, '--', 'sh', '-c', ROUTE], {
          allowFailure: false,
        }),
      ),
  );
  await Promise.all(
    names.map((name) =>
      run('nsenter', [`--net=/run/netns/${name}`, '--', 'sh', '-c', QUIET], { allowFailure: true }),
    ),
  );
}

/** The ends of a host's cables in the switch's namespace. */
export function cablesOf(host: Wired): string[] {
  return host.eth1 === undefined ? [host.name] : [host.name, `${host.name}-1`];
}

/**
 * Sets an offload at the switch's end of a cable. With `gro` it polls for what the other end sends;
 * without `tx` the switch finishes the checksums of what it sends there, as it must for a card that
 * cannot.
 */
export async function offloadAt(
  switchNamespace: string,
  cable: string,
  offload: 'gro' | 'tx',
  on: boolean,
): Promise<void> {
  const ethtool = ['ethtool', '-K', cable, offload, on ? 'on' : 'off'];
  await run('nsenter', [`--net=/run/netns/${switchNamespace}`, '--', ...ethtool]);
}

/**
 * Without IPv6 there is no neighbour discovery among the packets that tests count. And a bridge
 * that lends its packets to netfilter checks their IPv4 headers, as no switch does: malformed ones
 * would not get through to those who are to be tested with them.
 */
const QUIET = `
for i in all default eth0 eth1 br0 br1; do echo 1 > /proc/sys/net/ipv6/conf/$i/disable_ipv6; done 2>/dev/null
for t in ip ip6 arp; do echo 0 > /proc/sys/net/bridge/bridge-nf-call-"$t"tables; done 2>/dev/null`;

/** What comes from a virtual address comes in where no route leads back to it. */
const ROUTE = `
for i in all default eth0 eth1; do echo 0 > /proc/sys/net/ipv4/conf/$i/rp_filter; done
echo 1 > /proc/sys/net/ipv4/ip_forward`;

async function batch(prefix: readonly string[], lines: readonly string[]): Promise<void> {
  await run('ip', [...prefix, '-batch', '-'], { input: `${lines.join('\n')}\n` });
}
