/**
 * The file of a journal. It outlives a killed process, and says what that process had changed on
 * this machine and on which interface.
 *
 *     /run/baton/ROLE-INTERFACE-NAMESPACE.json
 *
 * NAMESPACE is the inode of the network namespace. The kernel gives the inode of a dead namespace
 * to a new one. So the file also holds index and MAC address of the interface. A file that does not
 * match them belonged to another namespace, and all changes in it ended with that namespace.
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
import { type Change, changeToJson, parseChange } from './changes.js';

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
   * Makes the directory if it does not exist.
   * @throws BatonError BATON_SYSTEM when it cannot be made, or when other users may write there
   */
  constructor(role: string, interfaceName: string, directory = JOURNAL_DIRECTORY) {
    this.path = join(directory, `${role}-${interfaceName}-${namespaceInode()}.json`);
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw new BatonError('BATON_SYSTEM', `cannot be created: ${reasonOf(error)}`, {
        where: directory,
        cause: error,
      });
    }
    const status = lstatSync(directory);
    // Root acts on what these files say.
    if (
      !status.isDirectory() ||
      status.uid !== process.geteuid?.() ||
      (status.mode & OTHERS_WRITE) !== 0
    ) {
      throw new BatonError(
        'BATON_SYSTEM',
        'must be a directory that belongs to the user of this process, and that only this user can write to',
        { where: directory, hint: 'remove it' },
      );
    }
  }

  /**
   * The record. Undefined, after a warning, when the file cannot be used; or when there is none.
   */
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
        `${this.path}: cannot be read (${reasonOf(error)}): changes of an earlier run stay in force`,
      );
      return undefined;
    }
    const record = parseRecord(text);
    if (record === undefined) {
      warn(`${this.path}: is not a valid journal: changes of an earlier run stay in force`);
    }
    return record;
  }

  /**
   * Replaces the whole record in one step: a crash leaves either the old one or the new one.
   * @throws BatonError BATON_SYSTEM
   */
  write(record: JournalRecord): void {
    const draft = `${this.path}.new`;
    try {
      rmSync(draft, { force: true });
      const changes = record.changes.map(changeToJson);
      writeFileSync(draft, `${JSON.stringify({ version: VERSION, ...record, changes })}\n`, {
        mode: 0o600,
        flag: 'wx',
      });
      renameSync(draft, this.path);
    } catch (error) {
      throw new BatonError('BATON_SYSTEM', `cannot be written: ${reasonOf(error)}`, {
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
