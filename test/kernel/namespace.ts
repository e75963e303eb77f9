/**
 * Network namespaces for tests that need a kernel. A test file runs itself again in a namespace of
 * its own, so that nothing it does changes the machine. Other namespaces belong to child processes,
 * and end with them.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';

const INSIDE = 'BATON_TEST_IN_NAMESPACE';
/** A process that holds a namespace ends itself after this time. */
const LONGEST_TEST_S = 900;

/**
 * True in the process inside the new network namespace. Otherwise this call runs the test file
 * there and takes over its exit code, or says, without root, why nothing is tested.
 */
export function insideNamespace(file: string): boolean {
  // Also for the process that only waits: tap's own limit is 30 s.
  t.setTimeout(FILE_TIMEOUT_MS);
  if (process.env[INSIDE] === '1') {
    // IPv6 neighbour discovery would cause frames that no test expects.
    run(
      'sysctl',
      '-qw',
      'net.ipv6.conf.all.disable_ipv6=1',
      'net.ipv6.conf.default.disable_ipv6=1',
    );
    run('ip', 'link', 'set', 'lo', 'up');
    return true;
  }
  if (process.getuid?.() !== 0) {
    console.log('TAP version 14\n1..0 # SKIP network namespaces need root');
    return false;
  }
  const child = spawnSync(
    'unshare',
    ['--net', process.execPath, ...process.execArgv, fileURLToPath(file)],
    {
      stdio: 'inherit',
      env: { ...process.env, [INSIDE]: '1' },
    },
  );
  process.exitCode = child.status ?? 1;
  return false;
}

/** Runs a command in this namespace; returns its output. */
export function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Another machine: a network namespace with one interface, `eth0`, whose peer is here. */
export class Peer {
  private constructor(private readonly holder: ChildProcess) {}

  /**
   * Makes a peer with this address. The peer of its interface is `name` in this namespace; both are
   * up.
   */
  static async make(name: string, address: string, mac: string): Promise<Peer> {
    const holder = spawn('unshare', ['--net', 'sleep', String(LONGEST_TEST_S)], {
      stdio: 'ignore',
    });
    const peer = new Peer(holder);
    while (readlinkSync(`/proc/${holder.pid}/ns/net`) === readlinkSync('/proc/self/ns/net')) {
      await sleep(5);
    }
    run(
      'ip',
      'link',
      'add',
      name,
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      String(holder.pid),
    );
    run('ip', 'link', 'set', name, 'up');
    peer.run(
      'sysctl',
      '-qw',
      'net.ipv6.conf.all.disable_ipv6=1',
      'net.ipv6.conf.default.disable_ipv6=1',
    );
    peer.run('ip', 'link', 'set', 'eth0', 'address', mac, 'up');
    peer.run('ip', 'link', 'set', 'lo', 'up');
    peer.run('ip', 'address', 'add', address, 'dev', 'eth0');
    return peer;
  }

  /** Runs a command there; returns its output. */
  run(command: string, ...args: string[]): string {
    return run('nsenter', ...this.enter(), command, ...args);
  }

  /** Starts a JavaScript program (CommonJS) there. */
  script(source: string, ...args: string[]): ChildProcess {
    return this.spawn(process.execPath, '-e', source, ...args);
  }

  /** Starts a Python program there. */
  python(source: string, ...args: string[]): ChildProcess {
    return this.spawn('/usr/bin/python3', '-u', '-c', source, ...args);
  }

  stop(): void {
    this.holder.kill('SIGKILL');
  }

  private spawn(command: string, ...args: string[]): ChildProcess {
    return spawn('nsenter', [...this.enter(), command, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
  }

  private enter(): string[] {
    return ['-t', String(this.holder.pid), '-n'];
  }
}

/** Waits until `condition` holds; throws after `ms`. */
export async function until(
  what: string,
  condition: () => boolean,
  ms = PATIENCE_MS,
): Promise<void> {
  const end = performance.now() + ms;
  while (!condition()) {
    if (performance.now() > end) {
      throw new Error(`not within ${ms} ms: ${what}`);
    }
    await sleep(2);
  }
}

/** The output of a program, once it has ended. */
export async function outputOf(child: ChildProcess): Promise<string> {
  let text = '';
  child.stdout?.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  await new Promise((resolve) => child.once('close', resolve));
  return text;
}

export function macOf(text: string): Uint8Array {
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
}
