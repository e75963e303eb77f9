/**
 * Writes docs/benchmarks-more.md: the tables of the benchmarks that do not belong to bench/farm.
 * Each of them keeps its own last run in bench/results/, and the page shows all of these.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { projectRoot } from '../lab/farm/baton.js';
import { machineOf, versionsOf } from './farm/machine.js';
import { writeInTree } from './farm/results.js';
import { markdownTable, report, wrapMarkdown } from './report.js';

export const PAGE = 'docs/benchmarks-more.md';

export interface PageTable {
  title: string;
  headings: readonly string[];
  rows: readonly (readonly string[])[];
}

/** What a benchmark has measured. */
export interface BenchRun {
  startedAt: string;
  /** Rounds and their length, in words. */
  length: string;
  machine: Record<string, string>;
  versions: Record<string, string>;
  tables: readonly PageTable[];
}

/** In the order of the page. */
const SECTIONS = {
  moving: {
    title: 'Kept-alive requests that move',
    about: `\`sudo make bench-moving\`. wrk sends requests of 1 KB answers on 8 kept-alive
connections, to two paths in turn. With \`keepAlive: migrate\`, Baton hands the connection to the
other node for each request whose path is there. Next to it: HAProxy, tuned as on the [first
page](benchmarks.md#a-farm), which routes the same requests by path. The tax is the CPU time of the
whole machine per request, client and nodes included, above that of a client which asks a node
directly. Goals: at most 0.35 of HAProxy's tax where each request moves, and 0.15 where none does.`,
  },
  answers: {
    title: 'Answers of the balancer itself',
    about: `\`sudo make bench-answers\`. wrk asks on 32 connections, with a new one for each
request, for a path that no resource has. Baton answers with 404, and HAProxy answers the same bytes
with \`http-request return\`. CPU is the time of the whole machine per answer, client included. Goal:
at most 0.70 of HAProxy's.`,
  },
  handoff: {
    title: 'Adopt and replay',
    about: `\`sudo make bench-handoff\`. One farm has a node that adopts its connections, one that
gets them by replay of the handshake (\`handoff: replay\`), and one without Baton, which the client
and stock HAProxy ask. wrk opens 32 connections at a time, each for one answer of 1 KB, so
connections/s are handoffs/s. The tax is the CPU time of the whole machine per connection, client
and nodes included, above that of a client which asks a node directly. The first byte is measured
without other load, from connect() on. The downloads are from one node with \`handoff: replay\`,
without offloads: directly and through Baton in turns.`,
  },
  forward: {
    title: 'Small packets through mode forward',
    about: `\`sudo make bench-forward\`. The set-up is that of the [small packets on the first
page](benchmarks.md#small-packets): a generator and a forwarder on one wire, bare ACKs of 60 bytes,
all flows in turn. The share is that of a program which only swaps MAC addresses, in the same run.
Goal: at least 0.85.`,
  },
} as const;

export type BenchName = keyof typeof SECTIONS;

const NAMES = Object.keys(SECTIONS) as BenchName[];

const listed = (values: Record<string, string>): string =>
  Object.entries(values)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');

function sectionOf(name: BenchName, run: BenchRun): string {
  const { title, about } = SECTIONS[name];
  const tables = run.tables.map(
    ({ title: of, headings, rows }) => `### ${of}\n\n${markdownTable(headings, rows)}`,
  );
  const facts = `- **Run**: ${run.startedAt.slice(0, 10)}; ${run.length}.
- **Machine**: ${listed(run.machine)}.
- **Versions**: ${listed(run.versions)}.`;
  return [`## ${title}`, about, facts, ...tables].join('\n\n');
}

/** Returns the whole page. A benchmark that has not been run has no section. */
export function pageOf(runs: Partial<Record<BenchName, BenchRun>>): string {
  const intro = `# More benchmarks

Each section is written by a benchmark of its own (bench/page.ts), while the [first
page](benchmarks.md) comes from \`sudo make bench\`. Run nothing else on the machine during a run.
Machines differ: ratios say more than figures. BENCH_ROUNDS and BENCH_SECONDS change the length, and
\`ARGS=--no-write\` leaves this page as it is.`;
  const sections = NAMES.flatMap((name) => {
    const run = runs[name];
    return run === undefined ? [] : [sectionOf(name, run)];
  });
  return `${[intro, ...sections].map(wrapMarkdown).join('\n\n')}\n`;
}

const fileOf = (name: BenchName): string => `bench/results/${name}.json`;

/** The last run of each benchmark. */
export function savedRuns(): Partial<Record<BenchName, BenchRun>> {
  const files = NAMES.map((name) => [name, path.join(projectRoot(), fileOf(name))] as const);
  return Object.fromEntries(
    files
      .filter(([, file]) => existsSync(file))
      .map(([name, file]) => [name, JSON.parse(readFileSync(file, 'utf8')) as BenchRun]),
  );
}

/**
 * Prints the tables, and writes results and page unless the process has the argument --no-write.
 */
export async function publish(
  name: BenchName,
  run: Pick<BenchRun, 'length' | 'tables'>,
): Promise<void> {
  for (const { title, headings, rows } of run.tables)
    report(title, headings, rows, [], { markdown: false });
  if (process.argv.includes('--no-write')) return;
  const whole: BenchRun = {
    startedAt: new Date().toISOString(),
    machine: machineOf(),
    versions: await versionsOf(),
    ...run,
  };
  writeInTree(fileOf(name), `${JSON.stringify(whole, undefined, 1)}\n`);
  writeInTree(PAGE, pageOf(savedRuns()));
}
