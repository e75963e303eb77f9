/**
 * Records of farms on disk, written before a farm exists in the kernel. So whatever ends the
 * process that made a farm, the next farm (or `make demo-stop`) finds the record and takes the farm
 * down.
 */
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { JOURNAL_DIRECTORY } from '../../src/host/journal/journal-file.js';
import { PIN_ROOT, removePins } from '../../src/host/pins.js';
import { startTimeOf } from './process.js';

const DIRECTORY = '/run/baton-farm';

interface ProcessRecord {
  pid: number;
  /** From startTimeOf: the pid alone may belong to another process by now. */
  start: string;
}

export interface FarmRecord {
  tag: string;
  /** The process that the farm belongs to. */
  owner: ProcessRecord;
  /** The farm outlives its owner. */
  keep: boolean;
  directory: string;
  namespaces: string[];
  programs: ProcessRecord[];
}

const fileOf = (tag: string): string => path.join(DIRECTORY, `${tag}.json`);

export function recordOf(pid: number): ProcessRecord {
  return { pid, start: startTimeOf(pid) ?? '' };
}

function isAlive(record: ProcessRecord): boolean {
  return record.start !== '' && startTimeOf(record.pid) === record.start;
}

export function save(record: FarmRecord): void {
  mkdirSync(DIRECTORY, { recursive: true, mode: 0o700 });
  const file = fileOf(record.tag);
  writeFileSync(`${file}.new`, JSON.stringify(record), { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

export function load(tag: string): FarmRecord | undefined {
  try {
    return JSON.parse(readFileSync(fileOf(tag), 'utf8')) as FarmRecord;
  } catch {
    return undefined;
  }
}

function signalAll(records: readonly ProcessRecord[], signal: NodeJS.Signals): void {
  for (const record of records) {
    if (isAlive(record)) {
      try {
        process.kill(record.pid, signal);
      } catch {
        // it has just ended
      }
    }
  }
}

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** Processes in a namespace of a farm that no record names: workers whose master was killed. */
function unrecordedIn(namespace: string): ProcessRecord[] {
  try {
    const pids = execFileSync('ip', ['netns', 'pids', namespace], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return pids
      .split('\n')
      .filter(Boolean)
      .map(Number)
      .filter((pid) => pid !== process.pid)
      .map(recordOf);
  } catch {
    return [];
  }
}

/**
 * Takes down whatever is left of a farm. Synchronous, because an ending process does it last.
 * Programs get `graceMs` to end by themselves.
 */
export function destroy(record: FarmRecord, graceMs: number): void {
  signalAll(record.programs, 'SIGTERM');
  for (let waited = 0; waited < graceMs && record.programs.some(isAlive); waited += 20) {
    pause(20);
  }
  signalAll(record.programs, 'SIGKILL');
  for (const namespace of record.namespaces) {
    // In a kept farm it may be a shell of the person who uses it.
    if (!record.keep) {
      signalAll(unrecordedIn(namespace), 'SIGKILL');
    }
    forgetState(namespace);
    try {
      execFileSync('ip', ['netns', 'del', namespace], { stdio: 'ignore' });
    } catch {
      // never made, or already removed
    }
  }
  rmSync(record.directory, { recursive: true, force: true });
  rmSync(fileOf(record.tag), { force: true });
}

/** Takes down farms whose owner has died, except those that are kept. */
export function sweep(): void {
  let files: string[];
  try {
    files = readdirSync(DIRECTORY);
  } catch {
    return;
  }
  for (const file of files.filter((name) => name.endsWith('.json'))) {
    const record = load(file.slice(0, -'.json'.length));
    if (record !== undefined && !record.keep && !isAlive(record.owner)) {
      destroy(record, 500);
    }
  }
}

/**
 * Removes pins and journals that killed programs left for a namespace. No program will start in
 * that namespace again to undo them.
 */
function forgetState(namespace: string): void {
  const inode = statSync(`/run/netns/${namespace}`, { throwIfNoEntry: false })?.ino;
  if (inode === undefined) return;
  if (existsSync(PIN_ROOT)) {
    for (const name of readdirSync(PIN_ROOT)) if (name.endsWith(`-${inode}`)) removePins(name);
  }
  if (!existsSync(JOURNAL_DIRECTORY)) return;
  for (const name of readdirSync(JOURNAL_DIRECTORY)) {
    if (name.endsWith(`-${inode}.json`))
      rmSync(path.join(JOURNAL_DIRECTORY, name), { force: true });
  }
}
