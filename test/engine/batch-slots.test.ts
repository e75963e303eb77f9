import t from 'tap';
import { BatchSlots } from '../../src/engine/batch-slots.js';

t.test('a slot is in the list until the next batch begins', async (t) => {
  const slots = new BatchSlots();
  slots.add(7);
  slots.add(9);
  t.same(
    [7, 8, 9].map((slot) => slots.has(slot)),
    [true, false, true],
  );
  slots.clear();
  t.notOk(slots.has(7));
});

t.test(
  'if there are more slots than the list remembers, every slot counts as a member',
  async (t) => {
    const slots = new BatchSlots();
    for (let slot = 0; slot < 512; slot++) slots.add(slot);
    t.ok(slots.has(511));
    t.notOk(slots.has(512));
    slots.add(512);
    t.ok(slots.has(512));
    t.ok(slots.has(9_999));
    slots.clear();
    t.notOk(slots.has(512));
  },
);
