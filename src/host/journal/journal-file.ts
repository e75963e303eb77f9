/**
 * The file of a journal. It outlives a killed process, and says what that process had changed on
 * this machine and on which interface.
 *
 *     /run/baton/ROLE-INTERFACE-NAMESPACE.json
 *
 * It also holds index and MAC address of the interface. A file that does not match them belonged to
 * another network namespace, and all changes in it ended with that namespace.
 */
import { reasonOf } from '../../base/errors.js';
import { isMap } from '../command.js';
import { KEPT_DIRECTORY, KeptFile } from '../kept-file.js';
import { type Change, changeToJson, parseChange } from './changes.js';

export const JOURNAL_DIRECTORY = KEPT_DIRECTORY;
const VERSION = 1;

export interface JournalRecord {
  index: number;
  /** Colon-separated. */
  mac: string;
  changes: Change[];
}

export class JournalFile {
  private readonly file: KeptFile;

  /**
   * Makes the directory if it does not exist.
   * @throws BatonError BATON_SYSTEM when it cannot be made, or when other users may write there
   */
  constructor(role: string, interfaceName: string, directory = JOURNAL_DIRECTORY) {
    this.file = new KeptFile(role, interfaceName, directory);
  }

  get path(): string {
    return this.file.path;
  }

  /**
   * The record. Undefined, after a warning, when the file cannot be used; or when there is none.
   */
  read(warn: (message: string) => void): JournalRecord | undefined {
    let text: string | undefined;
    try {
      text = this.file.read();
    } catch (error) {
      warn(
        `${this.path}: cannot be read (${reasonOf(error)}): changes of an earlier run stay in force`,
      );
      return undefined;
    }
    if (text === undefined) return undefined;
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
    const changes = record.changes.map(changeToJson);
    this.file.write(`${JSON.stringify({ version: VERSION, ...record, changes })}\n`);
  }

  remove(): void {
    this.file.remove();
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
