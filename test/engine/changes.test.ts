/** The farm changes while sessions are being opened, handed over, passed on and ended. */
import t, { type Test } from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { Answer } from '../../src/directory/answers.js';
import { nodeMemory } from '../../src/directory/node-memory.js';
import type { EngineFarm, NodeAt, ServerAt } from '../../src/engine/farm.js';
import { KERNEL_EVENT, KERNEL_EVENT_WORDS } from '../../src/engine/table/kernel-event.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import { IxcpFlag, IxcpReason } from '../../src/wire/ixcp.js';
import {
  CLIENT,
  Conversation,
  type ConversationOptions,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
  NODES,
  NOTICE,
  notice,
  SERVER,
  toClient,
} from '../support/conversation.js';
import { asked, handed, unavailable, withdrawn } from '../support/handoff-frames.js';
import { START } from '../support/uptime.js';

/** Slots for nodes: one more than there are nodes. */
const SLOTS = 4;

/** A conversation with a free slot for a node, and a second one for a virtual server. */
function talkOf(t: Test, options: ConversationOptions = {}): Conversation {
  const memory = nodeMemory(SLOTS, 1, 2);
  return new Conversation(t, {
    nodes: { memory, nodes: SLOTS, worker: 0, workers: 1, servers: 2 },
    ...options,
  });
}

/** The nodes of a farm, after a change of some of them; undefined: the slot is freed. */
function nodesOf(
  { nodes }: EngineFarm,
  changes: Readonly<Record<number, Partial<NodeAt> | undefined>>,
): NodeAt[] {
  return nodes
    .filter(({ slot }) => !(slot in changes) || changes[slot] !== undefined)
    .map((node) => ({ ...node, ...changes[node.slot] }));
}

function retired({ servers }: EngineFarm): ServerAt[] {
  return servers.map((server) => ({ ...server, retired: true }));
}

/** A session of another client port, up to its request. */
function askedFrom(talk: Conversation, time: number, sourcePort: number, path: string): void {
  talk.handshake(time, { sourcePort });
  talk.send(time, fromClient({ flags: 'A', sourcePort, seq: 1001, ack: ISN + 1 }, get(path)));
}

function stateOf(talk: Conversation): number {
  const { sessions } = talk.engine;
  return sessions.state(sessions.find(addressNumber(CLIENT.address), (CLIENT.port << 16) >>> 0));
}

t.test('a node refuses after the directory has changed: the new holders are asked', async (t) => {
  const talk = talkOf(t);
  const request = asked(talk, '/01');
  talk.expect(0, handed(0, request));
  // In this directory the index of /01 is another one, and the bit of node 0 is another node's.
  talk.change(10, {}, { '/other': [1], '/more': [1], '/01': [2, 0] });
  talk.send(20, notice(0, NOTICE.refused, { reason: IxcpReason.noListener }));
  talk.expect(20, handed(2, request));
  talk.send(30, notice(2, NOTICE.refused, { reason: IxcpReason.noListener }));
  talk.expect(30, unavailable(request));
  talk.counted({ requests: 1, handoffs: 2, handoff_refused: 2, answer_503: 1 });
  t.same([...talk.states.active], [0, 0, 0, 0]);
  t.same([...talk.states.heldHere], [0, 0, 0, 0]);
});

t.test('a silent node is not asked again by the new directory', async (t) => {
  const talk = talkOf(t);
  const request = asked(talk, '/01');
  talk.expect(0, handed(0, request));
  talk.expect(300, handed(0, request));
  talk.change(400, {}, { '/01': [0] });
  talk.expect(600, withdrawn(0, 1001 + request.length));
  talk.expect(600, unavailable(request));
});

t.test('every later change lets all other holders be asked again', async (t) => {
  const talk = talkOf(t);
  const request = asked(talk, '/01');
  talk.expect(0, handed(0, request));
  const paths = { '/01': [0, 1] };
  const refusal = { reason: IxcpReason.noListener };
  for (const [time, node] of [
    [10, 1],
    [20, 0],
    [30, 1],
  ] as const) {
    talk.change(time, {}, paths);
    talk.send(time, notice(1 - node, NOTICE.refused, refusal));
    talk.expect(time, handed(node, request));
  }
  talk.send(40, notice(1, NOTICE.refused, refusal));
  talk.expect(40, unavailable(request));
});

t.test('the resource is gone when its node refuses: 404', async (t) => {
  const talk = talkOf(t);
  const request = asked(talk, '/01');
  talk.expect(0, handed(0, request));
  talk.change(10, {}, { '/other': [1] });
  talk.send(20, notice(0, NOTICE.refused, { reason: IxcpReason.noListener }));
  talk.expect(20, unavailable(request, Answer.notFound));
  talk.counted({ answer_404: 1, answer_503: 0 });
});

t.test('an old connection stands in the way: another holder of the new directory', async (t) => {
  const talk = talkOf(t);
  const request = asked(talk, '/0');
  talk.expect(0, handed(0, request));
  talk.send(10, notice(0, NOTICE.refused, { reason: IxcpReason.tupleInUse }));
  talk.quiet(20);
  talk.change(20, {}, { '/x': [2], '/0': [0, 1] });
  talk.send(30, notice(0, NOTICE.refused, { reason: IxcpReason.tupleInUse }));
  talk.expect(30, handed(1, request));
});

t.test('a session is taken back only if the new directory has another holder', async (t) => {
  for (const [holders, moves] of [
    [[0, 2], true],
    [[0], false],
    [undefined, false],
  ] as const) {
    const talk = talkOf(t);
    for (const node of [0, 1, 2])
      talk.states.reported(node, 1, 1, IxcpFlag.canAdopt | IxcpFlag.canRelease, START);
    const request = asked(talk, '/01');
    const end = 1001 + request.length;
    talk.expect(0, handed(0, request));
    talk.send(10, notice(0, NOTICE.adopted, { ack: end }));
    talk.change(20, {}, { '/y': [1], ...(holders === undefined ? {} : { '/01': holders }) });
    if (moves) {
      talk.expect(1010, inIxp(0, { type: IXP_TYPE.release }, { flags: 'A' }, ''));
      talk.send(1020, notice(0, NOTICE.released));
      talk.expect(1020, handed(2, request));
    } else talk.quiet(3_000);
  }
});

t.test('a head that arrives in pieces is looked up in the directory of its end', async (t) => {
  const talk = talkOf(t);
  const request = get('/new');
  talk.handshake(0);
  talk.send(0, fromClient({ flags: 'A', seq: 1001, ack: ISN + 1 }, request.slice(0, 12)));
  talk.expect(0, toClient({ flags: 'A', ack: 1013 }));
  talk.change(10, {}, { '/new': [2] });
  talk.send(20, fromClient({ flags: 'PA', seq: 1013, ack: ISN + 1 }, request.slice(12)));
  talk.expect(20, handed(2, request));
});

t.test('a node that retires keeps its sessions and gets no more', async (t) => {
  const talk = talkOf(t);
  const request = asked(talk, '/01');
  talk.expect(0, handed(0, request));
  talk.states.setWeight(0, 0);
  talk.change(10, { nodes: nodesOf(talk.farm, { 0: { retired: true } }) }, { '/01': [1] });
  const end = 1001 + request.length;
  talk.send(20, notice(0, NOTICE.adopted, { ack: end }));
  const more = fromClient({ flags: 'A', seq: end, ack: ISN + 9 });
  talk.send(30, more);
  talk.expectForwarded(30, 0, more);
  t.equal(talk.nodes.find(addressNumber(NODES[0].address)), 0);
  const none = { client: '0.0.0.0', clientPort: 0, virtualAddress: '0.0.0.0', virtualPort: 0 };
  talk.send(31, notice(0, NOTICE.report, { ...none, session: 7, seq: 1, flags: 1 }));
  talk.rest(31);
  talk.counted({ report: 1, drop_ixcp_unknown_node: 0 });
  // The session still names the slot.
  const gone = nodesOf(talk.farm, { 0: undefined });
  t.throws(() => talk.change(32, { nodes: gone }), { code: 'BATON_IN_USE', message: /1 sessions/ });
  talk.send(33, more);
  talk.expectForwarded(33, 0, more);
  talk.send(40, notice(0, NOTICE.fin, {}));
  const fin = fromClient({ flags: 'FA', seq: end, ack: ISN + 9 });
  talk.send(41, fin);
  talk.expectForwarded(41, 0, fin);
  t.same([talk.states.load(0), talk.states.held(0)], [0, 1], 'it lingers');
  t.throws(() => talk.change(42, { nodes: gone }), { code: 'BATON_IN_USE' });
  talk.quiet(5_100);
  t.same([talk.states.load(0), talk.states.held(0)], [0, 0]);
  talk.change(5_100, { nodes: gone });
  t.equal(talk.nodes.find(addressNumber(NODES[0].address)), -1);
  t.equal(talk.nodes.find(0), -1);
});

t.test('a slot with another node begins anew', async (t) => {
  const talk = talkOf(t);
  const address = addressNumber('10.9.0.77');
  t.throws(() => talk.change(0, { nodes: nodesOf(talk.farm, { 2: { address } }) }), {
    code: 'BATON_IN_USE',
    message: /not retired/,
  });
  t.equal(talk.nodes.find(addressNumber(NODES[2].address)), 2, 'nothing has changed');
  talk.states.adopted[2] = 5;
  talk.setMac(5, 2, '02:00:00:00:00:99');
  talk.change(10, { nodes: nodesOf(talk.farm, { 2: { retired: true } }) });
  t.equal(talk.nodes.resolved[2], 1, 'a retired node keeps its MAC address');
  talk.change(20, { nodes: nodesOf(talk.farm, { 2: { address, retired: false } }) });
  const { nodes } = talk;
  t.same(
    [nodes.find(address), nodes.resolved[2], nodes.movedAt[2], talk.states.adopted[2]],
    [2, 0, Number.NEGATIVE_INFINITY, 0],
  );
  talk.setMac(30, 2, '02:00:00:00:00:77');
  t.equal(nodes.movedAt[2], Number.NEGATIVE_INFINITY, 'its first MAC address is no move');
  const beyond = { slot: SLOTS, address, retired: false };
  t.throws(() => talk.change(40, { nodes: [...talk.farm.nodes, beyond] }), {
    code: 'BATON_CONFIG',
  });
  talk.change(50, { nodes: [...talk.farm.nodes, { ...beyond, slot: 3, address: address + 1 }] });
  t.equal(nodes.find(address + 1), 3);
});

t.test('a retired virtual server is closed to new connections only', async (t) => {
  const talk = talkOf(t);
  const { sessions } = talk.engine;
  const end = talk.passing(0);
  // One is half open, one is collecting, one is being handed over.
  talk.send(1, fromClient({ flags: 'S', sourcePort: 11, seq: 1000 }));
  talk.expect(1, toClient({ flags: 'SA', destinationPort: 11 }));
  talk.handshake(2, { sourcePort: 12 });
  askedFrom(talk, 3, 13, '/1');
  talk.expect(3, inIxp(1, { session: 103 }, { flags: 'PA', sourcePort: 13 }, get('/1')));
  talk.change(10, { servers: retired(talk.farm) });

  talk.send(11, fromClient({ flags: 'S', sourcePort: 14, seq: 700 }));
  talk.expect(11, toClient({ flags: 'RA', destinationPort: 14, seq: 0, ack: 701 }));
  t.equal(sessions.heldByServer[0], 4);
  talk.send(12, fromClient({ flags: 'S', sourcePort: 11, seq: 1000 }));
  talk.expect(12, toClient({ flags: 'SA', destinationPort: 11, ack: 1001 }));
  const head = get('/0');
  talk.send(13, fromClient({ flags: 'A', sourcePort: 11, seq: 1001, ack: ISN + 1 }, head));
  talk.expect(13, inIxp(0, { session: 101 }, { flags: 'PA', sourcePort: 11 }, head));
  talk.send(14, fromClient({ flags: 'A', sourcePort: 12, seq: 1001, ack: ISN + 1 }, head));
  talk.expect(14, inIxp(0, { session: 102 }, { flags: 'PA', sourcePort: 12 }, head));
  const taken = { session: 103, clientPort: 13, ack: 1001 + get('/1').length };
  talk.send(15, notice(1, NOTICE.adopted, taken));
  const more = fromClient({ flags: 'A', seq: end, ack: ISN + 2 });
  talk.send(16, more);
  talk.expectForwarded(16, 0, more);

  talk.send(20, notice(0, NOTICE.reset, { reason: IxcpReason.none }));
  t.equal(stateOf(talk), SessionState.lingering);
  t.same([sessions.ofServer[0], sessions.heldByServer[0]], [3, 4]);
  // The client reuses the port of the session that has ended.
  talk.send(21, fromClient({ flags: 'S', seq: 90_000 }));
  talk.expect(21, toClient({ flags: 'RA', seq: 0, ack: 90_001 }));
  t.same([sessions.ofServer[0], sessions.heldByServer[0]], [3, 3]);

  // The kernel has answered a SYN before it knew: this client is served.
  const words = new Uint32Array(KERNEL_EVENT_WORDS);
  words[KERNEL_EVENT.client] = addressNumber(CLIENT.address);
  words[KERNEL_EVENT.portServer] = 15 << 16;
  words[KERNEL_EVENT.clientIsn] = 1000;
  words[KERNEL_EVENT.serverIsn] = ISN;
  talk.engine.kernelEvent(words, 0, START + 22);
  t.equal(sessions.size, 4);
  talk.send(22, fromClient({ flags: 'A', sourcePort: 15, seq: 1001, ack: ISN + 1 }, head));
  talk.expect(22, inIxp(0, { session: 104 }, { flags: 'PA', sourcePort: 15 }, head));

  const other = { slot: 1, address: addressNumber(SERVER.address), port: 81, retired: false };
  t.throws(() => talk.change(23, { servers: [other] }), {
    code: 'BATON_IN_USE',
    message: /virtual server.*4 sessions/,
  });
  t.throws(() => talk.change(23, { servers: [{ ...other, slot: 0 }] }), { code: 'BATON_IN_USE' });
  talk.change(24, { servers: [...talk.farm.servers, other] });
  talk.send(25, fromClient({ flags: 'S', sourcePort: 16, destinationPort: 81, seq: 1 }));
  talk.expect(25, toClient({ flags: 'SA', sourcePort: 81, destinationPort: 16 }));
  t.same([...sessions.ofServer.subarray(0, 2)], [4, 1]);
  // Added again, it takes new ones.
  const open = talk.farm.servers.map((server) => ({ ...server, retired: false }));
  talk.change(26, { servers: open });
  talk.handshake(27, { sourcePort: 17 });
});

t.test('a cookie of a retired virtual server opens nothing', async (t) => {
  const talk = talkOf(t, { limits: { halfOpen: 1 }, isn: undefined });
  talk.send(0, fromClient({ flags: 'S', sourcePort: 9, seq: 1 }));
  talk.expect(0, toClient({ flags: 'SA', destinationPort: 9 }));
  talk.send(1, fromClient({ flags: 'S', seq: 1000 }));
  const { seq } = talk.expect(1, toClient({ flags: 'SA', ack: 1001 })).tcp!;
  talk.counted({ syn_cookie: 1 });
  const ack = (seq + 1) >>> 0;
  talk.change(2, { servers: retired(talk.farm) });
  talk.send(3, fromClient({ flags: 'A', seq: 1001, ack }, get('/0')));
  talk.expect(3, toClient({ flags: 'R', seq: ack }));
  talk.counted({ cookie_accepted: 0 });
  t.equal(talk.engine.sessions.heldByServer[0], 1);
});

t.test('other timeouts count from the next timer on', async (t) => {
  const talk = talkOf(t);
  const request = asked(talk, '/01');
  talk.expect(0, handed(0, request));
  talk.change(10, { timeouts: { ...talk.farm.timeouts, handoff: 100, linger: 50 } });
  talk.expect(300, handed(0, request));
  talk.expect(400, withdrawn(0, 1001 + request.length));
  talk.expect(400, handed(1, request));
  talk.send(410, notice(1, NOTICE.reset, { reason: IxcpReason.none }));
  talk.end(480, 0);
});

t.test('sessions held are the sum of all engines, and each engine checks its own', async (t) => {
  const memory = nodeMemory(SLOTS, 2, 2);
  const [one, two] = [0, 1].map(
    (worker) =>
      new Conversation(t, { nodes: { memory, nodes: SLOTS, worker, workers: 2, servers: 2 } }),
  ) as [Conversation, Conversation];
  two.passing(0);
  one.passing(0, '/0');
  t.same([one.states.held(0), two.states.held(0)], [2, 2]);
  const nodes = nodesOf(one.farm, { 0: { retired: true } });
  for (const talk of [one, two]) talk.change(1, { nodes });
  one.send(2, notice(0, NOTICE.reset, { reason: IxcpReason.none }));
  t.same([one.states.load(0), one.states.held(0)], [1, 2]);
  one.quiet(5_100);
  t.same([one.states.load(0), one.states.held(0)], [1, 1]);
  const gone = nodesOf(one.farm, { 0: undefined });
  one.engine.prepare({ ...one.farm, nodes: gone });
  t.throws(() => two.engine.prepare({ ...two.farm, nodes: gone }), { code: 'BATON_IN_USE' });
  two.send(5_100, notice(0, NOTICE.reset, { reason: IxcpReason.none }));
  two.quiet(10_200);
  t.equal(one.states.held(0), 0);
  two.engine.prepare({ ...two.farm, nodes: gone });
});
