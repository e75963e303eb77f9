/** Places in compiled files, as the runner of the tests shows them. */
import { readFileSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import t from 'tap';
import { OriginalPlaces } from '../../scripts/original-places.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const FILE = 'test/scripts/original-places.test.ts';
/** The place of this line in the compiled file. */
const [, compiled = '', line = '', column = ''] =
  /(dist\/test\/scripts\/[\w.-]+\.js):(\d+):(\d+)/.exec(new Error('here').stack ?? '') ?? [];

// With --enable-source-maps Node.js shows the source already.
const skip = compiled === '' && 'Node.js itself shows places in sources';

t.test('a place in a compiled file becomes one in its source', { skip }, async (t) => {
  const places = new OriginalPlaces(ROOT);
  const lines = readFileSync(new URL(FILE, pathToFileURL(ROOT)), 'utf8').split('\n');
  const source = `${FILE}:${1 + lines.findIndex((text) => text.includes('exec(new Error('))}`;
  for (const before of ['', ROOT, `file://${ROOT}`]) {
    const text = places.in(`at ${before}${compiled}:${line}:${column}`);
    t.ok(text.startsWith(`at ${source}:`), text);
  }
  const others = 'dist/nowhere.js:1:2, src/a.ts:1:2, node:fs:3:4';
  t.equal(places.in(others), others, 'anything else stays as it is');
});
