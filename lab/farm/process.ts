/**
 * Programs: `run` for short ones whose output matters, `Program` for long ones whose log matters.
 * No shell is involved; arguments are passed as they are.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { PATIENCE_MS } from '../patience.js';

/** The distribution's interpreter, for short programs that need sockets Node does not have. */
export const PYTHON = '/usr/bin/python3';

export interface RunOptions {
  /** Written to the program's standard input, which is then closed. */
  input?: string | Uint8Array;
  /** After this time, in ms, the program is killed and the run has failed. */
  timeoutMs?: number;
  env?: Record<string, string>;
  /** Resolve with the exit code instead of rejecting when it is not 0. */
  allowFailure?: boolean;
}

export interface RunResult {
  /** Exit code, or -1 when a signal ended the program. */
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end. Rejects with its error output when it fails, unless allowed. */
export function run(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C', ...options.env },
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    let timedOut = false;
    const limit = options.timeoutMs ?? PATIENCE_MS;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill('SIGKILL');
    }, limit);
    child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => err.push(chunk));
    child.stdin?.on('error', () => {}); // the program may end before it has read everything
    child.stdin?.end(options.input);
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      const result = {
        code: code ?? -1,
        stdout: Buffer.concat(out).toString(),
        stderr: Buffer.concat(err).toString(),
      };
      if (result.code === 0 || (options.allowFailure === true && !timedOut)) {
        resolve(result);
        return;
      }
      const why = timedOut ? `was still running after ${limit} ms` : `ended with ${result.code}`;
      reject(
        new Error(`${[command, ...args].join(' ')} ${why}: ${result.stderr || result.stdout}`),
      );
    });
  });
}

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/**
 * When a process started, in clock ticks since boot. With the pid it identifies a process for ever.
 */
export function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name may contain anything, so fields are counted from the last parenthesis: the state is
    // field 3.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/** A long-running program in its own process group. All its output goes to one log file. */
export class Program {
  readonly name: string;
  readonly pid: number;
  readonly logFile: string;
  /** Bytes that the log held before this program started. */
  readonly logStart: number;
  readonly exited: Promise<Exit>;
  private readonly child: ChildProcess;
  private ended = false;

  private constructor(
    name: string,
    child: ChildProcess,
    pid: number,
    logFile: string,
    logStart: number,
  ) {
    this.name = name;
    this.child = child;
    this.pid = pid;
    this.logFile = logFile;
    this.logStart = logStart;
    this.exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.ended = true;
        resolve({ code, signal });
      });
    });
  }

  static start(
    name: string,
    argv: readonly string[],
    logFile: string,
    env: Record<string, string> = {},
  ): Program {
    const log = openSync(logFile, 'a');
    const logStart = fstatSync(log).size;
    try {
      const child = spawn(argv[0] ?? '', argv.slice(1), {
        stdio: ['ignore', log, log],
        detached: true,
        env: { ...process.env, LC_ALL: 'C', ...env },
      });
      child.on('error', () => {}); // the missing pid reports it below
      if (child.pid === undefined) {
        throw new Error(`${name}: ${argv[0]} cannot be started`);
      }
      return new Program(name, child, child.pid, logFile, logStart);
    } finally {
      closeSync(log);
    }
  }

  get running(): boolean {
    return !this.ended;
  }

  /** The log from byte `from` on. */
  log(from = 0): string {
    return readFileSync(this.logFile).subarray(from).toString();
  }

  /**
   * Waits until the log matches, from byte `from` on; by default the part that this program wrote.
   * Rejects with the log's end when time is over or the program has ended.
   */
  async waitForLog(pattern: RegExp, timeoutMs = PATIENCE_MS, from = this.logStart): Promise<void> {
    const limit = Date.now() + timeoutMs;
    for (;;) {
      if (pattern.test(this.log(from))) {
        return;
      }
      if (this.ended || Date.now() > limit) {
        // The program may have written its last line between the test above and its end.
        if (this.ended && pattern.test(this.log(from))) return;
        const what = this.ended
          ? 'ended'
          : `logged nothing that matches ${pattern} in ${timeoutMs} ms`;
        throw new Error(`${this.name} ${what}; its log ends with:\n${this.log().slice(-2000)}`);
      }
      await sleep(20);
    }
  }

  /** Waits for the program's end, and returns the JSON document that it printed as a line. */
  async document(): Promise<unknown> {
    await this.exited;
    const said = this.log(this.logStart);
    const line = said.split('\n').findLast((text) => text.startsWith('{'));
    if (line === undefined) throw new Error(`${this.name} printed: ${said.slice(-500)}`);
    return JSON.parse(line);
  }

  signal(signal: NodeJS.Signals): void {
    if (!this.ended) {
      this.child.kill(signal);
    }
  }

  /** Asks the program to end (SIGTERM), and kills it when it does not end within `timeoutMs`. */
  async stop(timeoutMs = 30_000): Promise<Exit> {
    this.signal('SIGTERM');
    const timer = setTimeout(() => this.signal('SIGKILL'), timeoutMs);
    const exit = await this.exited;
    clearTimeout(timer);
    return exit;
  }

  /** Ends the program as a crash would (SIGKILL). */
  async kill(): Promise<Exit> {
    this.signal('SIGKILL');
    return await this.exited;
  }

  /** Lets this process end while the program goes on. */
  release(): void {
    this.child.unref();
  }
}
