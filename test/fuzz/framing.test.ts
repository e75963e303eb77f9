import fc from 'fast-check';
import t from 'tap';
import { type Followed, follow } from '../support/follow.js';

const runs = { numRuns: Number(process.env.FUZZ_RUNS ?? 1_000) };
const bytesOf = (text: string) => Buffer.from(text, 'latin1');
const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);
const marks = fc.array(fc.nat(), { maxLength: 12 });

/** Reads a stream in one piece, in the pieces that `marks` make, and byte by byte. */
function readAll(stream: Uint8Array, marks: readonly number[]): Followed[] {
  const { length } = stream;
  const cuts = [...new Set(marks.map((mark) => mark % (length + 1))), length].sort((a, b) => a - b);
  const bytewise = Array.from(stream, (_, at) => at + 1);
  return [[length], cuts, bytewise].map((ends) => follow(stream, ends));
}

const text = (characters: string, minLength: number, maxLength: number) =>
  fc.string({ unit: fc.constantFrom(...characters), minLength, maxLength });
/** Bytes of a body: also those that look like the end of a message, or like another request. */
const content = fc
  .array(
    fc.constantFrom(
      '\r\n',
      '0\r\n\r\n',
      '\r\n\r\n',
      '5\r\n',
      'GET /x HTTP/1.1\r\nHost: a\r\n\r\n',
      'a',
      '\0',
      '\xff',
    ),
    { maxLength: 6 },
  )
  .map((parts) => parts.join(''));

const chunk = fc
  .tuple(
    content.filter((part) => part !== ''),
    fc.nat(3),
    fc.boolean(),
    fc.oneof(
      fc.constant(''),
      text('abc="; \t\xe4', 0, 12).map((part) => `;${part}`),
    ),
  )
  .map(([part, zeros, capitals, extension]) => {
    const hex = part.length.toString(16).padStart(zeros, '0');
    return `${capitals ? hex.toUpperCase() : hex}${extension}\r\n${part}\r\n`;
  });
const trailer = fc
  .tuple(text("a-Z0!#'", 1, 8), text('a b\t:;\xff', 0, 10))
  .map(([name, value]) => `${name}:${value}\r\n`);
const chunked = fc
  .tuple(fc.array(chunk, { maxLength: 4 }), fc.nat(3), fc.array(trailer, { maxLength: 3 }))
  .map(([chunks, zeros, trailers]) => ({
    field: 'Transfer-Encoding: chunked\r\n',
    bytes: `${chunks.join('')}0${'0'.repeat(zeros)}\r\n${trailers.join('')}\r\n`,
  }));
const counted = content.map((bytes) => ({ field: `content-length: ${bytes.length}\r\n`, bytes }));
const body = fc.oneof(fc.constant({ field: '', bytes: '' }), counted, chunked);
const request = fc
  .tuple(fc.constantFrom('GET', 'POST', 'PUT', 'HEAD', 'OPTIONS'), fc.nat(99), body, fc.nat(2))
  .map(([method, n, body, empty]) => ({
    line: `${method} /${n}`,
    bytes: `${'\r\n'.repeat(empty)}${method} /${n} HTTP/1.1\r\nHost: a\r\n${body.field}\r\n${body.bytes}`,
  }));
const requests = fc.array(request, { minLength: 1, maxLength: 5 });

t.test('each of several requests is found, however the stream is cut', async (t) => {
  fc.assert(
    fc.property(requests, marks, (list, marks) => {
      const [whole, ...others] = readAll(bytesOf(list.map(({ bytes }) => bytes).join('')), marks);
      return (
        whole?.pin === 'none' &&
        whole.refused === 0 &&
        whole.in === 'head' &&
        same(
          whole.requests,
          list.map(({ line }) => line),
        ) &&
        others.every((other) => same(other, whole))
      );
    }),
    runs,
  );
  t.pass('so it is');
});

const scraps = fc.constantFrom(
  ...['GET / HTTP/1.1\r\n', 'POST / HTTP/1.1\r\nHost: a\r\n', 'Host: a\r\n', '\r\n', '\n', '\r'],
  ...[
    'Content-Length: 5\r\n',
    'Transfer-Encoding: chunked\r\n',
    'Connection: ',
    'close',
    'Upgrade',
  ],
  ...['5\r\n', '5;a\r\n', '0\r\n', 'hello', ' ', '\t', ';', ':', '0', 'f', '\0', '\xff', '{1000}'],
);

t.test('arbitrary bytes: never an exception, never a different result', async (t) => {
  const soup = fc.array(scraps, { maxLength: 30 }).map((parts) => bytesOf(parts.join('')));
  fc.assert(
    fc.property(fc.oneof(soup, fc.uint8Array({ maxLength: 300 })), marks, (stream, marks) => {
      const [whole, ...others] = readAll(stream, marks);
      return others.every((other) => same(other, whole));
    }),
    runs,
  );
  t.pass('so it is');
});

/**
 * Reads a stream in the simplest way, a regular expression at a time. Returns the requests as far
 * as it understands the stream.
 */
function plainly(stream: string): string[] {
  const requests: string[] = [];
  for (let rest = stream; rest !== ''; ) {
    const head = /^(?:\r\n)*([^ \r\n]+ [^ \r\n]+) HTTP\/1\.\d\r\n((?:[^\r\n]+\r\n)*)\r\n/.exec(
      rest,
    );
    if (head === null) break;
    requests.push(head[1] ?? '');
    rest = rest.slice(head[0].length);
    const fields = (head[2] ?? '').toLowerCase();
    if (/^transfer-encoding: *chunked *\r$/m.test(fields)) {
      for (let size = -1; size !== 0; ) {
        const line = /^([0-9a-f]+)(?:;[^\r\n]*)?\r\n/i.exec(rest);
        if (line === null) return requests;
        size = Number.parseInt(line[1] ?? '', 16);
        const end = line[0].length + size;
        if (size > 0 && rest.slice(end, end + 2) !== '\r\n') return requests;
        rest = rest.slice(size > 0 ? end + 2 : end);
      }
      const trailers = /^(?:[^\r\n]+\r\n)*\r\n/.exec(rest);
      if (trailers === null) return requests;
      rest = rest.slice(trailers[0].length);
    } else {
      const length = Number(/^content-length: *(\d+) *\r$/m.exec(fields)?.[1] ?? 0);
      if (rest.length < length) return requests;
      rest = rest.slice(length);
    }
  }
  return requests;
}

t.test('of a mutated stream, only what a simple reader reads alike is followed', async (t) => {
  const mutation = fc.record({
    at: fc.nat(),
    remove: fc.nat(3),
    insert: fc.oneof(scraps, fc.constant(''), text('\0\t\n\r :;0af', 1, 2)),
  });
  const mutations = fc.array(mutation, { minLength: 1, maxLength: 3 });
  let followed = 0;
  let pinned = 0;
  fc.assert(
    fc.property(requests, mutations, marks, (list, mutations, marks) => {
      let stream = list.map(({ bytes }) => bytes).join('');
      for (const { at, remove, insert } of mutations) {
        const p = at % (stream.length + 1);
        stream = stream.slice(0, p) + insert + stream.slice(p + remove);
      }
      const [whole, ...others] = readAll(bytesOf(stream), marks);
      if (whole === undefined || !others.every((other) => same(other, whole))) return false;
      if (whole.pin === 'none') followed++;
      else pinned++;
      return same(whole.requests, plainly(stream).slice(0, whole.requests.length));
    }),
    runs,
  );
  t.ok(followed > 50 && pinned > 50, `${followed} followed to their end, ${pinned} pinned`);
});
