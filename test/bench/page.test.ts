/** The page of the benchmarks beside bench/farm, and the variables of all of them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type BenchRun, PAGE, pageOf, savedRuns } from '../../bench/page.js';
import { wholeNumber } from '../../bench/settings.js';
import { projectRoot } from '../../lab/farm/baton.js';

const RUN: BenchRun = {
  startedAt: '2026-01-02T03:04:05.000Z',
  length: '3 rounds of 2 s',
  machine: { Linux: '6.18' },
  versions: { Baton: '1.0.0' },
  tables: [{ title: 'A table', headings: ['what', 'share'], rows: [['Baton', '0.70']] }],
};

t.test('a page has a section for each benchmark that was run', async (t) => {
  t.notMatch(pageOf({}), /^## /m);
  const page = pageOf({ forward: RUN, answers: RUN });
  t.strictSame(
    [...page.matchAll(/^## (.*)$/gm)].map(([, title]) => title),
    ['Answers of the balancer itself', 'Small packets through mode forward'],
  );
  t.match(page, /2026-01-02; 3 rounds of 2 s/);
  t.match(page, /\n### A table\n\n\| what \| share \|\n\| --- \| ---: \|\n\| Baton \| 0\.70 \|\n/);
  t.notOk(page.split('\n').some((line) => line.length > 100 && !/^[#|]/.test(line)));
});

t.test('the page in the repository shows the saved runs', async (t) => {
  t.equal(readFileSync(join(projectRoot(), PAGE), 'utf8'), pageOf(savedRuns()));
});

t.test('variables are whole numbers from 1 on', async (t) => {
  t.equal(wholeNumber('BENCH_ROUNDS', undefined, 5), 5);
  t.equal(wholeNumber('BENCH_ROUNDS', '12', 5), 12);
  for (const wrong of ['0.5', '0', '-1', '', ' 3', '1e3', 'two', '99999999999999999999']) {
    t.throws(() => wholeNumber('BENCH_SECONDS', wrong, 2), {
      message: `BENCH_SECONDS is '${wrong}': give a whole number from 1 on, as in BENCH_SECONDS=2`,
    });
  }
});
