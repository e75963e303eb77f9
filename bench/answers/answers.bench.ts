/**
 * Measures what an answer of the balancer itself costs: a 404 on a new connection, which ends with
 * it. Next to it: HAProxy with `http-request return`, which answers the same bytes. The CPU time is
 * that of the whole machine per answer, the client's included. Needs root: `sudo make
 * bench-answers`, on a machine that does nothing else.
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
const CONNECTIONS = 32;
const PROXY_PORT = 8087;
const PATH = '/nowhere';
const STATUS = 404;
/** Highest CPU time per answer, as a share of HAProxy's. */
const GOAL = 0.7;

interface Contender {
  name: string;
  at: string;
}

interface Sample {
  perSecond: number;
  p99: number;
  /** Answers with another status than STATUS, and connections that failed. */
  failed: number;
  /** CPU time of the whole machine per answer, us. */
  cpu: number;
  stolen: number;
}

/** @param body what Baton answers */
function haproxyConfig(body: string): string {
  const quoted = body.trimEnd().replaceAll('\n', '\\n').replaceAll(' ', '\\ ');
  return `global
  maxconn 4000
  nbthread ${cpus().length}
defaults
  mode http
  timeout connect 5s
  timeout client 50s
  timeout server 50s
frontend www
  bind :${PROXY_PORT} backlog 4096
  http-request return status ${STATUS} content-type "text/plain; charset=utf-8" string ${quoted}\\n hdr Cache-Control no-store
`;
}

async function sample(farm: Farm, { name, at }: Contender, seconds: number): Promise<Sample> {
  const { result, use } = await withCpuUse(() =>
    wrk(farm.client, `http://${at}${PATH}`, { connections: CONNECTIONS, seconds, close: true }),
  );
  const { requests, perSecond, p99, failed, errors } = result;
  if (requests === 0) throw new Error(`${name} answered no request`);
  return {
    perSecond,
    p99,
    failed: failed - errors.status + requests - errors.status,
    cpu: use.busy / requests,
    stolen: use.stolen,
  };
}

async function measure(
  farm: Farm,
  contenders: readonly Contender[],
): Promise<Map<string, Sample[]>> {
  for (const contender of contenders) await sample(farm, contender, WARM_UP_SECONDS);
  const samples = new Map<string, Sample[]>(contenders.map(({ name }) => [name, []]));
  let discarded = 0;
  for (let round = 0; round < ROUNDS + discarded; round++) {
    const taken: [string, Sample][] = [];
    for (const contender of turned(contenders, round))
      taken.push([contender.name, await sample(farm, contender, SECONDS)]);
    if (taken.some(([, { stolen }]) => stolen > MOST_STOLEN)) {
      discarded += 1;
      if (discarded > 2 * ROUNDS) throw new Error('this machine is too busy for measurements');
      continue;
    }
    for (const [name, one] of taken) samples.get(name)?.push(one);
  }
  return samples;
}

function tableOf(datapath: string, samples: Map<string, Sample[]>): PageTable {
  const middle = (name: string, of: (one: Sample) => number): number =>
    median((samples.get(name) ?? []).map(of));
  const cpuOf = (name: string): number => middle(name, ({ cpu }) => cpu);
  const rows = [...samples].map(([name, all]) => {
    const cpu = all.map((one) => one.cpu);
    return [
      name,
      whole(middle(name, ({ perSecond }) => perSecond)),
      middle(name, ({ p99 }) => p99).toFixed(2),
      `${whole(median(cpu))} (${whole(Math.min(...cpu))} to ${whole(Math.max(...cpu))})`,
      (cpuOf(name) / cpuOf('HAProxy')).toFixed(2),
      String(all.reduce((sum, { failed }) => sum + failed, 0)),
    ];
  });
  const headings = ['answered by', 'answers/s', 'p99, ms', 'CPU us/answer (range)'];
  return {
    title: `${STATUS} on a new connection, ${datapath} (goal: at most ${GOAL} of HAProxy's CPU time)`,
    headings: [...headings, "share of HAProxy's", 'failed'],
    rows,
  };
}

async function bench(datapath: string): Promise<PageTable> {
  const farm = await Farm.create({ nodes: 1, cards: true, others: { proxy: 12 } });
  try {
    await preparePorts(farm, datapath === 'xdp' ? ['balancer'] : []);
    await farm.startAll([{ path: '/one/', nodes: ['n1'] }], { datapath });
    const contenders = [
      { name: 'HAProxy', at: `${farm.host('proxy').address}:${PROXY_PORT}` },
      { name: `Baton ${datapath}`, at: `${VIRTUAL_ADDRESS}:80` },
    ];
    const own = await curl(farm.client, `http://${VIRTUAL_ADDRESS}${PATH}`);
    const file = path.join(farm.directory, 'haproxy.cfg');
    writeFileSync(file, haproxyConfig(own.body.toString()));
    const proxy = farm.host('proxy');
    await listens(proxy, proxy.start('haproxy', ['haproxy', '-db', '-f', file]), PROXY_PORT);
    for (const { name, at } of contenders) {
      const { status, body } = await curl(farm.client, `http://${at}${PATH}`);
      if (status !== STATUS || !body.equals(own.body))
        throw new Error(`${name} answers ${status} with ${body.length} bytes`);
    }
    return tableOf(datapath, await measure(farm, contenders));
  } finally {
    await farm.stop();
  }
}

const tables: PageTable[] = [];
for (const datapath of datapaths('xdp,packet')) tables.push(await bench(datapath));
await publish('answers', {
  length: `${ROUNDS} rounds of ${SECONDS} s, ${CONNECTIONS} connections at a time`,
  tables,
});
