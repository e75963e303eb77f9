/**
 * Path MTU discovery from node to client (RFC 1191, RFC 8201): a router on the way reports packets
 * that are too large to the virtual address. The report must reach the node that sent them.
 */
import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { curlAll, sha256 } from '../../lab/clients/curl.js';
import { VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6 } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import type { Host } from '../../lab/farm/host.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';

const CLIENT = '10.98.0.200';
const CLIENT_6 = 'fd98::200';
/** The end of the client's tunnel. VXLAN (RFC 7348) adds 50 bytes to each packet. */
const TUNNEL = '10.97.0.2';
const TUNNEL_MTU = 1450;
const SMALL_MTU = 1280;
const virtualServers = [
  { name: 'www', address: VIRTUAL_ADDRESS, port: 80, keepAlive: 'migrate' },
  { name: 'www6', address: VIRTUAL_ADDRESS_6, port: 80, keepAlive: 'migrate' },
];
const server = { extra: 'listen [::]:80;' };
const web = [server, server];
const agents = web.map(() => ({ virtualAddresses: [VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6] }));
const resources = [
  { path: '/a/', nodes: ['n1'] },
  { path: '/b/', nodes: ['n2'] },
];
const BODIES = { a: randomBytes(2_000_000), b: randomBytes(2_000_000) };

async function lines(host: Host, commands: readonly string[]): Promise<void> {
  await host.run('sh', ['-ec', commands.join('\n')]);
}

/** The MTU of the path to a client as the host's kernel knows it; 0: that of its link. */
async function pathMtu(host: Host, client: string): Promise<number> {
  const { stdout } = await host.run('ip', ['route', 'get', client]);
  return Number(/\bmtu (\d+)/.exec(stdout)?.[1] ?? 0);
}

/** The client of these farms is behind a router, also for IPv6. */
async function routeIpv6(farm: Farm): Promise<void> {
  await lines(farm.host('router'), [
    'echo 1 > /proc/sys/net/ipv6/conf/all/forwarding',
    'ip -6 addr add fd98::254/64 dev eth1 nodad',
  ]);
  await farm.client.run('ip', ['-6', 'route', 'add', 'default', 'via', 'fd98::254']);
  for (const host of [farm.balancer, ...farm.nodes])
    await host.run('ip', ['-6', 'route', 'add', 'fd98::/64', 'via', 'fd99::254']);
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test('nodes learn the MTU of the path to a client', { skip: whyNoFarm() }, async (t) => {
  const fill = (farm: Farm): void => {
    for (const [index, name] of (['a', 'b'] as const).entries())
      farm.webs[index]!.put(`${name}/big`, BODIES[name]);
  };
  const options = { clientNetwork: true, ipv6: true, nodes: 2, web, agents, resources, fill };
  await withFarm(t, { ...options, balancer: { virtualServers } }, async (farm) => {
    await routeIpv6(farm);

    /** Downloads over one connection, which moves from node to node. */
    const learns = async (t: Test, base: string, client: string, mtu: number): Promise<void> => {
      for (const node of farm.nodes) t.equal(await pathMtu(node, client), 0, 'not known yet');
      const before = (await farm.stats()).counters.icmp_forwarded ?? 0;
      const places = ['a', 'b', 'a'] as const;
      const answers = await curlAll(
        farm.client,
        places.map((place) => `${base}/${place}/big`),
      );
      t.same(
        answers.map(({ exit, status, body }) => [exit, status, sha256(body)]),
        places.map((place) => [0, 200, sha256(BODIES[place])]),
      );
      t.equal(
        answers.reduce((sum, { connects }) => sum + connects, 0),
        1,
        'one connection',
      );
      for (const node of farm.nodes) t.equal(await pathMtu(node, client), mtu, node.name);
      const after = (await farm.stats()).counters.icmp_forwarded ?? 0;
      t.ok(after >= before + farm.nodes.length, 'each node got an error of its own');
      await farm.waitEmpty();
    };

    await t.test('behind a tunnel', async (t) => {
      const end = (local: string, remote: string, address: string): string[] => [
        `ip link add far0 mtu ${TUNNEL_MTU} type vxlan id 1 dstport 4789 \\
          local ${local} remote ${remote}`,
        `ip addr add ${address}/24 dev far0`,
        'ip link set far0 up',
      ];
      await lines(farm.host('router'), end('10.98.0.254', CLIENT, '10.97.0.1'));
      await lines(farm.client, [
        ...end(CLIENT, '10.98.0.254', TUNNEL),
        // The client does not tell its peers: its MSS is that of an Ethernet.
        'ip route add 10.99.0.0/24 via 10.97.0.1 advmss 1460',
      ]);
      await learns(t, `http://${VIRTUAL_ADDRESS}`, TUNNEL, TUNNEL_MTU);
      await farm.client.run('ip', ['link', 'del', 'far0']);
    });

    await t.test('behind a link of 1,280 bytes', async (t) => {
      await lines(farm.host('router'), [`ip link set eth1 mtu ${SMALL_MTU}`]);
      await learns(t, `http://${VIRTUAL_ADDRESS}`, CLIENT, SMALL_MTU);
    });

    await t.test('behind such a link, with IPv6', async (t) => {
      await learns(t, `http://[${VIRTUAL_ADDRESS_6}]`, CLIENT_6, SMALL_MTU);
    });
  });
});
