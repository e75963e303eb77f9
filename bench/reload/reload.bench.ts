/**
 * Measures how long a reload delays packets: 1,000 nodes, of which 997 do not exist, and 100,000
 * resources. Two clients send small requests meanwhile, one on a single connection, the other with
 * a new connection for each. The balancer's cable shows how long each packet was in the balancer.
 * The clients see how long an answer takes: there, clients, web servers and the balancer compete
 * for the same CPUs. Times with and without reloads take turns. Needs root:
 * `sudo make bench-reload`, on a machine that does nothing else.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parse, stringify } from 'yaml';
import { type PingKind, type PingOptions, ping } from '../../lab/clients/pings.js';
import { CONTROL_SOCKET } from '../../lab/farm/configs.js';
import { Farm } from '../../lab/farm/farm.js';
import { run } from '../../lab/farm/process.js';
import { measureHolds } from '../../lab/probes/holds.js';
import { ControlClient } from '../../src/api/client.js';
import { formatAddress, toAddress } from '../../src/wire/address.js';
import { datapaths, setting } from '../settings.js';

const REAL = 3;
const NODES = 1_000;
const RESOURCES = setting('BENCH_RESOURCES', 100_000);
const ROUNDS = setting('BENCH_ROUNDS', 5);
const SECONDS = setting('BENCH_SECONDS', 10);
const DATAPATHS = datapaths('packet,xdp');
const PATH = '/a.txt';
const PINGS: readonly PingOptions[] = [
  { kind: 'kept', path: PATH, everyMs: 1, seconds: SECONDS },
  { kind: 'new', path: PATH, everyMs: 10, seconds: SECONDS },
];
/** The network of the nodes that do not exist; the balancer has its second address. */
const ABSENT = 0x0a64_0000;

interface Entry {
  name: string;
  address: string;
}

/** Delays of one kind, in ms. */
type Delays = Record<PingKind | 'held', number[]>;

const none = (): Delays => ({ held: [], kept: [], new: [] });

/** Every second config has other holders for each resource, and leaves out a node. */
function writeConfig(farm: Farm, datapath: string, nodes: readonly Entry[], turn: number): string {
  const names = nodes.map(({ name }) => name).slice(0, -1);
  const holder = (number: number): string =>
    names[(Math.imul(number + turn, 0x9e3779b1) >>> 8) % names.length] ?? '';
  const real = names.slice(0, REAL);
  farm.configureBalancer([], { datapath, nodes: turn === 0 ? nodes : nodes.slice(0, -1) });
  const { resources: _, ...rest } = parse(readFileSync(farm.balancerConfig, 'utf8')) as {
    resources: unknown;
  };
  const lines = Array.from({ length: RESOURCES - 1 }, (_, number) => {
    const holders = [0, 1, 2].map((n) => holder(3 * number + n));
    return `  - {path: /section${number % 100}/${number}, nodes: [${[...new Set(holders)].join(', ')}]}\n`;
  });
  const file = path.join(farm.directory, `turn${turn}.yaml`);
  writeFileSync(
    file,
    `${stringify(rest)}resources:\n  - {path: /, nodes: [${real.join(', ')}]}\n${lines.join('')}`,
  );
  return file;
}

async function measure(farm: Farm): Promise<Delays> {
  let answers: number[][] = [];
  const held = await measureHolds(farm, async () => {
    answers = await Promise.all(PINGS.map((options) => ping(farm, options)));
  });
  const [kept = [], fresh = []] = answers;
  return { held, kept, new: fresh };
}

function add(to: Delays, more: Delays): void {
  for (const kind of ['held', 'kept', 'new'] as const)
    for (const one of more[kind]) to[kind].push(one);
}

function figures(delays: readonly number[]): string {
  const sorted = delays.toSorted((a, b) => a - b);
  const part = (share: number): string =>
    (sorted[Math.ceil(share * sorted.length) - 1] ?? Number.NaN).toFixed(2).padStart(7);
  return `${part(0.5)} ${part(0.99)} ${part(0.999)} ${part(1)}`;
}

async function bench(datapath: string): Promise<void> {
  const farm = await Farm.create({ nodes: REAL });
  try {
    for (const web of farm.webs) web.put('a.txt', 'here\n');
    const own = `${formatAddress(toAddress(ABSENT + 1))}/16`;
    await run('ip', ['-n', farm.balancer.namespace, 'addr', 'add', own, 'dev', 'eth0']);
    const absent = Array.from({ length: NODES - REAL }, (_, number) => ({
      name: `absent${number}`,
      address: formatAddress(toAddress(ABSENT + 256 + number)),
    }));
    const real = farm.nodes.map(({ name, address }) => ({ name, address }));
    const files = [0, 1].map((turn) => writeConfig(farm, datapath, [...real, ...absent], turn));
    renameSync(files[0] ?? '', farm.balancerConfig);
    await farm.startWebs();
    await farm.startBalancer();
    for (const index of farm.nodes.keys()) await farm.startNode(index);
    await farm.waitNodesUp();
    renameSync(farm.balancerConfig, files[0] ?? '');
    const client = new ControlClient(path.join(farm.directory, CONTROL_SOCKET));
    const [quiet, busy] = [none(), none()];
    const took: number[] = [];
    let turn = 0;
    const reload = async (): Promise<void> => {
      turn += 1;
      const began = performance.now();
      await client.change({ kind: 'reload', file: files[turn % 2] ?? '' });
      took.push(performance.now() - began);
    };
    await reload();
    took.length = 0;
    for (let round = 0; round < ROUNDS; round++) {
      add(quiet, await measure(farm));
      const during = { going: true };
      const reloads = (async () => {
        while (during.going) await reload();
      })();
      add(busy, await measure(farm));
      during.going = false;
      await reloads;
    }
    const mean = took.reduce((sum, one) => sum + one, 0) / took.length;
    console.log(`${datapath}: ${took.length} reloads, ${(mean / 1_000).toFixed(2)} s each; ms`);
    console.log('                               median    99 %  99.9 % longest');
    for (const [kind, words] of [
      ['held', 'a packet in the balancer'],
      ['kept', 'an answer, one connection, 1,000/s'],
      ['new', 'an answer, new connections, 100/s'],
    ] as const) {
      console.log(`${words}`);
      console.log(`  without reloads            ${figures(quiet[kind])}`);
      console.log(`  with reloads               ${figures(busy[kind])}`);
    }
  } finally {
    await farm.stop();
  }
}

for (const datapath of DATAPATHS) await bench(datapath);
