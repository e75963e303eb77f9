/**
 * Runs commands of `baton` one after another in one process (command-host.ts). What a command does
 * takes a few ms, and the start of a process for it takes a hundred times as long. Tests of what a
 * process has for itself (pipes, terminals, signals) start src/main.ts.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** What a command did. */
export interface Outcome {
  code: number;
  out: string;
  errors: string;
}

const HOST = fileURLToPath(new URL('./command-host.js', import.meta.url));

export class Commands {
  private readonly child: ChildProcess;
  private last: Promise<unknown> = Promise.resolve();

  /** @param directory in which the commands run */
  constructor(directory: string) {
    const env = { ...process.env, BATON_DEBUG: '' };
    this.child = fork(HOST, { cwd: directory, env, stdio: ['ignore', 'pipe', 'inherit', 'ipc'] });
  }

  /** Runs a command when those before it have ended. */
  run(...args: string[]): Promise<Outcome> {
    const outcome = this.last.then(async () => {
      const over = new AbortController();
      const { signal } = over;
      const answer = Promise.race([
        once(this.child, 'message', { signal }),
        once(this.child, 'exit', { signal }),
      ]);
      this.child.send(args);
      const [said] = (await answer) as [Outcome | number | null];
      over.abort();
      if (typeof said === 'object' && said !== null) return said;
      throw new Error(`the command has ended its process: ${args.join(' ')}`);
    });
    this.last = outcome.catch(() => {});
    return outcome;
  }

  stop(): void {
    this.child.disconnect();
  }
}
