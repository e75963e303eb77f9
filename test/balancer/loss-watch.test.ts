/** Lost frames become warnings, at a limited rate. */
import t from 'tap';
import type { Loss } from '../../src/api/documents.js';
import { LossWatch, QUIET_MS } from '../../src/balancer/loss-watch.js';
import { renderStats } from '../../src/cli/reports.js';
import { statsAt } from '../support/even-stats.js';

interface Said {
  message: string;
  counter: unknown;
  total: unknown;
}

function watched(): { watch: LossWatch; said: Said[] } {
  const said: Said[] = [];
  const nothing = (): void => {};
  const watch = new LossWatch({
    error: nothing,
    info: nothing,
    debug: nothing,
    warn: (message, fields) =>
      said.push({ message, counter: fields?.counter, total: fields?.total }),
  });
  return { watch, said };
}

t.test('the first loss is reported at once, with its remedy', async (t) => {
  const { watch, said } = watched();
  watch.look({ ring_lost: 0, frames: 5_000 }, 1_000);
  t.same(said, []);
  t.same(watch.losses(1_000), []);
  watch.look({ ring_lost: 7 }, 6_000);
  t.match(said, [{ message: /^7 frames lost before .*workers/, counter: 'ring_lost', total: 7 }]);
  t.match(watch.losses(6_500), [{ counter: 'ring_lost', total: 7, agoMs: 500, remedy: /workers/ }]);
});

t.test('a loss that continues is reported once a minute, each kind by itself', async (t) => {
  const { watch, said } = watched();
  for (let now = 0; now < 3 * QUIET_MS; now += QUIET_MS / 10) {
    watch.look({ ring_lost: 10 + now, xdp_engine_absent: now < QUIET_MS ? 1 : 2 }, now);
  }
  const of = (counter: string): string[] =>
    said
      .filter((line) => line.counter === counter)
      .map(({ message }) => message.split(' ')[0] ?? '');
  t.same(of('ring_lost'), ['10', String(QUIET_MS), String(QUIET_MS)]);
  t.same(of('xdp_engine_absent'), ['1', '1']);
});

t.test('losses within that minute are reported after it, even if no more follow', async (t) => {
  const { watch, said } = watched();
  watch.look({ ring_lost: 1 }, 0);
  watch.look({ ring_lost: 4 }, 5_000);
  t.equal(said.length, 1);
  watch.look({ ring_lost: 4 }, QUIET_MS);
  t.match(said[1], { message: /^3 /, total: 4 });
  watch.look({ ring_lost: 4 }, 3 * QUIET_MS);
  t.equal(said.length, 2);
  t.match(watch.losses(3 * QUIET_MS), [{ total: 4, agoMs: 3 * QUIET_MS - 5_000 }]);
});

t.test('every counter of lost frames is watched', async (t) => {
  const { watch, said } = watched();
  const counters = [
    'ring_lost',
    'ring_starved',
    'ring_send_failed',
    'ring_drop_full',
    'ring_drop_too_long',
    'ring_drop_truncated',
    'xdp_engine_absent',
    'xdp_drop_no_port',
  ];
  watch.look(Object.fromEntries(counters.map((name) => [name, 1])), 0);
  t.same(
    said.map(({ counter }) => counter),
    counters,
  );
  for (const { message } of said)
    t.match(message, /^1 [^:]+: [^:]/, 'what happened and the remedy');
  watch.look({ frames: 1 }, 0);
  t.equal(said.length, counters.length, 'a counter of anything else is no loss');
});

t.test('`baton stats` shows losses', async (t) => {
  const loss: Loss = {
    counter: 'ring_lost',
    total: 1_679,
    agoMs: 3_000,
    what: 'frames lost',
    remedy: 'hurry',
  };
  const text = renderStats(statsAt(5, { losses: [loss] }));
  t.match(text, /^warning: ring_lost: 1,679 frames lost, the last 3\.0s ago: hurry$/m);
  t.notMatch(renderStats(statsAt(5)), /warning/);
});
