/**
 * Opens files by names that people write. Somebody may have put something else there: reading a
 * pipe would wait for its writer, and reading a device may never end.
 */
import { closeSync, constants, fstatSync, openSync, type Stats } from 'node:fs';

/** For the message about what is not a regular file. */
export const NOT_REGULAR = 'ENOTREGULAR';

/**
 * Opens a file to read it, and closes it again.
 * @param read gets the open file; it returns the result of this function
 * @throws the error of the system; an error with the code NOT_REGULAR for anything but a file
 */
export function withRegularFile<Result>(
  file: string,
  read: (descriptor: number, status: Stats) => Result,
): Result {
  const descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const status = fstatSync(descriptor);
    if (!status.isFile()) throw notRegular(status);
    return read(descriptor, status);
  } finally {
    closeSync(descriptor);
  }
}

function notRegular(status: Stats): Error {
  const message = status.isDirectory() ? 'it is a directory' : 'it is not a regular file';
  return Object.assign(new Error(message), { code: NOT_REGULAR });
}
