import fc from 'fast-check';
import t from 'tap';
import { holderBit, holderSets } from '../../../src/directory/holders.js';
import { createPredictor, PREDICTOR_NAMES } from '../../../src/directory/predictors/index.js';
import type { Predictor } from '../../../src/directory/predictors/predictor.js';
import { Farm } from './farm.js';

/** The next picks, as letters: node 0 is a. */
function turns(predictor: Predictor, count: number, set = 0): string {
  const letter = () => {
    const node = predictor.pick(set, 0);
    return node < 0 ? '-' : String.fromCharCode(97 + node);
  };
  return Array.from({ length: count }, letter).join('');
}

t.test('holder sets', async (t) => {
  const sets = holderSets([{ nodes: [2, 0] }, { nodes: [1] }, { nodes: [0, 2, 2] }, { nodes: [] }]);
  t.same([...sets.setOf], [0, 1, 0, 2]);
  t.same([...sets.start], [0, 2, 3, 3]);
  t.same([...sets.node], [0, 2, 1]);
  t.equal(sets.count, 3);
  t.same([holderBit(0), holderBit(31), holderBit(32)], [1, 0x8000_0000, 1]);
});

for (const name of PREDICTOR_NAMES) {
  t.test(`${name}: turns among equals`, async (t) => {
    const make = (...weights: number[]) => {
      const farm = new Farm(...weights);
      return createPredictor(name, farm.all(), farm);
    };
    t.equal(turns(make(1, 1, 1), 7), 'abcabca');
    t.equal(turns(make(3), 3), 'aaa');
    t.equal(turns(make(5, 1, 1), 14), 'aabacaaaabacaa', 'spread smoothly by weight');
    t.equal(turns(make(2, 1), 6), 'abaaba');
    t.equal(turns(make(0, 1, 1), 4), 'bcbc', 'weight 0 gets none');
    t.equal(turns(make(0, 0), 2), '--');
    t.equal(turns(make(), 2), '--', 'an empty holder set');
    t.equal(turns(make(4_000_000_000, 4_000_000_000), 4), 'abab', 'large weights');
  });

  t.test(`${name}: thousands of sets have turns of their own`, async (t) => {
    const nodes = 30;
    const triples = Array.from({ length: nodes * nodes * nodes }, (_, index) => [
      index % nodes,
      Math.floor(index / nodes) % nodes,
      Math.floor(index / (nodes * nodes)),
    ]);
    const sets = holderSets(triples.map((holders) => ({ nodes: holders })));
    t.ok(sets.node.length > 4_096, 'there are several parts');
    const farm = new Farm(...Array<number>(nodes).fill(1));
    const predictor = createPredictor(name, sets, farm);
    const picked = (): number[] =>
      Array.from({ length: sets.count }, (_, set) => predictor.pick(set, 0));
    const rounds = [picked(), picked(), picked(), picked(), picked(), picked()];
    const wrong = Array.from({ length: sets.count }, (_, set) => set).filter((set) => {
      const holders = sets.node.subarray(sets.start[set], sets.start[set + 1]);
      return rounds.some((round, turn) => round[set] !== holders[turn % holders.length]);
    });
    t.same(wrong, []);
  });

  t.test(`${name}: leaves out holders that were tried, and unavailable ones`, async (t) => {
    const farm = new Farm(1, 1, 1);
    const predictor = createPredictor(name, holderSets([{ nodes: [0, 2] }, { nodes: [1] }]), farm);
    const first = predictor.pick(0, 0);
    const tried = predictor.pickedBit;
    const second = predictor.pick(0, tried);
    t.same([first, second, tried, predictor.pickedBit], [0, 2, 1, 2]);
    t.equal(predictor.pick(0, 3), -1);
    t.equal(predictor.pickedBit, 0);
    t.equal(predictor.pick(1, 0), 1);

    farm.up[0] = false;
    t.equal(turns(predictor, 3), 'ccc', 'one is unavailable');
    farm.up[2] = false;
    t.equal(turns(predictor, 2), '--', 'all are unavailable');
    farm.up[0] = true;
    t.equal(turns(predictor, 2), 'aa', 'one is available again');
  });

  t.test(`${name}: more than 32 holders`, async (t) => {
    const farm = new Farm(...Array.from({ length: 40 }, () => 1));
    const predictor = createPredictor(name, farm.all(), farm);
    const seen = new Set(Array.from({ length: 40 }, () => predictor.pick(0, 0)));
    t.equal(seen.size, 40, 'each holder gets first tries');
    let tried = 0;
    let tries = 0;
    while (predictor.pick(0, tried) >= 0) {
      t.equal(tried & predictor.pickedBit, 0);
      tried = (tried | predictor.pickedBit) >>> 0;
      tries++;
    }
    t.equal(tries, 32, 'a session is tried at 32 of them');
  });

  t.test(
    `${name}: picks a holder that may be picked whenever there is one, and no other`,
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
          const farm = new Farm(...weights);
          const predictor = createPredictor(name, farm.all(), farm);
          for (const { able, tried, active } of steps) {
            const may = (node: number) =>
              weights[node] !== 0 && ((able >> node) & 1) === 1 && ((tried >> node) & 1) === 0;
            weights.forEach((_, node) => {
              farm.up[node] = ((able >> node) & 1) === 1;
              farm.loads[node] = active[node] ?? 0;
            });
            const picked = predictor.pick(0, tried);
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
      t.pass('every pick was right');
    },
  );
}

t.test('round-robin: each set and each predictor has turns of its own', async (t) => {
  const farm = new Farm(1, 1);
  const sets = holderSets([{ nodes: [0, 1] }, { nodes: [1] }, { nodes: [1, 0] }]);
  const [one, two] = [
    createPredictor('round-robin', sets, farm),
    createPredictor('round-robin', sets, farm),
  ];
  t.equal(turns(one, 1), 'a');
  t.equal(turns(one, 2, 1), 'bb');
  t.equal(turns(one, 1), 'b');
  t.equal(turns(two, 2), 'ab');
});

t.test('least-connections: picks the least load for its weight', async (t) => {
  const farm = new Farm(1, 3, 2);
  const predictor = createPredictor('least-connections', farm.all(), farm);
  const pickAt = (...active: number[]) => {
    farm.loads.splice(0, active.length, ...active);
    return turns(predictor, 1);
  };
  t.equal(pickAt(2, 5, 4), 'b');
  t.equal(pickAt(2, 6, 3), 'c');
  t.equal(pickAt(1, 4, 4), 'a');
  t.equal(pickAt(1_000_000, 3_000_000, 1_999_999), 'c');
  t.equal(pickAt(0, 0, 1), 'b');
});

t.test('least-connections: long sessions are spread by weight', async (t) => {
  const farm = new Farm(1, 2, 5);
  const predictor = createPredictor('least-connections', farm.all(), farm);
  for (let i = 0; i < 800; i++) {
    const node = predictor.pick(0, 0);
    farm.loads[node] = (farm.loads[node] ?? 0) + 1;
  }
  t.same(farm.loads, [100, 200, 500]);
});
