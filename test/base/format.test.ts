import t from 'tap';
import { formatCount, formatDuration, wrapWords } from '../../src/base/format.js';

t.test('counts and durations', async (t) => {
  t.equal(formatCount(1_234_567), '1,234,567');
  const ages: [number, string][] = [
    [-3, '0ms'],
    [850, '850ms'],
    [12_345, '12.3s'],
    [59_990, '1m00s'],
    [245_000, '4m05s'],
    [11_520_000, '3h12m'],
    [176_400_000, '2d01h'],
  ];
  for (const [ms, text] of ages) t.equal(formatDuration(ms), text, String(ms));
});

t.test('words are wrapped at spaces', async (t) => {
  t.same(wrapWords(' one two  three\nfour ', 9), ['one two', 'three', 'four']);
  t.same(wrapWords('one twothree', 8), ['one', 'twothree'], 'exactly the width');
  t.same(wrapWords('a incomprehensible b', 4), ['a', 'incomprehensible', 'b']);
  t.same(wrapWords('', 4), ['']);
});
