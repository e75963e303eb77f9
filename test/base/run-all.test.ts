/** runAll runs every step, whatever happens to the others. */
import t from 'tap';
import { runAll } from '../../src/base/run-all.js';

t.test('every step runs, in order, even when one before it has failed', async (t) => {
  const taken: number[] = [];
  const step =
    (number: number, how: () => unknown = () => {}): (() => unknown) =>
    () => {
      taken.push(number);
      return how();
    };
  const [sync, later] = [new Error('at once'), new Error('later')];
  const failures = await runAll([
    step(1, () => {
      throw sync;
    }),
    step(2, () => new Promise((resolve) => setTimeout(resolve, 5))),
    step(3, () => Promise.reject(later)),
    step(4),
  ]);
  t.same(taken, [1, 2, 3, 4]);
  t.strictSame(failures, [sync, later]);
  t.same(await runAll([step(5)]), []);
});
