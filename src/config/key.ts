/**
 * The key that balancer and nodes share: 16 bytes, stored in a file as 32 hex digits. No message
 * ever contains it.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { BatonError } from '../base/errors.js';
import { whyUnwritable } from '../base/file-errors.js';
import { printable } from '../base/text.js';
import { readSecretFile } from './secret-file.js';

export const KEY_BYTES = 16;
const HEX_DIGITS = KEY_BYTES * 2;

/** Enough for the digits and white space around them. */
const MOST_FILE_BYTES = 4_096;

/**
 * Reads the key in `file`: 16 bytes.
 * @throws BatonError BATON_KEY when the file is absent or has no key, or others may read or write
 *   it
 */
export function readKey(file: string): Uint8Array {
  const where = `key file ${printable(file)}`;
  const refuse = (message: string): never => {
    throw new BatonError('BATON_KEY', message, { where });
  };
  const bytes = readSecretFile(file, {
    code: 'BATON_KEY',
    what: 'key file',
    expected: `${HEX_DIGITS} hex digits`,
    absent: '`baton key FILE` makes a key; balancer and nodes need the same key',
    most: MOST_FILE_BYTES,
  });
  const text = bytes.toString('latin1').trim();
  if (text === '') refuse(`is empty, expected ${HEX_DIGITS} hex digits`);
  if (!/^[0-9a-fA-F]+$/.test(text)) {
    refuse(`contains other characters than hex digits, expected ${HEX_DIGITS} hex digits only`);
  }
  if (text.length !== HEX_DIGITS) {
    const found = bytes.length === MOST_FILE_BYTES ? 'many more' : String(text.length);
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
