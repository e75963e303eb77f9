/**
 * Engines that share a balancer's clients: which one owns a segment, and what they know together of
 * the nodes.
 */
import t, { type Test } from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { Admin, nodeMemory } from '../../src/directory/node-memory.js';
import { NodeStates } from '../../src/directory/node-states.js';
import { sessionWorker } from '../../src/engine/table/session-record.js';
import { IxcpFlag } from '../../src/wire/ixcp.js';
import {
  CLIENT,
  Conversation,
  type ConversationOptions,
  fromClient,
  get,
  IXP_TYPE,
  inIxp,
  NODES,
  NOTICE,
  notice,
} from '../support/conversation.js';
import { START } from '../support/uptime.js';

const WORKERS = 2;

/** All engines of a balancer, each with the client ports that it owns. */
function engines(
  t: Test,
  options: ConversationOptions = {},
): { talk: Conversation; ports: number[]; others: number[] }[] {
  const memory = nodeMemory(NODES.length, WORKERS);
  return Array.from({ length: WORKERS }, (_, worker) => {
    const talk = new Conversation(t, {
      nodes: { memory, nodes: NODES.length, worker, workers: WORKERS, servers: 1 },
      engine: { shard: { worker, workers: WORKERS } },
      ...options,
    });
    const hash = (port: number): number =>
      talk.engine.sessions.hash(addressNumber(CLIENT.address), (port << 16) >>> 0);
    const all = Array.from({ length: 64 }, (_, index) => 40_000 + index);
    const isOwn = (port: number): boolean => sessionWorker(hash(port), WORKERS) === worker;
    return { talk, ports: all.filter(isOwn), others: all.filter((port) => !isOwn(port)) };
  });
}

/** Hands over a session of this port, which node `node` then confirms. */
function handOver(talk: Conversation, time: number, sourcePort: number, node: number): void {
  talk.handshake(time, { sourcePort });
  const slot = talk.engine.sessions.find(addressNumber(CLIENT.address), (sourcePort << 16) >>> 0);
  const session = talk.engine.sessions.nonce(slot);
  talk.send(time, fromClient({ flags: 'A', sourcePort, seq: 1001, ack: 5001 }, get('/012')));
  const { payload } = talk.expect(
    time,
    inIxp(node, { type: IXP_TYPE.adopt, session }, { sourcePort }),
  );
  const ack = 1001 + payload.length;
  talk.send(time, notice(node, NOTICE.adopted, { session, clientPort: sourcePort, ack }));
}

t.test('an engine answers for its own sessions only', async (t) => {
  for (const { talk, ports, others } of engines(t)) {
    t.ok(ports.length > 8 && others.length > 8, `${ports.length} and ${others.length} ports`);
    for (const sourcePort of others) {
      talk.send(0, fromClient({ flags: 'S', seq: 1, sourcePort }));
      talk.send(0, fromClient({ flags: 'A', seq: 2, ack: 5001, sourcePort }));
      talk.send(0, fromClient({ flags: 'R', seq: 2, sourcePort }));
    }
    // Neither a SYN/ACK nor an RST: the engine that owns the session would not know of it.
    talk.end(10, 0);
    talk.counted({ drop_other_worker: others.length * 3, drop_no_session: 0, syn: 0 });
    for (const sourcePort of ports.slice(0, 4)) talk.handshake(20, { sourcePort });
    talk.end(30, 4);
  }
});

t.test("a node's report to one engine counts for all", async (t) => {
  const [first, second] = engines(t);
  const report = (time: number, flags: number, seq: number): void => {
    const none = { client: '0.0.0.0', clientPort: 0, virtualAddress: '0.0.0.0', virtualPort: 0 };
    first?.talk.send(time, notice(0, NOTICE.report, { ...none, session: 7, seq, flags }));
    first?.talk.rest(time);
  };
  const taker = (time: number): number => {
    const sourcePort = second?.ports.shift() ?? 0;
    second?.talk.handshake(time, { sourcePort });
    second?.talk.send(
      time,
      fromClient({ flags: 'A', sourcePort, seq: 1001, ack: 5001 }, get('/012')),
    );
    const [sent] = second?.talk.rest(time) ?? [];
    return NODES.findIndex(({ mac }) => mac === sent?.ethernet.destination);
  };
  t.equal(taker(0), 0);
  report(10, 0, 1);
  t.not(taker(20), 0, 'it cannot adopt');
  report(30, 1, 2);
  t.equal(taker(40), 0);
  report(50, 0x8001, 3);
  t.not(taker(60), 0, 'it is leaving');
  t.equal(second?.talk.states.health(0, 0).flags, 0x8001);
  t.equal(second?.talk.states.reportedAt[0], START + 50);
});

t.test('the load of a node is the sum over all engines', async (t) => {
  const [first, second] = engines(t);
  for (const [index, { talk, ports }] of [first!, second!].entries()) {
    for (const port of ports.slice(0, 2 + index)) handOver(talk, 0, port, 0);
    t.equal(talk.states.active[0], 2 + index);
    t.equal(talk.states.adopted[0], 2 + index);
  }
  t.same(
    [first, second].map((engine) => engine?.talk.states.load(0)),
    [5, 5],
  );
  t.same(
    [first, second].map((engine) => engine?.talk.states.load(1)),
    [0, 0],
  );
  second?.talk.rest(1_000_000);
  t.same(
    [first, second].map((engine) => engine?.talk.states.load(0)),
    [2, 2],
    'the sessions of one engine are gone',
  );
});

t.test('silence at any engine suspends, an answer at any engine ends that', async (t) => {
  const [first, second] = engines(t);
  const nodes = [first!.talk.nodes, second!.talk.nodes];
  const states = nodes.map((table) => table.states);
  t.notOk(states[0]?.handoffTimedOut(1, 1_000));
  t.notOk(states[1]?.handoffTimedOut(1, 1_000));
  t.ok(states[0]?.handoffTimedOut(1, 1_000));
  t.same(
    states.map((each) => each.isSuspended(1, 1_001)),
    [true, true],
  );
  t.same(
    nodes.map((table) => table.takesHandoffs(2, 0, 0, 1_001)),
    [true, true],
  );
  states[1]?.handoffConfirmed(1, 0);
  t.same(
    states.map((each) => each.isSuspended(1, 1_001)),
    [false, false],
  );
});

t.test('the largest number of nodes and engines', async (t) => {
  for (const count of [0, 1, 15, 16, 17, 1023]) {
    const memory = nodeMemory(count, 8);
    const tables = Array.from(
      { length: 8 },
      (_, worker) => new NodeStates({ memory, nodes: count, worker, workers: 8, servers: 1 }),
    );
    for (const [worker, table] of tables.entries()) table.active.fill(worker + 1);
    t.ok(tables.every((table) => table.active.length === count));
    if (count === 0) continue;
    t.same(
      tables.map((table) => table.load(count - 1)),
      Array(8).fill(36),
    );
    t.same([tables[3]?.able[count - 1], tables[3]?.reportedAt[0]], [1, -1]);
    tables[0]?.reported(count - 1, 1, 1, IxcpFlag.canAdopt | IxcpFlag.leaving, 5);
    t.same([tables[7]?.able[count - 1], tables[7]?.reportedAt[count - 1]], [0, 5]);
    t.same(
      tables.map((table) => table.active[0]),
      [1, 2, 3, 4, 5, 6, 7, 8],
      'nothing overlaps',
    );
  }
});

t.test('each engine ends its own sessions of a node in maintenance', async (t) => {
  const [one, other] = engines(t);
  for (const { talk, ports } of [one!, other!]) {
    handOver(talk, 0, ports[0]!, 0);
    handOver(talk, 0, ports[1]!, 0);
  }
  t.equal(one!.talk.states.held(0), 4);
  one!.talk.states.setAdmin(0, Admin.maintenance);
  for (const [index, { talk, ports }] of [one!, other!].entries()) {
    talk.quiet(5);
    talk.engine.sweep.endNode(0);
    const resets = talk.rest(10).filter(({ ixp, tcp }) => ixp === undefined && tcp !== undefined);
    t.same(resets.map(({ tcp }) => tcp?.destinationPort).sort(), [ports[0], ports[1]].sort());
    t.equal(one!.talk.states.held(0), 2 - 2 * index);
  }
});
