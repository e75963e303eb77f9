#!/usr/bin/env node
/**
 * The `baton` command. It checks the version of Node.js and then loads the rest. So this file uses
 * only what every Node.js with modules supports.
 */
import { readFileSync } from 'node:fs';

const { engines } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
const needed = Number(/\d+/.exec(engines.node)?.[0]);
if (Number.parseInt(process.versions.node, 10) < needed) {
  console.error(
    `baton: Node.js ${needed} or newer is needed; ${process.execPath} is ${process.versions.node}. ` +
      "'sudo make install' installs a command with a Node.js of its own.",
  );
  process.exit(1);
}
await import('../dist/src/main.js');
