/** Scrapes share their text. */
import t from 'tap';
import { Scrapes } from '../../../src/balancer/metrics/scrapes.js';

t.test('scrapes at the same time, and soon after, share one text', async (t) => {
  let made = 0;
  let now = 0;
  let finish = (): void => {};
  const scrapes = new Scrapes(
    () =>
      new Promise((resolve) => {
        made++;
        const text = `text ${made}`;
        finish = () => resolve(text);
      }),
    () => now,
  );
  const both = [scrapes.text(), scrapes.text()];
  finish();
  t.same(await Promise.all(both), ['text 1', 'text 1']);
  now = 199;
  t.equal(await scrapes.text(), 'text 1', 'it is fresh');
  now = 200;
  const next = scrapes.text();
  finish();
  t.equal(await next, 'text 2');
  t.equal(made, 2);
});

t.test('a failure is told to those who waited, and the next scrape tries again', async (t) => {
  let fails = true;
  const scrapes = new Scrapes(async () => {
    if (fails) throw new Error('the engine did not answer');
    return 'text';
  });
  const waiting = [scrapes.text(), scrapes.text()];
  for (const each of waiting) await t.rejects(each, /did not answer/);
  fails = false;
  t.equal(await scrapes.text(), 'text');
});
