/**
 * The wires of a farm: one namespace per host, joined by a bridge in a namespace of its own.
 *
 *     client .200   balancer .2   n1 .3   n2 .4   n3 .5      10.99.0.0/24, virtual address .100
 *        |eth0         |eth0        |       |       |
 *     ---+-------------+------------+-------+-------+---     br0 in the switch's namespace
 */
import { run } from './process.js';

export interface Wired {
  name: string;
  namespace: string;
  address: string;
  mac: string;
}

/** Makes the namespaces and joins them. Names are in the caller's hands, and so is taking them down. */
export async function wire(switchNamespace: string, hosts: readonly Wired[]): Promise<void> {
  const names = [switchNamespace, ...hosts.map((host) => host.namespace)];
  await batch(
    [],
    names.map((name) => `netns add ${name}`),
  );
  await batch(
    ['-n', switchNamespace],
    [
      'link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0',
      'link set br0 up',
      ...hosts.flatMap((host) => [
        `link add ${host.name} type veth peer name eth0 address ${host.mac} netns ${host.namespace}`,
        `link set ${host.name} master br0 up`,
      ]),
    ],
  );
  await Promise.all(
    hosts.map((host) =>
      batch(
        ['-n', host.namespace],
        ['link set lo up', `addr add ${host.address}/24 dev eth0`, 'link set eth0 up'],
      ),
    ),
  );
  // What XDP sends back out of a veth is taken by its peer only if that polls, as it does for GRO.
  await Promise.all(
    hosts
      .filter((host) => host.name.startsWith('balancer'))
      .map((host) =>
        run('nsenter', [
          `--net=/run/netns/${switchNamespace}`,
          '--',
          'ethtool',
          '-K',
          host.name,
          'gro',
          'on',
        ]),
      ),
  );
  await Promise.all(
    names.map((name) =>
      run('nsenter', [`--net=/run/netns/${name}`, '--', 'sh', '-c', QUIET], { allowFailure: true }),
    ),
  );
}

/**
 * Without IPv6 there is no neighbour discovery among the packets that tests count. And a bridge that
 * lends its packets to netfilter checks their IPv4 headers, as no switch does: malformed ones would
 * not get through to those who are to be tested with them.
 */
const QUIET = `
for i in all default eth0 br0; do echo 1 > /proc/sys/net/ipv6/conf/$i/disable_ipv6; done 2>/dev/null
for t in ip ip6 arp; do echo 0 > /proc/sys/net/bridge/bridge-nf-call-"$t"tables; done 2>/dev/null`;

async function batch(prefix: readonly string[], lines: readonly string[]): Promise<void> {
  await run('ip', [...prefix, '-batch', '-'], { input: `${lines.join('\n')}\n` });
}
