/** The order of steps when a farm changes, and that a failure at any step changes nothing. */
import t from 'tap';
import { httpServer } from '../../../lab/virtual-server.js';
import type { Farm, FarmSlots } from '../../../src/balancer/objects/farm.js';
import { FarmChanger, type FarmUsers } from '../../../src/balancer/objects/farm-changer.js';
import { assignSlots, NO_SLOTS } from '../../../src/balancer/objects/slots.js';
import type { BalancerConfig } from '../../../src/config/load.js';
import { serverAt } from '../../../src/config/virtual-server.js';
import { directoryImage } from '../../../src/directory/directory-image.js';
import { ownStates } from '../../../src/directory/node-states.js';
import { NodeTable } from '../../../src/engine/node-table.js';
import { VirtualServerTable } from '../../../src/engine/virtual-servers.js';
import { toAddress } from '../../../src/wire/address.js';

const CAPACITY = { nodes: 1_024, servers: 256 };
const TIMEOUTS = {
  synAck: 1,
  head: 2,
  handoff: 3,
  answer: 4,
  idle: 5,
  closing: 6,
  linger: 7,
};

/** The part of a config that a farm is made of. */
function configOf(nodes: readonly number[], servers: readonly number[] = [1]): BalancerConfig {
  const config = {
    nodes: nodes.map((last) => ({ name: `n${last}`, address: toAddress(last), weight: last })),
    virtualServers: servers.map((last) => httpServer(`s${last}`, toAddress(0x0a000000 + last), 80)),
    resources: [{ host: undefined, path: '/', nodes: nodes.map((_, index) => index) }],
    timeouts: TIMEOUTS,
  };
  return config as unknown as BalancerConfig;
}

/** Users that note each call, and fail at the step with this name. */
class Users implements FarmUsers {
  readonly calls: string[] = [];
  private fails = '';
  private left = 0;
  farm: Farm | undefined;
  readonly heldNodes = new Set<number>();
  readonly heldServers: number[] = [];

  readonly machine = {
    prepareChange: async (next: FarmSlots) => {
      this.step(
        `prepare ${next.servers.map(({ name, retired }) => `${name}${retired ? '-' : ''}`)}`,
      );
      return {
        commit: async () => this.step('commit'),
        abandon: async () => this.step('abandon'),
      };
    },
  };
  /** The tables of an engine: their rules decide which farm an engine takes. */
  private readonly nodes: NodeTable;
  private servers: VirtualServerTable;
  readonly engine = {
    change: async (farm: Farm) => {
      this.step(`engine ${farm.nodes.map(({ slot, retired }) => `${slot}${retired ? '-' : ''}`)}`);
      const change = this.nodes.prepare(farm.nodes);
      const servers = new VirtualServerTable(farm.servers.map(serverAt));
      this.servers.replaced(
        servers,
        Uint32Array.from({ length: 256 }, (_, slot) => this.heldServers[slot] ?? 0),
      );
      this.nodes.commit(change);
      this.servers = servers;
      this.farm = farm;
    },
    snapshot: async () => ({ heldByServer: this.heldServers }),
  };
  readonly neighbours = { setNodes: () => this.step('neighbours') };
  macOf(slot: number): string {
    this.step(`mac ${slot}`);
    return '02:00:00:00:00:01';
  }
  readonly held = ownStates(Array.from({ length: 1_024 }, () => ({ weight: 0 })));
  readonly states = { held: (slot: number) => (this.heldNodes.has(slot) ? 1 : 0) };
  readonly accessLog = { setNames: async () => this.step('names') };
  readonly followers = [() => this.step('told')];
  readonly log = { warn: (message: string) => this.step(`warn ${message}`) };

  constructor(first: Farm) {
    this.nodes = new NodeTable(first.nodes, this.held);
    this.servers = new VirtualServerTable(first.servers.map(serverAt));
  }

  /** The next step of this name fails, or the one after it, and so on. */
  failAt(step: string, times: number): void {
    this.fails = step;
    this.left = times;
  }

  private step(what: string): void {
    this.calls.push(what);
    if (!what.startsWith(this.fails) || this.left === 0) return;
    this.left -= 1;
    if (this.left === 0) throw new Error(`${what} fails`);
  }
}

function start(nodes: readonly number[], servers?: readonly number[]) {
  const config = configOf(nodes, servers);
  const first: Farm = {
    ...assignSlots(NO_SLOTS, config, CAPACITY),
    generation: 1,
    directory: directoryImage(config.resources),
    timeouts: TIMEOUTS,
  };
  const users = new Users(first);
  return { users, changer: new FarmChanger(users, first), first };
}

const apply = (changer: FarmChanger, config: BalancerConfig) =>
  changer.apply(config, directoryImage(config.resources));

t.test('new nodes are known and resolved before a resource names them', async (t) => {
  const { users, changer } = start([1, 2]);
  await apply(changer, configOf([2, 3]));
  t.same(users.calls, [
    'prepare s1',
    'names',
    'engine 0,1,2',
    'told',
    'commit',
    'neighbours',
    'mac 2',
    'prepare s1',
    'names',
    'engine 0-,1,2',
    'told',
    'commit',
    'neighbours',
  ]);
  t.same([...(users.farm?.directory.holders.node ?? [])], [1, 2], 'holders are slots');
  t.same(
    users.farm?.nodes.map(({ slot, weight }) => [slot, weight]),
    [
      [0, 0],
      [1, 2],
      [2, 3],
    ],
    'a retired node has weight 0',
  );
  t.equal(changer.farm.generation, 2);
});

t.test('a failure at any step leaves the farm of before in place', async (t) => {
  for (const [fails, times] of [
    ['prepare', 1],
    ['names', 1],
    ['engine 0,1,2', 1],
    ['commit', 1],
    ['prepare', 2],
    ['engine 0-', 1],
    ['commit', 2],
  ] as const) {
    const name = `${fails}, time ${times}`;
    const { users, changer, first } = start([1, 2]);
    users.failAt(fails, times);
    await t.rejects(apply(changer, configOf([2, 3])), { message: /fails/ }, name);
    t.same({ ...changer.farm, generation: 1 }, first, `${name}: the farm of before`);
    if (users.farm !== undefined)
      t.same({ ...users.farm, generation: 1 }, first, `${name}: in the engines too`);
    t.notOk(
      users.calls.some((call) => call.startsWith('warn')),
      `${name}: fully undone`,
    );
    await apply(changer, configOf([2, 3]));
    t.equal(changer.farm.nodes.length, 3, `${name}: and the next change works`);
  }
});

t.test('what a failed change has added stays retired while sessions have it', async (t) => {
  const { users, changer } = start([1, 2], [1]);
  users.failAt('commit', 2);
  users.held.heldHere[2] = 1;
  users.heldServers[1] = 1;
  await t.rejects(apply(changer, configOf([2, 3], [1, 2])), { message: /fails/ });
  const retired = () => [
    ...changer.farm.nodes.filter((node) => node.retired).map(({ name }) => name),
    ...changer.farm.servers.filter((server) => server.retired).map(({ name }) => name),
  ];
  t.same(retired(), ['n3', 's2']);
  t.same(users.farm, changer.farm, 'as in the engines');
  t.match(users.calls.at(-1), /^warn a change is not fully undone: the slot . of a/);
  users.held.heldHere[2] = 0;
  users.heldServers[1] = 0;
  t.equal(await changer.collect(), true);
  t.same(retired(), []);
});

t.test('a failed collection leaves the MAC addresses of nodes to be reported again', async (t) => {
  const { users, changer } = start([1, 2]);
  await apply(changer, configOf([2]));
  users.failAt('commit', 1);
  users.calls.length = 0;
  await t.rejects(changer.collect(), { message: /fails/ });
  const isMade = (call: string): boolean => call.startsWith('engine') || call === 'neighbours';
  t.same(users.calls.filter(isMade), [
    'engine 1',
    'neighbours',
    'engine 0-,1',
    'engine 0-,1',
    'neighbours',
  ]);
});

t.test('a retired slot becomes free when no session refers to it', async (t) => {
  const { users, changer } = start([1, 2], [1, 2]);
  await apply(changer, configOf([2], [2]));
  users.heldNodes.add(0);
  users.heldServers.push(1, 0);
  t.equal(await changer.collect(), false, 'both have sessions');
  users.heldNodes.clear();
  t.equal(await changer.collect(), true);
  t.same(
    changer.farm.nodes.map(({ slot }) => slot),
    [1],
  );
  t.same(
    changer.farm.servers.map(({ slot }) => slot),
    [0, 1],
    'the virtual server still has one',
  );
  users.heldServers[0] = 0;
  t.equal(await changer.collect(), true);
  t.same(
    changer.farm.servers.map(({ name }) => name),
    ['s2'],
  );
  const calls = users.calls.length;
  t.equal(await changer.collect(), false);
  t.equal(users.calls.length, calls, 'without retired slots nothing is asked');
  await apply(changer, configOf([2, 9], [2]));
  t.same(
    changer.farm.nodes.map(({ slot, name }) => [slot, name]),
    [
      [0, 'n9'],
      [1, 'n2'],
    ],
    'another node gets the slot',
  );
});
