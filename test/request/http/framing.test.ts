import t, { type Test } from 'tap';
import {
  AT_HEAD,
  Follow,
  MOST_EXTENSION_BYTES,
  MOST_SIZE_DIGITS,
  MOST_TRAILER_BYTES,
  PINNED,
  Pin,
  pinOfRefused,
  RequestFollower,
} from '../../../src/request/http/framing.js';
import { HeadStatus } from '../../../src/request/http/head.js';
import { bytesOf, newReader } from './pieces.js';

const reader = newReader();

/** Reads a whole head; returns it as bytes. */
function read(text: string): Uint8Array {
  const head = bytesOf(text);
  reader.read(head, 0, head.length, 0);
  return head;
}

/** A follower at the first body byte of a request with these fields. */
function after(...fields: string[]): { follower: RequestFollower; pin: number } {
  const lines = fields.map((field) => `${field}\r\n`).join('');
  const head = bytesOf(`POST / HTTP/1.1\r\nHost: a\r\n${lines}\r\n`);
  if (reader.read(head, 0, head.length, 0) !== HeadStatus.complete)
    throw new Error(`refused: ${lines}`);
  const follower = new RequestFollower();
  return { follower, pin: follower.begin(reader, head, 0) };
}

/**
 * Where a chunked body ends, as a number of bytes; the result without such an end. The same for
 * every way to cut it into two pieces, and for single bytes.
 */
function endOfChunked(t: Test, body: string): number | 'body' | 'pinned' {
  const bytes = bytesOf(body);
  const results = [...Array(bytes.length + 1).keys()].map((cut) => {
    const ends = cut === bytes.length ? [...bytes.keys()].map((at) => at + 1) : [cut, bytes.length];
    const { follower } = after('Transfer-Encoding: chunked');
    let [state, left, from] = [follower.state, follower.left, 0];
    for (const end of ends) {
      const other = new RequestFollower();
      [other.state, other.left] = [state, left];
      const result = other.advance(bytes, from, end);
      if (result === Follow.ended) return other.position;
      if (result === Follow.pinned) return 'pinned' as const;
      [state, left, from] = [other.state, other.left, end];
      if (state !== state >>> 0) t.fail('state is no unsigned 32-bit number');
    }
    return 'body' as const;
  });
  t.equal(new Set(results).size, 1, `${JSON.stringify(body.slice(0, 40))}, however it is cut`);
  return results[0] ?? 'body';
}

t.test('how the body of a request ends', async (t) => {
  const cases: [string[], number, number][] = [
    [[], AT_HEAD, 0],
    [['Content-Length: 0'], AT_HEAD, 0],
    [['Content-Length: 999999999999999'], 1, 999_999_999_999_999],
    [['Transfer-Encoding: Chunked'], 2, 0],
  ];
  for (const [fields, state, left] of cases) {
    const { follower, pin } = after(...fields);
    t.same([pin, follower.state, follower.left], [Pin.none, state, left], fields.join());
  }
});

t.test('what pins a connection from its request on', async (t) => {
  const cases: [string[], number][] = [
    [['Connection: keep-alive'], Pin.none],
    [['Connection: keep-alive, TE', 'TE: trailers'], Pin.none],
    [['Connection: close'], Pin.last],
    [['Connection: TE , CLOSE', 'Content-Length: 5'], Pin.last],
    [['Connection: keep-alive', 'Connection: close'], Pin.last],
    [['Connection: x-closed'], Pin.last],
    [['Connection: Upgrade', 'Upgrade: websocket'], Pin.upgrade],
    [['Upgrade: h2c'], Pin.upgrade],
    [['Expect: 100-continue', 'Content-Length: 5'], Pin.expect],
    [['Authorization: NTLM TlRMTVNT'], Pin.authentication],
    [['Authorization:negotiate YII='], Pin.authentication],
    [['Proxy-Authorization: Negotiate'], Pin.authentication],
    [['Authorization: Basic TlRMTVNT'], Pin.none],
    [['Authorization: Bearer negotiate'], Pin.none],
    [['Authorization: NTLMv9 x'], Pin.none],
    [['Content-Length: 5', 'Content-Length: 5'], Pin.body],
    [['Content-Length:\t5'], Pin.body],
    [['Transfer-Encoding: , chunked'], Pin.body],
    [['Transfer-Encoding: gzip, chunked'], Pin.body],
    [['Transfer-Encoding: gzip', 'Transfer-Encoding: chunked'], Pin.body],
  ];
  for (const [fields, wants] of cases) {
    const { follower, pin } = after(...fields);
    t.equal(pin, wants, fields.join());
    t.equal(follower.state === PINNED, wants !== Pin.none, `${fields.join()}: state`);
  }
  const heads: [string, number][] = [
    ['GET / HTTP/1.0\r\nHost: a\r\n\r\n', Pin.last],
    ['GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n', Pin.none],
    ['\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n', Pin.method],
    ['\r\nOPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n', Pin.none],
    ['PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n', Pin.none],
    ['get / HTTP/1.1\r\nHost: a\r\n\r\n', Pin.method],
  ];
  for (const [text, pin] of heads) {
    const head = read(text);
    t.equal(new RequestFollower().begin(reader, head, 0), pin, text);
  }
  read('CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n');
  t.equal(pinOfRefused(reader), Pin.connect);
  read('GET / HTTP/2.0\r\nHost: a\r\n\r\n');
  t.equal(pinOfRefused(reader), Pin.head);
});

t.test('chunked bodies', async (t) => {
  const ends = (body: string) => t.equal(endOfChunked(t, `${body}GET`), body.length, body);
  ends('0\r\n\r\n');
  ends('5\r\nhello\r\n0\r\n\r\n');
  ends('A\r\n0123456789\r\n00a\r\n0123456789\r\n000\r\n\r\n');
  ends('1;a=b;c="d e";f\r\n\n\r\n0;last\r\nX: y\r\nZ:\r\n\r\n');
  const pins = (body: string) => t.equal(endOfChunked(t, body), 'pinned', body);
  for (const size of ['', ';a', '\r', '-1', '0x1', ' 1', '1 ', '1\t', 'g', '1_0', '\n'])
    pins(`${size}\r\nx\r\n0\r\n\r\n`);
  pins('1\nx\r\n0\r\n\r\n');
  pins('1;\0\r\nx\r\n0\r\n\r\n');
  pins('1;a\nx\r\n0\r\n\r\n');
  pins('1\rx\r\n0\r\n\r\n');
  pins('1\r\nxx\r\n0\r\n\r\n');
  pins('1\r\nx\n0\r\n\r\n');
  pins('1\r\nx\r0\r\n\r\n');
  pins('0\r\nX : y\r\n\r\n');
  pins('0\r\n X: y\r\n\r\n');
  pins('0\r\n: y\r\n\r\n');
  pins('0\r\nX: y\n\r\n');
  pins('0\r\nX: y\r\n folded\r\n\r\n');
  pins('0\r\n\rX');
  pins('0\r\n\n');
  t.equal(endOfChunked(t, '5\r\nhello\r\n'), 'body');
});

t.test('limits of chunked bodies', async (t) => {
  const digits = (count: number) => `${'1'.padStart(count, '0')}\r\nx\r\n0\r\n\r\n`;
  t.type(endOfChunked(t, digits(MOST_SIZE_DIGITS)), 'number');
  t.equal(endOfChunked(t, digits(MOST_SIZE_DIGITS + 1)), 'pinned');
  const extension = (bytes: number) => `0;${'e'.repeat(bytes)}\r\n\r\n`;
  t.type(endOfChunked(t, extension(MOST_EXTENSION_BYTES)), 'number');
  t.equal(endOfChunked(t, extension(MOST_EXTENSION_BYTES + 1)), 'pinned');
  const follower = after('Transfer-Encoding: chunked').follower;
  const read = (body: string) => {
    const bytes = bytesOf(body);
    [follower.state, follower.left] = [2, 0];
    return follower.advance(bytes, 0, bytes.length);
  };
  const trailers = (bytes: number) => `0\r\n${'A: b\r\n'.padEnd(bytes, 'a:\r\n')}\r\n`;
  t.equal(read(trailers(MOST_TRAILER_BYTES - 2)), Follow.ended);
  t.equal(read(trailers(MOST_TRAILER_BYTES + 2)), Follow.pinned);
  t.equal(read(`0\r\na:${'b'.repeat(MOST_TRAILER_BYTES)}\r\n\r\n`), Follow.pinned);
  t.equal(read(`0\r\n${'b'.repeat(MOST_TRAILER_BYTES + 1)}:\r\n\r\n`), Follow.pinned);
  t.equal(follower.advance(bytesOf('GET'), 0, 3), Follow.pinned, 'pinned is for good');
  t.equal(read(`${'f'.repeat(MOST_SIZE_DIGITS)}\r\nabc`), Follow.body);
  t.equal(follower.left, 2 ** 48 - 1 - 3, 'the largest chunk is counted exactly');
});

t.test('bytes that need not be read', async (t) => {
  const { follower } = after('Content-Length: 10');
  t.equal(follower.unread, 10);
  t.equal(follower.skip(4), Follow.body);
  t.equal(follower.advance(bytesOf('abcGET'), 0, 3), Follow.body);
  t.equal(follower.unread, 3);
  t.equal(follower.skip(3), Follow.ended);
  t.equal(follower.state, AT_HEAD);
  t.equal(follower.unread, 0);

  const chunked = after('Transfer-Encoding: chunked').follower;
  t.equal(chunked.unread, 0);
  const begin = bytesOf('ff\r\na');
  chunked.advance(begin, 0, begin.length);
  t.equal(chunked.unread, 254);
  t.equal(chunked.skip(254), Follow.body);
  const rest = bytesOf('\r\n0\r\n\r\nGET');
  t.equal(chunked.advance(rest, 0, rest.length), Follow.ended);
  t.equal(chunked.position, rest.length - 3);
});
