/** A preview says what the next pick does, and changes nothing. */
import fc from 'fast-check';
import t from 'tap';
import { holderSets } from '../../../src/directory/holders.js';
import { createPredictor, PREDICTOR_NAMES } from '../../../src/directory/predictors/index.js';
import { Farm } from './farm.js';

const node = fc.record({ weight: fc.nat(4), load: fc.nat(6), up: fc.boolean() });

for (const name of PREDICTOR_NAMES) {
  t.test(`${name}: the previewed node is the one that the next pick takes`, async (t) => {
    fc.assert(
      fc.property(
        fc.array(node, { minLength: 1, maxLength: 5 }),
        fc.array(fc.record({ at: fc.nat(4), load: fc.nat(6), up: fc.boolean(), set: fc.nat(1) }), {
          maxLength: 40,
        }),
        (nodes, changes) => {
          const farm = new Farm(...nodes.map(({ weight }) => weight));
          const all = nodes.map((_, index) => index);
          const sets = holderSets([{ nodes: all }, { nodes: all.slice(1) }]);
          const predictor = createPredictor(name, sets, farm);
          for (const [index, { load, up }] of nodes.entries()) {
            farm.loads[index] = load;
            farm.up[index] = up;
          }
          for (const { at, load, up, set } of changes) {
            farm.loads[at % nodes.length] = load;
            farm.up[at % nodes.length] = up;
            const preview = predictor.preview(set);
            if (JSON.stringify(predictor.preview(set)) !== JSON.stringify(preview))
              throw new Error('a preview has changed something');
            const bit = predictor.pickedBit;
            predictor.preview(set);
            if (predictor.pickedBit !== bit) throw new Error('a preview has changed pickedBit');
            const picked = predictor.pick(set, 0);
            if (picked !== preview.picked)
              throw new Error(`previewed ${preview.picked}, picked ${picked}`);
          }
        },
      ),
      { numRuns: 500 },
    );
    t.pass('for many farms');
  });
}

t.test(
  'least-connections shows loads for their weights, and the credit of those that tie',
  async (t) => {
    const farm = new Farm(2, 1, 1, 1, 0);
    Object.assign(farm.loads, [4, 2, 3, 0, 0]);
    farm.up[3] = false;
    const predictor = createPredictor('least-connections', farm.all(), farm);
    t.same(predictor.preview(0), {
      picked: 0,
      holders: [
        { score: 2, credit: 2 },
        { score: 2, credit: 1 },
        { score: 3, credit: null },
        { score: null, credit: null },
        { score: null, credit: null },
      ],
    });
  },
);

t.test('round-robin compares no loads', async (t) => {
  const farm = new Farm(1, 1);
  farm.loads[0] = 99;
  const predictor = createPredictor('round-robin', farm.all(), farm);
  const holders = [
    { score: null, credit: 1 },
    { score: null, credit: 1 },
  ];
  t.same(predictor.preview(0), { picked: 0, holders });
  predictor.pick(0, 0);
  t.same(predictor.preview(0), {
    picked: 1,
    holders: [
      { score: null, credit: 0 },
      { score: null, credit: 2 },
    ],
  });
});

t.test('a set without a holder', async (t) => {
  const farm = new Farm();
  for (const name of PREDICTOR_NAMES)
    t.same(createPredictor(name, farm.all(), farm).preview(0), { picked: -1, holders: [] });
});
