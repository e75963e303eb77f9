/**
 * Measures how long a change of the farm keeps an engine thread from packets: 1,000 nodes, 256
 * virtual servers, and 100,000 resources of which each has other holders. Each line is one visit of
 * the thread's event loop. Run after a build: node --expose-gc dist/bench/micro/change.bench.js
 */

import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { httpServer, serverSlot } from '../../lab/virtual-server.js';
import type { Farm } from '../../src/balancer/objects/farm.js';
import { farmMemory, farmStates, writeFarm } from '../../src/balancer/objects/farm-states.js';
import { routesOf, ThreadFarm } from '../../src/balancer/threads/thread-farm.js';
import { sharedArrays } from '../../src/base/arrays.js';
import { Counters } from '../../src/base/counters.js';
import { serverAt } from '../../src/config/virtual-server.js';
import { MOST_VIRTUAL_SERVERS } from '../../src/datapath/xdp-layout.js';
import { directoryImage } from '../../src/directory/directory-image.js';
import { RequestAnswers } from '../../src/directory/request-answers.js';
import { RequestDispatcher } from '../../src/directory/request-dispatcher.js';
import { Engine } from '../../src/engine/engine.js';
import { HandoffCandidates } from '../../src/engine/handoff/candidates.js';
import { NodeTable } from '../../src/engine/node-table.js';
import { toAddress } from '../../src/wire/address.js';
import { MemoryDatapath } from '../replay/memory.js';

const NODES = 1_000;
const RESOURCES = 100_000;
const CHANGES = 100;

/** Every second farm leaves out a tenth of the nodes, and names their slots as retired. */
function makeFarm(generation: number): Farm {
  const isRetired = (slot: number): boolean => generation % 2 === 0 && slot % 10 === 0;
  // Never a slot that may be retired.
  const holder = (number: number): number => {
    const mixed = Math.imul(number + generation, 0x9e3779b1);
    const node = (mixed ^ (mixed >>> 15)) >>> 0;
    return 10 * (node % (NODES / 10)) + 1 + (node % 9);
  };
  return {
    generation,
    nodes: Array.from({ length: NODES }, (_, slot) => ({
      slot,
      name: `node-${slot}`,
      address: toAddress(0x0a63_0003 + slot),
      weight: isRetired(slot) ? 0 : 100,
      retired: isRetired(slot),
    })),
    servers: Array.from({ length: MOST_VIRTUAL_SERVERS }, (_, slot) => {
      const address = toAddress(0x0a63_6400 + slot);
      return serverSlot(slot, httpServer(`server-${slot}`, address, 80, 'least-connections'));
    }),
    directory: directoryImage(
      Array.from({ length: RESOURCES }, (_, resource) => ({
        path: `/section${resource % 100}/page${resource}.html`,
        nodes: [0, 1, 2].map((n) => holder(3 * resource + n)),
      })),
      undefined,
      sharedArrays,
    ),
    timeouts: {
      synAck: 1_000,
      head: 10_000,
      handoff: 300,
      answer: 1_000,
      idle: 900_000,
      closing: 60_000,
      linger: 5_000,
    },
  };
}

/** Times of one kind of visit, ms. Other processes on the machine lengthen the longest ones. */
class Times {
  private readonly all: number[] = [];

  constructor(private readonly name: string) {}

  of<Result>(action: () => Result): Result {
    const before = performance.now();
    const result = action();
    this.all.push(performance.now() - before);
    return result;
  }

  print(): void {
    const sorted = this.all.toSorted((a, b) => a - b);
    const part = (share: number): string =>
      (sorted[Math.ceil(share * sorted.length) - 1] ?? 0).toFixed(3);
    console.log(
      `${this.name.padEnd(34)} median ${part(0.5)} ms, 95 % ${part(0.95)} ms, longest ${part(1)} ms`,
    );
  }
}

const farms = [makeFarm(1), makeFarm(2)] as const;
const [first] = farms;
const states = farmStates(farmMemory(1), 1);
writeFarm(states, first);
const nodes = new NodeTable(first.nodes, states);
const dispatcher = new RequestDispatcher({
  ...routesOf(first),
  candidates: new HandoffCandidates(nodes),
  headBytes: 16_384,
});
const engine = new Engine(
  {
    now: 0,
    address: 0x0a63_0001,
    mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
    mtu: 1500,
    key: new Uint8Array(16),
    secret: new Uint8Array(32),
    seeds: { client: 1, port: 2, nonce: 3 },
    virtualServers: first.servers.map(serverAt),
    answers: new RequestAnswers(Date.now),
    limits: {
      sessions: 1_000_000,
      halfOpen: 65_536,
      headBytes: 16_384,
      heads: 65_536,
      handoffTries: 2,
      synAckTries: 5,
    },
    timeouts: first.timeouts,
  },
  nodes,
  dispatcher,
  new MemoryDatapath(1 << 20),
  new Counters(),
);
const current = new ThreadFarm({ engine, dispatcher, events: { forget: () => {} } }, first);
const { port1, port2 } = new MessageChannel();
const sending = new Times('main thread: sends the farm');
const receiving = new Times('prepare: receives and prepares');
const committing = new Times('commit');
const picking = new Times('first pick of each virtual server');
const mac = Uint8Array.of(2, 0, 0, 0, 0, 2);
for (let node = 0; node < NODES; node++) nodes.setMac(node, mac);
for (let change = 0; change < CHANGES; change++) {
  const next = farms[(change + 1) % 2]!;
  sending.of(() => port1.postMessage(next));
  receiving.of(() => current.prepare(receiveMessageOnPort(port2)?.message));
  committing.of(() => current.commit());
  const server = change % MOST_VIRTUAL_SERVERS;
  const resource = (change * 7919) % RESOURCES;
  if (picking.of(() => dispatcher.pick(resource, 0, server, 0, 0)) < 0)
    throw new Error('the benchmark is broken: no node is picked');
}
port1.close();
const sets = first.directory.holders.count;
console.log(
  `${CHANGES} changes of ${NODES} nodes, ${RESOURCES} resources, ${sets} sets of holders`,
);
for (const times of [sending, receiving, committing, picking]) times.print();
