/**
 * What the access log costs an engine thread: connections of a capture in memory, from SYN to RST,
 * with the log off and on in turn. Also what the log thread does with their records. Part of
 * `make bench-replay`; alone:
 *
 *     node --expose-gc dist/bench/replay/access-log.bench.js
 */
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { formatLine } from '../../src/balancer/access-log/format.js';
import { Joiner } from '../../src/balancer/access-log/joiner.js';
import { LineBuffer } from '../../src/balancer/access-log/line-buffer.js';
import { LogFile } from '../../src/balancer/access-log/log-file.js';
import { AccessRecorder } from '../../src/balancer/access-log/recorder.js';
import { ringMemory } from '../../src/balancer/access-log/records.js';
import { type RecordSink, RingReader } from '../../src/balancer/access-log/ring-reader.js';
import { joinObservers } from '../../src/engine/observers.js';
import type { Observer } from '../../src/engine/options.js';
import { machine, median, report } from '../report.js';
import { Run } from './run.js';

const CONNECTIONS = 20_000;
/** Rounds with the log off, and as many with it on. */
const ROUNDS = 15;
/** Code is compiled in the first rounds, so they do not count. */
const WARM_UP_ROUNDS = 4;
const GOAL_MICROSECONDS = 3;
/** Room for all requests of a round. */
const RING_BYTES = 32 * 1024 * 1024;

/** Makes lines of records, as the log thread does. */
class Lines {
  written = 0;
  readonly sink: RecordSink;
  private readonly buffer: LineBuffer;

  constructor(file: string) {
    this.buffer = new LineBuffer(LogFile.open(file), {
      written: (lines) => {
        this.written += lines;
      },
      lost: () => {},
      warn: () => {},
      info: () => {},
      now: () => 0,
    });
    const joiner = new Joiner((line) => this.buffer.add(formatLine(line, 'json')));
    joiner.setTime(Date.now(), performance.now());
    this.sink = joiner.sink(0);
  }

  close(): void {
    this.buffer.close();
  }
}

/** CPU time of work, in us: what else the machine does changes it little. */
function processorTime(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

interface Round {
  /** CPU time of one session, in us. */
  time: number;
  /** What one session allocates on the heap, in bytes. */
  heap: number;
  /** CPU time of the log thread for one session, from the records to the file, in us. */
  logThread: number;
}

/** What a browser sends besides the fields of the capture. */
const BROWSER_FIELDS = [
  'Referer: https://www.example.org/shop/articles/section34/?sort=price',
  'Accept-Language: en-GB,en;q=0.5',
  'Accept-Encoding: gzip, deflate, br, zstd',
  'Connection: keep-alive',
  `Cookie: session=${'5d41402abc4b2a76'.repeat(16)}; seen=1`,
  'Upgrade-Insecure-Requests: 1',
  'Priority: u=0, i',
]
  .map((line) => `${line}\r\n`)
  .join('');

class Bench {
  readonly rounds: { off: Round; on: Round }[] = [];
  private readonly run: Run;
  private readonly memory = ringMemory(RING_BYTES);
  private readonly reader = new RingReader(this.memory);
  private readonly recorder: Observer;
  private readonly file = path.join(tmpdir(), `baton-access-log-${process.pid}`);

  constructor(fields: string) {
    this.run = new Run(CONNECTIONS, undefined, fields);
    this.recorder = joinObservers([new AccessRecorder(this.memory, this.run.engine.sessions)]);
  }

  measure(): void {
    for (let index = 0; index < WARM_UP_ROUNDS + ROUNDS; index++) {
      // Neither is always the first.
      const first = this.round(index % 2 === 0);
      const second = this.round(index % 2 !== 0);
      const pair = index % 2 === 0 ? { on: first, off: second } : { on: second, off: first };
      if (index >= WARM_UP_ROUNDS) this.rounds.push(pair);
    }
  }

  private round(on: boolean): Round {
    const { gc } = globalThis;
    if (gc === undefined) throw new Error('needs node --expose-gc');
    const { run, reader } = this;
    const { syn, ack, request } = run.layOutClients();
    const lines = new Lines(this.file);
    run.engine.setObserver(on ? this.recorder : {});
    gc();
    const before = process.memoryUsage().heapUsed;
    const handing = processorTime(() => run.feed(syn, ack, request));
    const heap = process.memoryUsage().heapUsed - before;
    const requests = processorTime(() => reader.drain(lines.sink));
    const adopted = run.layOutAdopted();
    const confirming = processorTime(() => run.feed(adopted));
    const ending = processorTime(() => run.finish());
    const ends = processorTime(() => {
      reader.drain(lines.sink);
      lines.close();
    });
    rmSync(this.file);
    if (reader.takeLost() > 0 || lines.written !== (on ? CONNECTIONS : 0))
      throw new Error('a session was not recorded');
    return {
      time: (handing + confirming + ending) / CONNECTIONS,
      heap: heap / CONNECTIONS,
      logThread: (requests + ends) / CONNECTIONS,
    };
  }
}

function rowsOf(what: string, rounds: readonly { off: Round; on: Round }[]): string[][] {
  const row = (name: string, goal: string, values: readonly number[]): string[] => {
    const range = `${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)}`;
    return [`${what}: ${name}`, goal, median(values).toFixed(2), range];
  };
  const off = rounds.map((round) => round.off);
  const on = rounds.map((round) => round.on);
  return [
    row(
      'us a session, log off',
      '',
      off.map(({ time }) => time),
    ),
    row(
      'us a session, log on',
      '',
      on.map(({ time }) => time),
    ),
    row(
      'cost of the log, us a session',
      `at most ${GOAL_MICROSECONDS}`,
      rounds.map((round) => round.on.time - round.off.time),
    ),
    row(
      'heap until the handoff, bytes a session, log off',
      '',
      off.map(({ heap }) => heap),
    ),
    row(
      'heap until the handoff, bytes a session, log on',
      'as off',
      on.map(({ heap }) => heap),
    ),
    row(
      'log thread, us a session, JSON',
      '',
      on.map(({ logThread }) => logThread),
    ),
  ];
}

const rows = [
  ['curl', ''],
  ['browser', BROWSER_FIELDS],
].flatMap(([what = '', fields = '']) => {
  const bench = new Bench(fields);
  bench.measure();
  return rowsOf(what, bench.rounds);
});
const title = `The access log on an engine thread (get.pcap, ${CONNECTIONS} clients): ${ROUNDS} rounds with the log off and on in turn.\n${machine()}`;
report(title, ['what', 'goal', 'median', 'range'], rows, ['goal']);
