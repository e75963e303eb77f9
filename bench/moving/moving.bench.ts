/**
 * Measures what requests of kept-alive connections cost that go to another node than the request
 * before, and of those that stay. Next to it: HAProxy, tuned, which routes the same requests by
 * path. Each connection has a thread of wrk of its own, so its requests take turns between the
 * paths. The tax is the CPU time of the whole machine per request, less that of clients which ask a
 * node directly. Needs root: `sudo make bench-moving`, on a machine that does nothing else.
 */
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import path from 'node:path';
import { curl } from '../../lab/clients/curl.js';
import { wrk } from '../../lab/clients/wrk.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { Farm } from '../../lab/farm/farm.js';
import { preparePorts } from '../farm/contenders.js';
import { withCpuUse } from '../farm/cpu.js';
import { MOST_STOLEN, turned } from '../farm/measure.js';
import { listens } from '../farm/proxies.js';
import { type PageTable, publish } from '../page.js';
import { median, whole } from '../report.js';
import { datapaths, setting } from '../settings.js';

const ROUNDS = setting('BENCH_ROUNDS', 5);
const SECONDS = setting('BENCH_SECONDS', 2);
const WARM_UP_SECONDS = 3;
/** As many threads of wrk as connections. */
const CONNECTIONS = 8;
const PROXY_PORT = 8086;
const ANSWER = Buffer.alloc(1024, 'a');

interface Workload {
  name: string;
  paths: readonly string[];
  /** Highest tax, as a share of HAProxy's. */
  goal: number;
}

const WORKLOADS: readonly Workload[] = [
  { name: 'each request moves', paths: ['/one/a', '/two/a'], goal: 0.35 },
  { name: 'no request moves', paths: ['/one/a', '/one/b'], goal: 0.15 },
];

interface Contender {
  name: string;
  at: string;
}

interface Sample {
  perSecond: number;
  p99: number;
  failed: number;
  /** CPU time of the whole machine per request, us. */
  cpu: number;
  stolen: number;
  /** Moves per request; undefined for others than Baton. */
  moves: number | undefined;
}

/** Requests the paths in turn. */
function script(farm: Farm, { name, paths }: Workload): string {
  const file = path.join(farm.directory, `${name.replaceAll(' ', '-')}.lua`);
  const list = paths.map((one) => `"${one}"`).join(', ');
  writeFileSync(
    file,
    `local paths, n = {${list}}, 0
request = function()
  n = n % #paths + 1
  return wrk.format("GET", paths[n])
end
`,
  );
  return file;
}

function haproxyConfig(one: string, two: string): string {
  return `global
  maxconn 4000
  nbthread ${cpus().length}
defaults
  mode http
  timeout connect 5s
  timeout client 10m
  timeout server 1m
  timeout http-keep-alive 10m
  option http-keep-alive
  http-reuse always
frontend www
  bind :${PROXY_PORT} backlog 4096
  use_backend two if { path_beg /two/ }
  default_backend one
backend one
  server n1 ${one}:80 pool-max-conn -1
backend two
  server n2 ${two}:80 pool-max-conn -1
`;
}

async function movesOf(farm: Farm): Promise<number> {
  const { counters } = await farm.stats();
  return counters.moved ?? 0;
}

async function sample(farm: Farm, contender: Contender, file: string): Promise<Sample> {
  const isBaton = contender.at.startsWith(VIRTUAL_ADDRESS);
  const before = isBaton ? await movesOf(farm) : 0;
  const options = { connections: CONNECTIONS, threads: CONNECTIONS, script: file };
  const { result, use } = await withCpuUse(() =>
    wrk(farm.client, `http://${contender.at}/`, { ...options, seconds: SECONDS }),
  );
  const { requests, perSecond, p99, failed } = result;
  if (requests === 0) throw new Error(`${contender.name} answered no request`);
  const moves = isBaton ? ((await movesOf(farm)) - before) / requests : undefined;
  return { perSecond, p99, failed, cpu: use.busy / requests, stolen: use.stolen, moves };
}

async function measure(
  farm: Farm,
  contenders: readonly Contender[],
  workload: Workload,
): Promise<Map<string, Sample[]>> {
  const file = script(farm, workload);
  for (const { at } of contenders) {
    for (const one of workload.paths) {
      const { status } = await curl(farm.client, `http://${at}${one}`);
      if (status !== 200) throw new Error(`${at}${one}: status ${status}`);
    }
    const options = { connections: CONNECTIONS, threads: CONNECTIONS, script: file };
    await wrk(farm.client, `http://${at}/`, { ...options, seconds: WARM_UP_SECONDS });
  }
  const samples = new Map<string, Sample[]>(contenders.map(({ name }) => [name, []]));
  let discarded = 0;
  for (let round = 0; round < ROUNDS + discarded; round++) {
    const taken: [string, Sample][] = [];
    for (const contender of turned(contenders, round))
      taken.push([contender.name, await sample(farm, contender, file)]);
    if (taken.some(([, { stolen }]) => stolen > MOST_STOLEN)) {
      discarded += 1;
      if (discarded > 2 * ROUNDS) throw new Error('this machine is too busy for measurements');
      continue;
    }
    for (const [name, one] of taken) samples.get(name)?.push(one);
  }
  return samples;
}

function tableOf(datapath: string, workload: Workload, samples: Map<string, Sample[]>): PageTable {
  const middle = (name: string, of: (one: Sample) => number): number =>
    median((samples.get(name) ?? []).map(of));
  const cpuOf = (name: string): number => middle(name, ({ cpu }) => cpu);
  const tax = (name: string): number => cpuOf(name) - cpuOf('direct');
  const rows = [...samples].map(([name, all]) => {
    const cpu = all.map((one) => one.cpu);
    const moves = all.flatMap((one) => (one.moves === undefined ? [] : [one.moves]));
    return [
      name,
      whole(middle(name, ({ perSecond }) => perSecond)),
      middle(name, ({ p99 }) => p99).toFixed(2),
      `${whole(median(cpu))} (${whole(Math.min(...cpu))} to ${whole(Math.max(...cpu))})`,
      name === 'direct' ? '-' : whole(tax(name)),
      name === 'direct' ? '-' : (tax(name) / tax('HAProxy tuned')).toFixed(2),
      moves.length === 0 ? '-' : median(moves).toFixed(2),
      String(all.reduce((sum, { failed }) => sum + failed, 0)),
    ];
  });
  const headings = ['through', 'requests/s', 'p99, ms', 'CPU us/request (range)', 'tax, us'];
  return {
    title: `${workload.name}, ${datapath} (goal: at most ${workload.goal} of HAProxy's tax)`,
    headings: [...headings, "share of HAProxy's", 'moves/request', 'failed'],
    rows,
  };
}

async function bench(datapath: string): Promise<PageTable[]> {
  const farm = await Farm.create({ nodes: 2, cards: true, others: { proxy: 12 } });
  try {
    await preparePorts(farm, datapath === 'xdp' ? ['balancer'] : []);
    for (const web of farm.webs)
      for (const { paths } of WORKLOADS) for (const one of paths) web.put(one.slice(1), ANSWER);
    await farm.startAll(
      [
        { path: '/one/', nodes: ['n1'] },
        { path: '/two/', nodes: ['n2'] },
      ],
      {
        datapath,
        virtualServers: [{ name: 'www', address: VIRTUAL_ADDRESS, port: 80, keepAlive: 'migrate' }],
      },
    );
    const [one, two] = farm.nodes.map(({ address }) => address);
    const file = path.join(farm.directory, 'haproxy.cfg');
    writeFileSync(file, haproxyConfig(one ?? '', two ?? ''));
    const proxy = farm.host('proxy');
    await listens(proxy, proxy.start('haproxy', ['haproxy', '-db', '-f', file]), PROXY_PORT);
    const contenders = [
      { name: 'direct', at: `${one}:80` },
      { name: 'HAProxy tuned', at: `${proxy.address}:${PROXY_PORT}` },
      { name: `Baton ${datapath}`, at: `${VIRTUAL_ADDRESS}:80` },
    ];
    const tables: PageTable[] = [];
    for (const workload of WORKLOADS)
      tables.push(tableOf(datapath, workload, await measure(farm, contenders, workload)));
    return tables;
  } finally {
    await farm.stop();
  }
}

const tables: PageTable[] = [];
for (const datapath of datapaths('xdp,packet')) tables.push(...(await bench(datapath)));
await publish('moving', { length: `${ROUNDS} rounds of ${SECONDS} s`, tables });
