/** A signal asks a program to end, and no listener stays behind. */
import t from 'tap';
import { END_SIGNALS, untilEndSignal } from '../../src/base/signals.js';

const listeners = (): number[] => END_SIGNALS.map((name) => process.listenerCount(name));

for (const name of END_SIGNALS) {
  t.test(`${name} asks a program to end, and a second one does not kill it`, async (t) => {
    const before = listeners();
    const result = await untilEndSignal(
      (signal) =>
        new Promise<string>((resolve) => {
          signal.addEventListener('abort', () => {
            process.emit(name);
            setImmediate(() => resolve('ended'));
          });
          process.emit(name);
        }),
    );
    t.equal(result, 'ended');
    t.same(listeners(), before, 'the listeners are those of before');
  });
}

t.test('a program that fails leaves no listener behind', async (t) => {
  const before = listeners();
  await t.rejects(
    untilEndSignal(() => Promise.reject(new Error('no interface'))),
    { message: 'no interface' },
  );
  t.same(listeners(), before);
});
