/** `baton stats --watch`: when it asks the balancer, and what ends it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { StatsDocument } from '../../src/api/documents.js';
import { ControlApi } from '../../src/api/server.js';
import { BatonError } from '../../src/base/errors.js';
import type { Display } from '../../src/cli/display.js';
import type { Interval } from '../../src/cli/interval.js';
import { watch } from '../../src/cli/watch.js';
import { START, statsAt } from '../support/even-stats.js';

const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));

/** A display that records its calls. */
class Noted implements Display {
  happened: string[] = [];
  began(seconds: number): void {
    this.happened.push(`began ${seconds}`);
  }
  interval(interval: Interval): void {
    this.happened.push(`interval ${interval.seconds}`);
  }
  silent(why: string): void {
    this.happened.push(`silent ${why}`);
  }
  restarted(): void {
    this.happened.push('restarted');
  }
}

/** Gives the answers of a list, then the last one again and again. */
function answering(answers: readonly (StatsDocument | Error)[]): {
  stats(): Promise<StatsDocument>;
} {
  let next = 0;
  return {
    stats: async () => {
      const answer = answers[Math.min(next++, answers.length - 1)];
      if (!(answer instanceof Error) && answer !== undefined) return answer;
      throw answer ?? new Error('nothing to answer');
    },
  };
}

const absent = new BatonError('BATON_CONTROL', 'no balancer is running there', {
  where: 'control socket s',
});
const never = new AbortController().signal;

const warnings: string[] = [];
process.on('warning', (warning) => warnings.push(warning.message));

t.test('a watch continues after a restart', async (t) => {
  const display = new Noted();
  const anew = { startedAt: START + 60_000 };
  const answers = [
    ...[statsAt(1), statsAt(2), absent, absent],
    ...[statsAt(1, anew), statsAt(2, anew), absent, statsAt(4, anew)],
  ];
  await watch(answering(answers), { seconds: 0.01, count: 3 }, display, never);
  t.same(display.happened, [
    'began 0.01',
    'interval 1',
    'silent no balancer is running there',
    'silent no balancer is running there',
    'restarted',
    'interval 1',
    'silent no balancer is running there',
    'interval 2',
  ]);
});

t.test('a balancer that answers more slowly than the interval', async (t) => {
  const client = answering([1, 2, 3, 4].map((second) => statsAt(second)));
  const late = {
    stats: async () => {
      await sleep(20);
      return client.stats();
    },
  };
  const display = new Noted();
  await watch(late, { seconds: 0.001, count: 3 }, display, never);
  t.equal(display.happened.length, 4, display.happened.join());
  // Node.js 24 warns once on standard error about a timer that was already due.
  await sleep(0);
  t.same(warnings, []);
});

t.test('a balancer that does not come back ends the watch', async (t) => {
  const display = new Noted();
  const gone = watch(
    answering([statsAt(1), absent]),
    { seconds: 0.02, goneMs: 100 },
    display,
    never,
  );
  await t.rejects(gone, {
    code: 'BATON_CONTROL',
    message: /^the balancer has not answered for 0 s: no balancer is running there$/,
    where: 'control socket s',
  });
  t.ok(display.happened.length > 2);
  await t.rejects(watch(answering([absent]), { seconds: 1 }, new Noted(), never), {
    message: 'no balancer is running there',
  });
  const denied = new BatonError('BATON_PRIVILEGE', 'permission denied');
  await t.rejects(watch(answering([statsAt(1), denied]), { seconds: 0.01 }, new Noted(), never), {
    code: 'BATON_PRIVILEGE',
  });
});

t.test('a stop ends the watch at once, in any wait', async (t) => {
  for (const answers of [[statsAt(1)], [statsAt(1), statsAt(2), statsAt(3)]]) {
    const ending = new AbortController();
    const display = new Noted();
    const watching = watch(answering(answers), { seconds: 3_600 }, display, ending.signal);
    setTimeout(() => ending.abort(), 20);
    await watching;
    t.same(display.happened, ['began 3600']);
  }
  const ending = new AbortController();
  const hanging = watch(
    { stats: () => new Promise(() => {}) },
    { seconds: 0.01 },
    new Noted(),
    ending.signal,
  );
  ending.abort();
  await hanging;
});

const directory = mkdtempSync(join(tmpdir(), 'baton-watch-'));
t.teardown(() => rmSync(directory, { recursive: true }));

/** A control socket of a balancer with constant rates. */
async function balancer(): Promise<{ socket: string; stop(): Promise<void> }> {
  const socket = join(directory, 'watch.sock');
  const startedAt = Date.now();
  const api = new ControlApi({
    stats: async () => statsAt((Date.now() - startedAt) / 1_000 + 10, { startedAt }),
    sessions: async () => ({ sessions: [], total: 0, next: null }),
  });
  await api.start(socket);
  return { socket, stop: () => api.stop() };
}

class Command {
  out = '';
  errors = '';
  readonly child: ChildProcess;
  readonly closed: Promise<unknown[]>;
  constructor(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
    this.child = spawn(program, args, {
      env: { ...process.env, BATON_DEBUG: '', NO_COLOR: '', ...env },
    });
    this.child.stdout?.on('data', (chunk: Buffer) => {
      this.out += chunk;
    });
    this.child.stderr?.on('data', (chunk: Buffer) => {
      this.errors += chunk;
    });
    this.closed = once(this.child, 'close');
  }
  async until(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.out)) {
      if (this.child.exitCode !== null) throw new Error(`ended: ${this.out}${this.errors}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  async code(): Promise<unknown> {
    return (await this.closed)[0];
  }
}

t.test('the command without a terminal', async (t) => {
  const { socket, stop } = await balancer();
  t.teardown(stop);
  const asked = ['stats', '--socket', socket];

  const json = new Command(process.execPath, [
    MAIN,
    ...asked,
    '--watch',
    '0.2',
    '--count',
    '3',
    '--json',
  ]);
  t.equal(await json.code(), 0, json.errors);
  const documents = json.out
    .trim()
    .split('\n')
    .map((line): Interval => JSON.parse(line));
  t.equal(documents.length, 3);
  for (const document of documents) {
    t.ok(Math.abs(document.packets.in - 5_000) < 1, `${document.packets.in}`);
  }

  const text = new Command(process.execPath, [MAIN, ...asked, '--watch', '0.2']);
  await text.until(/PACKETS IN[\s\S]*\n\n[\s\S]*PACKETS IN/);
  text.child.kill('SIGINT');
  t.equal(await text.code(), 0);
  t.notOk(text.out.includes('\x1b'), 'no escape sequences');
  t.equal(text.errors, '');

  const once = new Command(process.execPath, [MAIN, ...asked, '--count', '1']);
  t.equal(await once.code(), 0);
  t.match(once.out, /over the last [1-9]\d*\.\d s/, '--count alone watches every second');

  const bad = new Command(process.execPath, [MAIN, ...asked, '--watch', '0']);
  t.equal(await bad.code(), 1);
  t.match(bad.errors, /argument '0' is invalid. Expected a number of seconds from 0.1 to 86400/);
});

t.test(
  'the command on a terminal',
  { skip: existsSync('/usr/bin/script') ? false : 'no /usr/bin/script' },
  async (t) => {
    const { socket, stop } = await balancer();
    t.teardown(stop);
    const command = `stty rows 50 columns 100; exec ${process.execPath} ${MAIN} stats --socket ${socket} --watch 0.2`;
    const terminal = new Command('/usr/bin/script', ['-qec', command, '/dev/null'], {
      TERM: 'xterm',
    });
    await terminal.until(/\[H20[\s\S]*PACKETS IN[\s\S]*\[H20[\s\S]*PACKETS IN/);
    t.equal(terminal.out.split('\x1b[2J').length, 2, 'the screen is cleared once');
    t.ok(terminal.out.includes('\x1b[2mdrop_ixcp_tag'), 'a counter that does not grow is dimmed');
    terminal.child.stdin?.write('\x03');
    t.equal(await terminal.code(), 0, 'Ctrl-C');
  },
);
