import fc from 'fast-check';
import t from 'tap';
import { httpServer } from '../../../lab/virtual-server.js';
import type { FarmSlots } from '../../../src/balancer/objects/farm.js';
import {
  addedNodes,
  assignSlots,
  NO_SLOTS,
  slotsOfNodes,
  withoutFree,
} from '../../../src/balancer/objects/slots.js';
import type { NodeEntry, VirtualServer } from '../../../src/config/load.js';
import { formatPlace, virtualServer } from '../../../src/config/virtual-server.js';
import { formatEndpoint, toAddress } from '../../../src/wire/address.js';

const CAPACITY = { nodes: 8, servers: 6 };

const node = (name: string, last: number, weight = 1): NodeEntry => ({
  name,
  address: toAddress(0x0a000000 + last),
  weight,
});
const server = (name: string, last: number, port = 80): VirtualServer =>
  httpServer(name, toAddress(0x0a630000 + last), port);

t.test('the first farm has slots equal to indexes', async (t) => {
  const wanted = {
    nodes: [node('n1', 1), node('n2', 2)],
    virtualServers: [server('www', 1), server('tls', 1, 443)],
  };
  const slots = assignSlots(NO_SLOTS, wanted, CAPACITY);
  t.same(
    slots.nodes.map(({ slot, name, retired }) => [slot, name, retired]),
    [
      [0, 'n1', false],
      [1, 'n2', false],
    ],
  );
  t.same(
    slots.servers.map(({ slot, name }) => [slot, name]),
    [
      [0, 'www'],
      [1, 'tls'],
    ],
  );
});

t.test('a removed node is retired, and its slot is not given away', async (t) => {
  const servers = [server('www', 1)];
  const first = assignSlots(
    NO_SLOTS,
    { nodes: [node('n1', 1), node('n2', 2, 5)], virtualServers: servers },
    CAPACITY,
  );
  const second = assignSlots(
    first,
    { nodes: [node('n3', 3), node('n1', 1, 7)], virtualServers: servers },
    CAPACITY,
  );
  t.same(
    second.nodes.map(({ slot, name, weight, retired }) => [slot, name, weight, retired]),
    [
      [0, 'n1', 7, false],
      [1, 'n2', 0, true],
      [2, 'n3', 1, false],
    ],
  );
  t.same([...slotsOfNodes(second, [node('n3', 3), node('n1', 1)])], [2, 0]);
  t.same(
    addedNodes(first, second).map(({ name }) => name),
    ['n3'],
  );

  t.test('until it is added again', async (t) => {
    const third = assignSlots(
      second,
      { nodes: [node('again', 2), node('n1', 1), node('n3', 3)], virtualServers: servers },
      CAPACITY,
    );
    t.same(
      third.nodes.map(({ slot, name, retired }) => [slot, name, retired]),
      [
        [0, 'n1', false],
        [1, 'again', false],
        [2, 'n3', false],
      ],
    );
    t.same(
      addedNodes(second, third).map(({ name }) => name),
      ['again'],
    );
  });

  t.test('or until no session refers to it', async (t) => {
    const busy = withoutFree(second, { node: () => false, server: () => false });
    t.same(busy, second);
    const freed = withoutFree(second, { node: () => true, server: () => true });
    t.same(
      freed.nodes.map(({ slot }) => slot),
      [0, 2],
      'only retired slots become free',
    );
    t.equal(freed.servers.length, 1);
  });
});

t.test('too many retired objects leave no room', async (t) => {
  const virtualServers = [server('www', 1)];
  const nodes = (from: number, count: number): NodeEntry[] =>
    Array.from({ length: count }, (_, index) => node(`n${from + index}`, from + index));
  const full = assignSlots(NO_SLOTS, { nodes: nodes(1, 8), virtualServers }, CAPACITY);
  t.throws(() => assignSlots(full, { nodes: nodes(2, 8), virtualServers }, CAPACITY), {
    code: 'BATON_IN_USE',
    message: /of 8, 1 are removed ones that still have sessions/,
  });
});

t.test('whatever changes, what stays keeps its slot and no slot has two owners', async () => {
  const step = fc.record({
    nodes: fc.uniqueArray(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 3 }),
    servers: fc.uniqueArray(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 2 }),
    frees: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      let present: FarmSlots = NO_SLOTS;
      for (const { nodes, servers, frees } of steps) {
        const wanted = {
          nodes: nodes.map((last) => node(`n${last}`, last)),
          virtualServers: servers.map((last) => server(`s${last}`, last)),
        };
        const next = assignSlots(present, wanted, CAPACITY);
        const slotOf = new Map(present.nodes.map(({ address, slot }) => [address, slot]));
        for (const { address, slot } of next.nodes) {
          if ((slotOf.get(address) ?? slot) !== slot) return false;
        }
        const serverAt = new Map(present.servers.map((one) => [formatEndpoint(one), one.slot]));
        for (const one of next.servers) {
          if ((serverAt.get(formatEndpoint(one)) ?? one.slot) !== one.slot) return false;
        }
        for (const list of [next.nodes, next.servers]) {
          if (new Set(list.map(({ slot }) => slot)).size !== list.length) return false;
        }
        const inUse = next.nodes.filter(({ retired }) => !retired).map(({ name }) => name);
        if (
          inUse.sort().join() !==
          wanted.nodes
            .map(({ name }) => name)
            .sort()
            .join()
        )
          return false;
        present = frees ? withoutFree(next, { node: () => true, server: () => true }) : next;
      }
      return true;
    }),
  );
});

const ports = (name: string, last: number, ...given: (number | string)[]): VirtualServer =>
  virtualServer(
    {
      name,
      address: `10.99.0.${last}`,
      ports: given,
      mode: 'forward',
      predictor: 'round-robin',
    },
    new Map(),
  );
const slotsOf = ({ servers }: FarmSlots) =>
  servers.map((one) => `${one.slot} ${one.name} ${formatPlace(one)}${one.retired ? ' -' : ''}`);

t.test('ports of a virtual server come and go, and it keeps its slot', async (t) => {
  const nodes = [node('n1', 1), node('n2', 2)];
  const wanted = (...virtualServers: VirtualServer[]) => ({ nodes, virtualServers });
  const first = assignSlots(
    NO_SLOTS,
    wanted(ports('files', 1, 21, '9000-9100'), server('www', 1)),
    CAPACITY,
  );
  t.same(first.servers[0]?.nodes, [0, 1], 'without nodes, all get its connections');
  const second = assignSlots(
    first,
    wanted(server('www', 1), ports('ftp', 1, '9050-9200')),
    CAPACITY,
  );
  t.same(slotsOf(second), ['0 ftp 10.99.0.1:9050-9200', '1 www 10.99.0.1:80']);
  const split = assignSlots(
    second,
    wanted(ports('high', 1, '9151-9200'), ports('low', 1, '9050-9150')),
    CAPACITY,
  );
  t.same(
    slotsOf(split),
    ['0 low 10.99.0.1:9050-9150', '1 www 10.99.0.1:80 -', '2 high 10.99.0.1:9151-9200'],
    'the one with its lowest port goes on',
  );
});

t.test('another mode at the same port has to wait', async (t) => {
  const nodes = [node('n1', 1)];
  const wanted = (...virtualServers: VirtualServer[]) => ({ nodes, virtualServers });
  const first = assignSlots(NO_SLOTS, wanted(server('www', 1)), CAPACITY);
  const other = wanted(ports('all', 1, 'any'));
  t.throws(() => assignSlots(first, other, CAPACITY), {
    code: 'BATON_IN_USE',
    message:
      'virtual server "all" with mode forward cannot have 10.99.0.1:80 of virtual server "www", whose mode is handoff',
  });
  const retired = assignSlots(first, wanted(server('www', 2)), CAPACITY);
  t.throws(() => assignSlots(retired, other, CAPACITY), {
    message: /whose mode is handoff and which still has sessions$/,
  });
  const free = withoutFree(retired, { node: () => true, server: () => true });
  t.same(slotsOf(assignSlots(free, other, CAPACITY)), [
    '0 all 10.99.0.1:any',
    '1 www 10.99.0.2:80 -',
  ]);
});

t.test('a port has one virtual server, also while a removed one has sessions', async (t) => {
  const nodes = [node('n1', 1)];
  const wanted = (...virtualServers: VirtualServer[]) => ({ nodes, virtualServers });
  const first = assignSlots(NO_SLOTS, wanted(ports('a', 1, 80), ports('b', 1, 81)), CAPACITY);
  const both = wanted(ports('c', 1, '80-81'));
  t.throws(() => assignSlots(first, both, CAPACITY), {
    code: 'BATON_IN_USE',
    message:
      'virtual server "c" cannot have 10.99.0.1:81 of virtual server "b" as well: it takes the ports of another one over in the same change',
  });
  const removed = assignSlots(first, wanted(ports('a', 1, 80)), CAPACITY);
  t.throws(() => assignSlots(removed, both, CAPACITY), {
    message:
      'virtual server "c" cannot have 10.99.0.1:81 of virtual server "b", which was removed and still has sessions',
  });
  const free = withoutFree(removed, { node: () => true, server: () => true });
  t.same(slotsOf(assignSlots(free, both, CAPACITY)), ['0 c 10.99.0.1:80-81']);
});
