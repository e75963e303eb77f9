/** The program under test: where it is, and the command line that runs it. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository: the directory with bin/ above this file, wherever this file was compiled to. */
export function projectRoot(): string {
  let directory = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(directory, 'bin', 'baton.js'))) {
    const parent = path.dirname(directory);
    if (parent === directory) {
      throw new Error('no directory above this file contains bin/baton.js');
    }
    directory = parent;
  }
  return directory;
}

/** The command line of `baton ARGS`, as installed below `root`. */
export function batonCommand(args: readonly string[], root = projectRoot()): string[] {
  return [process.execPath, path.join(root, 'bin', 'baton.js'), ...args];
}
