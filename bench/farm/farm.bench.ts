/**
 * Measures the cost of Baton and of its alternatives: `make bench`. It writes docs/benchmarks.md,
 * which describes the method.
 *
 *     node dist/bench/farm/farm.bench.js [--no-write | --document]
 *
 * BENCH_ROUNDS, BENCH_SECONDS, BENCH_SESSIONS and BENCH_FIRST_BYTES change the length.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { run } from '../../lab/farm/process.js';
import { report } from '../report.js';
import { setting } from '../settings.js';
import { CASES } from './cases.js';
import { type Contest, startContest } from './contenders.js';
import { cpuTimes, cpuUse } from './cpu.js';
import { documentOf, goalTable } from './document.js';
import { measureFirstByte } from './first-byte.js';
import { FEW_SESSIONS, FLOOD_SESSIONS } from './flood.js';
import { goalsOf } from './goals.js';
import { machineOf, versionsOf } from './machine.js';
import { measureCase } from './measure.js';
import { measureBatonMemory, measureProxyMemory } from './memory.js';
import { Pair } from './pair.js';
import {
  type EngineFigures,
  loadResults,
  type Results,
  saveResults,
  VERSION,
  writeInTree,
} from './results.js';
import { barePair, type Forwarder, measureSmallPackets } from './small-packets.js';
import {
  caseTable,
  firstByteTable,
  memoryTable,
  smallPacketTable,
  type Table,
  workersTable,
} from './tables.js';

const SETTINGS = {
  rounds: setting('BENCH_ROUNDS', 5),
  seconds: setting('BENCH_SECONDS', 2),
  sessions: setting('BENCH_SESSIONS', 1_000_000),
  firstBytes: setting('BENCH_FIRST_BYTES', 500),
};
/** Many short floods, because the speed of a shared machine's CPUs varies by up to a third. */
const FLOOD_SECONDS = 0.4;
const FLOODS_A_ROUND = 4;
const IDLE_SECONDS = 2;
/** With a larger share, other programs are working on this machine. */
const MOST_IDLE_SHARE = 0.1;
const DOCUMENT = 'docs/benchmarks.md';
const ENGINE = fileURLToPath(new URL('../replay/engine.bench.js', import.meta.url));

function progress(what: string): void {
  process.stderr.write(`${what}\n`);
}

type FarmResults = Pick<Results, 'contenders' | 'idleShare' | 'cases' | 'firstByte'> & {
  haproxy: Results['memory']['haproxy'];
};

async function idleShare(): Promise<number> {
  const before = cpuTimes();
  await sleep(IDLE_SECONDS * 1000);
  const after = cpuTimes();
  return cpuUse(before, after).busy / (after.wall - before.wall);
}

async function measureFarm(): Promise<FarmResults> {
  const contest: Contest = await startContest();
  try {
    for (const { name, left } of contest.absent) progress(`${name} is left out: ${left}`);
    for (const which of CASES) {
      const content = randomBytes(which.bytes);
      for (const web of contest.farm.webs) web.put(which.file, content);
    }
    const idle = await idleShare();
    if (idle > MOST_IDLE_SHARE) {
      progress(
        `warning: ${Math.round(idle * 100)} % of the CPUs are busy before anything is measured`,
      );
    }
    const cases = [];
    for (const which of CASES) {
      progress(which.name);
      cases.push(await measureCase(contest, which, SETTINGS));
    }
    progress('time to the first byte');
    const firstByte = await measureFirstByte(contest, SETTINGS.firstBytes);
    progress("HAProxy's memory");
    const haproxy = await measureProxyMemory(contest);
    const contenders = [...contest.contenders, ...contest.absent].map(
      ({ id, name, how, left }) => ({
        id,
        name,
        how,
        ...(left === undefined ? {} : { left }),
      }),
    );
    return { contenders, idleShare: idle, cases, firstByte, haproxy };
  } finally {
    await contest.farm.stop();
  }
}

/** Measures small packets, and memory with a million sessions on the first of these datapaths. */
async function measurePairs(
  datapaths: readonly ('xdp' | 'packet')[],
): Promise<{ smallPackets: Results['smallPackets']; memory: Results['memory']['baton'] }> {
  const memory: Results['memory']['baton'] = [];
  const pairs: Pair[] = [];
  try {
    const forwarders: Forwarder[] = [];
    for (const id of ['swap', 'redirect'] as const) {
      const pair = await barePair(id);
      pairs.push(pair);
      forwarders.push({ id, pair, sessions: [FLOOD_SESSIONS] });
    }
    const most = SETTINGS.sessions;
    /** Starts a balancer with room for `most` sessions, and opens `held` of them. */
    const holding = async (
      datapath: 'xdp' | 'packet',
      name: string,
      held: number,
    ): Promise<Pair> => {
      progress(`${held.toLocaleString('en-US')} sessions, ${datapath}`);
      const pair = await Pair.create(name);
      pairs.push(pair);
      await pair.startBaton(datapath, most);
      if (held === most) memory.push(await measureBatonMemory(pair, datapath, held));
      else await pair.open(held);
      await pair.pinForwarder();
      return pair;
    };
    for (const [rank, datapath] of datapaths.entries()) {
      // Only the first datapath is measured with several numbers of sessions.
      if (rank === 0) {
        const pair = await holding(datapath, `${datapath}-full`, most);
        forwarders.push({ id: datapath, pair, sessions: [most] });
      }
      if (most <= FLOOD_SESSIONS) continue;
      const pair = await holding(datapath, datapath, FLOOD_SESSIONS);
      const sessions = rank === 0 ? [...FEW_SESSIONS, FLOOD_SESSIONS] : [FLOOD_SESSIONS];
      forwarders.push({ id: datapath, pair, sessions });
    }
    progress('small packets');
    const lengths = { rounds: SETTINGS.rounds * FLOODS_A_ROUND, seconds: FLOOD_SECONDS };
    return { smallPackets: await measureSmallPackets(forwarders, lengths), memory };
  } finally {
    await Promise.all(pairs.map((pair) => pair.stop()));
  }
}

async function measureAll(): Promise<Results> {
  const startedAt = new Date();
  progress('the engine alone');
  const { stdout } = await run(process.execPath, ['--expose-gc', ENGINE, '--json'], {
    timeoutMs: 300_000,
  });
  const engine = JSON.parse(stdout) as EngineFigures;
  const { haproxy, ...farm } = await measureFarm();
  const works = (id: string): boolean =>
    farm.contenders.some((one) => one.id === id && one.left === undefined);
  const { smallPackets, memory } = await measurePairs((['xdp', 'packet'] as const).filter(works));
  return {
    version: VERSION,
    startedAt: startedAt.toISOString(),
    seconds: Math.round((Date.now() - startedAt.getTime()) / 1000),
    settings: SETTINGS,
    machine: machineOf(),
    versions: await versionsOf(),
    ...farm,
    smallPackets,
    memory: { baton: memory, haproxy },
    engine,
  };
}

function print(results: Results): void {
  const show = (title: string, { headings, rows, text }: Table): void =>
    report(title, headings, rows, text, { markdown: false });
  for (const which of results.cases) show(which.case.name, caseTable(results, which));
  show('Time to the first byte', firstByteTable(results));
  show('Small packets', smallPacketTable(results));
  show('Memory', memoryTable(results));
  show('Engine threads', workersTable(results));
  show('Goals', goalTable(goalsOf(results)));
}

if (process.argv.includes('--document')) {
  writeInTree(DOCUMENT, documentOf(loadResults()));
} else {
  const results = await measureAll();
  print(results);
  if (!process.argv.includes('--no-write')) {
    saveResults(results);
    // The page is made from the saved results, so that --document makes the same page.
    writeInTree(DOCUMENT, documentOf(loadResults()));
  }
}
