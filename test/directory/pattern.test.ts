import fc from 'fast-check';
import t from 'tap';
import {
  canonicalHost,
  canonicalPath,
  duplicates,
  hostProblem,
  pathProblem,
  patternKey,
} from '../../src/directory/pattern.js';
import { Target } from '../../src/request/http/target.js';

t.test('invalid paths, and what is wrong with them', async (t) => {
  const table: [string, RegExp][] = [
    ['', /must begin with/],
    ['a/', /must begin with/],
    ['*', /must begin with/],
    ['http://a/', /must begin with/],
    ['/a?b', /query/],
    ['/a#b', /"#"/],
    ['/a b', /" " must be percent-encoded here, as %20$/],
    ['/\n', /"\\n" must be percent-encoded here, as %0A$/],
    ['/\x7f', /must be percent-encoded here, as %7F$/],
    ['/ä\u0085', /must be percent-encoded here, as %C2%85$/],
    ['/\ud83d/', /must be percent-encoded here, as %EF%BF%BD$/],
    [`/${'ä'.repeat(33_000)}`, /at most 65535 bytes/],
    ['/100%', /"%" is not "%" and two hex digits/],
    ['/%4x/', /"%4x" is not/],
    [`/${'a'.repeat(70_000)}`, /at most 65535/],
  ];
  for (const [path, why] of table) t.match(pathProblem(path), why, path.slice(0, 20));
});

t.test('the normal form of valid paths', async (t) => {
  const table: [string, string][] = [
    ['/', '/'],
    ['/a/', '/a/'],
    ['/a//b', '/a/b'],
    ['//', '/'],
    ['/café.txt', '/caf%C3%A9.txt'],
    ['/caf%c3%a9.txt', '/caf%C3%A9.txt'],
    ['/😀/€', '/%F0%9F%98%80/%E2%82%AC'],
    ['/a/../b/.', '/b/'],
    ['/%7Ea%2f', '/~a%2F'],
    ['/|{}', '/|{}'],
  ];
  for (const [path, normal] of table) {
    t.equal(pathProblem(path), undefined, path);
    t.equal(Buffer.from(canonicalPath(path)).toString(), normal, path);
  }
  t.throws(() => canonicalPath('/%'), { code: 'BATON_CONFIG' });
});

t.test('invalid hosts, and what is wrong with them', async (t) => {
  const table: [string, RegExp][] = [
    ['', /cannot be empty/],
    ['a:80', /port/],
    ['[::1]:80', /port/],
    ['*.a:80', /port/],
    ['[::g]', /IPv6/],
    ['[ä]', /IPv6/],
    ['::1', /labels|port/],
    ['*', /only at the beginning/],
    ['a.*.b', /only at the beginning/],
    ['*.*.b', /only at the beginning/],
    ['*a.b', /only at the beginning/],
    ['*.', /labels/],
    ['.', /labels/],
    ['.a', /labels/],
    ['a..b', /labels/],
    ['a/b', /labels/],
    ['a b', /labels/],
    ['bücher.example', /labels/],
    ['http://a', /labels/],
    [`${'a.'.repeat(130)}a`, /253/],
  ];
  for (const [host, why] of table) t.match(hostProblem(host), why, host.slice(0, 20));
  t.throws(() => canonicalHost('a:80'), { code: 'BATON_CONFIG' });
});

t.test('the normal form of valid hosts', async (t) => {
  const table: [string, string, boolean][] = [
    ['Example.ORG', 'example.org', false],
    ['example.org.', 'example.org', false],
    ['*.Example.org', '.example.org', true],
    ['10.0.0.1', '10.0.0.1', false],
    ['[2001:DB8::1]', '[2001:db8::1]', false],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example', false],
  ];
  for (const [host, normal, isWildcard] of table) {
    t.equal(hostProblem(host), undefined, host);
    const canonical = canonicalHost(host);
    t.same(
      [Buffer.from(canonical.bytes).toString(), canonical.isWildcard],
      [normal, isWildcard],
      host,
    );
  }
});

t.test('duplicates are found by their normal form', async (t) => {
  const resources = [
    { path: '/a/' },
    { host: 'a.example', path: '/a/' },
    { host: '*.a.example', path: '/a/' },
    { host: 'A.example.', path: '/b/../a/' },
    { path: '/%61/' },
    { path: '/a' },
    { path: '/./a/' },
    { path: '/é' },
    { path: '/%C3%A9' },
    { path: '//a//' },
  ];
  t.same(duplicates(resources), [
    [3, 1],
    [4, 0],
    [6, 0],
    [8, 7],
    [9, 0],
  ]);
  t.not(patternKey({ path: '/a' }), patternKey({ path: '/a/' }));
});

t.test('a path gets the normal form that the same path of a request has', async (t) => {
  const piece = fc.constantFrom(
    '/',
    '/',
    'a',
    'B9',
    '.',
    '..',
    '-',
    '_',
    '~',
    '=',
    '%41',
    '%2f',
    'é',
  );
  const path = fc.array(piece, { maxLength: 12 }).map((pieces) => `/${pieces.join('')}`);
  fc.assert(
    fc.property(path, (path) => {
      const bytes = Buffer.from(path);
      const target = new Target(bytes.length);
      if (!target.read(bytes, 0, bytes.length, false)) throw new Error(path);
      const normal = Buffer.from(target.path.subarray(0, target.pathLength)).toString('latin1');
      t.equal(Buffer.from(canonicalPath(path)).toString('latin1'), normal);
      t.equal(patternKey({ path }), normal);
    }),
    { numRuns: 2_000 },
  );
});

t.test('two hosts have the same key if they have the same normal form', async (t) => {
  const label = fc.constantFrom('www', 'WWW', 'a-b', '_x', '0');
  const host = fc
    .tuple(fc.constantFrom('', '*.'), fc.array(label, { minLength: 1, maxLength: 3 }), fc.boolean())
    .map(([wildcard, labels, dot]) => `${wildcard}${labels.join('.')}${dot ? '.' : ''}`);
  fc.assert(
    fc.property(host, (host) => {
      t.equal(hostProblem(host), undefined);
      const { bytes, isWildcard } = canonicalHost(host);
      const normal = `${isWildcard ? '*' : ''}${Buffer.from(bytes).toString('latin1')}`;
      t.equal(patternKey({ host, path: '/' }), `${normal} /`);
    }),
  );
});
