import { Worker } from 'node:worker_threads';
import t from 'tap';
import { readStages, Stage, StageClock, stageMemory } from '../../src/base/stages.js';

const MOST_RUNS = 20;

/** A clock that the test moves forward, in ms. */
class Hand {
  time = 1_000;
  sleep = 0;
  now(): number {
    return this.time;
  }
  slept(): number {
    return this.sleep;
  }
}

t.test('every nanosecond belongs to one stage', async (t) => {
  const hand = new Hand();
  const memory = stageMemory();
  const clock = new StageClock(memory, hand);
  const spend = (ms: number, stage: number): void => {
    hand.time += ms;
    clock.mark(stage);
  };
  hand.sleep = 40;
  spend(50, Stage.loop);
  spend(1, Stage.receive);
  clock.batch(7);
  spend(4, Stage.engine);
  spend(2, Stage.timers);
  spend(3, Stage.flush);
  clock.batch(0);
  t.same(readStages(memory).frames, 0, 'totals are visible only after publish');
  clock.publish();
  t.same(readStages(memory), {
    nanoseconds: { waiting: 40e6, loop: 10e6, receive: 1e6, engine: 4e6, timers: 2e6, flush: 3e6 },
    batches: 1,
    frames: 7,
  });

  hand.sleep += 30;
  spend(30, Stage.loop);
  clock.batch(1);
  clock.publish();
  const { nanoseconds, batches, frames } = readStages(memory);
  t.match(nanoseconds, { waiting: 70e6, loop: 10e6 });
  t.same([batches, frames], [2, 8]);
  const sum = Object.values(nanoseconds).reduce((total, value) => total + value, 0);
  t.equal(sum, (hand.time - 1_000) * 1e6);
});

t.test('a sleep longer than the time outside gives no negative time', async (t) => {
  const hand = new Hand();
  const memory = stageMemory();
  const clock = new StageClock(memory, hand);
  hand.time += 5;
  hand.sleep = 5.5;
  clock.mark(Stage.loop);
  clock.publish();
  t.match(readStages(memory).nanoseconds, { waiting: 5e6, loop: 0 });
});

t.test('another thread reads the totals, and sleep is separate from work', async (t) => {
  const program = `
    import { workerData } from 'node:worker_threads';
    import { Stage, StageClock } from ${JSON.stringify(new URL('../../src/base/stages.js', import.meta.url).href)};
    const clock = new StageClock(workerData);
    let turns = 0;
    const timer = setInterval(() => {
      clock.mark(Stage.loop);
      const end = performance.now() + 10;
      while (performance.now() < end);
      clock.mark(Stage.engine);
      clock.batch(3);
      clock.publish();
      if (++turns === 10) clearInterval(timer);
    }, 30);`;
  // On a busy machine the thread wakes up late, and that time is not sleep. In one of several runs
  // it gets the CPU in time.
  for (let run = 1; ; run++) {
    const memory = stageMemory();
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(program)}`), {
      workerData: memory,
    });
    await new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject));
    const { nanoseconds, batches, frames } = readStages(memory);
    const { waiting, loop } = nanoseconds;
    if ((waiting <= 2 * loop || waiting < 100e6) && run < MOST_RUNS) continue;
    t.same([batches, frames], [10, 30]);
    t.ok(nanoseconds.engine >= 100e6, `engine ${nanoseconds.engine}`);
    t.ok(waiting >= 100e6, `waiting ${waiting}`);
    t.ok(waiting > 2 * loop, `loop ${loop}, run ${run}`);
    return;
  }
});
