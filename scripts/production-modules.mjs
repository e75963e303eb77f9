/** Prints the directories of node_modules that the installed command needs, from the lock file. */
import { readFileSync } from 'node:fs';

const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8'));
const wanted = Object.entries(packages)
  .filter(([path, entry]) => path !== '' && !entry.dev && !entry.optional && !entry.link)
  .map(([path]) => path)
  // A package inside another one is copied with it.
  .filter((path) => path.lastIndexOf('node_modules/') === 0);
console.log(wanted.join('\n'));
