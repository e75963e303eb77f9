import t from 'tap';
import { Target } from '../../../src/request/http/target.js';
import { processorTime } from '../../support/processor-time.js';

interface Read {
  path: string;
  query: string;
  authority: string;
}

function read(text: string, isOptions = false): Read | undefined {
  const bytes = Buffer.from(text, 'latin1');
  const target = new Target(bytes.length);
  // The fill shows bytes that were never written. A path beyond its buffer would be cut short.
  target.path.fill(0xa5);
  if (!target.read(bytes, 0, bytes.length, isOptions)) return undefined;
  return {
    path: Buffer.from(target.path.subarray(0, target.pathLength)).toString('latin1'),
    query: bytes.toString('latin1', target.queryStart, target.queryEnd),
    authority: bytes.toString('latin1', target.authorityStart, target.authorityEnd),
  };
}

t.test('normal form of paths', async (t) => {
  const table: [string, string][] = [
    // unchanged
    ['/', '/'],
    ['/a/b/c.html', '/a/b/c.html'],
    ['//', '/'],
    ['///', '/'],
    ['//a//b//', '/a/b/'],
    ['/a/////b', '/a/b'],
    ["/a:b@c!$&'()*+,;=", "/a:b@c!$&'()*+,;="],
    ['/a|b{c}[d]^`\\"<>', '/a|b{c}[d]^`\\"<>'],
    // percent-encoding: RFC 3986 sections 6.2.2.1 and 6.2.2.2
    ['/%41%7a%30%2D%2e%5F%7E', '/Az0-._~'],
    ['/%e4%C3%9f', '/%E4%C3%9F'],
    ['/caf\xc3\xa9.txt', '/caf%C3%A9.txt'],
    ['/\x80\xff/\xe4', '/%80%FF/%E4'],
    ['/\xc3%a9', '/%C3%A9'],
    ['/a%2fb%2F', '/a%2Fb%2F'],
    ['/%00', '/%00'],
    ['/%25%34%31', '/%2541'],
    ['/%2541', '/%2541'],
    ['/%3f%23%20', '/%3F%23%20'],
    // dot segments: RFC 3986 section 5.2.4
    ['/a/b/c/./../../g', '/a/g'],
    ['/.', '/'],
    ['/..', '/'],
    ['/./', '/'],
    ['/../', '/'],
    ['/../../../a', '/a'],
    ['/a/.', '/a/'],
    ['/a/..', '/'],
    ['/a/b/..', '/a/'],
    ['/a/b/../', '/a/'],
    ['/a/./b', '/a/b'],
    // slashes are merged first: the order of nginx and Apache, not of RFC 3986
    ['/a//../b', '/b'],
    ['/a//b/../../c', '/c'],
    ['/a/..//b', '/b'],
    ['/a//./b', '/a/b'],
    ['/a//.//..//b', '/b'],
    ['//../a', '/a'],
    ['/..//..', '/'],
    ['/%2F/a', '/%2F/a'],
    ['/a/%2e%2e//%2e/b', '/b'],
    ['/.../..a/a../.a', '/.../..a/a../.a'],
    ['/a/%2e%2E/b', '/b'],
    ['/a/.%2e/%2e/b', '/b'],
    ['/a%2f../b', '/a%2F../b'],
    ['/a/..%2fb', '/a/..%2Fb'],
    ['/a;x/../b', '/b'],
  ];
  for (const [target, path] of table)
    t.same(read(target), { path, query: '', authority: '' }, target);
});

t.test('a path in normal form does not change', async (t) => {
  for (const target of [
    '/a/../%41%2f',
    '//x/./y//',
    '/%2e%2e/%25',
    '/a/b/c/..',
    '/\xc3\xa9/\xff',
  ]) {
    const once = read(target)?.path ?? '';
    t.equal(read(once)?.path, once, target);
  }
});

t.test('the query is separated and not changed', async (t) => {
  const table: [string, string, string][] = [
    ['/?', '/', ''],
    ['/?a', '/', 'a'],
    ['/a/../b?c/../d?e', '/b', 'c/../d?e'],
    ['/a/..?x', '/', 'x'],
    ['/a?%41%2f', '/a', '%41%2f'],
    ['/a%3fb?c', '/a%3Fb', 'c'],
    ['/a?100%&b=%zz', '/a', '100%&b=%zz'],
    ['/?%', '/', '%'],
    ['/a//b?c//d', '/a/b', 'c//d'],
    ['/\xe4?\xe4', '/%E4', '\xe4'],
  ];
  for (const [target, path, query] of table)
    t.same(read(target), { path, query, authority: '' }, target);
});

t.test('invalid percent-encoding', async (t) => {
  for (const target of ['/%', '/%4', '/%g1', '/%1g', '/%%41', '/a%4/b', '/%?41']) {
    t.equal(read(target), undefined, target);
  }
});

t.test('absolute form', async (t) => {
  const table: [string, Read][] = [
    ['http://a/b?c', { path: '/b', query: 'c', authority: 'a' }],
    ['HTTPS://A:1/', { path: '/', query: '', authority: 'A:1' }],
    ['http://a', { path: '/', query: '', authority: 'a' }],
    ['http://a?x/../y', { path: '/', query: 'x/../y', authority: 'a' }],
    ['http://a//b/\xe4', { path: '/b/%E4', query: '', authority: 'a' }],
    ['http://[::1]:80/..', { path: '/', query: '', authority: '[::1]:80' }],
  ];
  for (const [target, wants] of table) t.same(read(target), wants, target);
  for (const target of [
    'http:/a',
    'http//a',
    'http:',
    'h',
    'httpx://a',
    'ftp://a/',
    'ws://a/',
    'http://',
    'http:///a',
    'http://?x',
  ]) {
    t.equal(read(target), undefined, target);
  }
});

t.test('asterisk form', async (t) => {
  t.same(read('*', true), { path: '/', query: '', authority: '' });
  t.equal(read('*', false), undefined);
  t.equal(read('**', true), undefined);
  t.equal(read('*?a', true), undefined);
});

t.test('many dot segments take linear time', async (t) => {
  const timeOf = (count: number): number => {
    const bytes = Buffer.from(`${'/aaaaaaaaaaaaaaaaaaaa'.repeat(count)}${'/..'.repeat(count)}`);
    const target = new Target(bytes.length);
    const once = () => {
      const before = processorTime();
      target.read(bytes, 0, bytes.length, false);
      return processorTime() - before;
    };
    return Math.min(...Array.from({ length: 20 }, once));
  };
  timeOf(2_000);
  const ratio = timeOf(20_000) / timeOf(2_000);
  t.ok(ratio < 40, `10 times the length takes ${ratio.toFixed(1)} times as long`);
});
