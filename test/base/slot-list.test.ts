/** The slot list against a naive model. */
import fc from 'fast-check';
import t from 'tap';
import { SlotList } from '../../src/base/slot-list.js';

t.test('the slot list keeps its order', async () => {
  fc.assert(
    fc.property(fc.array(fc.nat(15), { maxLength: 100 }), (slots) => {
      const list = new SlotList(new Int32Array(16), new Int32Array(16));
      let model: number[] = [];
      for (const slot of slots) {
        if (model.includes(slot)) {
          list.remove(slot);
          model = model.filter((other) => other !== slot);
        } else {
          list.push(slot);
          model.push(slot);
        }
        if (list.size !== model.length || list.oldest !== (model[0] ?? -1)) return false;
      }
      return true;
    }),
  );
});
