import t from 'tap';
import { HeadReader, HeadStatus } from '../../../src/request/http/head.js';
import { processorTime } from '../../support/processor-time.js';
import { allCuts, bytesOf, newReader, type Outcome, readPieces, readWhole } from './pieces.js';

/** What a client sends, and what must be read from it. */
interface Case {
  name: string;
  head: string;
  wants: Partial<Outcome>;
}

const crlf = (text: string) => text.replaceAll('\n', '\r\n');
const accepted = (name: string, head: string, wants: Partial<Outcome>): Case => ({
  name,
  head: crlf(head),
  wants: { status: HeadStatus.complete, ...wants },
});
/** `head` is not changed, since the mistake is often in a line end. */
const refused = (name: string, head: string, status: number = HeadStatus.badRequest): Case => ({
  name,
  head,
  wants: { status },
});

const cases: Case[] = [
  accepted('origin form', 'GET /a/b.html?x=1&y HTTP/1.1\nHost: example.org\n\n', {
    method: 'GET',
    target: '/a/b.html?x=1&y',
    minor: 1,
    host: 'example.org',
    path: '/a/b.html',
    query: 'x=1&y',
    length: -1,
    chunked: false,
  }),
  accepted(
    'many fields',
    'GET / HTTP/1.1\nAccept: */*\nX-Empty:\nX-Tab:\ta\tb \nHost:example.org\nA: \x80\xff\n\n',
    {
      host: 'example.org',
    },
  ),
  accepted('any token is a method', "M!#$%&'*+-.^_`|~9 / HTTP/1.1\nHost: a\n\n", {
    method: "M!#$%&'*+-.^_`|~9",
  }),
  accepted('one empty line before the request line', '\nGET / HTTP/1.1\nHost: a\n\n', {
    method: 'GET',
    target: '/',
  }),
  accepted('HTTP/1.0 without Host', 'GET / HTTP/1.0\n\n', { minor: 0, host: '' }),
  accepted('HTTP/1.0 with Host', 'GET / HTTP/1.0\nHost: a\n\n', { minor: 0, host: 'a' }),
  accepted('a later minor version', 'GET / HTTP/1.9\nHost: a\n\n', { minor: 9 }),
  accepted('only the head is read', 'GET / HTTP/1.1\nHost: a\n\nGET /2 HTTP/1.1\nHost: b\n\n', {
    end: 27,
    host: 'a',
  }),
  refused('TLS hello', '\x16\x03\x01\x02\x00\x01\x00'),
  refused('NUL', '\0GET / HTTP/1.1\r\nHost: a\r\n\r\n'),
  refused('HTTP/2 preface', 'PRI * HTTP/2.0\r\n'),
  refused('HTTP/0.9', 'GET /\r\n'),
  refused('HTTP/3.0', 'GET / HTTP/3.0\r\n'),
  refused('version in lower case', 'GET / http/1.1\r\n'),
  refused('version with two digits', 'GET / HTTP/1.10\r\n'),
  refused('version without minor', 'GET / HTTP/1.\r\n'),
  refused('no method', ' / HTTP/1.1\r\n'),
  refused('no target', 'GET  HTTP/1.1\r\n'),
  refused('two spaces before the target', 'GET  / HTTP/1.1\r\n'),
  refused('two spaces after the target', 'GET /  HTTP/1.1\r\n'),
  refused('tab instead of a space', 'GET\t/ HTTP/1.1\r\n'),
  refused('space after the version', 'GET / HTTP/1.1 \r\n'),
  refused('space before the method', ' GET / HTTP/1.1\r\n'),
  refused('method is not a token', 'G(T / HTTP/1.1\r\n'),
  refused('space in the target', 'GET /a b HTTP/1.1\r\n'),
  refused('fragment in the target', 'GET /a#b HTTP/1.1\r\n'),
  refused('control byte in the target', 'GET /a\x01 HTTP/1.1\r\n'),
  refused('DEL in the target', 'GET /a\x7f HTTP/1.1\r\n'),
  accepted('bytes above ASCII in the target', 'GET /\xc3\xa9?\xe4 HTTP/1.1\nHost: a\n\n', {
    target: '/\xc3\xa9?\xe4',
    path: '/%C3%A9',
    query: '\xe4',
  }),
  accepted(
    'eight empty lines before the request line',
    `${'\n'.repeat(8)}GET /a HTTP/1.1\nHost: a\n\n`,
    {
      target: '/a',
    },
  ),
  refused(
    'nine empty lines before the request line',
    `${'\r\n'.repeat(9)}GET / HTTP/1.1\r\nHost: a\r\n\r\n`,
  ),
  refused('nothing but empty lines', '\r\n'.repeat(9)),
  refused(
    'an empty line and a bare LF before the request line',
    '\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n',
  ),
  refused(
    'an empty line and a bare CR before the request line',
    '\r\n\rGET / HTTP/1.1\r\nHost: a\r\n\r\n',
  ),
  refused('byte above ASCII in the method', 'G\xc9T / HTTP/1.1\r\n'),
  refused('byte above ASCII in the authority', 'GET http://\xe4/ HTTP/1.1\r\nHost: a\r\n\r\n'),
  refused('bare LF before the request line', '\nGET / HTTP/1.1\r\nHost: a\r\n\r\n'),
  refused('bare CR before the request line', '\rGET / HTTP/1.1\r\nHost: a\r\n\r\n'),
  refused('request line ends in LF', 'GET / HTTP/1.1\nHost: a\r\n\r\n'),
  refused('request line ends in CR', 'GET / HTTP/1.1\rHost: a\r\n\r\n'),
  refused('field line ends in LF', 'GET / HTTP/1.1\r\nHost: a\n'),
  refused('head ends in LF', 'GET / HTTP/1.1\r\nHost: a\r\n\n'),
  refused('CR in a value', 'GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n'),
  refused('CR twice', 'GET / HTTP/1.1\r\nHost: a\r\r\n\r\n'),
  refused('NUL in a value', 'GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n'),
  refused('DEL in a value', 'GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n'),
  refused('folded line', 'GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n'),
  refused('line folded with a tab', 'GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n'),
  refused('space before the first field', 'GET / HTTP/1.1\r\n Host: a\r\n\r\n'),
  refused('space before the colon', 'GET / HTTP/1.1\r\nHost : a\r\n\r\n'),
  refused('no field name', 'GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n'),
  refused('no colon', 'GET / HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n'),
  refused('field name is not a token', 'GET / HTTP/1.1\r\nHost: a\r\nX(Y): b\r\n\r\n'),
  refused('byte above ASCII in a name', 'GET / HTTP/1.1\r\nHost: a\r\n\xe4: b\r\n\r\n'),

  accepted('Host with port', 'GET / HTTP/1.1\nHost: Example.ORG:8080\n\n', { host: 'example.org' }),
  accepted('Host in any case, spaces around', 'GET / HTTP/1.1\nhOST: \t example.org. \t\n\n', {
    host: 'example.org',
  }),
  refused('HTTP/1.1 without Host', 'GET / HTTP/1.1\r\nX-Host: a\r\n\r\n'),
  refused('HTTP/1.1 without fields', 'GET / HTTP/1.1\r\n\r\n'),
  refused('two Hosts', 'GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n'),
  refused('two Hosts in HTTP/1.0', 'GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n'),
  refused('empty Host', 'GET / HTTP/1.1\r\nHost:\r\n\r\n'),
  refused('list as Host', 'GET / HTTP/1.1\r\nHost: a, b\r\n\r\n'),
  refused('user in Host', 'GET / HTTP/1.1\r\nHost: u@a\r\n\r\n'),
  refused('path in Host', 'GET / HTTP/1.1\r\nHost: a/b\r\n\r\n'),
  refused('invalid Host in HTTP/1.0', 'GET / HTTP/1.0\r\nHost: a b\r\n\r\n'),

  accepted('absolute form', 'GET http://WWW.Example.org:80/a?b HTTP/1.1\nHost: other\n\n', {
    target: 'http://WWW.Example.org:80/a?b',
    host: 'www.example.org',
    path: '/a',
    query: 'b',
  }),
  accepted('absolute form without Host in HTTP/1.0', 'GET http://a/ HTTP/1.0\n\n', {
    host: 'a',
    path: '/',
  }),
  refused('absolute form without Host', 'GET http://a/ HTTP/1.1\r\n\r\n'),
  refused('absolute form with an invalid Host', 'GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n'),
  refused('absolute form with a user', 'GET http://u@a/ HTTP/1.1\r\n'),
  refused('absolute form without host', 'GET http:///a HTTP/1.1\r\n'),
  refused('absolute form with port alone', 'GET http://:80/a HTTP/1.1\r\n'),
  accepted('asterisk form', 'OPTIONS * HTTP/1.1\nHost: a\n\n', { target: '*', path: '/' }),
  accepted('OPTIONS of a path', 'OPTIONS /a HTTP/1.1\nHost: a\n\n', { path: '/a' }),
  refused('asterisk for GET', 'GET * HTTP/1.1\r\n'),
  refused('asterisk for options in lower case', 'options * HTTP/1.1\r\n'),
  refused('more than an asterisk', 'OPTIONS *a HTTP/1.1\r\n'),
  refused('CONNECT', 'CONNECT a:443 HTTP/1.1\r\n'),
  refused('CONNECT with a path', 'CONNECT /a HTTP/1.1\r\n'),
  refused('authority form', 'GET a:80 HTTP/1.1\r\n'),
  refused('relative path', 'GET a/b HTTP/1.1\r\n'),

  accepted('Content-Length', 'POST / HTTP/1.1\nHost: a\nContent-Length: 12\n\n', { length: 12 }),
  accepted('Content-Length 0', 'POST / HTTP/1.1\nHost: a\ncontent-length:0\n\n', { length: 0 }),
  accepted(
    'the same length twice',
    'POST / HTTP/1.1\nHost: a\nContent-Length: 5\nContent-Length: 5\n\n',
    {
      length: 5,
    },
  ),
  accepted('15 digits', 'POST / HTTP/1.1\nHost: a\nContent-Length: 999999999999999\n\n', {
    length: 999999999999999,
  }),
  refused('16 digits', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000000\r\n\r\n'),
  refused(
    'two lengths',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n',
  ),
  refused('list of lengths', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n'),
  refused('empty length', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n'),
  refused('negative length', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n'),
  refused('plus sign', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n'),
  refused('hex length', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n'),
  refused('space in a length', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 2\r\n\r\n'),

  accepted('chunked', 'POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n', {
    chunked: true,
  }),
  accepted(
    'chunked in capitals is the last coding',
    'POST / HTTP/1.1\nHost: a\nTransfer-Encoding: gzip , CHUNKED\n\n',
    {
      chunked: true,
    },
  ),
  accepted(
    'codings over two fields',
    'POST / HTTP/1.1\nHost: a\nTransfer-Encoding: gzip\nTransfer-Encoding: chunked\n\n',
    {
      chunked: true,
    },
  ),
  accepted(
    'empty list elements',
    'POST / HTTP/1.1\nHost: a\nTransfer-Encoding: , gzip,, chunked,\n\n',
    {
      chunked: true,
    },
  ),
  refused(
    'chunked not last',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n',
  ),
  refused(
    'chunked twice',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n',
  ),
  refused(
    'chunked in two fields',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n',
  ),
  refused(
    'a coding other than chunked',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n',
  ),
  refused(
    'a coding that ends in chunked',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n',
  ),
  refused(
    'chunked with a parameter',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a=b\r\n\r\n',
  ),
  refused(
    'chunked after a vertical tab',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n',
  ),
  refused('an empty list of codings', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n'),
  refused('chunked in HTTP/1.0', 'POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n'),
  refused(
    'length and chunked',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n',
  ),
  refused(
    'chunked and length',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n',
  ),

  { name: 'nothing', head: '', wants: { status: HeadStatus.incomplete } },
  { name: 'half of an empty line', head: '\r', wants: { status: HeadStatus.incomplete } },
  { name: 'an empty line', head: '\r\n', wants: { status: HeadStatus.incomplete } },
  {
    name: 'all but the last byte',
    head: 'GET / HTTP/1.1\r\nHost: a\r\n\r',
    wants: { status: HeadStatus.incomplete },
  },
  {
    name: 'part of a field line',
    head: 'GET / HTTP/1.1\r\nHo',
    wants: { status: HeadStatus.incomplete },
  },
];

t.test('each head, in one piece and cut at every byte', async (t) => {
  const reader = newReader();
  for (const { name, head, wants } of cases) {
    const bytes = bytesOf(head);
    const whole = readWhole(reader, bytes);
    t.match(whole, wants, name);
    for (const cut of allCuts(bytes.length)) {
      const pieces = readPieces(reader, bytes, cut);
      // One assertion for each case; only a difference gets another.
      if (JSON.stringify(pieces) !== JSON.stringify(whole))
        t.same(pieces, whole, `${name}, cut at ${cut[0]}`);
    }
  }
});

t.test(
  'another protocol is refused at its first byte, and each mistake as early as possible',
  async (t) => {
    const soonest: [string, string][] = [
      ['', '\x16'],
      ['', '\x80'],
      ['\r', 'G'],
      ['\r\n', '\n'],
      ['\r\n'.repeat(8), '\r'],
      ['GET', '\r'],
      ['GET ', ' '],
      ['GET /a', '#'],
      ['GET /', '\r'],
      ['GET / ', 'h'],
      ['GET / HTTP/', '2'],
      ['GET / HTTP/1.1', '0'],
      ['GET / HTTP/1.1', '\n'],
      ['GET a HTTP/1.1\r', '\n'],
      ['GET /% HTTP/1.1\r', '\n'],
      ['GET / HTTP/1.1\r\nHost: a', '\n'],
    ];
    for (const [good, bad] of soonest) {
      const reader = newReader();
      t.equal(readWhole(reader, bytesOf(good)).status, HeadStatus.incomplete, JSON.stringify(good));
      t.equal(
        readWhole(reader, bytesOf(good + bad)).status,
        HeadStatus.badRequest,
        JSON.stringify(good + bad),
      );
    }
  },
);

t.test('after a refusal, a valid request line can be read', async (t) => {
  const head = bytesOf('GET /a HTTP/1.1\r\nHost: a\r\nbad line\r\n\r\n');
  for (const cut of allCuts(head.length)) {
    const outcome = readPieces(newReader(), head, cut);
    if (outcome.method !== 'GET' || outcome.target !== '/a') t.fail(`cut at ${cut[0]}`);
  }
  t.match(readWhole(newReader(), head), { status: 400, method: 'GET', target: '/a' });
  t.match(readWhole(newReader(), bytesOf('GET /\x00')), { status: 400, method: '', target: '' });
});

t.test('the size limit of a head', async (t) => {
  const lineOf = (length: number) =>
    `GET /${'a'.repeat(length - 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'.length)} HTTP/1.1\r\n`;
  const headOf = (length: number) => bytesOf(`${lineOf(length)}Host: a\r\n\r\n`);
  for (const limit of [64, 1000]) {
    const reader = newReader(limit);
    for (const [length, status] of [
      [limit - 1, HeadStatus.complete],
      [limit, HeadStatus.complete],
      [limit + 1, HeadStatus.tooLarge],
      [limit + 2, HeadStatus.tooLarge],
      [limit + 500, HeadStatus.tooLarge],
    ] as const) {
      const head = headOf(length);
      t.equal(readWhole(reader, head).status, status, `${length} bytes, limit ${limit}`);
      for (const cut of allCuts(head.length)) {
        if (readPieces(reader, head, cut).status !== status)
          t.fail(`${length} bytes cut at ${cut[0]}`);
      }
    }
    t.equal(
      readWhole(reader, headOf(limit + 1).subarray(0, limit - 1)).status,
      HeadStatus.incomplete,
    );
    t.equal(
      readWhole(reader, headOf(limit + 1).subarray(0, limit)).status,
      HeadStatus.tooLarge,
      'refused exactly at the limit',
    );
    t.equal(
      readWhole(reader, bytesOf(`GET a HTTP/1.1\r\n${'X: y\r\n'.repeat(limit)}`)).status,
      400,
      'an invalid request line is reported first',
    );
  }
  for (const headBytes of [0, 65_536, 1.5, Number.NaN]) {
    t.throws(() => new HeadReader(headBytes), { code: 'BATON_CONFIG' });
  }
});

t.test('reading the largest head byte by byte takes linear time', async (t) => {
  const size = 65_535;
  const reader = newReader(size);
  const shapes: Record<string, string> = {
    'long target': `GET /${'a/../'.repeat(13_000)} HTTP/1.1\r\nHost: a\r\n\r\n`,
    'long field': `GET / HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(65_000)}\r\n\r\n`,
    'many fields': `GET / HTTP/1.1\r\nHost: a\r\n${'a:\r\n'.repeat(16_000)}\r\n`,
    'long method': `${'M'.repeat(65_000)} / HTTP/1.1\r\nHost: a\r\n\r\n`,
  };
  const timed = (head: Buffer, from: number): number => {
    const before = processorTime();
    let resume = 0;
    let status: number = HeadStatus.incomplete;
    for (let end = from; end <= head.length; end++) {
      status = reader.read(head, 0, end, resume);
      resume = reader.resume;
    }
    if (status !== HeadStatus.complete) t.fail('not complete');
    return processorTime() - before;
  };
  for (const [name, text] of Object.entries(shapes)) {
    const head = bytesOf(text);
    const best = (from: number) => Math.min(...Array.from({ length: 5 }, () => timed(head, from)));
    const perCall = best(1) / head.length;
    // A quadratic reader examines some 30,000 bytes in each call: about 20,000 ns.
    t.ok(perCall < 1_000, `${name}: ${perCall.toFixed(0)} ns for each of ${head.length} bytes`);
  }
});

t.test('reading a head allocates nothing', async (t) => {
  const head = bytesOf(
    'GET /a/../b%2f?q HTTP/1.1\r\nHost: example.org\r\nContent-Length: 1\r\n\r\n',
  );
  const reader = newReader();
  const rounds = 200_000;
  const round = () => {
    reader.read(head, 0, 30, 0);
    reader.read(head, 0, head.length, reader.resume);
    reader.read(head, 0, head.length, 0);
  };
  for (let i = 0; i < rounds; i++) round();
  const measured = (): number => {
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < rounds; i++) round();
    return (process.memoryUsage().heapUsed - before) / rounds;
  };
  // V8 compiles on the same heap, but not in each round of measurement.
  const perRound = Math.min(measured(), measured(), measured());
  t.ok(perRound < 1, `${perRound.toFixed(3)} bytes a round`);
});
