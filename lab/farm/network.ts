/**
 * The wires of a farm: one namespace per host, joined by a bridge in a namespace of its own.
 *
 *     client .200   balancer .2   n1 .3   n2 .4   n3 .5      10.99.0.0/24, virtual address .100
 *        |eth0         |eth0        |       |       |
 *     ---+-------------+------------+-------+-------+---     br0 in the switch's namespace
 *
 * With a network of their own for the nodes, whose answers to clients pass a router:
 *
 *     client .200   router .254   balancer .2                10.99.0.0/24
 *        |eth0         |eth0         |eth0
 *     ---+-------------+-------------+---                    br0
 *                    eth1|           |eth1
 *     --------+-------+--+-----------+---                    br1
 *             |eth0   |eth0                                  10.98.0.0/24, last numbers as above
 *          n1 .3    n2 .4
 *
 * Or the clients are on br1 behind the router, and all others on br0. Or there are three networks:
 * routed.ts.
 */
import path from 'node:path';
import { projectRoot } from './baton.js';
import { run } from './process.js';

type Bridge = 'br0' | 'br1' | 'br2';

/** One machine and its cables. */
export interface Wired {
  name: string;
  namespace: string;
  /** Address of eth0. */
  address: string;
  /** IPv6 address of eth0; undefined: IPv6 is off. */
  address6: string | undefined;
  mac: string;
  /** The bridge that eth0 is connected to. */
  bridge: Bridge;
  /** A second interface. */
  eth1: { address: string; mac: string; bridge: Bridge } | undefined;
  /** The default route. */
  gateway: string | undefined;
  /** Other routes: networks, each with its gateway. */
  routeTo?: readonly (readonly [network: string, gateway: string])[];
  /** The machine is a router: it forwards IPv4. */
  routes: boolean;
}

/** Makes the namespaces and connects them. The caller chooses the names and removes them. */
export async function wire(switchNamespace: string, hosts: readonly Wired[]): Promise<void> {
  const bridges = new Set(['br0']);
  for (const { bridge, eth1 } of hosts) {
    bridges.add(bridge);
    if (eth1 !== undefined) bridges.add(eth1.bridge);
  }
  const names = [switchNamespace, ...hosts.map((host) => host.namespace)];
  await batch(
    [],
    names.map((name) => `netns add ${name}`),
  );
  await batch(
    ['-n', switchNamespace],
    [
      ...[...bridges].flatMap((bridge) => [
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
              `link set ${host.name}-1 master ${host.eth1.bridge} up`,
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
          ...(host.address6 === undefined ? [] : [`addr add ${host.address6}/64 dev eth0 nodad`]),
          'link set eth0 up',
          ...(host.eth1 === undefined
            ? []
            : [`addr add ${host.eth1.address}/24 dev eth1`, 'link set eth1 up']),
          ...(host.gateway === undefined ? [] : [`route add default via ${host.gateway}`]),
          ...(host.routeTo ?? []).map(([network, via]) => `route add ${network} via ${via}`),
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
  const withIpv6 = new Set(hosts.flatMap((host) => (host.address6 ? [host.namespace] : [])));
  await Promise.all(
    names.map((name) => {
      const script = withIpv6.has(name) ? NO_NETFILTER : QUIET;
      return run('nsenter', [`--net=/run/netns/${name}`, '--', 'sh', '-c', script], {
        allowFailure: true,
      });
    }),
  );
}

/** Commands of tc that make an interface lose 2 % of the frames in both directions. */
export function lossAt(device: string): string[][] {
  const object = path.join(projectRoot(), 'build', 'bpf', 'loss.bpf.o');
  const filter = ['tc', 'filter', 'add', 'dev', device];
  return [
    ['tc', 'qdisc', 'replace', 'dev', device, 'clsact'],
    ...['ingress', 'egress'].map((hook) => [
      ...filter,
      ...[hook, 'prio', '1', 'handle', '1', 'bpf', 'da', 'obj', object, 'sec', 'tc'],
    ]),
  ];
}

/** The ends of a host's cables in the switch's namespace. */
export function cablesOf(host: Wired): string[] {
  return host.eth1 === undefined ? [host.name] : [host.name, `${host.name}-1`];
}

/** Has a cable lose frames, at the switch's end. The host's own programs of tc stay. */
export async function loseAt(switchNamespace: string, cable: string): Promise<void> {
  for (const command of lossAt(cable))
    await run('nsenter', [`--net=/run/netns/${switchNamespace}`, '--', ...command]);
}

/**
 * Sets an offload at the switch's end of a cable. With `gro` this end polls for frames of the other
 * end. Without `tx` the switch finishes the checksums of frames that it sends there, as it must for
 * a card that cannot.
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
 * IPv6 is off unless a test asks for it: its neighbour discovery would be among the packets that
 * tests count. The bridge does not call netfilter, which checks IPv4 headers, as no switch does:
 * malformed packets would not reach the machine that a test sends them to.
 */
const NO_NETFILTER = `
for t in ip ip6 arp; do echo 0 > /proc/sys/net/bridge/bridge-nf-call-"$t"tables; done 2>/dev/null`;
const QUIET = `
for i in all default eth0 eth1 br0 br1 br2; do echo 1 > /proc/sys/net/ipv6/conf/$i/disable_ipv6; done 2>/dev/null${NO_NETFILTER}`;

/** No route leads back to a virtual address, so the reverse-path filter would drop its packets. */
const ROUTE = `
for i in all default eth0 eth1; do echo 0 > /proc/sys/net/ipv4/conf/$i/rp_filter; done
echo 1 > /proc/sys/net/ipv4/ip_forward`;

async function batch(prefix: readonly string[], lines: readonly string[]): Promise<void> {
  await run('ip', [...prefix, '-batch', '-'], { input: `${lines.join('\n')}\n` });
}
