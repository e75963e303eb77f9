/**
 * Balancers are killed, leave, or are replaced while clients go on: with XDP no connection notices,
 * and without it the nodes are asked for connections. On any datapath, nothing is left afterwards
 * that the operator did not ask for.
 */
import { randomBytes } from 'node:crypto';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type CurlAnswer, curl, sha256 } from '../../lab/clients/curl.js';
import { Load, type LoadOptions } from '../../lab/clients/load.js';
import type { Step } from '../../lab/clients/raw-client.js';
import { converse } from '../../lab/clients/raw-client.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { projectRoot } from '../../lab/farm/baton.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { findCommand, whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';
import { type MachineState, machineState } from '../../lab/probes/machine.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const AWAY_MS = 1500;
const NEWCOMERS_MS = 500;
const OTHER_VERSION = '99.1.2';
const DOWNLOADS = 3;
const long = randomBytes(16_000_000);
const resources = [{ path: '/', nodes: ['n1', 'n2'] }];
const timeouts = { linger: '1s', closing: '2s' };
const LOAD: LoadOptions = {
  download: { path: '/long.bin', sha256: sha256(long), count: DOWNLOADS },
  path: '/a.txt',
};

function fill(farm: Farm): void {
  for (const web of farm.webs) {
    web.put('a.txt', 'here\n');
    web.put('long.bin', long);
  }
}

/** Another installation with another version. */
function otherVersion(farm: Farm): string {
  const root = projectRoot();
  const other = path.join(farm.directory, 'other-version');
  mkdirSync(path.join(other, 'dist'), { recursive: true });
  cpSync(path.join(root, 'dist/src'), path.join(other, 'dist/src'), { recursive: true });
  cpSync(path.join(root, 'bin'), path.join(other, 'bin'), { recursive: true });
  for (const name of ['build', 'node_modules'])
    symlinkSync(path.join(root, name), path.join(other, name));
  const description = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as object;
  writeFileSync(
    path.join(other, 'package.json'),
    JSON.stringify({ ...description, version: OTHER_VERSION }),
  );
  return other;
}

const newcomer = (farm: Farm): Promise<CurlAnswer> => curl(farm.client, `${BASE}/a.txt`);

/**
 * What happens to the balancer and to one client, and the outcome for clients that came while no
 * balancer ran.
 */
type Event = (t: Test, farm: Farm, load: Load) => Promise<{ newcomers: Promise<CurlAnswer>[] }>;

async function away(farm: Farm, load: Load, args: readonly string[] = []): ReturnType<Event> {
  load.endOne();
  await sleep(NEWCOMERS_MS);
  const newcomers = [newcomer(farm), newcomer(farm)];
  await sleep(AWAY_MS - NEWCOMERS_MS);
  await farm.startBalancer(args);
  return { newcomers };
}

const killed: Event = async (_t, farm, load) => {
  await farm.balancerProgram?.kill();
  return await away(farm, load);
};

const left: Event = async (t, farm, load) => {
  farm.balancerProgram?.signal('SIGUSR2');
  t.same(
    await farm.balancerProgram?.exited,
    { code: 0, signal: null },
    'the balancer leaves in order',
  );
  t.match(
    farm.balancerProgram?.log().slice(-1000),
    /--detach-all/,
    'the log names the command that removes the rest',
  );
  return await away(farm, load);
};

const replaced: Event = async (t, farm, load) => {
  const former = farm.balancerProgram;
  load.endOne();
  await farm.startBalancer(['--replace'], otherVersion(farm));
  t.same(await former?.exited, { code: 0, signal: null }, 'the former balancer left in order');
  t.equal((await farm.stats()).version, OTHER_VERSION);
  return { newcomers: [newcomer(farm)] };
};

const changed: Event = async (_t, farm, load) => {
  await farm.balancerProgram?.kill();
  const nodes = [...farm.nodes]
    .reverse()
    .map((node) => ({ name: node.name, address: node.address }));
  // A new virtual server before the existing one changes the number of the existing one.
  const virtualServers = [
    { name: 'other', address: VIRTUAL_ADDRESS, port: 8080 },
    { name: 'www', address: VIRTUAL_ADDRESS, port: 80 },
  ];
  farm.configureBalancer(resources, {
    timeouts,
    nodes,
    virtualServers,
    limits: { sessions: 5000 },
  });
  return await away(farm, load);
};

const nothingOf = (state: MachineState): Pick<MachineState, 'addresses' | 'xdp' | 'kept'> => ({
  addresses: state.addresses,
  xdp: state.xdp,
  kept: state.kept,
});
const NOTHING = { addresses: ['10.99.0.2/24', '127.0.0.1/8'], xdp: '', kept: [] };
const OURS = /guard|shim|clsact/;

t.setTimeout(FILE_TIMEOUT_MS);

const why = whyNoFarm() || (findCommand('ss') ? false : 'needs ss');

/** The nodes are asked for connections when their clients send. Nothing forwards until then. */
const asksNodes = DATAPATH === 'packet';
t.test(
  'connections outlive the balancer',
  {
    skip: why,
  },
  async (t) => {
    // XDP in the driver; offloads.test.ts and newcomer.test.ts have XDP in the stack.
    const use = { resources, fill, nodes: 2, cards: true, balancer: { timeouts } };
    await withFarm(t, use, async (farm) => {
      /** Clients of sessions that pass. */
      const passing = async (): Promise<string[]> => {
        const { stdout } = await farm.baton(['sessions', '-c', farm.balancerConfig, '--json']);
        const page = JSON.parse(stdout) as {
          sessions: { client: string; state: string; node: string }[];
        };
        return page.sessions
          .filter((session) => session.state === 'passing')
          .map((session) => session.client);
      };
      /** Clients that are connected. */
      const connected = async (): Promise<Set<string>> => {
        const { stdout } = await farm.client.run('ss', ['-tnH', 'state', 'established']);
        return new Set(stdout.split('\n').map((line) => line.trim().split(/\s+/)[2] ?? ''));
      };
      /**
       * Sessions that may have ended while no engine ran: they wait three minutes for a notice that
       * they missed.
       */
      let unheard = 0;
      const goThrough = async (t: Test, event: Event): Promise<void> => {
        const load = await Load.start(farm, LOAD);
        const before = await passing();
        t.ok(before.length >= Load.sessions(LOAD), `${before.length} clients`);
        const { newcomers } = await event(t, farm, load);
        const after = new Set(await passing());
        const open = await connected();
        const still = before.filter((client) => open.has(client));
        // One client has ended meanwhile, and sessions of clients that left before stay for a
        // while.
        t.ok(
          still.length >= Load.sessions(LOAD) - 1,
          `${still.length} of ${before.length} clients are still connected`,
        );
        const lost = still.filter((client) => !after.has(client));
        if (asksNodes) {
          await farm.waitFor(
            async () => ((await farm.stats()).counters.found ?? 0) >= DOWNLOADS,
            'the nodes say that they have the connections of the downloads',
          );
        } else t.same(lost, [], 'so are their sessions');
        for (const { exit, status, seconds } of await Promise.all(newcomers)) {
          t.same(
            { exit, status },
            { exit: 0, status: 200 },
            `a new client was served after ${seconds.toFixed(3)} s`,
          );
        }
        await load.check(t, asksNodes);
        if (asksNodes) {
          const { found = 0, not_found, reset_sent } = (await farm.stats()).counters;
          t.match({ not_found, reset_sent }, { not_found: 0, reset_sent: 0 });
          t.ok(found > 0 && found <= before.length, `${found} sessions were found`);
        }
        unheard += before.length - still.length;
        await farm.waitEmpty({ but: unheard });
        t.equal((await newcomer(farm)).status, 200);
      };

      await t.test('connections outlive a kill and a start', (t) => goThrough(t, killed));
      await t.test('connections outlive a leave by SIGUSR2 and a start', (t) => goThrough(t, left));
      await t.test('connections outlive a replacement by another version', (t) =>
        goThrough(t, replaced),
      );
      await t.test('connections outlive a kill and a start with another config', (t) =>
        goThrough(t, changed),
      );
    });
  },
);

t.test(
  'connections without a confirmation outlive the balancer',
  { skip: why || (asksNodes && 'nothing is taken over') },
  async (t) => {
    // Clients that are near confirm handoffs by their ACKs. The engine reads of it when they end,
    // or when it would ask again.
    const patience = { ...timeouts, handoff: '10s' };
    await withFarm(
      t,
      { resources, fill, nodes: 2, balancer: { timeouts: patience } },
      async (farm) => {
        const count = async (state: 'handing' | 'passing'): Promise<number> =>
          (await farm.stats()).sessions[state];
        const go = path.join(farm.directory, 'go');
        const ask = { send: 'GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n' };
        const answer = 'HTTP/1.1 200';
        const steps: Step[] = [
          ask,
          { hear: answer },
          { untilFile: go },
          ask,
          { hear: answer, times: 2 },
        ];
        const talks = Array.from({ length: 3 }, () =>
          converse(farm.client, {
            address: VIRTUAL_ADDRESS,
            port: 80,
            steps: [...steps, { finish: true }, { untilClosed: true }],
            timeoutMs: PATIENCE_MS,
          }),
        );
        await farm.waitFor(
          async () => (await count('handing')) === 3,
          'three sessions are being handed over',
        );
        await farm.balancerProgram?.kill();
        await farm.startBalancer();
        t.equal(await count('passing'), 3, 'all three are taken over');
        writeFileSync(go, '');
        for (const { text, ending } of await Promise.all(talks)) {
          t.equal(text.split(answer).length - 1, 2, 'both answers arrived');
          t.equal(ending, 'end');
        }
      },
    );
  },
);

t.test(
  'a balancer leaves behind what its end asks for, and nothing else',
  { skip: whyNoFarm() },
  async (t) => {
    await withFarm(t, { resources, fill, nodes: 2 }, async (farm) => {
      const detachAll = () =>
        farm.baton(['balancer', '-c', farm.balancerConfig, '--detach-all'], { allowFailure: true });
      const nothing = async (t: Test, ours = OURS): Promise<void> => {
        const state = await machineState(farm.balancer);
        t.same(nothingOf(state), NOTHING);
        t.notMatch(state.filters, ours);
      };
      const serves = async (t: Test): Promise<void> => {
        await farm.waitNodesUp();
        t.equal((await newcomer(farm)).status, 200, 'a request is served');
      };

      await t.test('--detach-all refuses while the balancer runs', async (t) => {
        const before = await machineState(farm.balancer);
        const refused = await detachAll();
        t.equal(refused.code, 1);
        t.match(refused.stderr, /another balancer is running/);
        t.same(await machineState(farm.balancer), before);
        t.equal(before.xdp.startsWith('baton_xdp'), DATAPATH === 'xdp', before.xdp);
      });

      await t.test('a stop leaves nothing', async (t) => {
        t.same(await farm.balancerProgram?.stop(), { code: 0, signal: null });
        await nothing(t);
        const again = await detachAll();
        t.equal(again.code, 0);
        t.match(again.stdout, /nothing was left/);
        await farm.startBalancer();
        await serves(t);
      });

      for (const [how, end] of [
        ['a kill', 'SIGKILL'],
        ['SIGUSR2', 'SIGUSR2'],
      ] as const) {
        await t.test(`after ${how} everything stays until --detach-all`, async (t) => {
          const running = await machineState(farm.balancer);
          farm.balancerProgram?.signal(end);
          await farm.balancerProgram?.exited;
          const standing = await machineState(farm.balancer);
          t.same(standing, running, 'everything stays');
          const detached = await detachAll();
          t.equal(detached.code, 0, detached.stderr);
          t.match(detached.stdout, new RegExp(`removed .*${VIRTUAL_ADDRESS}`));
          t.match(detached.stdout, /guard_ingress/);
          if (DATAPATH === 'xdp') t.match(detached.stdout, /XDP[\s\S]*pins|pins[\s\S]*XDP/);
          await nothing(t);
          await farm.startBalancer();
          await serves(t);
        });
      }

      await t.test('--replace takes over from the running balancer', async (t) => {
        const former = farm.balancerProgram;
        await farm.startBalancer(['--replace']);
        t.same(await former?.exited, { code: 0, signal: null });
        await serves(t);
        await farm.balancerProgram?.stop();
        await nothing(t);
        await farm.startBalancer(['--replace']);
        t.match(farm.balancerProgram?.log(farm.balancerProgram.logStart), /no balancer to replace/);
        await serves(t);
      });

      await t.test(
        "--detach-all knows by name what is Baton's when the journal is gone",
        async (t) => {
          await farm.balancerProgram?.kill();
          const { kept } = await machineState(farm.balancer);
          const files = kept.filter((file) => file.startsWith('/run/'));
          t.equal(files.length, 1);
          await farm.balancer.run('rm', files);
          t.equal((await detachAll()).code, 0);
          // The journal is gone, so clsact stays: another program may have made it.
          await nothing(t, /guard|shim/);
          await farm.startBalancer();
          await serves(t);
        },
      );
    });
  },
);
