/** The timer wheel against a naive model. */
import fc from 'fast-check';
import t from 'tap';
import { TimerWheel } from '../../src/base/timer-wheel.js';
import { UPTIMES } from '../support/uptime.js';

t.test('a timer fires once, not before its time, and at most a tick after it', async () => {
  const action = fc.oneof(
    fc.record({ kind: fc.constant('set' as const), slot: fc.nat(19), wait: fc.nat(100_000) }),
    fc.record({ kind: fc.constant('clear' as const), slot: fc.nat(19), wait: fc.constant(0) }),
    fc.record({
      kind: fc.constant('advance' as const),
      slot: fc.constant(0),
      wait: fc.nat(40_000),
    }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), fc.nat(5_000_000_000), (actions, start) => {
      const wheel = new TimerWheel(20, start);
      const due = new Map<number, number>();
      let now = start;
      const handler = {
        expired(slot: number, at: number): void {
          const deadline = due.get(slot);
          if (deadline === undefined) throw new Error(`slot ${slot} was not set`);
          if (at < deadline) throw new Error(`slot ${slot} fired ${deadline - at} ms early`);
          due.delete(slot);
        },
      };
      for (const { kind, slot, wait } of actions) {
        if (kind === 'set') {
          wheel.set(slot, now + wait);
          due.set(slot, now + wait);
        } else if (kind === 'clear') {
          wheel.clear(slot);
          due.delete(slot);
        } else {
          now += wait;
          wheel.advance(now, handler);
          for (const [left, deadline] of due) {
            if (deadline < now - 16) throw new Error(`slot ${left} is ${now - deadline} ms late`);
          }
        }
        if (wheel.size !== due.size) throw new Error('the size is wrong');
      }
      wheel.advance(now + 200_000, handler);
      return due.size === 0;
    }),
    { numRuns: 300 },
  );
});

t.test('timers that are set before the first tick, at any uptime', async (t) => {
  for (const [uptime, start] of Object.entries(UPTIMES)) {
    const fired: string[] = [];
    const wheel = new TimerWheel(3, start);
    // The engine takes sessions over when it is made, and has its first tick a little later.
    wheel.set(0, start + 2_000 + 40);
    wheel.set(1, start + 2_000 + 900_000);
    wheel.set(2, start + 2_000 + 86_400_000);
    const handler = {
      expired: (slot: number, now: number) => fired.push(`${slot} at ${now - start}`),
    };
    for (let now = start + 2_000; now < start + 1_000_000; now += 8) wheel.advance(now, handler);
    for (let now = start + 1_000_000; now < start + 90_000_000; now += 8_000)
      wheel.advance(now, handler);
    t.same(fired, ['0 at 2040', '1 at 902000', '2 at 86408000'], `an uptime of ${uptime}`);
  }
});

t.test('a handler may set its own and other timers', async (t) => {
  const wheel = new TimerWheel(3, 0);
  const fired: string[] = [];
  const handler = {
    expired(slot: number, now: number): void {
      fired.push(`${slot} at ${now}`);
      if (slot === 0 && now < 100) wheel.set(0, now + 40);
      if (slot === 0) wheel.clear(2);
    },
  };
  wheel.set(0, 8);
  wheel.set(2, 16);
  wheel.set(1, 100);
  for (let now = 0; now <= 200; now += 8) wheel.advance(now, handler);
  t.same(fired, ['0 at 8', '0 at 48', '0 at 88', '1 at 104', '0 at 128']);
});
