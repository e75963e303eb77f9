import fc from 'fast-check';
import t from 'tap';
import { HelloReader, HelloStatus } from '../../src/request/tls/hello.js';
import { MESSAGE_HEADER_BYTES } from '../../src/request/tls/records.js';
import {
  alpn,
  bytewise,
  earlyData,
  extension,
  helloBody,
  message,
  readPieces,
  readWhole,
  realHellos,
  records,
  serverName,
  tls13,
} from '../request/tls/hellos.js';

const runs = { numRuns: Number(process.env.FUZZ_RUNS ?? 2_000) };
const reader = new HelloReader();
const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
const marks = fc.array(fc.nat(), { maxLength: 8 });
const cutsOf = (length: number, marks: readonly number[]): number[] =>
  [...new Set(marks.map((mark) => mark % (length + 1))), length].sort((a, b) => a - b);

/** Extensions that clients send, some of them wrong, so that random input gets beyond the first. */
const anyExtension = fc.oneof(
  fc.string({ maxLength: 12 }).map((name) => serverName(name)),
  fc.array(fc.string({ maxLength: 6 }), { maxLength: 3 }).map((names) => alpn(...names)),
  fc.constantFrom(tls13, earlyData, extension(0x0a0a), serverName('www.example.org')),
  fc
    .tuple(fc.nat(0xffff), fc.uint8Array({ maxLength: 40 }))
    .map(([type, content]) => extension(type, content)),
);
const anyMessage = fc
  .tuple(fc.array(anyExtension, { maxLength: 6 }), fc.uint8Array({ maxLength: 4 }))
  .map(([extensions, rest]) => message(helloBody({ extensions, rest })));
const anyHello = fc.oneof(
  fc.constantFrom(...[...realHellos().values()].map((bytes) => bytes.subarray(5))),
  anyMessage,
);
const sizes = fc.array(fc.integer({ min: 1, max: 600 }), { minLength: 1, maxLength: 6 });

t.test('pieces of any size, and records of any size, give the same result', async (t) => {
  fc.assert(
    fc.property(anyHello, sizes, marks, (content, sizes, marks) => {
      const whole = readWhole(records(content));
      const bytes = records(content, sizes);
      return (
        same(readPieces(reader, bytes, cutsOf(bytes.length, marks)), whole) &&
        same(
          readPieces(reader, bytes, bytewise(bytes.subarray(0, 700))),
          readWhole(bytes.subarray(0, 700)),
        )
      );
    }),
    runs,
  );
  t.pass();
});

t.test('changed bytes are refused or read, alike in pieces and never beyond the end', async (t) => {
  const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(
      anyHello,
      sizes,
      changes,
      marks,
      fc.nat(),
      (content, sizes, changes, marks, cut) => {
        const bytes = records(content, sizes);
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        const kept = bytes.subarray(0, bytes.length - (cut % 20));
        const whole = readWhole(kept);
        return same(readPieces(reader, kept, cutsOf(kept.length, marks)), whole);
      },
    ),
    runs,
  );
  t.pass();
});

t.test('any bytes at all', async (t) => {
  const start = fc.constantFrom([], [22], [22, 3, 1], [22, 3, 1, 0, 50, 1, 0, 0, 46], [0x80]);
  fc.assert(
    fc.property(start, fc.uint8Array({ maxLength: 120 }), marks, (start, rest, marks) => {
      const bytes = Buffer.concat([Buffer.from(start), rest]);
      return same(readPieces(reader, bytes, cutsOf(bytes.length, marks)), readWhole(bytes));
    }),
    runs,
  );
  t.pass();
});

t.test('a hello is complete only with its last byte', async (t) => {
  fc.assert(
    fc.property(anyHello, sizes, fc.nat(), (content, sizes, cut) => {
      const bytes = records(content, sizes);
      const length = content.readUIntBE(1, 3) + MESSAGE_HEADER_BYTES;
      const short = bytes.subarray(0, cut % bytes.length);
      const { status } = readWhole(short);
      return length !== content.length || status !== HelloStatus.complete;
    }),
    runs,
  );
  t.pass();
});
