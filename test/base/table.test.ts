import t from 'tap';
import { formatTable } from '../../src/base/table.js';

t.test('columns are as wide as their widest cell', async (t) => {
  const table = formatTable(
    [{ title: 'NAME' }, { title: 'SESSIONS', align: 'right' }, { title: 'WHY' }],
    [
      ['n1', '7', ''],
      ['longer-name', '1,234,567', 'does not answer'],
    ],
  );
  t.same(table.split('\n'), [
    'NAME          SESSIONS  WHY',
    'n1                   7  -',
    'longer-name  1,234,567  does not answer',
  ]);
});

t.test(
  'a table that is too wide: only text for people is cut, the widest column first',
  async (t) => {
    const columns = [
      { title: 'NODE' },
      { title: 'ACTIVE', align: 'right' },
      { title: 'WHY', shortens: true },
      { title: 'NOTE', shortens: true },
    ] as const;
    const rows = [
      ['a-name-that-is-long', 7, 'has not answered for 12 s', 'ten chars!'],
      ['n2', 1_000, '', '🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂'],
    ];
    const lines = (most?: number): string[] => formatTable(columns, rows, most).split('\n');
    const whole = lines();
    t.equal(whole[1], 'a-name-that-is-long       7  has not answered for 12 s  ten chars!');
    t.same(lines(68), whole, 'a table that fits is not cut');
    t.same(lines(67), [
      'NODE                 ACTIVE  WHY                       NOTE',
      'a-name-that-is-long       7  has not answered for ...  ten chars!',
      'n2                     1000  -                         🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂🙂',
    ]);
    t.same(lines(50), [
      'NODE                 ACTIVE  WHY        NOTE',
      'a-name-that-is-long       7  has no...  ten chars!',
      'n2                     1000  -          🙂🙂🙂🙂🙂🙂🙂...',
    ]);
    for (let most = 50; most < 68; most++) {
      t.equal(Math.max(...lines(most).map((line) => [...line].length)), most, `${most} characters`);
    }
    t.equal(
      lines(1)[1],
      'a-name-that-is-long       7  has n...  ten c...',
      'no column becomes narrower than 8 characters',
    );
  },
);

t.test('a table without rows has only its titles', async (t) => {
  t.equal(formatTable([{ title: 'A' }, { title: 'B' }], []), 'A  B');
});

t.test(
  'a cell cannot break its row, and a character outside the basic plane counts as one',
  async (t) => {
    const table = formatTable(
      [{ title: 'REQUEST' }, { title: 'X' }],
      [
        ['GET /\n\u001b[2J', 1],
        ['🙂', 2],
      ],
    );
    t.same(table.split('\n'), [
      'REQUEST           X',
      'GET /\\x0a\\x1b[2J  1',
      '🙂                 2',
    ]);
  },
);
