/** The layers of ARCHITECTURE.md: imports point down only. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

/** From the bottom up. A file may import from its own layer and from those below. */
const LAYERS = [
  'base',
  'wire',
  'host',
  'datapath',
  'request',
  'directory',
  'engine',
  'config',
  'api',
  'cli',
  'node',
  'replay',
  'capture',
  'balancer',
] as const;
/** What starts the programs; nothing imports it. */
const ROOTS = ['main.ts'];
const MOST_LINES = 450;

const project = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const source = join(project, 'src');

function filesBelow(folder: string, endings: readonly string[]): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => endings.some((ending) => name.endsWith(ending)))
    .map((name) => join(folder, name));
}

function layerOf(file: string): string {
  const [first = ''] = relative(source, file).split('/');
  return first;
}

/**
 * Everything that a file imports, statically or not, as paths of .ts files or names of packages.
 */
function importsOf(file: string): string[] {
  const text = readFileSync(file, 'utf8');
  const found = text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g);
  return [...found].map(([, target = '']) =>
    target.startsWith('.') ? join(dirname(file), target.replace(/\.js$/, '.ts')) : target,
  );
}

t.test('imports point down only', async (t) => {
  const files = filesBelow(source, ['.ts']);
  t.ok(files.length > 40, 'the sources are found');
  for (const file of files) {
    const name = relative(source, file);
    if (ROOTS.includes(name)) continue;
    const rank = LAYERS.indexOf(layerOf(file) as (typeof LAYERS)[number]);
    t.ok(rank >= 0, `${name} is in a layer`);
    for (const target of importsOf(file)) {
      if (!target.startsWith(source)) continue;
      const other = relative(source, target);
      t.notOk(ROOTS.includes(other), `${name} does not import the root ${other}`);
      const targetRank = LAYERS.indexOf(layerOf(target) as (typeof LAYERS)[number]);
      t.ok(targetRank <= rank, `${name} may import ${other}`);
    }
  }
});

t.test('the addon has one door', async (t) => {
  for (const file of filesBelow(source, ['.ts'])) {
    if (file.endsWith('host/native.ts')) continue;
    t.notMatch(
      readFileSync(file, 'utf8'),
      /\.node['"`]/,
      `${relative(source, file)} does not load the addon`,
    );
  }
});

t.test('files stay readable in one sitting', async (t) => {
  const folders = ['src', 'lab', 'native', 'bpf', 'test', 'bench'].map((name) =>
    join(project, name),
  );
  for (const folder of folders) {
    for (const file of filesBelow(folder, ['.ts', '.cc', '.c', '.h'])) {
      const lines = readFileSync(file, 'utf8').split('\n').length;
      t.ok(lines <= MOST_LINES, `${relative(project, file)} has ${lines} lines`);
    }
  }
});
