/**
 * What Baton costs on a farm: requests per second, and CPU time per request of the whole machine, direct
 * to a node and through Baton, in turns within one run, so that both meet the same machine.
 *
 * Everything runs on one machine here (client, balancer, node and their kernels), so the CPU time of a
 * request is that of all of them; the difference between the columns is what Baton adds. Steal is left
 * out. BENCH_ROUNDS and BENCH_SECONDS change the length.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { curl, wrk } from '../../test/support/farm/requests.js';
import { Farm, VIRTUAL_ADDRESS } from '../../test/support/farm.js';
import { machine, median, report, whole } from '../report.js';

const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 5);
const SECONDS = Number(process.env.BENCH_SECONDS ?? 3);

/** Unit of /proc/stat: USER_HZ is 100. */
const TICK_MICROSECONDS = 10_000;

interface Case {
  name: string;
  file: string;
  bytes: number;
  connections: number;
  close: boolean;
}

const CASES: readonly Case[] = [
  { name: '1 KB, a connection per request', file: '1k.bin', bytes: 1024, connections: 32, close: true },
  { name: '1 KB, kept alive', file: '1k.bin', bytes: 1024, connections: 32, close: false },
  { name: '1 MB, a connection per request', file: '1m.bin', bytes: 1_000_000, connections: 8, close: true },
  {
    name: '10 MB, a connection per request',
    file: '10m.bin',
    bytes: 10_000_000,
    connections: 4,
    close: true,
  },
];

interface Sample {
  perSecond: number;
  /** CPU time of the whole machine per request, in us. */
  cpu: number;
  /** Bytes into the balancer per request. */
  balancerBytes: number;
}

/**
 * Time in us that all CPUs together have spent on something: what has passed, less idle and stolen time.
 * The kernel measures idle time; user, system and softirq it only samples at its tick, and what runs in
 * step with the tick (the receive ring's 1 ms timer does) is seen always or never.
 */
function busyMicroseconds(): number {
  const fields = (readFileSync('/proc/stat', 'utf8').split('\n')[0] ?? '')
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number);
  const [, , , idle = 0, ioWait = 0, , , steal = 0] = fields;
  return performance.now() * 1_000 * cpus().length - (idle + ioWait + steal) * TICK_MICROSECONDS;
}

async function sample(farm: Farm, address: string, which: Case): Promise<Sample> {
  const traffic = await farm.balancer.traffic();
  const before = busyMicroseconds();
  const result = await wrk(farm.client, `http://${address}/${which.file}`, {
    connections: which.connections,
    seconds: SECONDS,
    close: which.close,
  });
  const busy = busyMicroseconds() - before;
  const crossed = (await farm.balancer.traffic()).receivedBytes - traffic.receivedBytes;
  if (result.failed > 0) {
    throw new Error(`${which.name} at ${address}: ${JSON.stringify(result.errors)}`);
  }
  return {
    perSecond: result.perSecond,
    cpu: busy / result.requests,
    balancerBytes: crossed / result.requests,
  };
}

function row(which: Case, direct: readonly Sample[], baton: readonly Sample[]): string[] {
  const of = (samples: readonly Sample[], key: keyof Sample): number => median(samples.map((s) => s[key]));
  return [
    which.name,
    whole(of(direct, 'perSecond')),
    whole(of(baton, 'perSecond')),
    whole(of(direct, 'cpu')),
    whole(of(baton, 'cpu')),
    whole(of(baton, 'cpu') - of(direct, 'cpu')),
    whole(of(baton, 'balancerBytes')),
  ];
}

const HEADINGS = [
  'answer',
  'direct, requests/s',
  'Baton, requests/s',
  'direct, CPU us/request',
  'Baton, CPU us/request',
  'added, us',
  'bytes into the balancer/request',
];

async function main(): Promise<void> {
  const farm = await Farm.create({ nodes: 1 });
  try {
    // Enough ports for a connection per request over seconds, so that the client is not the limit.
    await farm.client.run('sh', ['-c', 'echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range']);
    for (const which of CASES) {
      farm.webs[0]?.put(which.file, randomBytes(which.bytes));
    }
    await farm.startAll([{ path: '/', nodes: ['n1'] }]);
    const direct = farm.nodes[0]?.address ?? '';
    const rows: string[][] = [];
    for (const which of CASES) {
      const samples = { direct: [] as Sample[], baton: [] as Sample[] };
      for (const address of [direct, VIRTUAL_ADDRESS]) {
        await curl(farm.client, `http://${address}/${which.file}`);
      }
      for (let round = 0; round < ROUNDS; round++) {
        samples.direct.push(await sample(farm, direct, which));
        samples.baton.push(await sample(farm, VIRTUAL_ADDRESS, which));
      }
      rows.push(row(which, samples.direct, samples.baton));
    }
    const title = `A farm in namespaces, direct to a node and through Baton in turns: medians of ${ROUNDS} rounds of ${SECONDS} s.\n${machine()}`;
    report(title, HEADINGS, rows);
  } finally {
    await farm.stop();
  }
}

await main();
