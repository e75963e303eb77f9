/** Many nodes that do not answer: how often the kernel is asked, and what others get. */
import t from 'tap';
import { type NeighbourChange, NeighbourWatch } from '../../../src/balancer/machine/neighbours.js';
import type { Neighbour } from '../../../src/host/native.js';
import { type Address, toAddress } from '../../../src/wire/address.js';

const NUD_REACHABLE = 0x02;
const NUD_FAILED = 0x20;
const OWN = toAddress(0x0a63_0002);
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);

/** A network on which nobody answers except those in `alive`. Each question fails at once. */
function setUp(count: number) {
  const clock = { now: 0 };
  const asked = new Map<Address, number>();
  const alive = new Set<Address>();
  const changes: NeighbourChange[] = [];
  const address = (slot: number): Address => toAddress(0x0a63_0100 + slot);
  const watch = new NeighbourWatch({
    localMac: new Uint8Array(6),
    interface: 'eth0',
    nodes: Array.from({ length: count }, (_, slot) => ({ slot, address: address(slot) })),
    onChange: (change) => changes.push(change),
    now: () => clock.now,
    native: {
      interfaceInfo: () => ({
        index: 2,
        up: true,
        loopback: false,
        mac: MAC,
        mtu: 1500,
        addresses: [{ address: OWN, prefix: 16, label: 'eth0' }],
      }),
      neighbours: () =>
        [...asked.keys()].map(
          (one): Neighbour =>
            alive.has(one)
              ? { address: one, mac: MAC, state: NUD_REACHABLE }
              : { address: one, mac: undefined, state: NUD_FAILED },
        ),
      resolveNeighbour: (_, one) => void asked.set(one, (asked.get(one) ?? 0) + 1),
      forgetNeighbour: () => {},
      openNeighbourEvents: () => {
        throw new Error('not here');
      },
    },
  });
  const look = (): number => {
    const before = [...asked.values()].reduce((sum, times) => sum + times, 0);
    watch.look();
    return [...asked.values()].reduce((sum, times) => sum + times, 0) - before;
  };
  return { clock, asked, alive, changes, address, look };
}

t.test('a few nodes without an answer are asked at each look', async (t) => {
  const { clock, look } = setUp(10);
  for (let turn = 0; turn < 5; turn++) {
    clock.now += 3;
    t.equal(look(), 10);
  }
});

t.test('many take turns, and each has its turn', async (t) => {
  const { clock, asked, look, changes } = setUp(1_000);
  t.equal(look(), 1_000, 'new nodes are asked at once');
  let most = 0;
  for (const end = clock.now + 60_000; clock.now < end; clock.now += 50) {
    most = Math.max(most, look());
  }
  const times = [...asked.values()];
  t.equal(times.length, 1_000);
  t.ok(Math.min(...times) >= 3, `each is asked again: ${Math.min(...times)} times in a minute`);
  const all = times.reduce((sum, one) => sum + one, 0);
  t.ok(most <= 64, `${most} at a time`);
  t.ok(all <= 1_000 + 64 * 60, `${all} questions in a minute`);
  t.equal(changes.filter(({ mac }) => mac === undefined).length, 1_000);
});

t.test('a node that answers is found at the next look, whoever is missing', async (t) => {
  const { clock, alive, address, look, changes } = setUp(1_000);
  look();
  alive.add(address(999));
  clock.now += 1;
  look();
  t.match(changes.at(-1), { node: 999, mac: MAC });
});
