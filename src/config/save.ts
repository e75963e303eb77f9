/** Replaces a config file, completely or not at all. */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, realpath, rename, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { BatonError } from '../base/errors.js';
import { whyUnwritable } from '../base/file-errors.js';
import { printable } from '../base/text.js';

/** Mode of a new file: a config contains no secret. */
const NEW_MODE = 0o644;
const MODE_BITS = 0o7777;

/**
 * What a file says now. Undefined: it is gone, unreadable, or something else than a file, such as a
 * pipe, which would keep the reader waiting.
 */
export async function presentText(file: string): Promise<string | undefined> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => undefined);
  try {
    const isFile = (await handle?.stat())?.isFile() === true;
    return isFile ? await handle?.readFile('utf8') : undefined;
  } catch {
    return undefined;
  } finally {
    await handle?.close();
  }
}

/**
 * Writes `text` to a file. The file keeps its mode and owner; a symbolic link stays, and what it
 * points to is replaced. At every moment, also after a loss of power, the file is either the old
 * one or the new one.
 * @throws BatonError BATON_SYSTEM when it cannot be written. The file is then as it was.
 */
export async function saveConfig(file: string, text: string): Promise<void> {
  let made: string | undefined;
  try {
    const target = await realpath(file).catch((error: unknown) => {
      if (codeOf(error) === 'ENOENT') return file;
      throw error;
    });
    const place = dirname(target);
    const path = join(place, `.${basename(target)}.${randomBytes(6).toString('hex')}`);
    const handle = await open(path, 'wx', 0o600);
    made = path;
    try {
      await keepOwnerAndMode(handle, target);
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(path, target);
    made = undefined;
    // From here on the file is the new one, even where its directory cannot be opened.
    await syncDirectory(place).catch(() => {});
  } catch (error) {
    if (made !== undefined) await unlink(made).catch(() => {});
    throw new BatonError(
      'BATON_SYSTEM',
      `cannot be saved: ${whyNotSaved(error)}; the file is as it was`,
      { where: printable(file), cause: error },
    );
  }
}

async function keepOwnerAndMode(handle: FileHandle, target: string): Promise<void> {
  let old: Awaited<ReturnType<typeof stat>>;
  try {
    old = await stat(target);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    await handle.chmod(NEW_MODE);
    return;
  }
  const own = await handle.stat();
  if (own.uid !== old.uid || own.gid !== old.gid) await handle.chown(old.uid, old.gid);
  await handle.chmod(old.mode & MODE_BITS);
}

/** Makes the new name of the file last. */
async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code;
}

function whyNotSaved(error: unknown): string {
  switch (codeOf(error)) {
    case 'ENOSPC':
    case 'EDQUOT':
      return 'there is no room left on the disk';
    case 'EROFS':
      return 'the file system is read-only';
    case 'EBUSY':
      return 'it is a mount point by itself: mount its directory instead';
    case 'EIO':
      return 'the disk has failed';
    default:
      return whyUnwritable(error);
  }
}
