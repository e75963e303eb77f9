import t from 'tap';
import { ByteTable, byteTableImage, rollHash } from '../../src/directory/byte-table.js';

const entry = (
  tag: number,
  text: string,
  value: number,
  hash = Buffer.from(text).reduce(rollHash, 7),
) => ({
  tag,
  hash,
  bytes: Buffer.from(text),
  value,
});

t.test('finds each entry under its tag', async (t) => {
  const table = new ByteTable(
    byteTableImage([entry(0, 'a', 10), entry(1, 'a', 11), entry(0, 'ab', 12), entry(0, '', 13)]),
  );
  const find = (tag: number, text: string) => {
    const bytes = Buffer.from(`x${text}x`);
    return table.find(tag, Buffer.from(text).reduce(rollHash, 7), bytes, 1, 1 + text.length);
  };
  t.same(
    [find(0, 'a'), find(1, 'a'), find(0, 'ab'), find(0, ''), find(1, 'ab'), find(2, 'a')],
    [10, 11, 12, 13, -1, -1],
  );
});

t.test('entries with equal hashes differ by their bytes', async (t) => {
  const texts = Array.from({ length: 100 }, (_, i) => `s${i}`);
  const table = new ByteTable(
    byteTableImage(texts.map((text, value) => entry(0, text, value, 42))),
  );
  texts.forEach((text, value) => {
    t.equal(table.find(0, 42, Buffer.from(text), 0, text.length), value);
  });
  t.equal(table.find(0, 42, Buffer.from('s100'), 0, 4), -1);
  t.equal(table.find(1, 42, Buffer.from('s1'), 0, 2), -1);
  t.equal(new ByteTable(byteTableImage([])).find(0, 42, Buffer.from('s1'), 0, 2), -1);
});

t.test('entries with equal hashes differ by their tags', async (t) => {
  // The table mixes this into a hash for the tag. So both entries get the same mixed hash.
  const salt = (tag: number) => Math.imul(tag + 1, 0x9e3779b1);
  const table = new ByteTable(
    byteTableImage([entry(0, 'same', 10, salt(0)), entry(1, 'same', 11, salt(1))]),
  );
  const find = (tag: number) => table.find(tag, salt(tag), Buffer.from('same'), 0, 4);
  t.same([find(0), find(1), find(2)], [10, 11, -1]);
});
