/** Nodes and balancers with IPv6 addresses: neighbour discovery, and notices over IPv6. */
import t from 'tap';
import { curl, curlAll, sha256 } from '../../lab/clients/curl.js';
import { VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6 } from '../../lab/farm/addresses.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';

const BALANCER_6 = 'fd99::2';
const FIRST_NODE_6 = 'fd99::3';
const SECOND_NODE = '10.99.0.4';
const both = [VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6];
const server = { extra: 'listen [::]:80;' };
const virtualServers = [
  { name: 'www', address: VIRTUAL_ADDRESS, port: 80, keepAlive: 'migrate' },
  { name: 'www6', address: VIRTUAL_ADDRESS_6, port: 80, keepAlive: 'migrate' },
];
const resources = [
  { path: '/a/', nodes: ['n1'] },
  { path: '/b/', nodes: ['n2'] },
];
const URLS = [`http://${VIRTUAL_ADDRESS}`, `http://[${VIRTUAL_ADDRESS_6}]`];

t.setTimeout(FILE_TIMEOUT_MS);

t.test('an IPv6 node beside an IPv4 one', { skip: whyNoFarm() }, async (t) => {
  const big = Buffer.alloc(5_000_000, 'from a node that has an IPv6 address\n');
  const options: Parameters<typeof withFarm>[1] = {
    ipv6: true,
    nodes: 2,
    web: [server, server],
    agents: [{ virtualAddresses: both, balancers: [BALANCER_6] }, { virtualAddresses: both }],
    resources,
    balancer: {
      virtualServers,
      nodes: [
        { name: 'n1', address: FIRST_NODE_6 },
        { name: 'n2', address: SECOND_NODE },
      ],
    },
    fill: (farm) => {
      farm.webs[0]!.put('a/small.html', 'from n1\n');
      farm.webs[0]!.put('a/big', big);
      farm.webs[1]!.put('b/small.html', 'from n2\n');
    },
  };
  await withFarm(t, options, async (farm) => {
    for (const url of URLS) {
      await t.test(`sessions of ${url}`, async (t) => {
        const small = await curl(farm.client, `${url}/a/small.html`);
        t.equal(small.body.toString(), 'from n1\n');
        const large = await curl(farm.client, `${url}/a/big`);
        t.equal(sha256(large.body), sha256(big));
      });

      await t.test(`a connection to ${url} moves between both nodes`, async (t) => {
        const before = (await farm.stats()).counters.moved ?? 0;
        const targets = Array.from({ length: 10 }, (_, i) => (i % 2 === 0 ? 'a' : 'b'));
        const answers = await curlAll(
          farm.client,
          targets.map((folder) => `${url}/${folder}/small.html`),
        );
        for (const [index, answer] of answers.entries())
          t.equal(answer.body.toString(), `from n${(index % 2) + 1}\n`);
        t.equal(((await farm.stats()).counters.moved ?? 0) - before, 9);
      });
    }

    await t.test('FINs of the node are told over IPv6: sessions end', async () => {
      await farm.waitEmpty();
    });
  });
});
