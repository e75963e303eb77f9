/**
 * The key that balancer and nodes share: 16 bytes, stored in a file as 32 hex digits. No message
 * ever contains it.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { BatonError } from '../base/errors.js';
import { whyUnreadable, whyUnwritable } from '../base/file-errors.js';
import { printable } from '../base/text.js';

export const KEY_BYTES = 16;
const HEX_DIGITS = KEY_BYTES * 2;

/** Enough for the digits and white space around them. */
const MOST_FILE_BYTES = 4_096;
const OTHERS = 0o077;

/**
 * Reads the key in `file`: 16 bytes.
 * @throws BatonError BATON_KEY when the file is absent or has no key, or others may read or write
 *   it
 */
export function readKey(file: string): Uint8Array {
  const where = `key file ${printable(file)}`;
  const refuse = (message: string, hint?: string, cause?: unknown): never => {
    throw new BatonError('BATON_KEY', message, {
      where,
      cause,
      ...(hint === undefined ? {} : { hint }),
    });
  };
  const buffer = Buffer.alloc(MOST_FILE_BYTES);
  let length = 0;
  let descriptor: number | undefined;
  try {
    // Without O_NONBLOCK, opening a pipe would wait for its writer.
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const status = fstatSync(descriptor);
    if (!status.isFile()) refuse('is not a regular file, expected a file with 32 hex digits');
    if ((status.mode & OTHERS) !== 0) {
      const mode = (status.mode & 0o777).toString(8).padStart(4, '0');
      refuse(
        `mode ${mode} gives access to other users, expected 0600`,
        `run \`chmod 600 ${printable(file)}\``,
      );
    }
    length = readSync(descriptor, buffer);
  } catch (error) {
    if (error instanceof BatonError) throw error;
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
    refuse(
      `cannot be read: ${whyUnreadable(error)}`,
      absent ? '`baton key FILE` makes a key; balancer and nodes need the same key' : undefined,
      error,
    );
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
  const text = buffer.toString('latin1', 0, length).trim();
  if (text === '') refuse(`is empty, expected ${HEX_DIGITS} hex digits`);
  if (!/^[0-9a-fA-F]+$/.test(text)) {
    refuse(`contains other characters than hex digits, expected ${HEX_DIGITS} hex digits only`);
  }
  if (text.length !== HEX_DIGITS) {
    const found = length === MOST_FILE_BYTES ? 'many more' : String(text.length);
    refuse(`contains ${found} hex digits, expected ${HEX_DIGITS}`);
  }
  return Uint8Array.from(Buffer.from(text, 'hex'));
}

/** Makes a key from the system's random numbers, as hex digits. */
export function newKey(): string {
  return randomBytes(KEY_BYTES).toString('hex');
}

/**
 * Writes a new key to `file` with mode 0600.
 * @throws BatonError BATON_KEY when the file exists, or cannot be written
 */
export function writeNewKey(file: string): void {
  const where = `key file ${printable(file)}`;
  let descriptor: number;
  try {
    descriptor = openSync(file, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') {
      throw new BatonError('BATON_KEY', 'exists, and is not overwritten', {
        where,
        hint: 'to give a new key to balancer and nodes, remove it first',
        cause: error,
      });
    }
    throw new BatonError('BATON_KEY', `cannot be written: ${whyUnwritable(error)}`, {
      where,
      cause: error,
    });
  }
  try {
    writeSync(descriptor, `${newKey()}\n`);
  } finally {
    closeSync(descriptor);
  }
}
