/** A program of Baton as a child process: its config, its output, its end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { run, until } from './namespace.js';

const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));
const JOURNAL_DIRECTORY = '/run/baton';

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export class Program {
  readonly child: ChildProcess;
  /** All its standard error so far. */
  text = '';
  readonly ended: Promise<Ended>;

  /** Starts `baton` with these arguments in this network namespace. */
  constructor(args: readonly string[], options: { uid?: number } = {}) {
    this.child = spawn(process.execPath, [MAIN, ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
      ...options,
    });
    this.child.stderr?.setEncoding('utf8').on('data', (part: string) => {
      this.text += part;
    });
    this.ended = new Promise((resolve) => {
      this.child.once('close', (code, signal) => resolve({ code, signal }));
    });
  }

  async says(what: RegExp): Promise<void> {
    await until(
      `${what} in ${this.text}`,
      () => what.test(this.text) || this.child.exitCode !== null,
    );
    if (!what.test(this.text)) throw new Error(`ended without ${what}: ${this.text}`);
  }

  /** Ends it with a signal; resolves when it has ended. */
  end(signal: NodeJS.Signals): Promise<Ended> {
    this.child.kill(signal);
    return this.ended;
  }
}

/**
 * The state of this namespace that a program of Baton may change, as text, a line for each item.
 */
export function snapshot(): string[] {
  return [
    run('ip', '-4', 'address', 'show'),
    run('ip', '-4', 'route', 'show', 'table', 'all'),
    run('sysctl', 'net.ipv4.tcp_syncookies', 'net.ipv4.tcp_rfc1337'),
    run('sysctl', '-a', '-r', '^net\\.ipv4\\.conf\\..*\\.arp_'),
    run('tc', 'qdisc', 'show'),
    run('tc', 'filter', 'show', 'dev', 'eth0', 'ingress'),
    run('tc', 'filter', 'show', 'dev', 'eth0', 'egress'),
  ].flatMap((text) =>
    text.split('\n').filter((line) => line !== '' && !line.includes('valid_lft')),
  );
}

/** Names of the journals of this namespace. */
export function stateFiles(): string[] {
  const inode = /\d+/.exec(run('readlink', '/proc/self/ns/net'))?.[0] ?? 'none';
  try {
    return readdirSync(JOURNAL_DIRECTORY).filter((name) => name.endsWith(`-${inode}.json`));
  } catch {
    return [];
  }
}

/** The changes in the one journal of this namespace. */
export function recordedKinds(): string[] {
  const [name] = stateFiles();
  if (name === undefined) return [];
  const record = JSON.parse(readFileSync(`${JOURNAL_DIRECTORY}/${name}`, 'utf8')) as {
    changes: { kind: string }[];
  };
  return record.changes.map((change) => change.kind);
}
