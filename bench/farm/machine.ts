/** The machine of the figures, and the versions of all programs. */
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import path from 'node:path';
import { projectRoot } from '../../lab/farm/baton.js';
import { run } from '../../lab/farm/process.js';

export function machineOf(): Record<string, string> {
  const [first, ...others] = cpus();
  return {
    CPUs: `${others.length + 1} (${first?.model.trim() ?? 'unknown'})`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    Linux: release(),
    // New network namespaces inherit it from the machine.
    'congestion control': textOf('/proc/sys/net/ipv4/tcp_congestion_control').trim() || 'unknown',
    system: /^PRETTY_NAME="(.*)"$/m.exec(textOf('/etc/os-release'))?.[1] ?? 'unknown',
  };
}

/** Programs, their arguments that print a version, and where the version is in the output. */
const PROGRAMS: readonly [string, readonly string[], RegExp][] = [
  ['nginx', ['-v'], /nginx\/(\S+)/],
  ['haproxy', ['-v'], /version (\S+)/],
  ['wrk', ['-v'], /wrk (?:debian\/)?(\S+)/],
  ['clang', ['--version'], /version (\S+)/],
];

export async function versionsOf(): Promise<Record<string, string>> {
  const versions: Record<string, string> = {
    Baton: (JSON.parse(textOf(path.join(projectRoot(), 'package.json'))) as { version: string })
      .version,
    Node: process.version.slice(1),
  };
  for (const [program, args, pattern] of PROGRAMS) {
    const { stdout, stderr } = await run(program, args, { allowFailure: true });
    versions[program] = pattern.exec(stdout + stderr)?.[1] ?? 'unknown';
  }
  return versions;
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
