/**
 * The engine over a capture in memory, in one thread: handoffs and pass-through packets per second,
 * growth of the heap, bytes of the session table. Also the same workload shared by two threads.
 * Part of `make bench`; alone:
 *
 *     node --expose-gc dist/bench/replay/engine.bench.js [--json]
 */
import { machine, median, report, whole } from '../report.js';
import { Run, seconds, timed, wholeBatches } from './run.js';
import { measureWorkers, WORKERS_GOAL, type WorkerFigures } from './workers.js';

/** Size of a round, and number of rounds. */
const CONNECTIONS = 20_000;
const ROUNDS = 11;
/** Code is compiled in the first rounds, so they do not count. */
const WARM_UP_ROUNDS = 2;
const PACKETS = wholeBatches(2_000_000);
const HEAP_PACKETS = wholeBatches(10_000_000);

interface EngineFigures {
  handoffsPerSecond: number[];
  confirmedPerSecond: number[];
  packetsPerSecond: number[];
  heapGrowthBytes: number;
  heapPackets: number;
  tableBytesPerSession: number;
  enginePerSession: number;
}

function heapUsed(): number {
  const { gc } = globalThis;
  if (gc === undefined) throw new Error('needs node --expose-gc');
  gc();
  gc();
  const { heapUsed, external, arrayBuffers } = process.memoryUsage();
  return heapUsed + external + arrayBuffers;
}

function measureEngine(): EngineFigures {
  const run = new Run(CONNECTIONS);
  const figures: EngineFigures = {
    handoffsPerSecond: [],
    confirmedPerSecond: [],
    packetsPerSecond: [],
    heapGrowthBytes: 0,
    heapPackets: HEAP_PACKETS,
    tableBytesPerSession: run.engine.sessions.bytesPerSession,
    enginePerSession: run.engine.bytesPerSession,
  };
  for (let round = 0; round < ROUNDS; round++) {
    const { syn, ack, request } = run.layOutClients();
    const handedBefore = run.counters.get('handoffs');
    const handing = seconds(timed(() => run.feed(syn, ack, request)));
    if (run.counters.get('handoffs') - handedBefore !== CONNECTIONS)
      throw new Error('a session was not handed over');
    const adopted = run.layOutAdopted();
    const confirming = seconds(timed(() => run.feed(adopted)));
    const passing = seconds(timed(() => run.pass(ack, PACKETS)));
    if (round >= WARM_UP_ROUNDS) {
      figures.handoffsPerSecond.push(CONNECTIONS / handing);
      figures.confirmedPerSecond.push(CONNECTIONS / (handing + confirming));
      figures.packetsPerSecond.push(PACKETS / passing);
    }
    if (round === ROUNDS - 1) {
      const before = heapUsed();
      run.pass(ack, HEAP_PACKETS);
      figures.heapGrowthBytes = heapUsed() - before;
    }
    run.finish();
  }
  return figures;
}

const HEADINGS = ['what', 'goal', 'median', 'range'];

function rowsOf(figures: EngineFigures, workers: WorkerFigures): string[][] {
  const rate = (values: readonly number[]): string[] => [
    whole(median(values)),
    `${whole(Math.min(...values))} to ${whole(Math.max(...values))}`,
  ];
  const ratio = (name: string, values: readonly number[]): string[] => [
    `${name}, ${workers.workers} engine threads over one`,
    `at least ${WORKERS_GOAL}`,
    median(values).toFixed(2),
    `${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)}`,
  ];
  return [
    ['pass-through packets/s', 'at least 5,000,000', ...rate(figures.packetsPerSecond)],
    ['handoffs/s, SYN to IXP', 'at least 250,000', ...rate(figures.handoffsPerSecond)],
    ['handoffs/s, SYN to confirmed', '', ...rate(figures.confirmedPerSecond)],
    [
      `heap growth over ${whole(figures.heapPackets)} packets, bytes`,
      'none',
      whole(figures.heapGrowthBytes),
      '',
    ],
    [
      'session table, bytes per session',
      'at most 148',
      figures.tableBytesPerSession.toFixed(1),
      '',
    ],
    [
      'session table with timers and lists, bytes per session',
      'at most 170',
      figures.enginePerSession.toFixed(1),
      '',
    ],
    [`pass-through packets/s, ${workers.workers} engine threads`, '', ...rate(workers.packets.all)],
    ratio('pass-through', workers.packetRatios),
    [
      `handoffs/s, SYN to IXP, ${workers.workers} engine threads`,
      '',
      ...rate(workers.handoffs.all),
    ],
    ratio('handoffs', workers.handoffRatios),
  ];
}

const figures = measureEngine();
const workers = await measureWorkers();
if (process.argv.includes('--json')) {
  process.stdout.write(`${JSON.stringify({ ...figures, workers })}\n`);
} else {
  const title = `The engine over a capture (get.pcap, ${whole(CONNECTIONS)} clients) in memory, one thread: ${ROUNDS - WARM_UP_ROUNDS} rounds.\n${machine()}`;
  report(title, HEADINGS, rowsOf(figures, workers), ['goal']);
}
