/** The path that a node gets instead of the one that the client asked for. */
import fc from 'fast-check';
import t from 'tap';
import { sharedArrays } from '../../src/base/arrays.js';
import { Directory } from '../../src/directory/directory.js';
import { directoryImage } from '../../src/directory/directory-image.js';
import { rewriteProblem } from '../../src/directory/rewrite.js';
import { HeadReader, HeadStatus } from '../../src/request/http/head.js';

const HEAD_BYTES = 4_096;
const RESOURCES = [
  { path: '/', nodes: [0] },
  { path: '/old/', rewrite: '/new/%p', nodes: [0] },
  { path: '/old/page', rewrite: '/page.html', nodes: [0] },
  { path: '/caf\u00e9/', rewrite: '/th\u00e9/%p.txt', nodes: [0] },
  { path: '/flat/', rewrite: '/one', nodes: [0] },
  { path: '/root/', rewrite: '/%p', nodes: [0] },
];
const directory = new Directory(directoryImage(RESOURCES, 1, sharedArrays));

/** The head as the node gets it; undefined: it is refused, or stays as it is. */
function rewritten(head: Buffer): Buffer | undefined {
  const reader = new HeadReader(HEAD_BYTES);
  if (reader.read(head, 0, head.length, 0) !== HeadStatus.complete) return undefined;
  const { host, hostLength, path, pathLength, pathStart, pathEnd } = reader;
  const resource = directory.find(host, hostLength, path, pathLength);
  const length = directory.rewrites.length(resource, pathLength);
  if (length === 0 || pathEnd < pathStart) return undefined;
  // What is not written keeps these bytes.
  const bytes = Buffer.alloc(length + 2, '\r');
  directory.rewrites.write(resource, path, pathLength, bytes, 1);
  return Buffer.concat([
    head.subarray(0, pathStart),
    bytes.subarray(1, -1),
    head.subarray(pathEnd),
  ]);
}

const REST = ' HTTP/1.1\r\nHost: h\r\n\r\n';

/** What becomes of a target. */
const target = (sent: string, method = 'GET') =>
  rewritten(Buffer.from(`${method} ${sent}${REST}`, 'latin1'))
    ?.toString('latin1')
    .slice(method.length + 1, -REST.length);

t.test('each template', async (t) => {
  for (const [sent, got] of [
    ['/old/a/b.html?q=%20&r', '/new/a/b.html?q=%20&r'],
    ['/old/', '/new/'],
    ['/old/page', '/page.html'],
    ['/old/page/', '/new/page/'],
    ['/caf%C3%A9/a', '/th%C3%A9/a.txt'],
    ['/caf\u00c3\u00a9/\u00e9', '/th%C3%A9/%E9.txt'],
    ['/flat/any/thing?', '/one?'],
    ['/root/a', '/a'],
    ['/old', undefined],
    ['/other', undefined],
  ] as const) {
    t.equal(target(sent), got, sent);
  }
});

t.test('the path that is put in is in normal form, so it stays below the new path', async (t) => {
  for (const [sent, got] of [
    ['/old/./a//b/../c', '/new/a/c'],
    ['/x/../old/%61%2e%2E/b', '/new/a../b'],
    ['/old/%2e%2e/old/a', '/new/a'],
    ['/root//a', '/a'],
    ['/root///evil.example/', '/evil.example/'],
    ['/old/a%0d%0aX:%20y', '/new/a%0D%0AX:%20y'],
    ['/old/a%2f..%2fb%00%3fc%23d%25', '/new/a%2F..%2Fb%00%3Fc%23d%25'],
  ] as const) {
    t.equal(target(sent), got, sent);
  }
});

t.test('other forms of a target: the authority stays, and the asterisk is no path', async (t) => {
  t.equal(target('http://a.b:80/old/c?d'), 'http://a.b:80/new/c?d');
  t.equal(target('http://a.b'), undefined);
  t.equal(target('*', 'OPTIONS'), undefined);
  const root = new Directory(directoryImage([{ path: '/', rewrite: '/r/%p', nodes: [0] }]));
  t.equal(root.rewrites.length(0, 1), 3, 'an absolute target without a path has the path "/"');
});

t.test(
  'whatever is sent, the head has the same lines, and the path is the expected one',
  async (t) => {
    const piece = fc.oneof(
      fc.constantFrom('/', '//', '..', '.', '%2e', '%2F', '%0d%0a', '%', '?', '#', '\\', '"', ';'),
      fc.string({ unit: 'binary', maxLength: 4 }),
      fc.constantFrom('\r\n', '\n', ' ', '\t', 'HTTP/1.1', 'Host: x'),
    );
    let changed = 0;
    fc.assert(
      fc.property(
        fc.constantFrom('/old/', '/caf\u00c3\u00a9/', '/root/', 'http://h/old/'),
        fc.array(piece, { maxLength: 8 }),
        (prefix, pieces) => {
          const head = Buffer.from(`GET ${prefix}${pieces.join('')}${REST}`, 'latin1');
          const got = rewritten(head);
          if (got === undefined) return;
          changed += 1;
          const [before, after] = [head, got].map((bytes) =>
            bytes.toString('latin1').split('\r\n'),
          );
          const [first = '', ...lines] = after ?? [];
          if (lines.join('\n') !== before?.slice(1).join('\n')) throw new Error(got.toString());
          if (!/^GET [!-"$->@-~\x80-\xff]+(\?[!-"$-~\x80-\xff]*)? HTTP\/1\.1$/.test(first))
            throw new Error(first);
          if (/^GET [^? ]*\/\.\.?([/?]| HTTP)/.test(first)) throw new Error(first);
          const reader = new HeadReader(3 * HEAD_BYTES);
          if (reader.read(got, 0, got.length, 0) !== HeadStatus.complete) throw new Error(first);
          if (reader.headEnd !== got.length) throw new Error('it ends elsewhere');
        },
      ),
      { numRuns: 4_000 },
    );
    t.ok(changed > 500, `${changed} heads were rewritten`);
  },
);

t.test('templates that are no paths', async (t) => {
  t.equal(rewriteProblem('/a/%p', true), undefined);
  t.equal(rewriteProblem('/a', false), undefined);
  t.match(rewriteProblem('a', true), /must begin with/);
  t.match(rewriteProblem('/a%zz', true), /two hex digits/);
  t.match(rewriteProblem('/a\r\n', true), /percent-encoded/);
});
