/** Several observers of one engine. */
import t from 'tap';
import { joinObservers } from '../../src/engine/observers.js';
import type { Observer } from '../../src/engine/options.js';

const EVENTS: readonly (keyof Observer)[] = [
  'opened',
  'established',
  'request',
  'handoff',
  'adopted',
  'refused',
  'unconfirmed',
  'silent',
  'released',
  'closed',
  'reported',
  'badKey',
];
const ARGUMENTS = [1, 2, 3, 4, 5, 6, 7];

type Listener = (...values: unknown[]) => void;

/** An observer that listens to one event, as a class does: with `this`. */
class Ear {
  readonly heard: unknown[][] = [];
  constructor(event: keyof Observer) {
    const listen: Listener = (...values) => this.heard.push(values);
    Object.assign(this, { [event]: listen });
  }
}

t.test('each event reaches all that listen to it, with all its values', async (t) => {
  for (const event of EVENTS) {
    const ears = [new Ear(event), new Ear(event), new Ear(event)];
    const joined = joinObservers(ears as Observer[]);
    t.same(Object.keys(joined), [event], `only ${event}`);
    (joined[event] as Listener)(...ARGUMENTS);
    const { length } = ears[0]!.heard[0]!;
    t.ok(length >= 2, `${event} has ${length} values`);
    for (const { heard } of ears) t.same(heard, [ARGUMENTS.slice(0, length)]);
  }
});

t.test('an event to which nobody listens has no listener', async (t) => {
  t.same(joinObservers([]), {});
  const joined = joinObservers([{}, new Ear('closed') as Observer]);
  t.equal(joined.opened, undefined);
  t.type(joined.closed, 'function');
});
