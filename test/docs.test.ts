/**
 * The documents are true about the repository: the paths that they and comments name exist, links
 * between documents resolve, and the configs of the README are valid.
 */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { writeNewKey } from '../src/config/key.js';
import { loadBalancerConfig, loadNodeConfig } from '../src/config/load.js';

const project = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const FOLDERS = ['src', 'lab', 'test', 'bench', 'scripts', 'bpf', 'native', 'docs', 'bin'];

function filesBelow(folder: string): string[] {
  return readdirSync(join(project, folder), { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((name) => statSync(join(project, name)).isFile());
}

const files = [
  ...FOLDERS.flatMap(filesBelow),
  ...readdirSync(project).filter((name) => statSync(join(project, name)).isFile()),
];
const paths = new Set(files.flatMap((name) => [name, ...foldersOf(name)]));
const baseNames = new Set(files.map((name) => name.slice(name.lastIndexOf('/') + 1)));
const documents = files.filter((name) => name.endsWith('.md'));

/** Every folder above a path, the nearest first. */
function foldersOf(name: string): string[] {
  const folder = dirname(name);
  return folder === '.' ? [] : [folder, ...foldersOf(folder)];
}

const textOf = (name: string): string => readFileSync(join(project, name), 'utf8');

/** Markdown without its code blocks. */
const proseOf = (name: string): string => textOf(name).replace(/^```[\s\S]*?^```/gm, '');

/** Anchors of a document's headings, as GitHub and most other renderers make them. */
function anchorsOf(name: string): string[] {
  return [...proseOf(name).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .replace(/\]\([^)]*\)/g, '')
      .toLowerCase()
      .replace(/[^\p{L}\p{N}_\- ]/gu, '')
      .replaceAll(' ', '-'),
  );
}

/**
 * Whether a path names a file or folder, from the root, from src/, or from the file's own place.
 */
function exists(path: string, from: string): boolean {
  const bare = path.replace(/\/$/, '');
  const bases = ['', 'src', ...foldersOf(from)];
  return bases.some((base) => paths.has(normalize(join(base, bare))));
}

t.test('links between documents resolve', async (t) => {
  t.ok(documents.length > 8, 'the documents are found');
  for (const name of documents) {
    for (const [, target = ''] of proseOf(name).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? name : normalize(join(dirname(name), path));
      t.ok(existsSync(join(project, file)), `${name}: ${target}`);
      if (anchor === undefined || !file.endsWith('.md')) continue;
      t.ok(anchorsOf(file).includes(anchor), `${name}: ${target} is a heading`);
    }
  }
});

/** Headers of the kernel, which comments name by their path as well. */
const OF_KERNEL = /^(linux|net|include)\//;

/** Extensions of files of this repository that documents and comments name. */
const NAMED = 'ts|mjs|cc|c|h|md|sh|sums|gyp';
const PATH = new RegExp(`^(?:[\\w.-]+/)+[\\w.-]+\\.(?:${NAMED})$`);
const FILE_NAME = new RegExp(`^[\\w-]+(?:\\.[\\w-]+)*\\.(?:${NAMED})$`);
const FOLDER = new RegExp(`^(?:${FOLDERS.join('|')})/(?:[\\w.-]+/?)*$`);

t.test('paths that documents name exist', async (t) => {
  for (const name of documents) {
    for (const [, code = ''] of proseOf(name).matchAll(/`([^`\s]+)`/g)) {
      if (PATH.test(code) || FOLDER.test(code)) t.ok(exists(code, name), `${name}: ${code}`);
      else if (FILE_NAME.test(code)) t.ok(baseNames.has(code), `${name}: ${code}`);
    }
  }
});

/** Comments of a source file, one line each. */
function commentsOf(name: string): string[] {
  const start = /\.(ts|mjs|js|c|h|cc)$/.test(name) ? /^\s*(\/\*|\*|\/\/)/ : /^\s*#(?!include|!)/;
  return textOf(name)
    .split('\n')
    .filter((line) => start.test(line));
}

t.test('paths that comments name exist', async (t) => {
  const sources = files.filter((name) => /\.(ts|mjs|js|c|h|cc|sh)$|Makefile$/.test(name));
  t.ok(sources.length > 200, 'the sources are found');
  const mention = new RegExp(`(?<![\\w./<-])(?:[\\w.-]+/)+[\\w.-]+\\.(?:${NAMED})\\b`, 'g');
  for (const name of sources) {
    for (const line of commentsOf(name)) {
      for (const [path] of line.matchAll(mention)) {
        if (!OF_KERNEL.test(path)) t.ok(exists(path, name), `${name}: ${path}`);
      }
    }
  }
});

t.test('the configs of the README are valid', async (t) => {
  const directory = t.testdir();
  writeNewKey(join(directory, 'key.hex'));
  const [balancer, node, ...others] = [
    ...textOf('README.md').matchAll(/^```yaml\n([\s\S]*?)^```/gm),
  ].map(([, text = '']) => text);
  t.same(others, [], 'there are two');
  const load = <Config>(text: string | undefined, read: (file: string) => Config): Config => {
    const file = join(directory, 'readme.yaml');
    writeFileSync(file, text ?? '');
    return read(file);
  };
  t.same(
    load(balancer, loadBalancerConfig).virtualServers.map(({ name }) => name),
    ['www'],
  );
  t.ok(load(node, loadNodeConfig));
});

t.test('the list at the top of the decisions has every decision, in order', async (t) => {
  const text = proseOf('docs/decisions.md');
  const listed = [...text.matchAll(/^- \[([^\]]+)\]\(#/gm)].map(([, title = '']) =>
    title.replace(/\s+/g, ' '),
  );
  t.same(
    listed,
    [...text.matchAll(/^### (.+)$/gm)].map(([, title]) => title),
  );
});

t.test('the glossary is in alphabetical order', async (t) => {
  const words = [...proseOf('docs/glossary.md').matchAll(/(?<=\n\n)\*\*(.+?)\*\*/g)].map(
    ([, word = '']) => word.toLowerCase(),
  );
  t.ok(words.length > 60, 'the words are found');
  t.same(
    words,
    [...words].sort((a, b) => a.localeCompare(b, 'en')),
  );
  t.equal(new Set(words).size, words.length, 'each word has one entry');
});
