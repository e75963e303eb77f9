/**
 * Runs the tests: `make test`, or with paths as arguments only those (`make test TESTS=test/wire`).
 *
 * Each compiled test file runs as a program of its own under plain node. tap's own runner would
 * preload its hooks into every child, the balancers and agents under test among them; what is
 * tested here is what is installed.
 *
 * Files that make network namespaces or load BPF programs run one at a time, those that only compute beside them;
 * then end to end tests, once for each datapath: the quiet ones two at a time, and after them the others, each of
 * which has the machine to itself. The last line is `N passed, N failed`, counted in assertions; every skip is
 * printed with its reason.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type FinalResults, Parser, type Result } from 'tap-parser';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** Of one file, in ms. */
const FILE_TIMEOUT_MS = 240_000;
/** Directories whose tests share what the machine has only once. */
const ALONE = ['test/kernel', 'test/node', 'test/base/host'];
const END_TO_END = 'test/e2e/';

/** End to end tests run once on each of them: test/support/farm.ts reads BATON_DATAPATH. */
const DATAPATHS = ['packet', 'xdp'];
/** But for these, for which it makes no difference or which choose by themselves: they run on the last. */
const ONCE = ['test/e2e/datapath.test.ts', 'test/e2e/farm.test.ts', 'test/e2e/watch.test.ts'];

/**
 * End to end tests that mostly wait, for programs to start and end, and assert nothing about how long a request
 * takes: they do not disturb each other. (A download of node-interface.test.ts has to last longer than a start.) Farms share nothing; but test/e2e/farm.test.ts leaves one
 * behind that any other would take down.
 */
const QUIET = ['datapath', 'node-interface', 'operator', 'watch'].map(
  (name) => `${END_TO_END}${name}.test.ts`,
);
const QUIET_AT_ONCE = 2;

/** One test file, on one datapath. */
interface Run {
  file: string;
  datapath: string | undefined;
}

interface FileResult {
  file: string;
  passed: number;
  failures: string[];
  skips: string[];
  seconds: number;
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
  const datapaths = process.env.BATON_DATAPATH === undefined ? DATAPATHS : [process.env.BATON_DATAPATH];
  const of = (file: string): readonly (string | undefined)[] => {
    if (!file.startsWith(END_TO_END)) return [undefined];
    return ONCE.includes(file) ? datapaths.slice(-1) : datapaths;
  };
  return files.flatMap((file) => of(file).map((datapath) => ({ file, datapath })));
}

function runFile({ file, datapath }: Run): Promise<FileResult> {
  const compiled = path.join(ROOT, 'dist', file.replace(/\.ts$/, '.js'));
  const name = datapath === undefined ? file : `${file} on ${datapath}`;
  const result: FileResult = { file: name, passed: 0, failures: [], skips: [], seconds: 0 };
  if (!existsSync(compiled) || statSync(compiled).size === 0) {
    result.failures.push('is not compiled');
    return Promise.resolve(result);
  }
  return new Promise((resolve) => {
    const began = Date.now();
    const child = spawn(process.execPath, ['--enable-source-maps', compiled], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: datapath === undefined ? process.env : { ...process.env, BATON_DATAPATH: datapath },
    });
    let errors = '';
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      // First politely: a test that has made namespaces takes them down.
      child.kill('SIGTERM');
      setTimeout(() => child.kill('SIGKILL'), 5000).unref();
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
      if (late) {
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
        result.skips.push(final.plan.skipReason || 'all of it');
      }
      results = final;
      finish();
    });
    child.on('close', (code, signal) => {
      exit = { code, signal };
      finish();
    });
  });
}

/**
 * Counts the assertions of a test and of the tests inside it. The line that closes an inner test only
 * repeats what was counted inside, unless that test failed for a reason of its own: an exception, a
 * timeout, a plan not kept.
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
  const place = at as { fileName?: string; lineNumber?: number } | undefined;
  if (place?.fileName !== undefined) {
    lines.push(`at ${place.fileName}:${place.lineNumber}`);
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
    console.log(`       ${failure.replaceAll('\n', '\n         ')}`);
  }
}

async function runAll(runs: readonly Run[], jobs: number, into: FileResult[]): Promise<void> {
  const waiting = [...runs];
  const worker = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const result = await runFile(next);
      into.push(result);
      print(result);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
}

const files = testFiles(process.argv.slice(2));
const runs = runsOf(files);
const endToEnd = ({ file }: Run): boolean => file.startsWith(END_TO_END);
const quiet = ({ file }: Run): boolean => QUIET.includes(file);
const alone = ({ file }: Run): boolean => ALONE.some((directory) => file.startsWith(`${directory}/`));
const results: FileResult[] = [];
const began = Date.now();
await Promise.all([
  runAll(runs.filter(alone), 1, results),
  runAll(
    runs.filter((run) => !alone(run) && !endToEnd(run)),
    Math.max(1, Math.min(3, availableParallelism() - 1)),
    results,
  ),
]);
await runAll(runs.filter(quiet), Math.min(QUIET_AT_ONCE, availableParallelism()), results);
await runAll(
  runs.filter((run) => endToEnd(run) && !quiet(run)),
  1,
  results,
);

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
console.log(`\n${results.length} runs of ${files.length} files, ${skips.length} skipped, ${seconds} s`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
