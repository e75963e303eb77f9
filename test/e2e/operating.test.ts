/**
 * Runs docs/operating.md: its commands in their order, on a farm with the machines and addresses
 * that the page uses, and compares what they print with what the page shows.
 *
 * test/support/page.ts has the kinds of blocks, and the rule for what may differ. A command that
 * only reads is repeated until it prints what the page shows, because much of it takes a moment.
 * All others run once. Every command ends with 0, unless the page shows another exit code. A
 * command with `&` runs until the farm ends; the lines that the page shows are in its log, which is
 * read as a terminal would show it. All machines share one working directory.
 */
import { appendFileSync, chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { projectRoot } from '../../lab/farm/baton.js';
import { Farm } from '../../lab/farm/farm.js';
import { findCommand, whyNoFarm } from '../../lab/farm/needs.js';
import type { Program } from '../../lab/farm/process.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';
import { formatLine } from '../../src/base/log.js';
import { type Block, blocksOf, isShown, type Step, stepsOf } from '../support/page.js';

const PAGE = path.join(projectRoot(), 'docs', 'operating.md');
/** The page adds the fourth node while the others work. */
const NODES = 4;

/** Commands that change nothing. */
const READS =
  /^(?:baton (?:stats|sessions|resources|explain|events|config(?! --save)|check)\b|curl (?!.*-X)|tail |cat |ls )/;

class Console {
  private readonly background = new Map<string, Program>();

  constructor(
    private readonly farm: Farm,
    /** Where commands run. */
    private readonly directory: string,
    private readonly bin: string,
  ) {}

  file(name: string): string {
    return path.join(this.directory, name);
  }

  /** Runs a command. Returns what is wrong; undefined: nothing. */
  async run(step: Step): Promise<string | undefined> {
    const host = this.farm.host(step.host);
    const env = { PATH: `${this.bin}:${process.env.PATH}` };
    const inDirectory = `cd '${this.directory}' && exec 2>&1`;
    if (step.background) {
      const name = `page-${step.line}`;
      const line = `${inDirectory} && exec ${step.command}`;
      const program = host.start(name, ['sh', '-c', line], env);
      this.background.set(step.command, program);
      return this.prints(program, step.shown);
    }
    const until = Date.now() + PATIENCE_MS;
    for (;;) {
      const { code, stdout } = await host.run('sh', ['-c', `${inDirectory}\n${step.command}`], {
        env,
        allowFailure: true,
      });
      if (code === step.code && isShown(step.shown, stdout)) return undefined;
      if (!READS.test(step.command) || Date.now() > until)
        return `it printed:\n${stdout}[exit code ${code}]`;
    }
  }

  /** Waits until a command in the background has printed these lines. */
  async output({ detail, lines }: Block): Promise<string | undefined> {
    const program = this.background.get(detail);
    if (program === undefined) return `no command "${detail} &" is before it`;
    return this.prints(program, ['...', ...lines, '...']);
  }

  private async prints(program: Program, shown: readonly string[]): Promise<string | undefined> {
    const said = (): string =>
      program.log(program.logStart).replace(/^\{.*\}$/gm, (line) => formatLine(line).trimEnd());
    return this.farm
      .waitFor(() => isShown([...shown, '...'], said()), 'output')
      .then(() => undefined)
      .catch(() => `it printed:\n${said()}`);
  }
}

/** A directory with `baton`, as `make install` would put it into the PATH. */
function installBaton(farm: Farm): string {
  const bin = path.join(farm.directory, 'bin');
  mkdirSync(bin);
  const baton = path.join(bin, 'baton');
  const program = path.join(projectRoot(), 'bin', 'baton.js');
  writeFileSync(baton, `#!/bin/sh\nexec '${process.execPath}' '${program}' "$@"\n`);
  chmodSync(baton, 0o755);
  return bin;
}

t.setTimeout(FILE_TIMEOUT_MS);

// promtool, where scripts/prometheus.sh has fetched it.
process.env.PATH = `${process.env.PATH}:${path.join(projectRoot(), '.prometheus')}`;

t.test('docs/operating.md is what happens', { skip: whyNoFarm() }, async (t) => {
  const farm = await Farm.create({ nodes: NODES });
  t.teardown(() => farm.stop());
  for (const [index, web] of farm.webs.entries()) {
    web.put('index.html', `from n${index + 1}\n`);
    web.put('images/cat.jpg', `a cat of n${index + 1}\n`);
    web.put('films/one.mp4', `a film of n${index + 1}\n`);
  }
  await farm.startWebs();
  const directory = path.join(farm.directory, 'page');
  mkdirSync(directory, { mode: 0o755 });
  const shell = new Console(farm, directory, installBaton(farm));

  let commands = 0;
  /** Later commands build on earlier ones, so the first one that fails ends the test. */
  const must = (wrong: string | undefined, what: string): void => {
    if (wrong !== undefined) throw new Error(`${what}: ${wrong}`);
    t.pass(what);
  };
  for (const block of blocksOf(readFileSync(PAGE, 'utf8'))) {
    const { kind, detail, line } = block;
    const content = `${block.lines.join('\n')}\n`;
    if (kind === 'write') writeFileSync(shell.file(detail), content);
    else if (kind === 'add') appendFileSync(shell.file(detail), content);
    else if (kind === 'not run') t.comment(`not run, line ${line}: ${detail}`);
    else if (kind === 'output') must(await shell.output(block), `line ${line}: ${detail}`);
    else if (kind === 'console' && detail !== '' && !findCommand(detail))
      t.comment(`not run, line ${line}: needs ${detail}`);
    else if (kind === 'console') {
      for (const step of stepsOf(block)) {
        must(await shell.run(step), `line ${step.line}: ${step.host}: ${step.command}`);
        commands += 1;
      }
    }
  }
  t.ok(commands > 40, `${commands} commands were run`);
});
