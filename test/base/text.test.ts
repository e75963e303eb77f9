import fc from 'fast-check';
import t from 'tap';
import { escapeBytes, printable, printableJson, quoted } from '../../src/base/text.js';

const ESC = '\u001b';

t.test('printable text cannot control a terminal', async (t) => {
  t.equal(printable(`${ESC}[31mred`), '\\x1b[31mred');
  t.equal(printable('a\nb\tc\u007f\u009b'), 'a\\x0ab\\x09c\\x7f\\x9b');
  t.equal(printable('abc\u202etxt.exe'), 'abc\\u202etxt.exe');
  t.equal(printable('\ud800'), '\\ud800');
  t.equal(printable('Grüße 日本 🙂'), 'Grüße 日本 🙂');
  t.equal(quoted(`x${ESC}"y`), '"x\\u001b\\"y"');
  t.equal(quoted('a'.repeat(70)), `"${'a'.repeat(60)}"...`);
});

t.test('printable JSON has the same meaning', async (t) => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      t.same(JSON.parse(printableJson(JSON.stringify(value))), JSON.parse(JSON.stringify(value)));
    }),
    { numRuns: 200 },
  );
  t.equal(printableJson('"\u2028\u0085"'), '"\\u2028\\u0085"');
});

t.test('bytes from the wire become printable text', async (t) => {
  const bytes = Buffer.from('GET /a\\b\u001b[0m\r\n\xff', 'latin1');
  t.equal(escapeBytes(bytes, 0, bytes.length), 'GET /a\\x5cb\\x1b[0m\\x0d\\x0a\\xff');
  t.equal(escapeBytes(bytes, 4, 6), '/a');
  t.equal(escapeBytes(bytes, 3, 3), '');
  t.equal(escapeBytes(Buffer.alloc(65, 'a'), 0, 65), `${'a'.repeat(64)}...`);
  t.equal(escapeBytes(Buffer.alloc(64, 'a'), 0, 64), 'a'.repeat(64));
});

t.test('any bytes become plain ASCII, and different bytes become different text', async (t) => {
  const any = fc.uint8Array({ maxLength: 40 });
  fc.assert(
    fc.property(any, any, (a, b) => {
      const text = escapeBytes(a, 0, a.length);
      t.match(text, /^[\x20-\x7e]*$/);
      t.equal(text === escapeBytes(b, 0, b.length), Buffer.compare(a, b) === 0);
    }),
    { numRuns: 300 },
  );
});
