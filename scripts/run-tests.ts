/**
 * Runs the tests: all (`make test`), those below the paths in the arguments
 * (`make test TESTS=test/wire`), or with --unit those that need neither root nor network namespaces
 * (`make test-unit`).
 *
 * Each compiled test file runs as a program of its own under plain node. tap's own runner would
 * preload its hooks into every child process, balancers and agents under test included; tests must
 * run the program that gets installed.
 *
 * Several files run at the same time. One worker begins with files that only compute, the others
 * with files that make network namespaces or load BPF programs, which mostly wait. End-to-end tests
 * run once on each datapath, some of them twice. Files that need the whole machine run last, one by
 * one. The last line is `N passed, N failed`, counted in assertions. Every skip is printed with its
 * reason.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type FinalResults, Parser, type Result } from 'tap-parser';
import { FILE_TIMEOUT_MS } from '../lab/patience.js';
import { OriginalPlaces } from './original-places.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const END_TO_END = 'test/e2e/';
/** Tests that need root: they make network namespaces or interfaces, or load BPF programs. */
const IN_NAMESPACES = [
  END_TO_END,
  'test/kernel/',
  'test/host/interfaces.test.ts',
  'test/host/journal/journal.test.ts',
];

/** End-to-end tests run once on each: lab/farm/configs.ts reads BATON_DATAPATH. */
const DATAPATHS = ['packet', 'xdp'];
const endToEnd = (names: readonly string[]): string[] =>
  names.map((name) => `${END_TO_END}${name}.test.ts`);
/** These run on the last datapath only: it makes no difference to them, or they choose it. */
const ONCE = endToEnd([
  ...['datapath', 'farm', 'framing', 'old-kernel', 'operating', 'operator', 'watch'],
]);
/**
 * A flood leaves too little of the machine for other tests. And farm.test.ts leaves a farm behind,
 * which any other test with a farm would take down.
 */
const ALONE = endToEnd(['farm', 'flood']);
/** The longest files begin first. */
const LONG = [
  ...endToEnd([
    'node-interface-life',
    'node-interface',
    'restart',
    'forward',
    'operator',
    'datapath',
    'watch',
  ]),
  'test/sim/kept-alive.test.ts',
  'test/sim/simulation.test.ts',
  'test/api/remote.test.ts',
  'test/engine/uptimes.test.ts',
  'test/balancer/threads/engine-handle.test.ts',
  'test/balancer/objects/config-thread.test.ts',
  'test/cli/cli.test.ts',
  'test/fuzz/shim.test.ts',
  'test/cli/watch.test.ts',
  'test/api/server.test.ts',
  'test/balancer/objects/changes.test.ts',
];

/** Files that run at the same time: they wait more than they compute. */
const AT_ONCE = Math.max(2, Math.min(4, availableParallelism() + 1));

const places = new OriginalPlaces(ROOT);

/** These run once more on each datapath, with nodes that replay handshakes (BATON_HANDOFF). */
const REPLAYED = endToEnd(['content', 'failures', 'retry', 'standstill']);

/** One test file, on one datapath. */
interface Run {
  file: string;
  datapath: string | undefined;
  /** How nodes take connections; undefined: as by default. */
  handoff?: string;
}

interface FileResult {
  file: string;
  passed: number;
  failures: string[];
  skips: string[];
  seconds: number;
}

/** Signals a test file and its children: each file is a process group of its own. */
function end(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, signal);
  } catch {
    // it has just ended
  }
}

/**
 * Running files. A signal to the runner is passed on to them, so that they take their farms down.
 */
const running = new Set<ChildProcess>();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    for (const child of running) end(child, 'SIGTERM');
    console.log(`\nended by ${signal}`);
    process.exit(1);
  });
}

function testFiles(wanted: readonly string[]): string[] {
  const all = readdirSync(path.join(ROOT, 'test'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => path.join('test', name))
    .sort();
  const under = (file: string): boolean => wanted.some((prefix) => file.startsWith(prefix));
  return wanted.length === 0 ? all : all.filter(under);
}

function runsOf(files: readonly string[]): Run[] {
  const datapaths =
    process.env.BATON_DATAPATH === undefined ? DATAPATHS : [process.env.BATON_DATAPATH];
  const of = (file: string): readonly (string | undefined)[] => {
    if (!file.startsWith(END_TO_END)) return [undefined];
    return ONCE.includes(file) ? datapaths.slice(-1) : datapaths;
  };
  return files.flatMap((file) =>
    of(file).flatMap((datapath) => [
      { file, datapath },
      ...(REPLAYED.includes(file) ? [{ file, datapath, handoff: 'replay' }] : []),
    ]),
  );
}

function runFile({ file, datapath, handoff }: Run): Promise<FileResult> {
  const compiled = path.join(ROOT, 'dist', file.replace(/\.ts$/, '.js'));
  const on = datapath === undefined ? file : `${file} on ${datapath}`;
  const name = handoff === undefined ? on : `${on} with ${handoff}`;
  const result: FileResult = { file: name, passed: 0, failures: [], skips: [], seconds: 0 };
  if (!existsSync(compiled) || statSync(compiled).size === 0) {
    result.failures.push('is not compiled');
    return Promise.resolve(result);
  }
  return new Promise((resolve) => {
    const began = Date.now();
    const child = spawn(process.execPath, [compiled], {
      cwd: ROOT,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        ...(datapath === undefined ? {} : { BATON_DATAPATH: datapath }),
        ...(handoff === undefined ? {} : { BATON_HANDOFF: handoff }),
        // Many short processes load the same modules: the first one compiles them for all.
        NODE_COMPILE_CACHE: path.join(ROOT, 'build/compile-cache'),
        // The whole suite simulates more; another number may be given.
        SIM_CONNECTIONS: process.env.SIM_CONNECTIONS ?? (unit ? '1000' : '20000'),
        TAP_TIMEOUT: String(FILE_TIMEOUT_MS / 1000),
      },
    });
    running.add(child);
    let errors = '';
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      // SIGTERM first: a test that has made namespaces takes them down.
      end(child, 'SIGTERM');
      setTimeout(() => end(child, 'SIGKILL'), 5000).unref();
    }, FILE_TIMEOUT_MS);
    const parser = new Parser();
    follow(parser, '', result);
    child.stdout.pipe(parser);
    child.stderr.on('data', (chunk: Buffer) => {
      errors = (errors + chunk.toString()).slice(-4000);
    });
    let results: FinalResults | undefined;
    let exit: { code: number | null; signal: string | null } | undefined;
    const finish = (): void => {
      if (results === undefined || exit === undefined) {
        return;
      }
      clearTimeout(timer);
      result.seconds = (Date.now() - began) / 1000;
      if (timedOut) {
        result.failures.push(`was still running after ${FILE_TIMEOUT_MS / 1000} s`);
      } else if (result.failures.length === 0 && (!results.ok || exit.code !== 0)) {
        const how = exit.signal === null ? `exit code ${exit.code}` : exit.signal;
        result.failures.push(`ended with ${how}${errors === '' ? '' : `:\n${errors}`}`);
      } else if (result.failures.length > 0 && errors !== '') {
        result.failures[0] += `\n(error output)\n${errors.slice(-1500)}`;
      }
      resolve(result);
    };
    parser.on('complete', (final: FinalResults) => {
      if (final.plan.skipAll && final.ok) {
        result.skips.push(final.plan.skipReason || 'the whole file');
      }
      results = final;
      finish();
    });
    child.on('close', (code, signal) => {
      running.delete(child);
      exit = { code, signal };
      finish();
    });
  });
}

/**
 * Counts the assertions of a test and of the tests inside it. The line that closes an inner test is
 * not counted again, unless that test failed for a reason of its own: an exception, a timeout, a
 * plan not kept.
 */
function follow(parser: Parser, prefix: string, result: FileResult): void {
  let inside: { failures: number } | undefined;
  parser.on('child', (child: Parser) => {
    inside = { failures: result.failures.length };
    follow(child, `${prefix}${child.name} > `, result);
  });
  parser.on('assert', (assert: Result) => {
    const closing = inside;
    inside = undefined;
    const name = `${prefix}${assert.name}`;
    if (assert.skip !== false) {
      result.skips.push(`${name}${assert.skip === true ? '' : `: ${assert.skip}`}`);
    } else if (assert.todo !== false) {
      result.skips.push(`${name}: to do`);
    } else if (assert.ok) {
      result.passed += closing === undefined ? 1 : 0;
    } else if (closing === undefined || result.failures.length === closing.failures) {
      result.failures.push(`${name}${describe(assert.diag)}`);
    }
  });
}

function describe(diag: unknown): string {
  if (typeof diag !== 'object' || diag === null) {
    return '';
  }
  const { at, stack, diff, message, found, wanted } = diag as Record<string, unknown>;
  const lines: string[] = [];
  const place = at as { fileName?: string; lineNumber?: number; columnNumber?: number } | undefined;
  if (place?.fileName !== undefined) {
    lines.push(`at ${place.fileName}:${place.lineNumber}:${place.columnNumber}`);
  } else if (typeof stack === 'string') {
    lines.push(stack.trim());
  }
  for (const text of [message, diff]) {
    if (typeof text === 'string') {
      lines.push(text.trim());
    }
  }
  if (diff === undefined && (found !== undefined || wanted !== undefined)) {
    lines.push(`found ${JSON.stringify(found)}, wanted ${JSON.stringify(wanted)}`);
  }
  return lines.length === 0 ? '' : `\n${lines.join('\n')}`;
}

function print(result: FileResult): void {
  const word = result.failures.length === 0 ? 'ok  ' : 'FAIL';
  const figures = `${String(result.passed).padStart(6)} passed  ${result.seconds.toFixed(1).padStart(6)} s`;
  console.log(`${word} ${result.file.padEnd(48)} ${figures}`);
  for (const failure of result.failures) {
    console.log(`       ${places.in(failure).replaceAll('\n', '\n         ')}`);
  }
}

/** Runs all lists. Each worker takes the next file from its first list that is not empty. */
function runAll(workers: readonly (readonly Run[][])[], into: FileResult[]): Promise<unknown> {
  const work = async (lists: readonly Run[][]): Promise<void> => {
    for (;;) {
      const next = lists.find((list) => list.length > 0)?.shift();
      if (next === undefined) return;
      const result = await runFile(next);
      into.push(result);
      print(result);
    }
  };
  return Promise.all(workers.map(work));
}

/** Sorts the files of LONG to the front; the others stay in the order of their names. */
function longestFirst(list: Run[]): Run[] {
  const rank = ({ file }: Run): number => (LONG.includes(file) ? LONG.indexOf(file) : LONG.length);
  return list.sort((a, b) => rank(a) - rank(b));
}

const inNamespaces = (file: string): boolean =>
  IN_NAMESPACES.some((prefix) => file.startsWith(prefix));
const wanted = process.argv.slice(2);
const unit = wanted.includes('--unit');
const files = testFiles(wanted.filter((argument) => argument !== '--unit')).filter(
  (file) => !unit || !inNamespaces(file),
);
const runs = runsOf(files);
const results: FileResult[] = [];
const began = Date.now();
const last = runs.filter(({ file }) => ALONE.includes(file));
const others = runs.filter((run) => !last.includes(run));
const waiting = longestFirst(others.filter(({ file }) => inNamespaces(file)));
const computing = longestFirst(others.filter(({ file }) => !inNamespaces(file)));
await runAll(
  Array.from({ length: AT_ONCE }, (_, index) =>
    index === 0 ? [computing, waiting] : [waiting, computing],
  ),
  results,
);
await runAll([[last]], results);

const skips = results.flatMap((result) => result.skips.map((skip) => `${result.file}: ${skip}`));
if (skips.length > 0) {
  console.log('\nSkipped:');
  for (const skip of skips) {
    console.log(`  ${skip}`);
  }
}
const passed = results.reduce((sum, result) => sum + result.passed, 0);
const failed = results.reduce((sum, result) => sum + result.failures.length, 0);
const seconds = Math.round((Date.now() - began) / 1000);
console.log(
  `\n${results.length} runs of ${files.length} files, ${skips.length} skipped, ${seconds} s`,
);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
