import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { renderConfigDocs } from '../../scripts/config-docs.js';

function findPage(directory: string): string {
  const page = join(directory, 'docs', 'configuration.md');
  return existsSync(page) ? page : findPage(dirname(directory));
}

t.test('docs/configuration.md is generated from the schemas', async (t) => {
  const page = readFileSync(findPage(dirname(fileURLToPath(import.meta.url))), 'utf8');
  t.equal(page, renderConfigDocs(), 'if not: node dist/scripts/config-docs.js');
});

t.test('every key has a type and a description', async (t) => {
  t.notMatch(renderConfigDocs(), /undefined|\[object/);
});
