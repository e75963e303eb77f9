/** What the kernel says about files, in words. */

/** The reason a file could not be opened or read, in words. */
export function whyUnreadable(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (code === 'ENOENT') return 'there is no such file';
  if (code === 'EACCES' || code === 'EPERM') return 'permission denied';
  if (code === 'EISDIR') return 'it is a directory';
  if (code === 'ENOTDIR') return 'a part of its path is not a directory';
  return error instanceof Error ? error.message : String(error);
}

/** The reason a new file could not be made or written, in words. */
export function whyUnwritable(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return code === 'ENOENT' ? 'there is no such directory' : whyUnreadable(error);
}
