/** Reads files with secrets: only their owner may read or write them. */
import { readSync } from 'node:fs';
import { BatonError, type ErrorCode } from '../base/errors.js';
import { whyUnreadable } from '../base/file-errors.js';
import { NOT_REGULAR, withRegularFile } from '../base/regular-file.js';
import { printable } from '../base/text.js';

const OTHERS = 0o077;

export interface SecretFile {
  code: ErrorCode;
  /** What the file is, for messages, such as "key file". */
  what: string;
  /** What the file should contain, for messages. */
  expected: string;
  /** What to do when there is no such file. */
  absent?: string;
  /** The most bytes that are read; a longer file is cut there. */
  most: number;
}

/**
 * The bytes of `file`.
 * @throws BatonError when it cannot be read, is not a regular file, or others may read or write it
 */
export function readSecretFile(file: string, about: SecretFile): Buffer {
  const where = `${about.what} ${printable(file)}`;
  const refuse = (message: string, hint?: string, cause?: unknown): never => {
    throw new BatonError(about.code, message, {
      where,
      cause,
      ...(hint === undefined ? {} : { hint }),
    });
  };
  const buffer = Buffer.alloc(about.most);
  let length = 0;
  try {
    withRegularFile(file, (descriptor, { mode }) => {
      if ((mode & OTHERS) !== 0) {
        refuse(
          `mode ${(mode & 0o777).toString(8).padStart(4, '0')} gives access to other users, expected 0600`,
          `run \`chmod 600 ${printable(file)}\``,
        );
      }
      for (let read = -1; read !== 0 && length < buffer.length; length += read) {
        read = readSync(descriptor, buffer, length, buffer.length - length, null);
      }
    });
  } catch (error) {
    if (error instanceof BatonError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code === NOT_REGULAR) {
      refuse(`is not a regular file, expected a file with ${about.expected}`);
    }
    const hint = code === 'ENOENT' ? about.absent : undefined;
    refuse(`cannot be read: ${whyUnreadable(error)}`, hint, error);
  }
  return buffer.subarray(0, length);
}
