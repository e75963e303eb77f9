import t from 'tap';
import { formatCount, formatDuration } from '../../src/base/format.js';

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
