/**
 * The virtual servers of the XDP program while they change: the program, which runs all the time,
 * misses none that stays.
 */
import { once } from 'node:events';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { addressNumber, build, macBytes } from '../../lab/packet.js';
import { httpServer, serverSlot } from '../../lab/virtual-server.js';
import { XdpServers } from '../../src/balancer/machine/xdp-servers.js';
import type { ServerSlot } from '../../src/balancer/objects/farm.js';
import {
  CONTROL,
  INLINE_SERVER_BYTES,
  INLINE_SERVERS,
  NODE_BYTES,
} from '../../src/datapath/xdp-layout.js';
import { Aliases } from '../../src/wire/alias.js';
import { insideNamespace } from './namespace.js';
import { project } from './shim-fixture.js';
import { Fast, XDP_COUNTERS } from './xdp-fixture.js';
import {
  BALANCER,
  CLIENT,
  CLIENT_ISN,
  NODE,
  PORTS,
  SERVER_ISN,
  segment,
  syn,
  VIRTUAL,
} from './xdp-packets.js';

const ALIASES = new Aliases(new Uint8Array(16));
const ROUNDS = 1_000;
const SHARED = [
  'control',
  'sessions',
  'session_index',
  'nodes',
  'virtual_servers',
  'virtual_addresses',
  'counters',
];

/** The kernel needs ms to begin such a series of runs. */
const SERIES = 200_000;

/** Runs the program over a frame, over and over, until it is told to stop. Tells how often. */
const RUNNER = `
const { parentPort, workerData } = require('node:worker_threads');
import(workerData.native).then(({ native }) => {
  const { path, reuse, frame, stop } = workerData;
  const program = native().loadBpf(path, { reuse });
  let runs = 0;
  do {
    program.testRunXdp('baton_xdp', frame, { repeat: ${SERIES} });
    if (runs === 0) parentPort.postMessage('running');
    runs += ${SERIES};
  } while (Atomics.load(stop, 0) === 0);
  program.close();
  parentPort.postMessage(runs);
});
`;

/** The virtual servers at these ports; those at `retired` take no sessions. */
function servers(ports: readonly number[], retired: readonly number[] = []): ServerSlot[] {
  return ports.map((port) => {
    // The usual client's session is at the first port, and so in slot 0.
    const slot = port === PORTS[0] ? 0 : port;
    const server = httpServer(`s${port}`, addressNumber(VIRTUAL), port);
    return serverSlot(slot, server, { retired: retired.includes(port) });
  });
}

/** Ports of the entries in `control`. */
function inline(fast: Fast): number[] {
  return Array.from({ length: INLINE_SERVERS }, (_, entry) =>
    fast.control.getUint16(CONTROL.inlineServers + entry * INLINE_SERVER_BYTES + 4),
  );
}

if (insideNamespace(import.meta.url)) {
  t.test('which are in `control`', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    const table = new XdpServers(fast.object, fast.control.buffer as ArrayBuffer, ALIASES);
    const set = (...ports: number[]): [number, number[]] => {
      table.set(servers(ports));
      return [fast.control.getUint32(CONTROL.servers, true), inline(fast)];
    };
    t.same(inline(fast), [0, 0, 0, 0]);
    t.same(set(1, 2), [2, [1, 2, 0, 0]]);
    t.same(set(1, 2, 3, 4, 5, 6), [6, [1, 2, 3, 4]]);
    t.same(set(1, 3, 4, 5, 6), [5, [1, 5, 3, 4]], 'another takes a free entry, nothing moves');
    t.same(set(6), [1, [6, 0, 0, 0]]);
    t.same(set(), [0, [0, 0, 0, 0]]);
    fast.engine(true);
    const answers = (): boolean => fast.run(syn()).counters[0] === 'syn_answered';
    /** What becomes of the ACK that ends a handshake. */
    const ended = (): readonly string[] => {
      fast.run(syn());
      const event = fast.events().at(-1);
      const ack = ((event?.serverIsn ?? 0) + 1) >>> 0;
      return fast.run(segment({ flags: 'A', seq: 0, ack })).counters;
    };
    for (const others of [[], [1, 2, 3, 4]]) {
      const all = [...others, PORTS[0]];
      table.set(servers(all));
      t.ok(answers());
      table.set(servers(all, [PORTS[0]]));
      t.same(fast.run(syn()).counters, ['to_engine_syn'], 'retired');
      table.set(servers(all));
      t.ok(answers(), 'and back again');
      t.same(ended(), ['absorbed'], 'the request will follow');
      table.set(servers(all).map((server) => ({ ...server, protocol: 'tcp' as const })));
      t.same(ended(), ['to_engine_unknown'], 'perhaps nothing follows');
      table.set(servers(all));
      t.same(ended(), ['absorbed']);
      table.set(servers(others));
      t.same(fast.run(syn()).counters, [], 'gone');
    }
  });

  t.test('one that stays is never missed', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    // A forwarded frame stays one for this machine, so that the next run forwards it again.
    const nodes = new Uint8Array(fast.object.mapMemory('nodes'));
    nodes.set([...macBytes(BALANCER.mac), ...macBytes(CLIENT.mac)], NODE.index * NODE_BYTES);
    fast.session();
    const stop = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
    const forwarded = (): number =>
      fast.object.mapSums('counters', XDP_COUNTERS.length)[XDP_COUNTERS.indexOf('forwarded')] ?? 0;
    const stays = PORTS[0];
    const first = new XdpServers(fast.object, fast.control.buffer as ArrayBuffer, ALIASES);
    first.set(servers([1, 2, 3, 4, 5, stays]));
    const runner = new Worker(RUNNER, {
      eval: true,
      workerData: {
        native: new URL('../../src/host/native.js', import.meta.url).href,
        path: join(project, 'build', 'bpf', 'xdp.bpf.o'),
        reuse: Object.fromEntries(SHARED.map((name) => [name, fast.object.mapFd(name)])),
        frame: build(segment({ flags: 'A', seq: (CLIENT_ISN + 1) >>> 0, ack: SERVER_ISN + 1 })),
        stop,
      },
    });
    await once(runner, 'message');
    for (let round = 0; round < ROUNDS; round++) {
      // A new table for each round, so that the server is in the map only, and then gets an entry.
      const table = new XdpServers(fast.object, fast.control.buffer as ArrayBuffer, ALIASES);
      table.set(servers([1, 2, 3, 4, 5, stays]));
      table.set(servers([1, 2, 3, 4, 5, stays], [1, 2]));
      table.set(servers([3 + (round % 3), stays]));
      table.set(servers([stays]));
      table.set(servers([1, 2, stays, 3], [1]));
      table.set(servers([1, 2, stays, 3, 4, 5]));
    }
    Atomics.store(stop, 0, 1);
    const [runs] = await once(runner, 'message');
    t.equal(forwarded(), runs);
    await runner.terminate();
  });
}
