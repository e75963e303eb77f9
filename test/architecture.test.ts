/** The rooms of ARCHITECTURE.md: which of them a file may import from. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

/**
 * For each room below src/, from the top: the rooms that its files may import from, besides their
 * own. Programs (the rooms with a run.ts) never import each other. A new room needs a line here.
 */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  'main.ts': ['cli', 'balancer', 'node', 'replay', 'capture', 'base'],
  cli: ['api', 'config', 'host', 'wire', 'base'],
  balancer: ['api', 'config', 'engine', 'directory', 'request', 'datapath', 'host', 'wire', 'base'],
  node: ['config', 'host', 'wire', 'base'],
  replay: ['config', 'engine', 'directory', 'datapath', 'host', 'wire', 'base'],
  capture: ['api', 'config', 'datapath', 'host', 'wire', 'base'],
  api: ['config', 'engine', 'datapath', 'wire', 'base'],
  config: ['engine', 'directory', 'request', 'datapath', 'host', 'wire', 'base'],
  engine: ['directory', 'datapath', 'wire', 'base'],
  directory: ['request', 'wire', 'base'],
  request: ['base'],
  datapath: ['host', 'wire', 'base'],
  host: ['wire', 'base'],
  wire: ['base'],
  base: [],
};
/** Rooms outside src/: the farm, and what uses it. */
const OUTSIDE: Readonly<Record<string, readonly string[]>> = {
  lab: ['src', 'lab'],
  bench: ['src', 'lab', 'bench'],
  scripts: ['src', 'lab', 'scripts'],
  test: ['src', 'lab', 'bench', 'scripts', 'test'],
};
/** Rooms without files, sockets, clocks and threads. They may take random numbers, for seeds. */
const PURE = ['engine', 'directory', 'request', 'wire'];
const PURE_MAY_USE: readonly string[] = ['node:crypto'];
const MOST_LINES = 450;
const WIDTH = 100;

const project = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const source = join(project, 'src');

function filesBelow(folder: string, endings: readonly string[]): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => endings.some((ending) => name.endsWith(ending)))
    .map((name) => join(folder, name));
}

/** The first part of a path below `folder`: a room, or a file that is one by itself. */
function roomOf(file: string, folder: string): string {
  return relative(folder, file).split('/')[0] ?? '';
}

/** Everything that a file imports, statically or not: paths of .ts files, or names of packages. */
function importsOf(file: string): string[] {
  const text = readFileSync(file, 'utf8');
  const found = text.matchAll(/(?:\bfrom|\bimport|\bimport\() ?'([^']+)'(?=[;)])/g);
  return [...found].map(([, target = '']) =>
    target.startsWith('.') ? join(dirname(file), target.replace(/\.js$/, '.ts')) : target,
  );
}

t.test('each room imports only from the rooms that it may', async (t) => {
  const files = filesBelow(source, ['.ts']);
  t.ok(files.length > 150, 'the sources are found');
  for (const file of files) {
    const name = relative(source, file);
    const room = roomOf(file, source);
    const allowed = MAY_IMPORT[room];
    if (allowed === undefined) {
      t.fail(`${name} is in a room that MAY_IMPORT does not know`);
      continue;
    }
    for (const target of importsOf(file).filter((path) => path.startsWith(project))) {
      const other = target.startsWith(source) ? roomOf(target, source) : '';
      t.ok(
        other === room || allowed.includes(other),
        `${name} may import ${relative(project, target)}`,
      );
    }
  }
});

t.test('every room in the list is there', async (t) => {
  const present = new Set(filesBelow(source, ['.ts']).map((file) => roomOf(file, source)));
  t.same([...present].sort(), Object.keys(MAY_IMPORT).sort());
});

t.test('rooms form no cycle', async (t) => {
  const order = Object.keys(MAY_IMPORT);
  for (const [room, allowed] of Object.entries(MAY_IMPORT)) {
    for (const other of allowed)
      t.ok(order.indexOf(other) > order.indexOf(room), `${other} is below ${room}`);
  }
});

t.test('farm, benchmarks, scripts and tests import in one direction too', async (t) => {
  for (const [folder, allowed] of Object.entries(OUTSIDE)) {
    for (const file of filesBelow(join(project, folder), ['.ts'])) {
      for (const target of importsOf(file).filter((path) => path.startsWith(project))) {
        const other = roomOf(target, project);
        t.ok(allowed.includes(other), `${relative(project, file)} may import ${other}/`);
      }
    }
  }
});

t.test('pure rooms do no input or output', async (t) => {
  for (const room of PURE) {
    for (const file of filesBelow(join(source, room), ['.ts'])) {
      const others = importsOf(file).filter((target) => !target.startsWith(project));
      const packages = others.filter((target) => !PURE_MAY_USE.includes(target));
      t.same(packages, [], `${relative(source, file)} is pure`);
    }
  }
  t.ok(importsOf(join(source, 'config', 'key.ts')).includes('node:fs'), 'such imports are seen');
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
  const folders = ['src', 'lab', 'native', 'bpf', 'test', 'bench', 'scripts'];
  for (const folder of folders.map((name) => join(project, name))) {
    for (const file of filesBelow(folder, ['.ts', '.cc', '.c', '.h'])) {
      const lines = readFileSync(file, 'utf8').split('\n').length;
      t.ok(lines <= MOST_LINES, `${relative(project, file)} has ${lines} lines`);
    }
  }
});

t.test('comments and prose are at most 100 columns wide', async (t) => {
  const folders = ['src', 'lab', 'native', 'bpf', 'test', 'bench', 'scripts'];
  const code = folders.flatMap((name) =>
    filesBelow(join(project, name), ['.ts', '.cc', '.c', '.h', '.sh']),
  );
  const pages = [
    ...['README.md', 'ARCHITECTURE.md', 'CHANGELOG.md'].map((name) => join(project, name)),
    ...filesBelow(join(project, 'docs'), ['.md']),
  ];
  const isComment = /^\s*(\/\*|\*|\/\/|#)|\/\*.*\*\/\s*$/;
  for (const file of [...code, ...pages]) {
    const text = readFileSync(file, 'utf8');
    const wide = (pages.includes(file) ? withoutPictures(text) : text)
      .split('\n')
      .map((line, at) => ({ line: line.replaceAll('\t', ' '.repeat(8)), at: at + 1 }))
      .filter(({ line }) => line.length > WIDTH)
      .filter(({ line }) => (pages.includes(file) ? !isUnbreakable(line) : isComment.test(line)));
    t.same(
      wide.map(({ at }) => at),
      [],
      `${relative(project, file)} has no wider line`,
    );
  }
});

/** A row of a table, or a link or address that is longer than a line. */
function isUnbreakable(line: string): boolean {
  return line.startsWith('|') || /^\s*\S{80,}$/.test(line.replace(/^\s*[-*]\s+/, ''));
}

/** A page with its fenced blocks (pictures, commands and what they print) left empty. */
function withoutPictures(page: string): string {
  return page.replace(/^```[\s\S]*?^```$/gm, (block) => block.replace(/[^\n]/g, ''));
}
