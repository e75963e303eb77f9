/**
 * The XDP program on packets of virtual servers with mode forward. An engine with the same tables
 * in plain memory, as with the datapath packet, must send each packet to the same node.
 */
import t, { type Test } from 'tap';
import { addressNumber, build, macBytes, type PacketSpec } from '../../lab/packet.js';
import { ForwardKeeper } from '../../src/balancer/forward/keeper.js';
import { ForwardMaps } from '../../src/balancer/machine/forward-maps.js';
import type { FarmSlots, ServerSlot } from '../../src/balancer/objects/farm.js';
import { COUNTER_NAMES } from '../../src/base/counters.js';
import { serverAt, virtualServer } from '../../src/config/virtual-server.js';
import { CONTROL } from '../../src/datapath/xdp-layout.js';
import { Admin } from '../../src/directory/node-memory.js';
import { ownStates } from '../../src/directory/node-states.js';
import { forwardCountMemory } from '../../src/engine/forward/counts.js';
import { FlowKind, INLINE_SPANS, NEAR_SETS, WAYS } from '../../src/engine/forward/layout.js';
import {
  type ForwardMemory,
  type ForwardSizes,
  NO_FLOW,
  ownerOf,
  sharedForwardMemory,
} from '../../src/engine/forward/tables.js';
import { Random } from '../sim/random.js';
import { join8 } from './shim-fixture.js';
import { Fast } from './xdp-fixture.js';
import {
  BALANCER,
  byStack,
  CLIENT,
  clock,
  KEY,
  LO,
  NODE,
  type Outcome,
  segment,
  unfinished,
  Verdict,
  VIRTUAL,
} from './xdp-packets.js';
import { Twin } from './xdp-twin.js';

const OTHER = { address: '10.78.0.9', mac: '02:00:00:00:00:09', index: 0 } as const;
/** Node index by the last byte of its MAC address. */
const BY_MAC: Readonly<Record<number, number>> = { 3: NODE.index, 9: OTHER.index };
const SIZES = { buckets: 64, sets: 8 };
const WEB = 9_000;
const DNS = 53;

type Keys = Partial<Parameters<typeof virtualServer>[0]>;

function server(slot: number, keys: Keys): ServerSlot {
  const entry = { name: `s${slot}`, address: VIRTUAL, predictor: 'round-robin' as const };
  const made = virtualServer({ ...entry, mode: 'forward', ...keys }, new Map());
  return { ...made, slot, retired: false, nodes: [OTHER.index, NODE.index] };
}

/** The XDP program and its twin, with these virtual servers in slots from 2 on. */
class Both {
  readonly fast: Fast;
  readonly maps: ForwardMaps;
  readonly states = ownStates([{ weight: 1 }, { weight: 1 }], 8);
  readonly twin: Twin;
  readonly keepers: ForwardKeeper[];
  private readonly farm: FarmSlots;

  constructor(keys: readonly Keys[], sizes: ForwardSizes) {
    const fast = new Fast({ forward: sizes });
    this.fast = fast;
    const servers = keys.map((each, index) => server(index + 2, each));
    const nodes = [OTHER, NODE].map(({ address, index }) => ({
      slot: index,
      name: `n${index}`,
      address: addressNumber(address),
      weight: 1,
      retired: false,
    }));
    this.farm = { nodes, servers };
    fast.node(OTHER.index, { mac: OTHER.mac, interface: LO });
    this.maps = new ForwardMaps(fast.object, true);
    this.maps.set(servers);
    fast.control.setUint32(CONTROL.forwards, servers.length, true);
    const memory = sharedForwardMemory(sizes);
    const maps: ForwardMemory = {
      servers: fast.object.mapMemory('forward_servers'),
      buckets: fast.object.mapMemory('forward_buckets'),
      flows: fast.object.mapMemory('forward_flows'),
      nodes: fast.object.mapMemory('forward_nodes'),
    };
    this.twin = new Twin(undefined, {
      virtualServers: servers.map(serverAt),
      forward: { memory, counts: forwardCountMemory() },
    });
    this.twin.nodes.setMac(OTHER.index, macBytes(OTHER.mac));
    this.keepers = [maps, memory].map((each) => this.keeper(each));
  }

  private keeper(memory: ForwardMemory): ForwardKeeper {
    const keeper = new ForwardKeeper({
      memory,
      states: this.states,
      isResolved: () => true,
      key: KEY,
      limits: { idle: 60_000, linger: 1_000 },
      now: clock,
    });
    keeper.setFarm(this.farm);
    return keeper;
  }

  setAdmin(node: number, state: (typeof Admin)[keyof typeof Admin]): void {
    this.states.setAdmin(node, state);
    for (const keeper of this.keepers) keeper.look();
  }

  /** Retires all virtual servers. */
  retire(): void {
    const servers = this.farm.servers.map((each) => ({ ...each, retired: true }));
    for (const keeper of this.keepers) keeper.setFarm({ ...this.farm, servers });
  }

  /** Runs both over a frame. Checks that they agree; returns what the program did. */
  run(test: Test, packet: PacketSpec | Uint8Array, what: string): Outcome {
    const frame = packet instanceof Uint8Array ? packet : build(packet);
    const outcome = this.fast.run(frame);
    const [sent] = this.twin.receive(frame);
    test.equal(nodeOf(sent), nodeOf(sentBy(outcome)), `${what}: the engine does the same`);
    return outcome;
  }

  /** The node that gets the frame; undefined: it is not forwarded. */
  node(test: Test, packet: PacketSpec | Uint8Array, what = 'packet'): number | undefined {
    return nodeOf(sentBy(this.run(test, packet, what)));
  }
}

function sentBy({ verdict, frame }: Outcome): Uint8Array | undefined {
  return verdict === Verdict.tx ? frame : undefined;
}

function nodeOf(frame: Uint8Array | undefined): number | undefined {
  return frame && BY_MAC[frame[5] ?? 0];
}

function tcp(flags: string, port: number, more: PacketSpec = {}, to = WEB): PacketSpec {
  return segment({ flags, sourcePort: port, destinationPort: to, seq: 1, ack: 0 }, 'x', more);
}

/** "Fragmentation needed" about a packet of the virtual address to this client. */
function icmpError(port: number, client: string, from: number, protocol: number): PacketSpec {
  const quoted = build({
    ip: { source: VIRTUAL, destination: client },
    tcp: { sourcePort: from, destinationPort: port },
  }).subarray(14, 14 + 28);
  quoted[9] = protocol;
  return {
    ethernet: { source: CLIENT.mac, destination: BALANCER.mac },
    ip: { source: '10.78.0.200', destination: VIRTUAL },
    icmp: { type: 3, code: 4, rest: 1_200, quoted },
  };
}

/** A datagram of the usual client. */
function udp(port: number, ip: PacketSpec['ip'] = {}, to = DNS): PacketSpec {
  const payload = Uint8Array.of(port >> 8, port & 255, to >> 8, to & 255, 0, 12, 0, 0, 1, 2, 3, 4);
  return {
    ethernet: { source: CLIENT.mac, destination: BALANCER.mac },
    ip: { source: CLIENT.address, destination: VIRTUAL, protocol: 17, ...ip },
    payload,
  };
}

async function withBoth(
  keys: readonly Keys[],
  body: (both: Both) => void,
  sizes: ForwardSizes = SIZES,
): Promise<void> {
  const both = new Both(keys, sizes);
  try {
    body(both);
  } finally {
    both.fast.close();
  }
}

const skip = process.getuid?.() === 0 ? false : 'needs root';

t.test('a flow keeps its node; new ones take turns', { skip }, async (t) => {
  await withBoth([{ ports: ['9000-9010'] }], (both) => {
    const first = both.node(t, tcp('S', 1), 'first SYN');
    const second = both.node(t, tcp('S', 2), 'second SYN');
    t.same([first, second].sort(), [OTHER.index, NODE.index]);
    for (const flags of ['A', 'PA', 'FA', 'A']) {
      t.equal(both.node(t, tcp(flags, 1), flags), first, flags);
      t.equal(both.node(t, tcp(flags, 2), flags), second, flags);
    }
    t.equal(both.node(t, tcp('S', 1), 'after its FIN'), first, 'the next turn');
    const outside = segment({ flags: 'S', destinationPort: 9_011 });
    t.equal(both.run(t, outside, 'another port').verdict, Verdict.pass);
    t.equal(both.run(t, udp(5), 'UDP').verdict, Verdict.pass);
    t.equal(both.run(t, tcp('A', 77), 'stray').counters.includes('forward_unknown'), true);
  });
});

t.test('a node that is down loses its flows, a draining one keeps them', { skip }, async (t) => {
  await withBoth([{ port: WEB }], (both) => {
    const first = both.node(t, tcp('S', 1))!;
    const other = first === NODE.index ? OTHER.index : NODE.index;
    both.setAdmin(first, Admin.draining);
    t.equal(both.node(t, tcp('A', 1)), first);
    t.same(
      [2, 3, 4].map((port) => both.node(t, tcp('S', port))),
      [other, other, other],
    );
    both.setAdmin(first, Admin.maintenance);
    t.equal(both.node(t, tcp('A', 1)), other, 'its connection ends there with a reset');
    both.setAdmin(first, Admin.up);
    t.equal(both.node(t, tcp('A', 1)), other);
    both.setAdmin(first, Admin.maintenance);
    both.setAdmin(other, Admin.maintenance);
    t.same(both.run(t, tcp('S', 9), 'no node').counters, ['forward_no_node']);
  });
});

t.test('buckets: the port decides, and nothing is kept', { skip }, async (t) => {
  await withBoth([{ port: DNS, transport: 'udp', buckets: 16 }], (both) => {
    const ports = Array.from({ length: 40 }, (_, index) => 1_000 + index);
    const nodes = ports.map((port) => both.node(t, udp(port)));
    t.same(new Set(nodes), new Set([OTHER.index, NODE.index]));
    t.same(
      ports.map((port) => both.node(t, udp(port))),
      nodes,
    );
    both.setAdmin(NODE.index, Admin.draining);
    t.same(
      ports.map((port) => both.node(t, udp(port))),
      nodes,
      'busy buckets stay',
    );
    both.setAdmin(NODE.index, Admin.maintenance);
    t.same(new Set(ports.map((port) => both.node(t, udp(port)))), new Set([OTHER.index]));
    for (const keeper of both.keepers) t.equal(keeper.tables.capacity, SIZES.sets * 4);
  });
});

t.test('buckets of a retired virtual server take no SYN', { skip }, async (t) => {
  await withBoth([{ port: WEB, buckets: 16 }], (both) => {
    const node = both.node(t, tcp('S', 1));
    both.retire();
    t.same(both.run(t, tcp('S', 1), 'another SYN').counters, ['forward_no_node']);
    t.equal(both.node(t, tcp('A', 1), 'its connection'), node);
  });
});

t.test('sticky clients', { skip }, async (t) => {
  await withBoth([{ port: WEB, sticky: '30m', stickyPrefix: 24 }], (both) => {
    const first = both.node(t, tcp('S', 1));
    const neighbour = { ip: { source: '10.78.0.77' } };
    for (const port of [2, 3, 4]) {
      t.equal(both.node(t, tcp('S', port)), first);
      t.equal(both.node(t, tcp('S', port, neighbour)), first, 'the same network');
    }
    t.not(both.node(t, tcp('S', 5, { ip: { source: '10.79.0.1' } })), first, 'another network');
  });
});

t.test('fragments follow the first one', { skip }, async (t) => {
  await withBoth([{ port: DNS, transport: 'udp' }], (both) => {
    for (const id of [0, 7, 65_535]) {
      const later = udp(0, { id, fragmentOffset: 3 });
      t.same(both.run(t, later, 'too early').counters, ['forward_fragment_lost']);
      const node = both.node(t, udp(2_000 + (id & 7), { id, moreFragments: true }), 'first');
      t.type(node, 'number');
      t.equal(both.node(t, later, 'later'), node);
      t.equal(both.node(t, udp(0, { id, fragmentOffset: 9, moreFragments: true })), node);
    }
  });
});

t.test('options pass, and wrong lengths do not', { skip }, async (t) => {
  await withBoth([{ port: WEB }, { port: DNS, transport: 'udp' }], (both) => {
    const options = Uint8Array.of(1, 1, 1, 0);
    t.type(both.node(t, tcp('S', 1, { ip: { options } }), 'TCP with IPv4 options'), 'number');
    t.type(both.node(t, udp(1, { options }), 'UDP with IPv4 options'), 'number');
    const long = udp(2, { totalLength: 1_000 });
    t.equal(both.fast.run(long).verdict, Verdict.drop);
    t.same(both.fast.run(udp(3, { totalLength: 27 })).counters, ['forward_malformed']);
    t.equal(both.twin.receive(build(long)).length, 0);
    const whole = build(tcp('S', 4));
    for (let length = 14; length < 54; length++) {
      const outcome = both.run(t, whole.subarray(0, length), `${length} bytes`);
      t.not(outcome.verdict, Verdict.tx);
    }
  });
});

t.test('ICMP errors go to the node of the flow', { skip }, async (t) => {
  await withBoth([{ port: WEB }], (both) => {
    const node = both.node(t, tcp('S', 1));
    const error = (port: number): PacketSpec => icmpError(port, CLIENT.address, WEB, 6);
    t.equal(both.node(t, error(1), 'fragmentation needed'), node);
    t.same(both.run(t, error(2), 'of no flow').counters, ['forward_icmp_lost']);
  });
});

t.test('an unfinished checksum is for the stack', { skip }, async (t) => {
  await withBoth([{ port: WEB }], ({ fast }) => {
    const frame = unfinished(tcp('S', 1));
    const outcome = fast.run(frame);
    const node = BY_MAC[outcome.frame[8 + 5] ?? 0];
    if (node === NODE.index) byStack(t, outcome, frame, []);
    else byStack(t, fast.run(unfinished(tcp('S', 2))), unfinished(tcp('S', 2)), []);
  });
});

t.test('a full table forgets flows of one packet first', { skip }, async (t) => {
  await withBoth([{ port: WEB }], (both) => {
    const known = both.node(t, tcp('S', 1));
    both.node(t, tcp('A', 1));
    let evicted = 0;
    for (let port = 100; port < 400; port++) {
      const { counters } = both.run(t, tcp('S', port), `port ${port}`);
      if (counters.includes('forward_evicted')) evicted += 1;
    }
    t.ok(evicted > 200, 'the table is bounded');
    t.same(both.run(t, tcp('A', 1), 'the flow that goes on').counters, []);
    t.equal(both.node(t, tcp('A', 1)), known);
  });
});

t.test('a flood of SYNs does not remove what sticky clients have', { skip }, async (t) => {
  await withBoth([{ port: WEB, sticky: '30m' }], (both) => {
    const known = both.node(t, tcp('S', 1));
    both.node(t, tcp('A', 1));
    for (let host = 0; host < 400; host++) {
      const source = `10.79.${host >> 8}.${host & 255}`;
      both.node(t, tcp('S', 2, { ip: { source } }), source);
    }
    t.same(both.run(t, tcp('A', 1), 'the flow that goes on').counters, []);
    for (const port of [3, 4, 5]) t.equal(both.node(t, tcp('S', port)), known, 'its client');
  });
});

t.test('random packets: both datapaths do the same, and count the same', { skip }, async (t) => {
  const servers: Keys[] = [
    { ports: [WEB, '9005-9010'] },
    { ports: ['9100-9200'], sticky: '30m', stickyPrefix: 24 },
    { port: 9_011, buckets: 16 },
    { port: DNS, transport: 'udp' },
    { ports: '60-70', transport: 'udp', buckets: 32 },
  ];
  await withBoth(servers, (both) => {
    const random = new Random(20_261_128);
    const below = (count: number): number => random.between(0, count - 1);
    const one = <T>(list: readonly T[]): T => random.pick(list);
    // The engine has other counters of its own for most wrong lengths.
    const names = COUNTER_NAMES.filter(
      (name) => name.startsWith('forward_') && name !== 'forward_malformed',
    );
    for (let round = 0; round < 4_000; round++) {
      if (round % 500 === 499)
        both.setAdmin(below(2), one([Admin.up, Admin.draining, Admin.maintenance]));
      const ip: PacketSpec['ip'] = {
        source: `10.79.0.${below(20)}`,
        id: below(3),
        ...one([{}, {}, {}, { fragmentOffset: below(4), moreFragments: below(2) === 1 }]),
        ...one([{}, {}, {}, { options: new Uint8Array(4 * below(11)).fill(1) }]),
        ...one([{}, {}, {}, {}, { totalLength: below(90) }, { words: below(16) }]),
      };
      const port = one([WEB, 9_004, 9_007, 9_011, 9_150, DNS, 65, 71]);
      const flags = one(['S', 'A', 'A', 'PA', 'FA', 'R', 'SA', '', 'SF']);
      const whole = one([
        () => build(tcp(flags, below(6), { ip }, port)),
        () => build(udp(below(6), ip, port)),
        () => build(icmpError(below(6), `10.79.0.${below(20)}`, port, one([6, 17, 6, 17, 1]))),
      ])();
      const frame = one([whole, whole, whole, whole.subarray(0, 14 + below(whole.length - 13))]);
      let outcome: Outcome | undefined;
      const counted = both.twin.counted(names, () => {
        outcome = both.run(t, frame, `packet ${round}`);
      });
      t.same(
        counted,
        names.filter((name) => outcome?.counters.includes(name)),
        `packet ${round}: ${Buffer.from(frame).toString('hex')}`,
      );
    }
  });
});

t.test('the first sets of a large table fill first', { skip }, async (t) => {
  const sizes = { ...SIZES, sets: 4 * NEAR_SETS };
  const test = (both: Both): void => {
    const tables = both.keepers.map((keeper) => keeper.tables);
    const owner = ownerOf(2, FlowKind.flow);
    const client = addressNumber(CLIENT.address);
    const pair = (port: number): number => ((port << 16) | WEB) >>> 0;
    const hash = (port: number): number => tables[0]!.flowHash(client, pair(port), owner);
    const near = (port: number): number => hash(port) & (NEAR_SETS - 1);
    const same = Array.from({ length: 65_535 }, (_, index) => index + 1)
      .filter((port) => near(port) === near(1))
      .slice(0, WAYS + 2);
    const nodes = same.map((port) => both.node(t, tcp('S', port)));
    for (const port of same) both.node(t, tcp('A', port));
    t.same(
      same.map((port) => both.node(t, tcp('A', port))),
      nodes,
    );
    for (const table of tables) {
      const places = same.map((port) => table.find(client, pair(port), owner, hash(port)));
      t.notOk(places.includes(NO_FLOW));
      const sets = places.map((place) => Math.floor(place / WAYS));
      t.same(new Set(sets.slice(0, WAYS)), new Set([near(1)]));
      t.notOk(sets.slice(WAYS).includes(near(1)));
    }
  };
  await withBoth([{ port: WEB }], test, sizes);
});

t.test('more addresses than have entries of their own', { skip }, async (t) => {
  const ports = Array.from({ length: 2 * INLINE_SPANS }, (_, index) => 9_100 + index);
  const address = (port: number): string => `10.78.1.${port & 255}`;
  const syn = (port: number): PacketSpec =>
    tcp('S', 1, { ip: { destination: address(port) } }, port);
  const servers = ports.map((port) => ({ port, address: address(port) }));
  await withBoth(servers, (both) => {
    for (const port of ports) t.type(both.node(t, syn(port)), 'number', `port ${port}`);
    const passing = (): number[] =>
      ports.filter((port) => both.fast.run(syn(port)).verdict === Verdict.pass);
    const some = servers.slice(1).map((each, index) => server(index + 3, each));
    both.maps.set(some);
    t.same(passing(), ports.slice(0, 1));
    both.maps.set(some.slice(2));
    t.same(passing(), ports.slice(0, 3));
    both.maps.set(some);
    t.same(passing(), ports.slice(0, 1));
    both.maps.set([]);
    t.same(passing(), ports);
  });
});

t.test('frames of other virtual servers are not touched', { skip }, async (t) => {
  await withBoth([{ ports: 'any' }], ({ fast }) => {
    fast.engine(true);
    const outcome = fast.run(segment({ flags: 'S', seq: 1, window: 1_000 }));
    t.same(outcome.counters, ['syn_answered'], 'mode handoff has its port');
    t.same(fast.run(join8(build(tcp('S', 1)))).verdict, Verdict.tx, 'mode forward has the rest');
  });
});
