/** When an engine thread polls its datapath, and when others get their turn. */
import { setImmediate as turn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { PollLoop } from '../../../src/balancer/threads/poll-loop.js';

/** A loop whose polls are counted; `more` says whether frames are left after a poll. */
function make(t: Test, polls: boolean, more: (poll: number) => boolean = () => false) {
  const seen = { polls: 0, ticks: 0 };
  const loop = new PollLoop(
    () => more(++seen.polls),
    () => {
      seen.ticks++;
    },
    polls,
  );
  t.teardown(() => loop.stop());
  return { loop, seen };
}

t.test('while more frames wait, each further poll is a turn of the event loop later', async (t) => {
  const { loop, seen } = make(t, true, (poll) => poll < 3);
  loop.run();
  t.equal(seen.polls, 1);
  await turn();
  await turn();
  await turn();
  t.ok(seen.polls >= 3, `${seen.polls} polls`);
});

t.test('polls that come meanwhile do not multiply', async (t) => {
  const { loop, seen } = make(t, true, (poll) => poll <= 3);
  loop.run();
  loop.run();
  loop.run();
  t.equal(seen.polls, 3);
  await turn();
  await turn();
  t.ok(seen.polls >= 4 && seen.polls <= 4 + seen.ticks, 'one more poll, besides those of ticks');
});

t.test('nothing is polled before the beginning, but the ticks go on', async (t) => {
  const { loop, seen } = make(t, false);
  loop.run();
  while (seen.ticks < 2) await turn();
  t.equal(seen.polls, 0);
  loop.begin();
  t.equal(seen.polls, 1);
  const { ticks, polls } = seen;
  while (seen.ticks < ticks + 2) await turn();
  t.ok(seen.polls >= polls + 2, 'each tick polls');
});
