/**
 * No client is lost that comes while one balancer takes over from another. A start that fails
 * leaves the running balancer as it is.
 */
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { Arrivals } from '../../lab/clients/arrivals.js';
import { curl } from '../../lab/clients/curl.js';
import { converse } from '../../lab/clients/raw-client.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { batonCommand, projectRoot } from '../../lab/farm/baton.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import type { Host } from '../../lab/farm/host.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';
import { machineState } from '../../lab/probes/machine.js';

/** Rounds of each way. For more, set BATON_ROUNDS=20. */
const ROUNDS = Number(process.env.BATON_ROUNDS ?? 3);
const resources = [
  { path: '/', nodes: ['n1', 'n2'] },
  { path: '/second.txt', nodes: ['n2'] },
];

function fill(farm: Farm): void {
  for (const web of farm.webs) web.put('a.txt', 'here\n');
  farm.webs[1]?.put('second.txt', 'there\n');
}

/** Each way in which one balancer follows another. */
const WAYS: Record<string, (farm: Farm) => Promise<unknown>> = {
  killed: async (farm) => {
    await farm.balancerProgram?.kill();
    await farm.startBalancer();
  },
  'left by SIGUSR2': async (farm) => {
    farm.balancerProgram?.signal('SIGUSR2');
    await farm.balancerProgram?.exited;
    await farm.startBalancer();
  },
  replaced: (farm) => farm.startBalancer(['--replace']),
};

t.setTimeout(FILE_TIMEOUT_MS + ROUNDS * 20_000);

/** An installation whose XDP program is damaged. */
function damaged(farm: Farm): string {
  const root = projectRoot();
  const copy = path.join(farm.directory, 'damaged');
  mkdirSync(path.join(copy, 'build'), { recursive: true });
  for (const name of ['dist/src', 'bin', 'build/bpf', 'package.json']) {
    cpSync(path.join(root, name), path.join(copy, name), { recursive: true });
  }
  for (const name of ['build/Release', 'node_modules'])
    symlinkSync(path.join(root, name), path.join(copy, name));
  for (const name of ['xdp', 'guard'])
    writeFileSync(path.join(copy, `build/bpf/${name}.bpf.o`), 'no program');
  return copy;
}

/** Runs a balancer that must not start. Returns its error output. */
async function refused(
  t: Test,
  host: Host,
  config: string,
  args: string[],
  root?: string,
): Promise<string> {
  const [command = '', ...rest] = batonCommand(['balancer', '-c', config, ...args], root);
  const { code, stderr, stdout } = await host.run(command, rest, { allowFailure: true });
  t.equal(code, 1);
  return stderr + stdout;
}

t.test(
  'no new connection is lost when one balancer follows another',
  { skip: whyNoFarm() },
  async (t) => {
    await withFarm(t, { resources, fill, nodes: 2 }, async (farm) => {
      await t.test('a replacement that cannot start leaves the one that runs', async (t) => {
        const running = farm.balancerProgram;
        const config = readFileSync(farm.balancerConfig, 'utf8');
        const other = path.join(farm.directory, 'other.yaml');
        const key = path.join(farm.directory, 'bad.hex');
        writeFileSync(key, 'no key\n', { mode: 0o600 });
        for (const [name, from, to, complaint] of [
          ['an unknown key', 'interface:', 'interfaces:', /interfaces/],
          ['no key', 'key.hex', 'bad.hex', /bad\.hex/],
          ['an interface that is not there', 'eth0', 'eth9', /eth9/],
          [
            'an address that the interface does not have',
            'interface:',
            'address: 10.99.0.77\ninterface:',
            /10\.99\.0\.77/,
          ],
          ['a control socket that is none', 'baton.sock', 'balancer.yaml', /not a socket/],
        ] as const) {
          writeFileSync(other, config.replace(from, to));
          t.match(await refused(t, farm.balancer, other, ['--replace']), complaint, name);
        }
        t.match(
          await refused(t, farm.balancer, farm.balancerConfig, ['--replace'], damaged(farm)),
          /BPF object format invalid.*bpf\.o/,
          'XDP programs that do not load',
        );
        t.ok(running?.running, 'the running balancer goes on');
        t.equal((await curl(farm.client, `http://${VIRTUAL_ADDRESS}/a.txt`)).status, 200);
      });

      await t.test('a start whose control socket is taken changes nothing', async (t) => {
        const before = await machineState(farm.client);
        // Another machine, but the same file system.
        t.match(
          await refused(t, farm.client, farm.balancerConfig, []),
          /control socket .* another balancer/,
        );
        t.same(await machineState(farm.client), before);
        t.notMatch(farm.balancerProgram?.log() ?? '', /left;/);
      });

      const inProcess =
        DATAPATH === 'packet' && 'sessions of the packet datapath end with the process';
      await t.test(
        'a node that is taken out of the config keeps its sessions',
        { skip: inProcess },
        async (t) => {
          const [first, second] = farm.nodes;
          const go = path.join(farm.directory, 'go');
          const ask = { send: 'GET /second.txt HTTP/1.1\r\nHost: x\r\n\r\n' };
          const answer = 'HTTP/1.1 200';
          const talks = Array.from({ length: 3 }, () =>
            converse(farm.client, {
              address: VIRTUAL_ADDRESS,
              port: 80,
              steps: [
                ask,
                { hear: answer },
                { untilFile: go },
                ask,
                { hear: answer, times: 2 },
                { finish: true },
                { untilClosed: true },
              ],
              timeoutMs: PATIENCE_MS,
            }),
          );
          const passing = async (): Promise<number> => (await farm.stats()).sessions.passing ?? 0;
          await farm.waitFor(async () => (await passing()) === 3, 'three sessions pass');
          farm.configureBalancer([{ path: '/', nodes: ['n1'] }], {
            nodes: [{ name: 'n1', address: first?.address }],
            workers: 2,
          });
          await farm.startBalancer(['--replace']);
          const { nodes } = await farm.stats();
          t.match(nodes, [
            { name: 'n1', active: 0 },
            {
              name: second?.address,
              address: second?.address,
              state: 'draining',
              by: 'config',
              condition: 'removed',
              why: /no longer in the config/,
              active: 3,
            },
          ]);
          t.equal((await curl(farm.client, `http://${VIRTUAL_ADDRESS}/a.txt`)).status, 200);
          t.equal(
            (await curl(farm.client, `http://${VIRTUAL_ADDRESS}/second.txt`)).status,
            404,
            'the node takes no new sessions',
          );
          writeFileSync(go, '');
          for (const { text, ending } of await Promise.all(talks)) {
            t.equal(text.split(answer).length - 1, 2, 'both answers arrived');
            t.equal(ending, 'end');
          }
          await farm.waitFor(
            async () => (await farm.stats()).nodes.length === 1,
            'the node is gone after its last session',
          );
          farm.configureBalancer(resources);
          await farm.startBalancer(['--replace']);
          await farm.waitNodesUp();
        },
      );

      for (const [name, change] of Object.entries(WAYS)) {
        await t.test(`${name} ${ROUNDS} times`, async (t: Test) => {
          const sum = { count: 0, lost: 0, slowestMs: 0 };
          for (let round = 1; round <= ROUNDS; round++) {
            const served = async (): Promise<number> =>
              (await farm.stats()).counters.established ?? 0;
            const before = await served();
            const arrivals = Arrivals.start(farm, '/a.txt');
            await farm.waitFor(async () => (await served()) > before + 10, 'clients are served');
            const from = Date.now();
            await change(farm);
            await farm.waitFor(async () => (await served()) > 10, 'clients are served again');
            // The next round waits until all clients of this one have ended.
            const { count, lost, slowestMs } = await arrivals.stop();
            t.same(
              lost.map(({ at, why }) => `${at - from} ms after its begin: ${why}`),
              [],
              `round ${round}: none of ${count} clients is lost; the slowest took ${slowestMs} ms`,
            );
            sum.count += count;
            sum.lost += lost.length;
            sum.slowestMs = Math.max(sum.slowestMs, slowestMs);
          }
          t.comment(`${sum.lost} of ${sum.count} lost, the slowest took ${sum.slowestMs} ms`);
        });
      }
    });
  },
);
