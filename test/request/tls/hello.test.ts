import t from 'tap';
import { Alert, alertRecord } from '../../../src/request/tls/alert.js';
import { HelloReader, HelloStatus } from '../../../src/request/tls/hello.js';
import { MOST_HELLO_BYTES, MOST_RECORD_BYTES } from '../../../src/request/tls/records.js';
import { processorTime } from '../../support/processor-time.js';
import {
  alpn,
  bytewise,
  earlyData,
  extension,
  type HelloOutcome,
  hello,
  helloBody,
  hostName,
  latin1,
  message,
  padded,
  readPieces,
  readWhole,
  realHellos,
  records,
  serverName,
  tls13,
  vector,
} from './hellos.js';

const WWW = 'www.example.org';
const complete = (parts: HelloOutcome | Omit<HelloOutcome, 'status'> = {}): HelloOutcome => ({
  status: HelloStatus.complete,
  host: '',
  protocols: [],
  tls13: false,
  early: false,
  ...parts,
});
const refused = (alert: number): HelloOutcome => ({ status: HelloStatus.refused, alert });
const incomplete: HelloOutcome = { status: HelloStatus.incomplete };

t.test('what real clients send', async (t) => {
  const http = ['h2', 'http/1.1'];
  const wanted: Record<string, HelloOutcome> = {
    chromium: complete({ host: WWW, protocols: http, tls13: true }),
    curl: complete({ host: WWW, protocols: http, tls13: true }),
    firefox: complete({ host: WWW, protocols: http, tls13: true }),
    node: complete({ host: WWW, protocols: http, tls13: true }),
    'openssl-no-sni': complete(),
    'openssl-tls12': complete({ host: WWW }),
    'openssl-tls13': complete({ host: WWW, protocols: http, tls13: true }),
    python: complete({ host: WWW, tls13: true }),
    wget: complete({ host: 'localhost', tls13: true }),
  };
  const hellos = realHellos();
  t.same([...hellos.keys()].sort(), Object.keys(wanted).sort());
  const reader = new HelloReader();
  for (const [name, bytes] of hellos) {
    t.same(readWhole(bytes), wanted[name], name);
    t.same(readPieces(reader, bytes, bytewise(bytes)), wanted[name], `${name}, byte by byte`);
    // The same message, spread over records as no client does but any may.
    const body = bytes.subarray(5);
    for (const sizes of [[1], [3, 1, 200], [4, 16_384]]) {
      const spread = records(body, sizes);
      t.same(readWhole(spread), wanted[name], `${name} in records of ${sizes}`);
      t.same(readPieces(reader, spread, bytewise(spread)), wanted[name], `${name}, both`);
    }
    t.same(readWhole(bytes.subarray(0, -1)), incomplete, `${name} without its last byte`);
  }
});

t.test('names and protocols', async (t) => {
  const cases: [string, Buffer, HelloOutcome][] = [
    ['lower case', hello({ extensions: [serverName('WWW.Example.ORG')] }), complete({ host: WWW })],
    ['a trailing dot', hello({ extensions: [serverName(`${WWW}.`)] }), complete({ host: WWW })],
    ['an underscore', hello({ extensions: [serverName('a_b.c')] }), complete({ host: 'a_b.c' })],
    ['no extensions at all', hello({ extensions: undefined }), complete()],
    ['an empty list of extensions', hello({ extensions: [] }), complete()],
    ['TLS 1.3', hello({ extensions: [tls13] }), complete({ tls13: true })],
    ['early data', hello({ extensions: [earlyData] }), complete({ early: true })],
    [
      'a name type to come, before the host',
      hello({
        extensions: [extension(0, vector(2, Buffer.of(7), vector(2, latin1('x')), hostName(WWW)))],
      }),
      complete({ host: WWW }),
    ],
    [
      'GREASE everywhere',
      hello({
        suites: Buffer.of(0x0a, 0x0a, 0x13, 1),
        extensions: [
          extension(0x1a1a),
          serverName(WWW),
          extension(43, vector(1, Buffer.of(0x2a, 0x2a, 3, 4))),
          alpn('\x3a\x3a', 'h2'),
          extension(0x4a4a, Buffer.of(0)),
        ],
      }),
      complete({ host: WWW, protocols: ['\x3a\x3a', 'h2'], tls13: true }),
    ],
    [
      'the name of the outer hello, beside an encrypted one',
      hello({
        extensions: [serverName('public.example.org'), extension(0xfe0d, Buffer.alloc(300))],
      }),
      complete({ host: 'public.example.org' }),
    ],
    [
      'bytes behind the message',
      Buffer.concat([hello(), Buffer.of(20, 3, 3, 0, 1, 1), latin1('anything')]),
      complete({ host: WWW }),
    ],
    ['a version to come', hello({ version: [4, 0] }), complete({ host: WWW })],
    ['the longest session ID', hello({ sessionId: Buffer.alloc(32) }), complete({ host: WWW })],
    ['no session ID', hello({ sessionId: Buffer.alloc(0) }), complete({ host: WWW })],
  ];
  for (const [name, bytes, wanted] of cases) t.same(readWhole(bytes), wanted, name);
});

t.test('what is refused, and with which alert', async (t) => {
  const { unexpectedMessage, protocolVersion, decodeError, illegalParameter } = Alert;
  const name = serverName(WWW);
  const body = helloBody();
  const cases: [string, Buffer, number][] = [
    ['HTTP in clear', latin1('GET / HTTP/1.1\r\n'), unexpectedMessage],
    ['one byte of another protocol', latin1('G'), unexpectedMessage],
    ['an alert first', Buffer.of(21, 3, 1), unexpectedMessage],
    ['a hello of SSL 2.0', Buffer.of(0x80, 0x2e, 1, 0, 2), protocolVersion],
    ['a hello of TLS in the form of SSL 2.0', Buffer.of(0x80, 0x2e, 1, 3, 1), protocolVersion],
    ['other bytes like SSL 2.0', Buffer.of(0x80, 0x2e, 4), unexpectedMessage],
    ['another major version', Buffer.of(22, 2), protocolVersion],
    ['SSL 3.0', hello({ version: [3, 0] }), protocolVersion],
    ['a version before SSL 3.0', hello({ version: [2, 0] }), protocolVersion],
    ['an empty record', Buffer.of(22, 3, 1, 0, 0), unexpectedMessage],
    ['a record too long', Buffer.of(22, 3, 1, 0x40, 1), Alert.recordOverflow],
    ['another handshake message', records(message(body, 2)), unexpectedMessage],
    ['its first byte', Buffer.of(22, 3, 1, 0, 9, 2), unexpectedMessage],
    [
      'another record within the message',
      Buffer.concat([
        records(message(body))
          .subarray(0, 5 + 1)
          .fill(1, 4, 5),
        Buffer.of(21),
      ]),
      unexpectedMessage,
    ],
    ['a message too long', Buffer.of(22, 3, 1, 0x40, 0, 1, 0, 0x40, 1), illegalParameter],
    ['an empty message', records(message(Buffer.alloc(0))), decodeError],
    ['a message cut in the random', records(message(body.subarray(0, 20))), decodeError],
    ['a session ID too long', hello({ sessionId: Buffer.alloc(33) }), decodeError],
    ['no cipher suites', hello({ suites: Buffer.alloc(0) }), decodeError],
    ['half a cipher suite', hello({ suites: Buffer.alloc(3) }), decodeError],
    ['no compression methods', hello({ compressions: Buffer.alloc(0) }), decodeError],
    ['bytes behind the extensions', hello({ rest: Buffer.of(0) }), decodeError],
    [
      'one byte in place of extensions',
      hello({ extensions: undefined, rest: Buffer.of(0) }),
      decodeError,
    ],
    ['half an extension', hello({ extensions: [name.subarray(0, 3)] }), decodeError],
    ['an extension too long', hello({ extensions: [name.subarray(0, -1)] }), decodeError],
    ['the same extension twice', hello({ extensions: [name, name] }), illegalParameter],
    ['ALPN twice', hello({ extensions: [alpn('h2'), alpn('h2')] }), illegalParameter],
    ['versions twice', hello({ extensions: [tls13, tls13] }), illegalParameter],
    ['an empty list of names', hello({ extensions: [extension(0, vector(2))] }), decodeError],
    ['an empty extension of names', hello({ extensions: [extension(0)] }), decodeError],
    ['an empty name', hello({ extensions: [serverName('')] }), decodeError],
    [
      'two host names',
      hello({ extensions: [extension(0, vector(2, hostName('a'), hostName('b')))] }),
      illegalParameter,
    ],
    [
      'a list of names shorter than its extension',
      hello({ extensions: [extension(0, vector(2, hostName('a')), Buffer.of(0))] }),
      decodeError,
    ],
    ['NUL in a name', hello({ extensions: [serverName('www\0.example.org')] }), illegalParameter],
    ['a line break in a name', hello({ extensions: [serverName('a\nb')] }), illegalParameter],
    ['a name that is a dot', hello({ extensions: [serverName('.')] }), illegalParameter],
    ['a name too long', hello({ extensions: [serverName('a'.repeat(255))] }), illegalParameter],
    ['no protocols', hello({ extensions: [extension(16, vector(2))] }), decodeError],
    ['an empty protocol', hello({ extensions: [alpn('')] }), decodeError],
    [
      'a protocol too long',
      hello({ extensions: [extension(16, vector(2, Buffer.of(9, 1)))] }),
      decodeError,
    ],
    ['no versions', hello({ extensions: [extension(43, vector(1))] }), decodeError],
    [
      'half a version',
      hello({ extensions: [extension(43, vector(1, Buffer.of(3, 4, 3)))] }),
      decodeError,
    ],
  ];
  for (const [what, bytes, alert] of cases) {
    t.same(readWhole(bytes), refused(alert), what);
    t.same(
      readPieces(new HelloReader(), bytes, bytewise(bytes)),
      refused(alert),
      `${what}, slowly`,
    );
  }
});

t.test('nothing of an earlier hello is left', async (t) => {
  const reader = new HelloReader();
  const full = hello({ extensions: [serverName(WWW), alpn('h2'), tls13, earlyData] });
  const rich = complete({ host: WWW, protocols: ['h2'], tls13: true, early: true });
  t.same(readPieces(reader, full, [full.length]), rich);
  const plain = hello({ extensions: undefined });
  t.same(readPieces(reader, plain, [plain.length]), complete());
  readPieces(reader, full, [full.length]);
  t.same(readPieces(reader, latin1('G'), [1]), refused(Alert.unexpectedMessage));
  t.equal(reader.hostLength, 0);
});

t.test('the largest ClientHello is read, also in several records', async (t) => {
  const others = helloBody({ extensions: [serverName(WWW), extension(21)] }).length;
  const padding = extension(21, Buffer.alloc(MOST_HELLO_BYTES - others));
  const largest = message(helloBody({ extensions: [serverName(WWW), padding] }));
  t.equal(largest.length, 4 + MOST_HELLO_BYTES);
  for (const sizes of [[16_384], [1_000], [100]]) {
    const bytes = records(largest, sizes);
    t.same(readWhole(bytes), complete({ host: WWW }), `in records of ${sizes}`);
    t.ok(bytes.length <= MOST_RECORD_BYTES);
  }
  for (const name of ['chromium', 'firefox']) {
    const bytes = padded(realHellos().get(name)!, MOST_HELLO_BYTES);
    t.match(readWhole(bytes), { host: WWW, protocols: ['h2', 'http/1.1'] }, name);
    t.same(
      readWhole(padded(realHellos().get(name)!, MOST_HELLO_BYTES + 1)),
      refused(Alert.illegalParameter),
    );
  }
  t.same(readWhole(records(largest, [40])), refused(Alert.illegalParameter), 'in too many records');
});

t.test('a slow client costs a bounded time', async (t) => {
  const body = helloBody({ extensions: [serverName(WWW), extension(21, Buffer.alloc(2_400))] });
  const bytes = records(message(body), [1]);
  t.ok(bytes.length > 14_000);
  const reader = new HelloReader();
  const time = (ends: number[]): number => {
    const before = processorTime();
    let resume = 0;
    for (const end of ends) {
      if (reader.read(bytes, 0, end, resume) === HelloStatus.incomplete) resume = reader.resume;
    }
    return processorTime() - before;
  };
  const ends = bytewise(bytes);
  time(ends);
  const half = time(ends.slice(0, ends.length / 2));
  const all = time(ends);
  // Reading from the start for each byte would take four times as long for twice the bytes.
  t.ok(all < half * 3 + 2_000_000, `${half} ns for half of it, ${all} ns for all`);
});

t.test('an alert is one record', async (t) => {
  t.same([...alertRecord(Alert.unrecognizedName)], [21, 3, 3, 0, 2, 2, 112]);
});
