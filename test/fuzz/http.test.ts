import fc from 'fast-check';
import t from 'tap';
import { HeadStatus } from '../../src/request/http/head.js';
import { bytesOf, newReader, readPieces, readWhole } from '../request/http/pieces.js';

const reader = newReader(600);
const runs = { numRuns: Number(process.env.FUZZ_RUNS ?? 3_000) };

/** Positions to cut at, ascending and ending with the length. */
const cutsOf = (length: number, marks: readonly number[]) =>
  [...new Set(marks.map((mark) => mark % (length + 1))), length].sort((a, b) => a - b);
const marks = fc.array(fc.nat(), { maxLength: 8 });
const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);

/** Asserts that a head gives the same result in one piece, in these pieces and byte by byte. */
function readsAlike(head: Uint8Array, marks: readonly number[]): boolean {
  const whole = readWhole(reader, head);
  const bytewise = Array.from(head, (_, i) => i + 1);
  return (
    same(readPieces(reader, head, cutsOf(head.length, marks)), whole) &&
    (head.length === 0 || same(readPieces(reader, head, bytewise), whole))
  );
}

/** Pieces of HTTP, so that random input gets beyond the first byte. */
const scraps = fc.constantFrom(
  ...[
    'GET',
    'OPTIONS',
    'CONNECT',
    ' ',
    '  ',
    '/',
    '*',
    'a',
    '.',
    '..',
    '%',
    '%2e',
    '%00',
    '?',
    '#',
    'HTTP/1.1',
    'HTTP/1.0',
  ],
  ...[
    '\r\n',
    '\r',
    '\n',
    '\r\n\r\n',
    ':',
    'Host',
    'Host: a\r\n',
    '[::1]',
    'http://',
    '@',
    '\t',
    '\0',
    '\xff',
    ',',
  ],
  ...[
    'Content-Length: ',
    'Transfer-Encoding: ',
    'chunked',
    '5',
    ' HTTP/1.1\r\n',
    'GET / HTTP/1.1\r\nHost: a\r\n',
  ],
);

t.test('arbitrary bytes: never an exception, never a different result', async (t) => {
  const soup = fc.array(scraps, { maxLength: 30 }).map((parts) => bytesOf(parts.join('')));
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 700 }), soup), marks, readsAlike),
    runs,
  );
  t.pass('so it is');
});

const from = (characters: string, minLength: number, maxLength: number) =>
  fc.string({ unit: fc.constantFrom(...characters), minLength, maxLength });
const tchar = "!#$%&'*+-.^_`|~09azAZ";
const method = from(tchar, 1, 8).filter((text) => text !== 'CONNECT');
const pathPiece = fc.oneof(
  from("aZ09-._~!$&'()*+,;=:@|", 1, 6),
  fc.constantFrom('%2F', '%C3%A4', '%00'),
);
/** Already normal, so that the result must equal the input. */
const path = fc
  .array(
    fc
      .array(pathPiece, { maxLength: 3 })
      .map((pieces) => pieces.join(''))
      .filter((segment) => segment !== '.' && segment !== '..'),
    { minLength: 1, maxLength: 5 },
  )
  // An empty segment is possible only at the end: consecutive slashes count as one.
  .map(
    (segments) =>
      `/${segments.filter((text, at) => text !== '' || at === segments.length - 1).join('/')}`,
  );
const query = fc.option(from('aZ09/?&=-_.~', 0, 12), { nil: undefined });
const host = from('az09-.', 1, 12).map((text) => `${text}a`);
const space = from(' \t', 0, 3);
const field = fc
  .tuple(
    from(tchar, 1, 20).map((name) => `X-${name}`),
    space,
    from('aZ09 \t:,"()\x80\xff', 0, 20),
  )
  .map(([name, space, value]) => `${name}:${space}${value}`);
/** A field about the body, and its expected reading. */
const framing = fc.oneof(
  fc.constant({ fields: [] as string[], length: -1, chunked: false }),
  fc.nat().map((length) => ({ fields: [`Content-Length: ${length}`], length, chunked: false })),
  fc.constant({ fields: ['transfer-encoding: gzip,chunked'], length: -1, chunked: true }),
);
const request = fc.record({
  method,
  path,
  query,
  host,
  port: fc.option(fc.nat(65_535), { nil: undefined }),
  isAbsolute: fc.boolean(),
  minor: fc.integer({ min: 1, max: 9 }),
  fields: fc.array(field, { maxLength: 5 }),
  at: fc.nat(),
  space,
  framing,
  leading: fc.nat(8),
});
type Request = typeof request extends fc.Arbitrary<infer T> ? T : never;

function targetOf(r: Request): string {
  const origin = r.path + (r.query === undefined ? '' : `?${r.query}`);
  return r.isAbsolute ? `http://${r.host}${origin}` : origin;
}

function textOf(r: Request): string {
  const host = `Host:${r.space}${r.isAbsolute ? 'other' : r.host.toUpperCase()}${r.port === undefined ? '' : `:${r.port}`}${r.space}`;
  const fields = [...r.fields, ...r.framing.fields];
  fields.splice(r.at % (fields.length + 1), 0, host);
  const line = `${r.method} ${targetOf(r)} HTTP/1.${r.minor}`;
  return `${'\r\n'.repeat(r.leading)}${[line, ...fields].join('\r\n')}\r\n\r\n`;
}

t.test('a valid request is split into its parts', async (t) => {
  fc.assert(
    fc.property(request, marks, (r, marks) => {
      const head = bytesOf(textOf(r));
      const outcome = readPieces(reader, head, cutsOf(head.length, marks));
      const wants = {
        status: HeadStatus.complete,
        method: r.method,
        target: targetOf(r),
        minor: r.minor,
        host: r.host,
        path: r.path,
        query: r.query ?? '',
        length: r.framing.length,
        chunked: r.framing.chunked,
        end: head.length,
      };
      return head.length > reader.headBytes
        ? outcome.status === HeadStatus.tooLarge
        : same(outcome, wants);
    }),
    runs,
  );
  t.pass('so it is');
});

/**
 * Reads a head in the simplest way, without strict checks. A mutated head that is still accepted
 * must give the same result.
 */
function plainly(head: string): { method: string; target: string; hosts: number } {
  const [line = '', ...fields] = head.replace(/^(\r\n)+/, '').split('\r\n');
  const [method = '', target = ''] = line.split(' ');
  return { method, target, hosts: fields.filter((field) => /^host:/i.test(field)).length };
}

t.test('a mutated request is refused, or a simple reader reads the same', async (t) => {
  const mutation = fc.record({
    at: fc.nat(),
    remove: fc.nat(3),
    insert: fc.oneof(scraps, fc.constant(''), from('\0\t\n\r :/%.', 1, 2)),
  });
  let accepted = 0;
  let refused = 0;
  fc.assert(
    fc.property(
      request,
      fc.array(mutation, { minLength: 1, maxLength: 3 }),
      marks,
      (r, mutations, marks) => {
        let text = textOf(r);
        for (const { at, remove, insert } of mutations) {
          const p = at % (text.length + 1);
          text = text.slice(0, p) + insert + text.slice(p + remove);
        }
        const head = bytesOf(text);
        if (!readsAlike(head, marks)) return false;
        const outcome = readWhole(reader, head);
        if (outcome.status !== HeadStatus.complete) {
          if (outcome.status !== HeadStatus.incomplete) refused++;
          return true;
        }
        accepted++;
        const own = text.slice(0, outcome.end).replace(/^(\r\n){1,8}/, '');
        const plain = plainly(own);
        return (
          own.endsWith('\r\n\r\n') &&
          own.indexOf('\r\n\r\n') === own.length - 4 &&
          !/[^\r]\n|\r[^\n]|\n[ \t]|\0/.test(own) &&
          outcome.method === plain.method &&
          outcome.target === plain.target &&
          plain.hosts <= 1
        );
      },
    ),
    runs,
  );
  t.ok(accepted > 100 && refused > 100, `${accepted} accepted, ${refused} refused`);
});

t.test('all spellings of a path have the same normal form', async (t) => {
  const spell = (text: string, choices: readonly boolean[]) =>
    text.replace(/%..|./g, (piece, at: number) => {
      if (piece.length > 1) {
        if (choices[at % choices.length] !== true) return piece;
        const byte = Number.parseInt(piece.slice(1), 16);
        return byte >= 0x80 && at % 2 === 0 ? String.fromCharCode(byte) : piece.toLowerCase();
      }
      if (!/[A-Za-z0-9._~-]/.test(piece) || choices[at % choices.length] !== true) return piece;
      const hex = piece.charCodeAt(0).toString(16);
      return `%${at % 2 === 0 ? hex : hex.toUpperCase()}`;
    });
  const detour = (path: string, at: number) => {
    const slashes = [...path.matchAll(/\//g)].map((match) => match.index);
    const slash = slashes[at % slashes.length] ?? 0;
    return `${path.slice(0, slash)}/${['.', 'x/..', 'x/y/../..', './x/.././.', '', '//', 'x//..', './/x///y//..//../'][at % 8]}${path.slice(slash)}`;
  };
  const choices = fc.array(fc.boolean(), { minLength: 1, maxLength: 7 });
  fc.assert(
    fc.property(path, choices, fc.nat(), (path, choices, at) => {
      const head = `GET ${spell(detour(path, at), choices)} HTTP/1.1\r\nHost: a\r\n\r\n`;
      return readWhole(reader, bytesOf(head)).path === path;
    }),
    runs,
  );
  t.pass('so it does');
});
