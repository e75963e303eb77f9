/** The file of the access log. It is only appended to, and has whole lines, also on a full disk. */
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  writeSync,
} from 'node:fs';
import { BatonError } from '../../base/errors.js';
import { whyUnwritable } from '../../base/file-errors.js';

/** Requests may be private: only root and a group that the operator chooses read them. */
const MODE = 0o640;
/** A FIFO must not block, and a link at the place of the file is not followed. */
const FLAGS =
  constants.O_RDWR |
  constants.O_APPEND |
  constants.O_CREAT |
  constants.O_NOFOLLOW |
  constants.O_NONBLOCK;
const NEWLINE = 10;

/** What became of a piece of the log. */
export interface Written {
  /** Bytes that are in the file: whole lines. */
  bytes: number;
  /** Why the rest is not. */
  error: unknown;
}

export class LogFile {
  readonly path: string;
  private readonly descriptor: number;
  /** The last line of the file has no end. */
  private torn: boolean;

  private constructor(path: string, descriptor: number, torn: boolean) {
    this.path = path;
    this.descriptor = descriptor;
    this.torn = torn;
  }

  /**
   * Opens a file, or makes one.
   * @throws BatonError BATON_LOG: it is no regular file, or cannot be written
   */
  static open(path: string): LogFile {
    let descriptor: number | undefined;
    try {
      descriptor = openSync(path, FLAGS, MODE);
      const stat = fstatSync(descriptor);
      if (!stat.isFile()) throw new Error('it is not a regular file');
      return new LogFile(path, descriptor, stat.size > 0 && !endsLine(descriptor, stat.size));
    } catch (error) {
      if (descriptor !== undefined) closeSync(descriptor);
      throw new BatonError('BATON_LOG', `the access log cannot be written: ${whyNoLog(error)}`, {
        where: path,
        hint: '`accessLog.file` must be a file, or the name of a new file in a directory that exists',
      });
    }
  }

  /**
   * Appends bytes[0, length), which are whole lines. On an error the file keeps the lines that fit;
   * the beginning of one that does not is removed.
   */
  append(bytes: Uint8Array, length: number): Written {
    let done = 0;
    try {
      if (this.torn) writeSync(this.descriptor, '\n');
      this.torn = false;
      while (done < length) done += writeSync(this.descriptor, bytes, done, length - done);
      return { bytes: done, error: undefined };
    } catch (error) {
      const whole = done === 0 ? 0 : bytes.lastIndexOf(NEWLINE, done - 1) + 1;
      if (done > whole) this.cut(done - whole);
      return { bytes: whole, error };
    }
  }

  close(): void {
    try {
      closeSync(this.descriptor);
    } catch {
      // The descriptor is free all the same, and no line can be saved any more.
    }
  }

  /** Removes the last bytes of the file. */
  private cut(bytes: number): void {
    try {
      ftruncateSync(this.descriptor, fstatSync(this.descriptor).size - bytes);
    } catch {
      // A file that can only be appended to keeps the part of a line. The next line begins anew.
      this.torn = true;
    }
  }
}

function endsLine(descriptor: number, size: number): boolean {
  const last = new Uint8Array(1);
  return readSync(descriptor, last, 0, 1, size - 1) === 1 && last[0] === NEWLINE;
}

function whyNoLog(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (code === 'ELOOP') return 'it is a symbolic link';
  if (code === 'ENXIO') return 'it is not a regular file';
  if (code === 'EROFS') return 'the file system is read-only';
  return whyUnwritable(error);
}
