import fc from 'fast-check';
import t from 'tap';
import { Directory, NO_NAME, NO_PROTOCOL } from '../../src/directory/directory.js';
import { directoryImage } from '../../src/directory/directory-image.js';
import {
  canonicalHost,
  canonicalPath,
  duplicates,
  type Resource,
} from '../../src/directory/pattern.js';
import { processorTime } from '../support/processor-time.js';

/** Host and path must be in normal form. The look-up must ignore the bytes after both. */
function find(directory: Directory, host: string, path: string): number {
  const behind = 'example.org/x/';
  return directory.find(
    Buffer.from(host + behind),
    host.length,
    Buffer.from(path + behind),
    path.length,
  );
}

function findAll(directory: Directory, host: string, path: string): number[] {
  return directory.findAll(Buffer.from(host), host.length, Buffer.from(path), path.length);
}

function named(resources: [string | undefined, string][]): Directory {
  return new Directory(
    directoryImage(
      resources.map(([host, path]) => ({
        ...(host === undefined ? {} : { host }),
        path,
        nodes: [0],
      })),
    ),
  );
}

t.test('paths', async (t) => {
  const directory = named([
    [undefined, '/images/'],
    [undefined, '/images/big/'],
    [undefined, '/images/logo.png'],
    [undefined, '/index.html'],
    [undefined, '/a%2fb/%7e/x/../'],
  ]);
  const table: [string, number][] = [
    ['/images/', 0],
    ['/images/x', 0],
    ['/images/x/y/z/', 0],
    ['/images', -1],
    ['/imagesx/', -1],
    ['/images/big', 0],
    ['/images/big/', 1],
    ['/images/big/a', 1],
    ['/images/big/a/b/c/d/e/f', 1],
    ['/images/logo.png', 2],
    ['/images/logo.png/', 0],
    ['/images/logo.pn', 0],
    ['/index.html', 3],
    ['/index.html/', -1],
    ['/Index.html', -1],
    ['/', -1],
    ['//images/', -1],
    ['/images//', 0],
    ['/a%2Fb/~/c', 4],
    ['/a/b/~/c', -1],
  ];
  for (const [path, resource] of table) t.equal(find(directory, 'any', path), resource, path);
});

t.test('hosts', async (t) => {
  const directory = named([
    [undefined, '/'],
    ['www.Example.org', '/'],
    ['*.example.org', '/'],
    ['*.img.example.org', '/'],
    ['example.org.', '/only/'],
    ['*.example.org', '/deep/er/'],
    ['[2001:DB8::1]', '/'],
  ]);
  const table: [string, string, number][] = [
    ['www.example.org', '/', 1],
    ['www.example.org', '/deep/er/x', 1],
    ['a.example.org', '/', 2],
    ['a.example.org', '/deep/er/x', 5],
    ['a.b.c.example.org', '/', 2],
    ['www.www.example.org', '/', 2],
    ['x.img.example.org', '/', 3],
    ['img.example.org', '/', 2],
    ['example.org', '/', 0],
    ['example.org', '/only/', 4],
    ['.example.org', '/', 0],
    ['xexample.org', '/', 0],
    ['example.org.evil', '/', 0],
    ['org', '/', 0],
    ['', '/', 0],
    ['[2001:db8::1]', '/', 6],
    [`${'a.'.repeat(200)}example.org`, '/', 2],
    [`${'x'.repeat(300)}`, '/', 0],
  ];
  for (const [host, path, resource] of table)
    t.equal(find(directory, host, path), resource, `${host}${path}`);
});

t.test('when a host has no match, less specific hosts are searched', async (t) => {
  const directory = named([
    ['www.example.org', '/w/'],
    ['*.example.org', '/e/'],
    ['*.org', '/o/'],
    [undefined, '/a/'],
  ]);
  const table: [string, number][] = [
    ['/w/', 0],
    ['/e/', 1],
    ['/o/', 2],
    ['/a/', 3],
    ['/', -1],
  ];
  for (const [path, resource] of table)
    t.equal(find(directory, 'www.example.org', path), resource, path);
});

t.test('an empty directory holds nothing', async (t) => {
  t.equal(find(new Directory(directoryImage([])), 'a', '/a/b'), -1);
});

t.test('invalid and duplicate resources are refused', async (t) => {
  const code = { code: 'BATON_CONFIG' };
  t.throws(() => named([[undefined, 'a']]), code);
  t.throws(() => named([['a:80', '/']]), code);
  t.throws(
    () =>
      named([
        ['a', '/b/../c'],
        ['A.', '/%63'],
      ]),
    code,
  );
});

/** The same rules in the simplest form. */
function naive(resources: readonly (Resource | undefined)[], host: string, path: string): number {
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1');
  let best = -1;
  let bestRank: [number, number] = [-1, -1];
  resources.forEach((resource, index) => {
    if (resource === undefined) return;
    const pattern = text(canonicalPath(resource.path));
    if (pattern.endsWith('/') ? !path.startsWith(pattern) : path !== pattern) return;
    let specific = 0;
    if (resource.host !== undefined) {
      const { bytes, isWildcard } = canonicalHost(resource.host);
      const tail = text(bytes);
      if (isWildcard ? !(host.endsWith(tail) && host.length > tail.length) : host !== tail) return;
      specific = isWildcard ? tail.length : Number.POSITIVE_INFINITY;
    }
    const rank: [number, number] = [specific, pattern.length];
    if (rank[0] > bestRank[0] || (rank[0] === bestRank[0] && rank[1] > bestRank[1])) {
      best = index;
      bestRank = rank;
    }
  });
  return best;
}

t.test('finds the same as the naive look-up', async (t) => {
  const label = fc.constantFrom('a', 'b', 'ab');
  const name = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join('.'));
  const hostPattern = fc.oneof(
    fc.constant(undefined),
    name,
    name.map((rest) => `*.${rest}`),
  );
  const path = fc
    .array(fc.constantFrom('a', 'b', 'ab', ''), { maxLength: 5 })
    .map((parts) => `/${parts.join('/')}`);
  const resources = fc
    .array(fc.record({ host: hostPattern, path, nodes: fc.constant([0]) }), { maxLength: 30 })
    .map((list) => {
      const twice = new Set(duplicates(list).map(([later]) => later));
      return list.filter((_, index) => !twice.has(index));
    });
  const requests = fc.array(fc.tuple(fc.oneof(fc.constant(''), name), path), {
    minLength: 1,
    maxLength: 20,
  });
  let hits = 0;
  fc.assert(
    fc.property(resources, requests, fc.integer(), (resources, requests, seed) => {
      const directory = new Directory(directoryImage(resources, seed));
      for (const [host, path] of requests) {
        const found = find(directory, host, path);
        if (found >= 0) hits++;
        if (found !== naive(resources, host, path)) return false;
        // And those that would be found without the ones before them.
        const left: (Resource | undefined)[] = [...resources];
        for (const next of findAll(directory, host, path)) {
          if (next !== naive(left, host, path)) return false;
          left[next] = undefined;
        }
        if (naive(left, host, path) !== -1) return false;
      }
      return true;
    }),
    { numRuns: 2000 },
  );
  t.ok(hits > 1000, `${hits} look-ups found something`);
});

/** The resource for a TLS connection, and those that would follow. */
function findNames(directory: Directory, host: string, protocols: string[]): [number, number[]] {
  const names = Buffer.concat(
    ['behind', ...protocols].map((name) =>
      Buffer.from(`${String.fromCharCode(name.length)}${name}`, 'latin1'),
    ),
  );
  const start = 'behind'.length + 1;
  const bytes = Buffer.from(`${host}example.org`);
  return [
    directory.findName(bytes, host.length, names, start, names.length),
    directory.findAllNames(bytes, host.length, names, start, names.length),
  ];
}

t.test('names of TLS connections, and their protocols', async (t) => {
  const resource = (host: string | undefined, path: string, alpn?: string[]): Resource => ({
    host,
    path,
    alpn,
    nodes: [0],
  });
  const directory = new Directory(
    directoryImage([
      resource('www.example.org', '/'),
      resource('www.example.org', '/', ['acme-tls/1', 'h3-like']),
      resource('only.example.org', '/', ['h2']),
      resource('*.example.org', '/', ['h2', 'http/1.1']),
      resource('*.example.org', '/', ['http/1.1', 'smtp']),
      resource('deep.example.org', '/a/'),
      resource('*.b.example.org', '/'),
    ]),
  );
  const table: [string, string[], number, number[]][] = [
    ['www.example.org', [], 0, [0]],
    ['www.example.org', ['h2'], 0, [0, 3]],
    ['www.example.org', ['acme-tls/1'], 1, [1, 0]],
    ['www.example.org', ['h2', 'acme-tls/1'], 1, [1, 0, 3]],
    ['only.example.org', ['h2'], 2, [2, 3]],
    // The name is known, so less specific resources may still have the protocol.
    ['only.example.org', ['http/1.1'], 3, [3]],
    ['only.example.org', ['nothing'], NO_PROTOCOL, []],
    ['only.example.org', [], NO_PROTOCOL, []],
    // The client's order decides, then the order of the config.
    ['x.example.org', ['smtp', 'h2'], 4, [4, 3]],
    ['x.example.org', ['http/1.1'], 3, [3]],
    ['x.example.org', ['a-name-longer-than-every-other'], NO_PROTOCOL, []],
    // A path below the root says nothing about TLS.
    ['deep.example.org', ['h2'], 3, [3]],
    ['x.b.example.org', ['h2'], 6, [6, 3]],
    ['example.com', ['h2'], NO_NAME, []],
    ['', ['h2'], NO_NAME, []],
  ];
  for (const [host, protocols, first, all] of table)
    t.same(findNames(directory, host, protocols), [first, all], `${host} ${protocols}`);
  // Nothing of this is seen by requests in clear.
  t.equal(find(directory, 'only.example.org', '/'), NO_NAME);
  t.equal(find(directory, 'www.example.org', '/'), 0);
  const many = Array.from({ length: 40 }, (_, index) => `x${index}`);
  t.same(findNames(directory, 'x.example.org', [...many, 'h2']), [NO_PROTOCOL, []], 'a bound');
});

t.test('a resource without host covers TLS connections without a name', async (t) => {
  const directory = named([[undefined, '/']]);
  t.same(findNames(directory, '', []), [0, [0]]);
  t.same(findNames(directory, 'www.example.org', ['h2']), [0, [0]]);
});

t.test('a hundred thousand resources', async (t) => {
  const count = 100_000;
  const pathOf = (i: number) => (i % 2 === 0 ? `/s${i % 97}/p${i}.html` : `/s${i % 97}/d${i}/`);
  const directory = new Directory(
    directoryImage(Array.from({ length: count }, (_, i) => ({ path: pathOf(i), nodes: [i % 3] }))),
  );
  for (let i = 0; i < count; i++) {
    if (find(directory, 'h', pathOf(i)) !== i) t.fail(pathOf(i));
  }
  t.equal(find(directory, 'h', '/s1/d98/x'), -1);
  t.equal(find(directory, 'h', '/s2/d99/x'), 99);
  t.equal(directory.holders.count, 3, 'resources with the same nodes share a set');
});

t.test(
  'the cost of a hostile path or host depends on the directory, not on its length',
  async (t) => {
    const directory = named([
      [undefined, '/a/b/c/'],
      ['*.example.org', '/x.html'],
    ]);
    const path = Buffer.from('/'.repeat(60_000));
    const host = Buffer.from('.'.repeat(60_000));
    const rounds = 20_000;
    const once = () => {
      const before = processorTime();
      for (let i = 0; i < rounds; i++) directory.find(host, host.length, path, path.length);
      return (processorTime() - before) / rounds;
    };
    const nanoseconds = Math.min(once(), once(), once());
    t.ok(nanoseconds < 10_000, `${nanoseconds.toFixed(0)} ns`);
  },
);
