import { isIPv6 } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import { readHost } from '../../../src/request/http/host.js';

function read(text: string): string | undefined {
  const bytes = Buffer.from(`[${text}:1`, 'latin1');
  const into = new Uint8Array(text.length).fill(0xa5);
  const length = readHost(bytes, 1, 1 + text.length, into);
  return length < 0 ? undefined : Buffer.from(into.subarray(0, length)).toString('latin1');
}

t.test('valid hosts', async (t) => {
  const table: [string, string][] = [
    ['example.org', 'example.org'],
    ['EXAMPLE.Org', 'example.org'],
    ['example.org.', 'example.org'],
    ['example.org..', 'example.org.'],
    ['example.org:80', 'example.org'],
    ['example.org.:080', 'example.org'],
    ['example.org:', 'example.org'],
    ['example.org:65535', 'example.org'],
    ['10.99.0.100:8080', '10.99.0.100'],
    ['a_b~c-d', 'a_b~c-d'],
    ["!$&'()*+,;=", "!$&'()*+,;="],
    ['%c3%A4', '%c3%a4'],
    ['.', ''],
    ['[::1]', '[::1]'],
    ['[1:2:3:4:5:6:7::]', '[1:2:3:4:5:6:7::]'],
    ['[::]', '[::]'],
    ['[2001:DB8::A]:443', '[2001:db8::a]'],
    ['[::ffff:192.0.2.1]', '[::ffff:192.0.2.1]'],
    ['[1:2:3:4:5:6:192.0.2.1]', '[1:2:3:4:5:6:192.0.2.1]'],
    ['[V1.a:b]', '[v1.a:b]'],
  ];
  for (const [text, host] of table) t.equal(read(text), host, text);
});

t.test('invalid hosts', async (t) => {
  const table = [
    '',
    ':80',
    'a:65536',
    'a:99999999999999999999',
    'a:8 0',
    'a:b',
    'a:1:2',
    'a b',
    'a,b c',
    'a/',
    'a?',
    'a#',
  ];
  table.push(
    'u@a',
    'u:p@a',
    'a\x80',
    'a\t',
    'a\\',
    '%',
    '%4',
    '%zz',
    'a%1',
    'a[',
    '::1',
    'a<',
    '"a"',
  );
  table.push(
    '[',
    '[]',
    '[::1',
    '[::1]x',
    '[::1]:x',
    '[::1]]',
    '[:::]',
    '[1:2]',
    '[1:2:3:4:5:6:7:8:9]',
    '[12345::]',
  );
  table.push(
    '[1::2::3]',
    '[::1.2.3]',
    '[::1.2.3.4.5]',
    '[::1.2.3.256]',
    '[::01.2.3.4]',
    '[1:]',
    '[:1]',
    '[fe80::1%25eth0]',
  );
  table.push(
    '[v.a]',
    '[v1.]',
    '[v1a]',
    '[vg.a]',
    '[v1.a/]',
    '[1:2:3:4:5:6:7:1.2.3.4]',
    '[1:2:3:4:5:6:7::8:9]',
    '[1:2:3:4::5:6:7:8]',
  );
  for (const text of table) t.equal(read(text), undefined, text);
});

t.test('accepts the same IPv6 addresses as Node.js', async (t) => {
  const group = fc.oneof(
    fc.constantFrom('', '0', 'a', 'ffff', '12345', 'g', '1.2.3.4', '1.2.3', '255.0.0.0'),
    fc.ipV4(),
  );
  const address = fc.oneof(
    fc.ipV6(),
    fc.array(group, { maxLength: 10 }).map((groups) => groups.join(':')),
    fc.string({ unit: fc.constantFrom(...'0aF:.') }),
  );
  fc.assert(
    fc.property(address, (text) => {
      // In RFC 3986, "::" replaces at least one group. Some platforms allow it to replace none.
      const groups = text.split(':').length;
      if (text.includes('::') && groups > 8) return true;
      return (read(`[${text}]`) !== undefined) === isIPv6(text);
    }),
    { numRuns: 3000 },
  );
  t.pass('every address gave the same result');
});
