/** The texts of a request that the access log shows, also of heads that were refused. */
import t from 'tap';
import { readRequestText } from '../../../src/balancer/access-log/request-text.js';

t.test('a head, and what follows it', async (t) => {
  const head =
    'POST /form?a=b HTTP/1.1\r\nHOST:  www.example.org \r\nuser-agent: one\r\nReferer:\r\nUser-Agent: two\r\n\r\n';
  t.same(readRequestText(`${head}Host: body\r\n\r\nsecret`, false), {
    line: 'POST /form?a=b HTTP/1.1',
    method: 'POST',
    host: 'www.example.org',
    referer: '',
    userAgent: 'one',
    cut: false,
  });
});

t.test('heads that are not whole', async (t) => {
  t.match(readRequestText('GET /a HT', true), { line: 'GET /a HT', method: 'GET', cut: true });
  const half = 'GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: Mozi';
  t.match(readRequestText(half, true), { host: 'a', userAgent: undefined, cut: true });
  t.match(readRequestText('\x16\x03\x01\x02', false), {
    line: '\x16\x03\x01\x02',
    method: undefined,
  });
  t.match(readRequestText('', false), { line: '', cut: false });
  const late = readRequestText('\r\n\r\nGET x HTTP/1.1\r\nHost: a\r\n\r\n', false);
  t.match(late, { line: 'GET x HTTP/1.1', host: 'a' });
  t.match(readRequestText('GET / HTTP/1.1\nhost\n:\n\n', false), { host: undefined });
});

t.test('texts are cut at their bounds', async (t) => {
  const long = 'x'.repeat(3_000);
  const lines = [
    `GET /${long} HTTP/1.1`,
    `Host: ${long}`,
    `Referer: ${long}`,
    `User-Agent: ${long}`,
  ];
  const text = readRequestText(`${lines.join('\r\n')}\r\n\r\n`, false);
  t.ok(text.cut);
  t.equal(text.line.length, 2_048);
  t.equal(text.host?.length, 255);
  t.equal(text.referer?.length, 1_024);
  t.equal(text.userAgent?.length, 512);
  t.equal(readRequestText(`${'M'.repeat(40)} / HTTP/1.1\r\n\r\n`, false).method, undefined);
});
