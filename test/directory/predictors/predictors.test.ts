import fc from 'fast-check';
import t from 'tap';
import { HolderSets, holderBit } from '../../../src/directory/holders.js';
import { NodeTable } from '../../../src/directory/node-states.js';
import { createPredictor, PREDICTOR_NAMES } from '../../../src/directory/predictors/index.js';
import type { Predictor } from '../../../src/directory/predictors/predictor.js';

function farm(...weights: number[]): NodeTable {
  const nodes = new NodeTable(weights.map((weight, i) => ({ address: i + 1, weight })));
  nodes.resolved.fill(1);
  return nodes;
}

const everyNode = (nodes: NodeTable) =>
  new HolderSets([{ nodes: Array.from({ length: nodes.count }, (_, i) => i) }]);

/** The next picks, as letters: node 0 is a. */
function turns(predictor: Predictor, count: number, set = 0): string {
  const letter = () => {
    const node = predictor.pick(set, 0, 0, 0);
    return node < 0 ? '-' : String.fromCharCode(97 + node);
  };
  return Array.from({ length: count }, letter).join('');
}

t.test('holder sets', async (t) => {
  const sets = new HolderSets([
    { nodes: [2, 0] },
    { nodes: [1] },
    { nodes: [0, 2, 2] },
    { nodes: [] },
  ]);
  t.same([...sets.setOf], [0, 1, 0, 2]);
  t.same([...sets.start], [0, 2, 3, 3]);
  t.same([...sets.node], [0, 2, 1]);
  t.equal(sets.count, 3);
  t.same([holderBit(0), holderBit(31), holderBit(32)], [1, 0x8000_0000, 1]);
});

for (const name of PREDICTOR_NAMES) {
  t.test(`${name}: turns among equals`, async (t) => {
    const make = (...weights: number[]) => {
      const nodes = farm(...weights);
      return createPredictor(name, everyNode(nodes), nodes);
    };
    t.equal(turns(make(1, 1, 1), 7), 'abcabca');
    t.equal(turns(make(3), 3), 'aaa');
    t.equal(turns(make(5, 1, 1), 14), 'aabacaaaabacaa', 'smoothly by weight');
    t.equal(turns(make(2, 1), 6), 'abaaba');
    t.equal(turns(make(0, 1, 1), 4), 'bcbc', 'weight 0 gets none');
    t.equal(turns(make(0, 0), 2), '--');
    t.equal(turns(make(), 2), '--', 'no holder at all');
    t.equal(turns(make(4_000_000_000, 4_000_000_000), 4), 'abab', 'large weights');
  });

  t.test(`${name}: leaves out what was tried and what can not`, async (t) => {
    const nodes = farm(1, 1, 1);
    const predictor = createPredictor(
      name,
      new HolderSets([{ nodes: [0, 2] }, { nodes: [1] }]),
      nodes,
    );
    const first = predictor.pick(0, 0, 0, 0);
    const tried = predictor.pickedBit;
    const second = predictor.pick(0, tried, 0, 0);
    t.same([first, second, tried, predictor.pickedBit], [0, 2, 1, 2]);
    t.equal(predictor.pick(0, 3, 0, 0), -1);
    t.equal(predictor.pickedBit, 0);
    t.equal(predictor.pick(1, 0, 0, 0), 1);

    nodes.able[0] = 0;
    t.equal(turns(predictor, 3), 'ccc', 'unable');
    nodes.resolved[2] = 0;
    t.equal(turns(predictor, 2), '--', 'unresolved');
    nodes.able[0] = 1;
    for (let i = 0; i < 3; i++) nodes.stayedSilent(0, 1_000);
    t.equal(predictor.pick(0, 0, 0, 1_000), -1, 'suspended');
    t.equal(predictor.pick(0, 0, 0, 1_000_000), 0, 'no longer suspended');
  });

  t.test(`${name}: more than 32 holders`, async (t) => {
    const nodes = farm(...Array.from({ length: 40 }, () => 1));
    const predictor = createPredictor(name, everyNode(nodes), nodes);
    const seen = new Set(Array.from({ length: 40 }, () => predictor.pick(0, 0, 0, 0)));
    t.equal(seen.size, 40, 'each gets first tries');
    let tried = 0;
    let tries = 0;
    while (predictor.pick(0, tried, 0, 0) >= 0) {
      t.equal(tried & predictor.pickedBit, 0);
      tried = (tried | predictor.pickedBit) >>> 0;
      tries++;
    }
    t.equal(tries, 32, 'a session is tried at 32 of them');
  });

  t.test(
    `${name}: a pick is always a holder that may be picked, and one is found if there is one`,
    async (t) => {
      const weights = fc.array(fc.nat(3), { minLength: 1, maxLength: 6 });
      const steps = fc.array(
        fc.record({
          able: fc.nat(63),
          tried: fc.nat(63),
          active: fc.array(fc.nat(5), { minLength: 6, maxLength: 6 }),
        }),
        {
          maxLength: 30,
        },
      );
      fc.assert(
        fc.property(weights, steps, (weights, steps) => {
          const nodes = farm(...weights);
          const predictor = createPredictor(name, everyNode(nodes), nodes);
          for (const { able, tried, active } of steps) {
            const may = (node: number) =>
              weights[node] !== 0 && ((able >> node) & 1) === 1 && ((tried >> node) & 1) === 0;
            weights.forEach((_, node) => {
              nodes.able[node] = (able >> node) & 1;
              nodes.active[node] = active[node] ?? 0;
            });
            const picked = predictor.pick(0, tried, 0, 0);
            if (picked < 0 ? weights.some((_, node) => may(node)) : !may(picked)) return false;
            if (predictor.pickedBit !== (picked < 0 ? 0 : 1 << picked)) return false;
            if (name === 'least-connections' && picked >= 0) {
              const load = (node: number) => (active[node] ?? 0) / (weights[node] ?? 0);
              if (weights.some((_, node) => may(node) && load(node) < load(picked) - 1e-9))
                return false;
            }
          }
          return true;
        }),
      );
      t.pass('so it is');
    },
  );
}

t.test('round-robin: each set has its own turn, and so has each predictor', async (t) => {
  const nodes = farm(1, 1);
  const sets = new HolderSets([{ nodes: [0, 1] }, { nodes: [1] }, { nodes: [1, 0] }]);
  const [one, two] = [
    createPredictor('round-robin', sets, nodes),
    createPredictor('round-robin', sets, nodes),
  ];
  t.equal(turns(one, 1), 'a');
  t.equal(turns(one, 2, 1), 'bb');
  t.equal(turns(one, 1), 'b');
  t.equal(turns(two, 2), 'ab');
});

t.test('least-connections: the least loaded for its weight', async (t) => {
  const nodes = farm(1, 3, 2);
  const predictor = createPredictor('least-connections', everyNode(nodes), nodes);
  const pickAt = (...active: number[]) => {
    nodes.active.set(active);
    return turns(predictor, 1);
  };
  t.equal(pickAt(2, 5, 4), 'b');
  t.equal(pickAt(2, 6, 3), 'c');
  t.equal(pickAt(1, 4, 4), 'a');
  t.equal(pickAt(1_000_000, 3_000_000, 1_999_999), 'c');
  t.equal(pickAt(0, 0, 1), 'b');
});

t.test('least-connections: sessions that last end up spread by weight', async (t) => {
  const nodes = farm(1, 2, 5);
  const predictor = createPredictor('least-connections', everyNode(nodes), nodes);
  for (let i = 0; i < 800; i++) {
    const node = predictor.pick(0, 0, 0, 0);
    nodes.active[node] = (nodes.active[node] ?? 0) + 1;
  }
  t.same([...nodes.active], [100, 200, 500]);
});
