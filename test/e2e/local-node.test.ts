/**
 * The balancer as a node: its own nginx answers at the virtual address what the directory says that
 * it holds, by the same handoff as any node's.
 */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { curl, curlAll, sha256 } from '../../lab/clients/curl.js';
import { Download } from '../../lab/clients/download.js';
import { VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6 } from '../../lab/farm/addresses.js';
import { DATAPATH, HANDOFF } from '../../lab/farm/configs.js';
import type { Farm, FarmOptions } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { machineState } from '../../lab/probes/machine.js';
import { type WebOptions, WebServer } from '../../lab/servers/web.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const BASE_6 = `http://[${VIRTUAL_ADDRESS_6}]`;
const LONG = randomBytes(20_000_000);
const UPLOAD = LONG.subarray(0, 2_000_000);
const MOVES = 20;
/** Requests among which both nodes have their turns. */
const TURNS = 8;
const RESOURCES = [
  { path: '/here/', nodes: ['here'] },
  { path: '/one/', nodes: ['n1'] },
  { path: '/both/', nodes: ['here', 'n1'] },
  { path: '/post', nodes: ['here'] },
];
const VIRTUAL = [
  { name: 'www', address: VIRTUAL_ADDRESS, port: 80, keepAlive: 'migrate' },
  { name: 'www6', address: VIRTUAL_ADDRESS_6, port: 80, keepAlive: 'migrate' },
];
const BOTH_FAMILIES: WebOptions = { extra: 'listen [::]:80;' };

t.setTimeout(FILE_TIMEOUT_MS);

/** Runs `body` with a farm whose balancer is the node `here`, beside n1. */
async function withLocal(
  t: Test,
  options: FarmOptions,
  body: (farm: Farm, here: WebServer) => Promise<void>,
): Promise<void> {
  const virtualAddresses = [VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6];
  let here: WebServer | undefined;
  const start = async (farm: Farm): Promise<void> => {
    here = new WebServer(farm.balancer, farm.directory, BOTH_FAMILIES);
    for (const [web, place] of [
      [farm.webs[0]!, 'one'],
      [here, 'here'],
    ] as const) {
      web.put(`${place}/a.txt`, `from ${place}\n`);
      web.put(`${place}/long.bin`, LONG);
      web.put('both/a.txt', `from ${place}\n`);
    }
    await here.start();
    await farm.startAll(RESOURCES, {
      virtualServers: VIRTUAL,
      nodes: [
        { name: 'n1', address: farm.nodes[0]!.address, handoff: HANDOFF },
        { name: 'here', address: 'local', handoff: HANDOFF },
      ],
      timeouts: { linger: '300ms', closing: '2s' },
    });
    await farm.waitNodesUp(2);
  };
  const use = { ipv6: true, nodes: 1, web: [BOTH_FAMILIES], agents: [{ virtualAddresses }] };
  await withFarm(t, { ...use, ...options, start }, (farm) => body(farm, here!));
}

async function works(
  t: Test,
  farm: Farm,
  here: WebServer,
  bases: readonly string[],
): Promise<void> {
  const { client } = farm;
  for (const base of bases) {
    await t.test(`at ${base}`, async (t) => {
      const answer = await curl(client, `${base}/here/a.txt`);
      t.match(answer, { exit: 0, status: 200 });
      t.equal(answer.body.toString(), 'from here\n', 'its own web server answers');

      const long = await curl(client, `${base}/here/long.bin`);
      t.equal(long.status, 200, long.error);
      t.equal(sha256(long.body), sha256(LONG), 'a download of 20 MB');

      const file = `${farm.directory}/upload.bin`;
      writeFileSync(file, UPLOAD);
      const posted = await curl(client, `${base}/post`, ['--data-binary', `@${file}`]);
      t.match(posted, { exit: 0, status: 200 });
      t.equal(sha256(here.lastPosted() ?? new Uint8Array(0)), sha256(UPLOAD), 'an upload');

      const places = Array.from({ length: MOVES }, (_, index) =>
        index % 2 === 0 ? 'here' : 'one',
      );
      const answers = await curlAll(
        client,
        places.map((place) => `${base}/${place}/a.txt`),
      );
      t.same(
        answers.map(({ body }) => body.toString()),
        places.map((place) => `from ${place}\n`),
        'moves between both nodes',
      );
      const connects = answers.reduce((sum, each) => sum + each.connects, 0);
      t.equal(connects, 1, 'one connection');
    });
  }
  await farm.waitEmpty();
  t.same(here.complaints(), []);
}

const skip = whyNoFarm();

t.test('the balancer is a node of its own farm', { skip }, async (t) => {
  await withLocal(t, {}, async (farm, here) => {
    t.match((await farm.stats()).datapath, DATAPATH);
    await works(t, farm, here, [BASE, BASE_6]);

    const bodies = async (count: number): Promise<string[]> => {
      const all: string[] = [];
      for (let i = 0; i < count; i++)
        all.push((await curl(farm.client, `${BASE}/both/a.txt`)).body.toString());
      return [...new Set(all)].sort();
    };
    const row = async () => (await farm.stats()).nodes.find(({ name }) => name === 'here');

    await t.test('it is shown like any node', async (t) => {
      const before = (await row())?.adopted ?? 0;
      t.same(await bodies(TURNS), ['from here\n', 'from one\n']);
      t.match(await row(), { address: 'local', state: 'up', condition: 'up' });
      t.ok(((await row())?.adopted ?? 0) > before, 'its sessions are counted');
    });

    await t.test('drained, it gets nothing; enabled, it gets its share', async (t) => {
      await farm.baton(['drain', 'here', '-c', farm.balancerConfig]);
      t.same(await bodies(TURNS), ['from one\n']);
      await farm.baton(['enable', 'here', '-c', farm.balancerConfig]);
      t.same(await bodies(TURNS), ['from here\n', 'from one\n']);
    });

    await t.test('when its web server has died, others answer', async (t) => {
      await here.stop();
      t.same(await bodies(TURNS), ['from one\n']);
      t.equal((await curl(farm.client, `${BASE}/here/a.txt`)).status, 503);
      await here.start();
      await farm.waitFor(
        async () => (await curl(farm.client, `${BASE}/here/a.txt`)).status === 200,
        'it answers again',
      );
    });

    await t.test('it can leave the farm and come back', async (t) => {
      const run = (...args: string[]) => farm.baton([...args, '-c', farm.balancerConfig]);
      await run('remove', 'resource', '/here/');
      await run('remove', 'resource', '/post');
      await run('remove', 'resource', '/both/', 'here');
      t.match(await run('remove', 'node', 'here'), { stdout: /node here local is removed/ });
      t.equal((await curl(farm.client, `${BASE}/here/a.txt`)).status, 404);
      t.match(await run('add', 'node', 'here', 'local'), { stdout: /node here local is added/ });
      await run('add', 'resource', '/here/', 'here');
      await farm.waitNodesUp(2);
      t.equal((await curl(farm.client, `${BASE}/here/a.txt`)).body.toString(), 'from here\n');
    });

    await t.test(
      'its sessions outlive the balancer on xdp, and a stop leaves nothing',
      async (t) => {
        const before = (await machineState(farm.balancer)).filters;
        t.match(before, /shim_ingress[\s\S]*guard_egress/);
        if (DATAPATH === 'xdp') {
          const download = new Download(farm, `${BASE}/here/long.bin`);
          await download.begun();
          await farm.balancerProgram?.kill();
          await farm.startBalancer();
          download.release();
          t.same(await download.finish(), { sha256: sha256(LONG), error: '' });
        } else {
          await farm.startBalancer(['--replace']);
        }
        await farm.waitNodesUp(2);
        t.equal((await curl(farm.client, `${BASE}/here/a.txt`)).body.toString(), 'from here\n');
        t.match(await farm.balancerProgram?.stop(), { code: 0 });
        const { filters, kept } = await machineState(farm.balancer);
        t.notMatch(filters, /guard|shim|clsact/);
        t.same(kept, []);
      },
    );
  });
});

t.test('nodes have a network of their own', { skip }, (t) =>
  withLocal(t, { nodeNetwork: true, cards: true }, (farm, here) => works(t, farm, here, [BASE])),
);
