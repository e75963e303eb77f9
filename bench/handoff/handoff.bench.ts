/**
 * Compares the two ways of a handoff: a node whose kernel adopts the connection, and one that gets
 * it by replay of its handshake. Next to them: a node that is asked directly, and stock HAProxy.
 * Needs root: `sudo make bench-handoff`, on a machine that does nothing else.
 */
import { randomBytes } from 'node:crypto';
import { curl } from '../../lab/clients/curl.js';
import { wrk } from '../../lab/clients/wrk.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { Farm } from '../../lab/farm/farm.js';
import { preparePorts } from '../farm/contenders.js';
import { withCpuUse } from '../farm/cpu.js';
import { timeFirstBytes } from '../farm/first-byte.js';
import { MOST_STOLEN, turned } from '../farm/measure.js';
import { PROXIES, startProxies } from '../farm/proxies.js';
import { type PageTable, publish } from '../page.js';
import { median, whole } from '../report.js';
import { datapaths, setting } from '../settings.js';

const ROUNDS = setting('BENCH_ROUNDS', 5);
const SECONDS = setting('BENCH_SECONDS', 2);
const FIRST_BYTES = setting('BENCH_FIRST_BYTES', 1000);
const DOWNLOADS = setting('BENCH_DOWNLOADS', 15);
const WARM_UP_SECONDS = 3;
const CONNECTIONS = 32;
const SHORT = Buffer.alloc(1024, 'a');
const LONG_BYTES = 20_000_000;
/** The replaying node may cost so much of what stock HAProxy costs. */
const TAX_GOAL = 0.6;
const LOSS_GOAL = 1.25;
const SACK_RECOVERY = 'TcpExtTCPSackRecovery';

const NAMES = ['direct', 'HAProxy', 'adopt', 'replay'] as const;
type Name = (typeof NAMES)[number];

interface Contender {
  name: Name;
  at: string;
  file: string;
}

interface Sample {
  perSecond: number;
  /** CPU time of the whole machine per request, us. */
  cpu: number;
  failed: number;
  stolen: number;
}

/** n1 adopts, n2 gets its connections by replay, n3 runs nothing of Baton. */
async function startFarm(datapath: string): Promise<{ farm: Farm; contenders: Contender[] }> {
  const farm = await Farm.create({ nodes: 3, cards: true, others: { proxy: 12 } });
  try {
    await preparePorts(farm, datapath === 'xdp' ? ['balancer'] : []);
    for (const web of farm.webs)
      for (const way of ['adopt', 'replay']) web.put(`${way}/1k.bin`, SHORT);
    await farm.startWebs();
    const [n1, n2, n3] = farm.nodes;
    if (n1 === undefined || n2 === undefined || n3 === undefined)
      throw new Error('the farm has fewer than 3 nodes');
    farm.configureBalancer(
      [
        { path: '/adopt/', nodes: ['n1'] },
        { path: '/replay/', nodes: ['n2'] },
      ],
      {
        datapath,
        nodes: [
          { name: 'n1', address: n1.address, handoff: 'adopt' },
          { name: 'n2', address: n2.address, handoff: 'replay' },
        ],
      },
    );
    await Promise.all([farm.startBalancer(), farm.startNode(0), farm.startNode(1)]);
    await farm.waitNodesUp(2);
    await startProxies(farm, n3.address);
    const port = PROXIES.find(({ id }) => id === 'haproxy')?.port;
    const baton = `${VIRTUAL_ADDRESS}:80`;
    const contenders: Contender[] = [
      { name: 'direct', at: `${n3.address}:80`, file: 'adopt/1k.bin' },
      { name: 'HAProxy', at: `${farm.host('proxy').address}:${port}`, file: 'adopt/1k.bin' },
      { name: 'adopt', at: baton, file: 'adopt/1k.bin' },
      { name: 'replay', at: baton, file: 'replay/1k.bin' },
    ];
    return { farm, contenders };
  } catch (error) {
    await farm.stop();
    throw error;
  }
}

async function load(farm: Farm, { at, file }: Contender, seconds: number): Promise<Sample> {
  const options = { connections: CONNECTIONS, threads: 1, close: true, seconds };
  const { result, use } = await withCpuUse(() => wrk(farm.client, `http://${at}/${file}`, options));
  const { requests, perSecond, failed } = result;
  if (requests === 0) throw new Error(`http://${at}/${file}: no request was answered`);
  return { perSecond, cpu: use.busy / requests, failed, stolen: use.stolen };
}

async function measureLoad(
  farm: Farm,
  contenders: readonly Contender[],
): Promise<Record<Name, Sample[]>> {
  const samples: Record<Name, Sample[]> = { direct: [], HAProxy: [], adopt: [], replay: [] };
  for (const contender of contenders) await load(farm, contender, WARM_UP_SECONDS);
  let discarded = 0;
  for (let round = 0; round < ROUNDS + discarded; round++) {
    const taken: [Name, Sample][] = [];
    for (const contender of turned(contenders, round))
      taken.push([contender.name, await load(farm, contender, SECONDS)]);
    if (taken.some(([, { stolen }]) => stolen > MOST_STOLEN)) {
      discarded += 1;
      if (discarded > 2 * ROUNDS) throw new Error('this machine is too busy for measurements');
      continue;
    }
    for (const [name, sample] of taken) samples[name].push(sample);
  }
  return samples;
}

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

function loadTable(datapath: string, samples: Record<Name, Sample[]>): PageTable {
  const cpuOf = (name: Name): number => median(samples[name].map(({ cpu }) => cpu));
  const tax = (name: Name): number => cpuOf(name) - cpuOf('direct');
  const rows = NAMES.map((name) => {
    const cpu = samples[name].map((sample) => sample.cpu);
    return [
      name,
      whole(median(samples[name].map(({ perSecond }) => perSecond))),
      `${whole(median(cpu))} (${whole(Math.min(...cpu))} to ${whole(Math.max(...cpu))})`,
      name === 'direct' ? '-' : whole(tax(name)),
      name === 'direct' ? '-' : (tax(name) / tax('HAProxy')).toFixed(2),
      String(samples[name].reduce((sum, { failed }) => sum + failed, 0)),
    ];
  });
  return {
    title: `1 KB, a connection per request, ${datapath} (goal: replay at most ${TAX_GOAL} of HAProxy's tax)`,
    headings: [
      ...['through', 'connections/s', 'CPU us/request (range)', 'tax, us'],
      ...["share of HAProxy's", 'failed'],
    ],
    rows,
  };
}

function firstByteTable(datapath: string, times: Record<Name, number[]>): PageTable {
  const at = (name: Name, share: number): number => quantile(times[name], share);
  const added = (name: Name, share: number): string =>
    name === 'direct' ? '-' : whole(at(name, share) - at('direct', share));
  return {
    title: `Time to the first byte, ${datapath}`,
    headings: ['through', 'p50, us', 'p99, us', 'added p50, us', 'added p99, us'],
    rows: NAMES.map((name) => [
      name,
      whole(at(name, 0.5)),
      whole(at(name, 0.99)),
      added(name, 0.5),
      added(name, 0.99),
    ]),
  };
}

async function measureWays(datapath: string): Promise<PageTable[]> {
  const { farm, contenders } = await startFarm(datapath);
  try {
    const samples = await measureLoad(farm, contenders);
    const [direct, haproxy, adopt, replay] = contenders;
    if (!direct || !haproxy || !adopt || !replay) throw new Error('a contender is missing');
    const targets = { direct, HAProxy: haproxy, adopt, replay };
    const times = await timeFirstBytes(farm.client, targets, FIRST_BYTES);
    const { counters } = await farm.stats();
    if (!(counters.replay_syn ?? 0)) throw new Error('no handshake was replayed');
    return [loadTable(datapath, samples), firstByteTable(datapath, times)];
  } finally {
    await farm.stop();
  }
}

/** Downloads over a link that loses 2 % of the frames in each direction, each by itself. */
async function measureLoss(datapath: string): Promise<PageTable> {
  const farm = await Farm.create({ nodes: 1, handoffs: ['replay'] });
  try {
    farm.webs[0]?.put('long.bin', randomBytes(LONG_BYTES));
    await farm.startAll([{ path: '/', nodes: ['n1'] }], { datapath });
    const node = farm.host('n1');
    await Promise.all([node.setOffloads(false), farm.client.setOffloads(false)]);
    await farm.client.loseFrames();
    const ways = [
      { name: 'direct', at: node.address },
      { name: 'replay', at: VIRTUAL_ADDRESS },
    ];
    const seconds = new Map<string, number[]>(ways.map(({ name }) => [name, []]));
    const recoveries = new Map<string, number>();
    for (let round = 0; round < DOWNLOADS; round++) {
      for (const { name, at } of turned(ways, round)) {
        const before = await node.kernelCounter(SACK_RECOVERY);
        const answer = await curl(farm.client, `http://${at}/long.bin`);
        if (answer.status !== 200 || answer.body.length !== LONG_BYTES)
          throw new Error(`${name}: status ${answer.status}, ${answer.body.length} bytes`);
        seconds.get(name)?.push(answer.seconds);
        const more = (await node.kernelCounter(SACK_RECOVERY)) - before;
        recoveries.set(name, (recoveries.get(name) ?? 0) + more);
      }
    }
    const of = (name: string): number[] => seconds.get(name) ?? [];
    const rows = ways.map(({ name }) => [
      name,
      median(of(name)).toFixed(2),
      `${Math.min(...of(name)).toFixed(2)} to ${Math.max(...of(name)).toFixed(2)}`,
      (median(of(name)) / median(of('direct'))).toFixed(2),
      whole((recoveries.get(name) ?? 0) / DOWNLOADS),
    ]);
    return {
      title: `20 MB, 2 % loss in both directions, ${datapath} (goal: at most ${LOSS_GOAL} of direct)`,
      headings: ['through', 's (median)', 'range', 'share of direct', 'SACK recoveries'],
      rows,
    };
  } finally {
    await farm.stop();
  }
}

const tables: PageTable[] = [];
for (const datapath of datapaths('xdp,packet')) {
  tables.push(...(await measureWays(datapath)), await measureLoss(datapath));
}
const length = `${ROUNDS} rounds of ${SECONDS} s, ${FIRST_BYTES} first bytes, ${DOWNLOADS} downloads`;
await publish('handoff', { length, tables });
