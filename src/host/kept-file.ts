/**
 * A small file that outlives a killed process. It belongs to a role and an interface.
 *
 *     /run/baton/ROLE-INTERFACE-NAMESPACE.json
 *
 * NAMESPACE is the inode of the network namespace. The kernel gives the inode of a dead namespace
 * to a new one, so the content must say for itself which interface it is about.
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
import { BatonError, reasonOf } from '../base/errors.js';
import { namespaceInode } from './namespace.js';

export const KEPT_DIRECTORY = '/run/baton';
const OTHERS_WRITE = 0o022;

export class KeptFile {
  readonly path: string;

  /**
   * Makes the directory if it does not exist.
   * @throws BatonError BATON_SYSTEM when it cannot be made, or when other users may write there
   */
  constructor(role: string, interfaceName: string, directory = KEPT_DIRECTORY) {
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

  /** The text. Undefined when there is no file. Throws what keeps it from being read. */
  read(): string | undefined {
    let descriptor: number;
    try {
      const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
      descriptor = openSync(this.path, flags);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
    try {
      if (!fstatSync(descriptor).isFile()) throw new Error('not a file');
      return readFileSync(descriptor, 'utf8');
    } finally {
      closeSync(descriptor);
    }
  }

  /**
   * Replaces the whole text in one step: a crash leaves either the old one or the new one.
   * @throws BatonError BATON_SYSTEM
   */
  write(text: string): void {
    const draft = `${this.path}.new`;
    try {
      rmSync(draft, { force: true });
      writeFileSync(draft, text, { mode: 0o600, flag: 'wx' });
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
