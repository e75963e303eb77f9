/** The kernel's errors about files, in words. */

/** Why a file cannot be opened or read. */
export function whyUnreadable(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (code === 'ENOENT') return 'there is no such file';
  if (code === 'EACCES' || code === 'EPERM') return 'permission denied';
  if (code === 'EISDIR') return 'it is a directory';
  if (code === 'ENOTDIR') return 'a part of its path is not a directory';
  return error instanceof Error ? error.message : String(error);
}

/** Why a file cannot be created or written. */
export function whyUnwritable(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return code === 'ENOENT' ? 'there is no such directory' : whyUnreadable(error);
}
