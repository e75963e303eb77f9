#!/usr/bin/env node
/**
 * The `baton` command. The rest is loaded only by a Node.js that can run it, so this file itself
 * keeps to what any Node.js with modules understands.
 */
import { readFileSync } from 'node:fs';

const { engines } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
const needed = Number(/\d+/.exec(engines.node)?.[0]);
if (Number.parseInt(process.versions.node, 10) < needed) {
  console.error(
    `baton: Node.js ${needed} or newer is needed; ${process.execPath} is ${process.versions.node}. ` +
      "The command that 'sudo make install' puts into place brings its own Node.js.",
  );
  process.exit(1);
}
await import('../dist/src/main.js');
