/**
 * Virtual servers with mode forward, on nodes that run nothing of Baton: TCP and UDP, sessions and
 * buckets, ranges of ports, sticky clients, and nodes that come and go under load.
 */
import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { curl, sha256 } from '../../lab/clients/curl.js';
import { Download } from '../../lab/clients/download.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm, FarmOptions } from '../../lab/farm/farm.js';
import type { Host } from '../../lab/farm/host.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { addVirtualAddress } from '../../lab/servers/direct-return.js';
import { askNode, startDns, whyNoDns } from '../../lab/servers/dns.js';
import type { ExplainDocument, StatsDocument } from '../../src/api/documents.js';

const DNS_PORT = 5353;
/** Pace of each download in bytes a second; many run at the same time. */
const PACE = 200_000;
const long = randomBytes(8_000_000);

type Keys = Record<string, unknown>;

const www = { name: 'www', address: VIRTUAL_ADDRESS, port: 80, mode: 'forward' };

/** Makes a farm whose nodes have no agent, and a balancer with these virtual servers. */
async function withForwarding(
  t: Test,
  virtualServers: readonly Keys[],
  body: (farm: Farm) => Promise<void>,
  options: FarmOptions = {},
): Promise<void> {
  const start = async (farm: Farm): Promise<void> => {
    farm.webs.forEach((web, index) => {
      web.put('name.txt', `n${index + 1}`);
      web.put('long.bin', long);
    });
    await farm.startWebs();
    for (const node of farm.nodes) await addVirtualAddress(node, VIRTUAL_ADDRESS);
    farm.configureBalancer([], { virtualServers });
    await farm.startBalancer();
    await farm.waitNodesUp();
  };
  await withFarm(t, { nodes: 3, start, ...options }, body);
}

async function run(farm: Farm, ...args: string[]): Promise<string> {
  return (await farm.baton([...args, '-c', farm.balancerConfig])).stdout;
}

async function explain(farm: Farm, url: string, from: string): Promise<ExplainDocument> {
  return JSON.parse(await run(farm, 'explain', url, '--from', from, '--json')) as ExplainDocument;
}

/** The node that answers one connection. */
async function nameFrom(client: Host, args: string[] = [], port = 80): Promise<string> {
  const url = `http://${VIRTUAL_ADDRESS}:${port}/name.txt`;
  const { body, exit, error } = await curl(client, url, args);
  return exit === 0 ? body.toString() : `curl: ${error}`;
}

async function names(farm: Farm, count: number): Promise<string[]> {
  const found: string[] = [];
  for (let i = 0; i < count; i++) found.push(await nameFrom(farm.client));
  return found.sort();
}

function serverOf(stats: StatsDocument, name: string): StatsDocument['virtualServers'][number] {
  const found = stats.virtualServers.find((server) => server.name === name);
  if (found === undefined) throw new Error(`no virtual server ${name}`);
  return found;
}

function activeOf({ nodes }: StatsDocument): Record<string, number> {
  return Object.fromEntries(nodes.map(({ name, active }) => [name, active]));
}

/** Starts downloads, three at a time: one on each node. */
async function begin(farm: Farm, count: number): Promise<Download[]> {
  const downloads: Download[] = [];
  for (let i = 0; i < count; i++) {
    const download = new Download(farm, `http://${VIRTUAL_ADDRESS}/long.bin`, PACE);
    await download.begun();
    downloads.push(download);
  }
  return downloads;
}

async function finish(t: Test, downloads: readonly Download[]): Promise<void> {
  const ends = await Promise.all(downloads.map((download) => download.finish()));
  const expected = { sha256: sha256(long), error: '' };
  t.same(
    ends,
    ends.map(() => expected),
    'every download is whole',
  );
}

t.test('nodes come and go under load', { skip: whyNoFarm() }, async (t) => {
  await withForwarding(t, [www], async (farm) => {
    t.same(
      await names(farm, 9),
      ['n1', 'n1', 'n1', 'n2', 'n2', 'n2', 'n3', 'n3', 'n3'],
      'the predictor takes turns',
    );
    const downloads = await begin(farm, 6);
    await farm.waitFor(async () => {
      const { n1 = 0, n2 = 0, n3 = 0 } = activeOf(await farm.stats());
      return n1 >= 2 && n2 >= 2 && n3 >= 2;
    }, 'two downloads on each node');

    await run(farm, 'drain', 'n1');
    t.notOk((await names(farm, 8)).includes('n1'), 'a draining node gets nothing new');
    await run(farm, 'remove', 'node', 'n2');
    t.same(await names(farm, 3), ['n3', 'n3', 'n3'], 'nor does one that was removed');
    t.same(
      (await farm.stats()).nodes.filter(({ active }) => active >= 2).map(({ name }) => name),
      ['n1', 'n2', 'n3'],
      'both keep their connections',
    );
    const second = farm.nodes[1]!;
    await run(farm, 'add', 'node', 'n2', second.address);
    await farm.waitFor(async () => (await names(farm, 2)).includes('n2'), 'n2 gets connections');
    await run(farm, 'enable', 'n1');
    await farm.waitFor(async () => (await names(farm, 3)).includes('n1'), 'n1 gets connections');
    const { address } = farm.client;
    const said = await explain(farm, `http://${VIRTUAL_ADDRESS}/`, `${address}:1`);
    t.match(said, { chosen: /^n[123]$/, why: /the next pick of the predictor/ });
    await finish(t, downloads);

    await run(farm, 'disable', 'n3');
    t.notOk((await names(farm, 6)).includes('n3'), 'a node in maintenance gets nothing');
    const stats = await farm.stats();
    const { forwarded, mode } = serverOf(stats, 'www');
    t.equal(mode, 'forward');
    t.ok((forwarded?.flows ?? 0) >= 30, 'flows are counted');
    t.ok((forwarded?.packets ?? 0) > 4 * (forwarded?.flows ?? 0), 'packets are counted');
    const ofNodes = stats.nodes.reduce((sum, node) => sum + (node.forwarded?.packets ?? 0), 0);
    t.ok(ofNodes > 0 && ofNodes <= (forwarded?.packets ?? 0), 'also for each node');
    t.match(await run(farm, 'stats'), /forwarded for www: [\d,]+ packets/);
    t.equal(stats.counters.requests, 0, 'the engine reads nothing');
  });
});

t.test('a busy node gets less with least-connections', { skip: whyNoFarm() }, async (t) => {
  const server = { ...www, predictor: 'least-connections', nodes: ['n1', 'n2'] };
  await withForwarding(t, [server], async (farm) => {
    await run(farm, 'drain', 'n2');
    const downloads = await begin(farm, 4);
    await run(farm, 'enable', 'n2');
    await farm.waitFor(async () => (activeOf(await farm.stats()).n1 ?? 0) >= 4, 'n1 is busy');
    await farm.waitFor(async () => {
      const { chosen } = await explain(farm, `http://${VIRTUAL_ADDRESS}/`, '192.0.2.1');
      return chosen === 'n2';
    }, 'the next pick is n2');
    t.same(await names(farm, 2), ['n2', 'n2']);
    await finish(t, downloads);
  });
});

t.test('ports: a list with a range, and any', { skip: whyNoFarm() }, async (t) => {
  const listed = { ...www, port: undefined, ports: [80, '9000-9010'], nodes: ['n1'] };
  const rest = { name: 'rest', address: VIRTUAL_ADDRESS, ports: '10000-65535', mode: 'forward' };
  const web = Array.from({ length: 3 }, () => ({
    extra: 'listen 9010; listen 9011; listen 60000;',
  }));
  const body = async (farm: Farm): Promise<void> => {
    t.equal(await nameFrom(farm.client), 'n1');
    t.equal(await nameFrom(farm.client, [], 9010), 'n1');
    t.match(await nameFrom(farm.client, ['--connect-timeout', '3'], 9011), /^curl/, 'not listed');
    t.match(await nameFrom(farm.client, [], 60_000), /^n[123]$/, 'the other virtual server');
    const said = await explain(farm, `tcp://${VIRTUAL_ADDRESS}:9005`, '192.0.2.1');
    t.equal(said.virtualServer, 'www');
  };
  await withForwarding(t, [listed, rest], body, { web });
});

t.test('sticky clients', { skip: whyNoFarm() }, async (t) => {
  const server = { ...www, sticky: '30m', stickyPrefix: 24 };
  const body = async (farm: Farm): Promise<void> => {
    const [first = '', ...others] = await names(farm, 6);
    t.match(first, /^n[123]$/);
    t.same(new Set(others), new Set([first]), 'all connections of a client go to one node');
    t.equal(await nameFrom(farm.clients[1]!), first, 'and of its network');
    const said = await explain(farm, `http://${VIRTUAL_ADDRESS}/`, farm.client.address);
    t.match(said, { chosen: first, why: /remembered for 10\.99\.0\.0\/24/ });

    await run(farm, 'add', 'node', 'n9', '10.99.0.99');
    await run(farm, 'remove', 'node', 'n9');
    t.equal(await nameFrom(farm.client), first, 'other nodes come and go');
    farm.configureBalancer([], { virtualServers: [server], timeouts: { idle: '10m' } });
    await farm.startBalancer(['--replace']);
    await farm.waitNodesUp();
    t.equal(await nameFrom(farm.client), first, 'another balancer has taken over');

    await run(farm, 'drain', first);
    const next = await nameFrom(farm.client);
    t.not(next, first, 'a draining node gets no new connection');
    await run(farm, 'enable', first);
    t.same(await names(farm, 3), [next, next, next], 'the client stays where it is now');
  };
  await withForwarding(t, [server], body, { clients: 2 });
});

t.test('buckets', { skip: whyNoFarm() || whyNoDns() }, async (t) => {
  const dns = {
    name: 'names',
    address: VIRTUAL_ADDRESS,
    ports: [DNS_PORT],
    transport: 'udp',
    mode: 'forward',
    nodes: ['n1', 'n2'],
    buckets: 1024,
    bucketIdle: '2s',
  };
  const ports = Array.from({ length: 16 }, (_, index) => 20_000 + index);
  await withForwarding(t, [{ ...www, buckets: 4096 }, dns], async (farm) => {
    for (const node of farm.nodes.slice(0, 2)) await startDns(node, DNS_PORT);
    const ask = (port: number) => askNode(farm.client, VIRTUAL_ADDRESS, DNS_PORT, port);
    const askAll = async (): Promise<string[]> => {
      const answers: string[] = [];
      for (const port of ports) answers.push(await ask(port));
      return answers;
    };
    const before = await askAll();
    t.same(new Set(before), new Set(['n1', 'n2']), 'both nodes answer');
    t.same(await askAll(), before, 'a port has one node');
    const url = `udp://${VIRTUAL_ADDRESS}:${DNS_PORT}`;
    const said = await explain(farm, url, `${farm.client.address}:${ports[0]}`);
    t.match(said, { chosen: before[0], why: /bucket \d+ of 1024/ });

    const downloads = await begin(farm, 6);
    await run(farm, 'disable', 'n1');
    t.same(new Set(await askAll()), new Set(['n2']), 'the buckets of a node that is down move');
    await run(farm, 'enable', 'n1');
    for (const [index, port] of ports.entries()) {
      await farm.waitFor(async () => {
        const { chosen } = await explain(farm, url, `${farm.client.address}:${port}`);
        return chosen === before[index];
      }, 'an idle bucket goes back');
    }
    t.same(await askAll(), before);
    // n1 was in maintenance, which ends what it had.
    const ends = await Promise.all(downloads.map((download) => download.finish()));
    t.ok(ends.filter(({ error }) => error === '').length >= 1, 'the other nodes have theirs');

    t.same(await askAll(), before, 'the buckets are busy');
    await farm.startBalancer(['--replace']);
    await farm.waitNodesUp();
    t.same(await askAll(), before, 'another balancer has the same buckets');
    t.ok((serverOf(await farm.stats(), 'names').forwarded?.packets ?? 0) >= ports.length);
  });
});

t.test('connections outlive a replacement', { skip: whyNoFarm() }, async (t) => {
  await withForwarding(t, [www], async (farm) => {
    const downloads = await begin(farm, 6);
    await run(farm, 'drain', 'n2');
    await farm.startBalancer(['--replace']);
    await farm.waitNodesUp(2);
    t.match(farm.balancerProgram?.log(), /flows taken over from the earlier run: \d/);
    t.notOk((await names(farm, 4)).includes('n2'), 'the node is still draining');
    await finish(t, downloads);

    farm.balancerProgram?.signal('SIGUSR2');
    await farm.balancerProgram?.exited;
    const detached = await run(farm, 'balancer', '--detach-all');
    const flows = /removed the flows that a balancer left for the next one/;
    t.equal(flows.test(detached), DATAPATH === 'packet', 'with xdp they are in the maps');
    t.match(await run(farm, 'balancer', '--detach-all'), /nothing was left/);
  });
});
