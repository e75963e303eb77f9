/**
 * The file that outlives a killed process: what it had changed on this machine, and on which
 * interface.
 *
 *     /run/baton/ROLE-INTERFACE-NAMESPACE.json
 *
 * NAMESPACE is the inode of the network namespace. The kernel gives the inodes of dead namespaces
 * to new ones, so the file also holds index and MAC address of the interface: a file that does not
 * fit them is a stranger's, and whatever it tells of went away with its namespace.
 */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { BatonError, reasonOf } from '../../base/errors.js';
import { isMap } from '../command.js';
import { namespaceInode } from '../namespace.js';
import { type Change, parseChange } from './changes.js';

export const JOURNAL_DIRECTORY = '/run/baton';
const VERSION = 1;
const OTHERS_WRITE = 0o022;

export interface JournalRecord {
  index: number;
  /** Colon-separated. */
  mac: string;
  changes: Change[];
}

export class JournalFile {
  readonly path: string;

  /**
   * Makes the directory if need be.
   * @throws BatonError BATON_SYSTEM when it can not be made, or others may write there.
   */
  constructor(role: string, interfaceName: string, directory = JOURNAL_DIRECTORY) {
    this.path = join(directory, `${role}-${interfaceName}-${namespaceInode()}.json`);
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw new BatonError('BATON_SYSTEM', `can not be made: ${reasonOf(error)}`, {
        where: directory,
        cause: error,
      });
    }
    const status = lstatSync(directory);
    // What stands in these files is done as root.
    if (
      !status.isDirectory() ||
      status.uid !== process.geteuid?.() ||
      (status.mode & OTHERS_WRITE) !== 0
    ) {
      throw new BatonError(
        'BATON_SYSTEM',
        'not a directory that only its owner, who must be us, can write to',
        {
          where: directory,
          hint: 'remove it',
        },
      );
    }
  }

  /** The record, or undefined when there is none. `warn` hears of a file that makes no sense. */
  read(warn: (message: string) => void): JournalRecord | undefined {
    let text: string;
    try {
      const descriptor = openSync(
        this.path,
        constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
      );
      try {
        if (!fstatSync(descriptor).isFile()) throw new Error('not a file');
        text = readFileSync(descriptor, 'utf8');
      } finally {
        closeSync(descriptor);
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      warn(
        `${this.path}: can not be read (${reasonOf(error)}): what an earlier run left behind stays`,
      );
      return undefined;
    }
    const record = parseRecord(text);
    if (record === undefined) {
      warn(`${this.path}: makes no sense: what an earlier run left behind stays`);
    }
    return record;
  }

  /**
   * Replaces the record as a whole: a crash leaves the old one or the new one. Throws BatonError
   * BATON_SYSTEM.
   */
  write(record: JournalRecord): void {
    const draft = `${this.path}.new`;
    try {
      rmSync(draft, { force: true });
      writeFileSync(draft, `${JSON.stringify({ version: VERSION, ...record })}\n`, {
        mode: 0o600,
        flag: 'wx',
      });
      renameSync(draft, this.path);
    } catch (error) {
      throw new BatonError('BATON_SYSTEM', `can not be written: ${reasonOf(error)}`, {
        where: this.path,
        cause: error,
      });
    }
  }

  remove(): void {
    rmSync(this.path, { force: true });
  }
}

function parseRecord(text: string): JournalRecord | undefined {
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isMap(data) || data.version !== VERSION) return undefined;
  if (
    typeof data.index !== 'number' ||
    typeof data.mac !== 'string' ||
    !Array.isArray(data.changes)
  )
    return undefined;
  const changes: Change[] = [];
  for (const entry of data.changes) {
    const change = parseChange(entry);
    if (change === undefined) return undefined;
    changes.push(change);
  }
  return { index: data.index, mac: data.mac, changes };
}
