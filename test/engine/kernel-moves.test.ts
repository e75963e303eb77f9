/**
 * Sessions that the XDP program brings back to nodes where they are parked, as the engine sees it.
 * The test writes what the program would write (test/kernel/xdp-resume.test.ts).
 */
import t from 'tap';
import {
  HEAD_NODES,
  HEAD_WAYS,
  JUDGED_HEAD_BYTES,
  MOST_PARKED,
  movesEntries,
  movesParts,
  NODE_MOVES,
  NODE_MOVES_BYTES,
  SESSION_MOVES,
  SESSION_MOVES_BYTES,
} from '../../src/datapath/heads-layout.js';
import { Admin } from '../../src/directory/node-memory.js';
import type { HeadMemory } from '../../src/engine/moving/judged-heads.js';
import { NO_NODE } from '../../src/engine/node-table.js';
import { AGAIN_MS } from '../../src/engine/sweep.js';
import { SessionAction } from '../../src/engine/table/session-record.js';
import { IxcpFlag, IxcpReason } from '../../src/wire/ixcp.js';
import { IxpFlag } from '../../src/wire/ixp.js';
import { seqAdd } from '../../src/wire/seq.js';
import { fromClient, get, IXP_TYPE, inIxp, NOTICE, notice } from '../support/conversation.js';
import { FOLLOWED, MovingClient } from '../support/moving-client.js';

const { adopt, segment, leave, park, resume } = IXP_TYPE;
const SESSIONS = 64;
const SETS = 2;
const TOLD = FOLLOWED | IxpFlag.tell;
const ABILITIES = IxcpFlag.canAdopt | IxcpFlag.canRelease | IxcpFlag.canLeave | IxcpFlag.canPark;
/** Until a client has repeated its head, or does not. */
const REPEATED_MS = 3_000;

function headMemory(): HeadMemory {
  return {
    heads: new ArrayBuffer(SETS * HEAD_WAYS * JUDGED_HEAD_BYTES),
    headsOffset: 0,
    sets: SETS,
    moves: new ArrayBuffer(movesEntries(SESSIONS, 1) * SESSION_MOVES_BYTES),
    ...movesParts(SESSIONS, 1, 0),
    generation: Uint32Array.of(1),
    key: new Uint8Array(16).fill(9),
  };
}

/** A client whose session is at node 1, and parked at node 0; node 1 has said that it has ended. */
class KernelClient extends MovingClient {
  /** Where the last head began. */
  at = 0;

  constructor(
    t: MovingClient['t'],
    readonly memory = headMemory(),
  ) {
    super(t, { able: ABILITIES, limits: { sessions: SESSIONS }, engine: { heads: memory } });
    const { talk } = this;
    talk.dispatcher.use({ '/0': [0], '/1': [1], '/2': [2] });
    this.first(0, get('/0'));
    this.at = this.seq;
    this.send(20, get('/1'));
    const tcp = { seq: this.at, ack: this.ack };
    talk.expect(20, inIxp(0, { type: park, tsval: 1 }, { ...tcp, flags: 'A' }, ''));
    talk.send(21, notice(0, NOTICE.parked, { seq: this.ack, ack: this.at }));
    talk.expect(21, inIxp(1, { type: adopt, flags: TOLD }, tcp, get('/1')));
    talk.send(22, notice(1, NOTICE.adopted, { ack: this.seq }));
    this.answered(23, 1);
    this.ends(24, 1);
  }

  /** The part of the session in map `moves`. */
  get moves(): DataView {
    return new DataView(this.memory.moves, this.slot * SESSION_MOVES_BYTES, SESSION_MOVES_BYTES);
  }

  get parked(): number[] {
    const { moves } = this;
    return Array.from({ length: MOST_PARKED }, (_, at) =>
      moves.getUint16(SESSION_MOVES.parked + 2 * at, true),
    ).filter((node) => node !== NO_NODE);
  }

  get action(): number {
    return this.talk.engine.sessions.action(this.slot);
  }

  ends(time: number, node: number, answers = 1): void {
    const fields = { seq: this.ack, ack: this.seq, flags: answers };
    this.talk.send(time, notice(node, NOTICE.ended, fields));
  }

  /** The XDP program brings the session to `node` with this request. */
  kernelMoves(node: number, request: string): void {
    const { moves, slot, memory } = this;
    const { sessions } = this.talk.engine;
    const from = sessions.node(slot);
    const raise = (view: DataView, at: number): void =>
      view.setUint32(at, view.getUint32(at, true) + 1, true);
    this.at = this.seq;
    this.seq += request.length;
    const at = this.parked.indexOf(node);
    moves.setUint16(SESSION_MOVES.parked + 2 * at, from, true);
    moves.setUint16(SESSION_MOVES.endedNode, NO_NODE, true);
    moves.setUint32(SESSION_MOVES.nodeRequests, 1, true);
    moves.setUint32(SESSION_MOVES.resumedSeq, this.at, true);
    moves.setUint32(SESSION_MOVES.resumedAck, this.ack, true);
    moves.setUint32(SESSION_MOVES.resumedEnd, this.seq, true);
    moves.setUint32(SESSION_MOVES.unproven, 1, true);
    raise(moves, SESSION_MOVES.requests);
    raise(moves, SESSION_MOVES.moved);
    const ofNodes = new DataView(
      memory.moves,
      memory.nodeMovesOffset,
      HEAD_NODES * NODE_MOVES_BYTES,
    );
    raise(ofNodes, node * NODE_MOVES_BYTES + NODE_MOVES.came);
    raise(ofNodes, from * NODE_MOVES_BYTES + NODE_MOVES.went);
    sessions.setNode(slot, node);
    sessions.setHandedTo(slot, this.seq);
    sessions.setReceiveNext(slot, this.seq);
    sessions.setClientAck(slot, this.ack);
  }

  /** The client repeats its last head, which the XDP program does not forward. */
  repeats(time: number, request: string): void {
    const packet = fromClient({ flags: 'PA', seq: this.at, ack: this.ack }, request);
    this.talk.send(time, packet);
  }

  gets(time: number, node: number, type: number, request: string): void {
    const ixp = { type, flags: TOLD };
    this.talk.expect(time, inIxp(node, ixp, { seq: this.at, ack: this.ack }, request));
  }
}

const FOLLOWS = SessionAction.forward | SessionAction.payloadUp | SessionAction.heads;

t.test('what the engine tells the program about a session that has moved', async (t) => {
  const client = new KernelClient(t);
  const { moves } = client;
  t.equal(client.action, FOLLOWS);
  t.equal(moves.getUint32(SESSION_MOVES.generation, true), 1);
  t.equal(moves.getUint32(SESSION_MOVES.nodeRequests, true), 1);
  t.same(client.parked, [0]);
  t.equal(moves.getUint16(SESSION_MOVES.endedNode, true), 1);
  t.equal(moves.getUint16(SESSION_MOVES.endedAnswers, true), 1);
  t.equal(moves.getUint32(SESSION_MOVES.endedNext, true), client.seq);
  t.equal(moves.getUint32(SESSION_MOVES.endedAt, true), client.ack);
});

t.test('the engine counts what the program has moved, and goes on from there', async (t) => {
  const client = new KernelClient(t);
  const { talk, slot } = client;
  client.kernelMoves(0, get('/0'));
  t.equal(talk.engine.sessions.movesOf(slot), 2);
  t.equal(talk.engine.sessions.node(slot), 0);
  talk.engine.settle();
  const { active, heldHere } = talk.states;
  t.same([active[0], active[1]], [1, 0]);
  t.same([heldHere[0], heldHere[1]], [1, 1]);
  talk.counted({ moved: 2, parked: 2, resumed: 1 });

  // The client has the answer, and asks for something else.
  client.ack += 500;
  const first = client.seq;
  client.send(50, get('/2'));
  const asked = { type: park, tsval: 1 };
  talk.expect(50, inIxp(0, asked, { flags: 'A', seq: first, ack: client.ack }, ''));
  talk.send(51, notice(0, NOTICE.parked, { seq: client.ack, ack: first }));
  client.at = first;
  client.gets(51, 2, adopt, get('/2'));
  talk.engine.settle();
  t.same([...active.slice(0, 3)], [0, 0, 1]);
  t.same(client.parked, [1, 0]);
  talk.counted({ moved: 3, parked: 3, resumed: 1 });
  t.equal(talk.engine.sessions.clientBytes(slot), client.seq - 1001);
});

t.test(
  'a head that the node may not have got is handed over when the client repeats it',
  async (t) => {
    const client = new KernelClient(t);
    const { talk } = client;
    client.kernelMoves(0, get('/0'));
    client.repeats(250, get('/0'));
    client.gets(250, 0, resume, get('/0'));
    t.equal(client.action & SessionAction.heads, 0);
    talk.send(260, notice(0, NOTICE.adopted, { ack: client.seq }));
    t.ok(client.passes);
    t.equal(client.action, FOLLOWS);
    client.answered(270, 0);
    client.ends(280, 0);
    t.equal(client.moves.getUint32(SESSION_MOVES.generation, true), 1);
    talk.counted({ moved: 2, parked: 2, resumed: 1, handoffs: 2 });
    t.equal(talk.states.active[0], 1);
  },
);

t.test('a node that has no socket any more gets an ADOPT', async (t) => {
  for (const refused of [true, false]) {
    const client = new KernelClient(t);
    const { talk } = client;
    client.kernelMoves(0, get('/0'));
    const says = refused
      ? notice(0, NOTICE.refused, { reason: 7 })
      : notice(0, NOTICE.reset, { reason: IxcpReason.heldBack, flags: 1, seq: client.ack });
    talk.send(30, says);
    t.ok(client.passes, 'the client does not know');
    client.repeats(250, get('/0'));
    client.gets(250, 0, refused ? resume : adopt, get('/0'));
    if (refused) {
      talk.send(251, says);
      client.gets(251, 0, adopt, get('/0'));
    }
    talk.send(260, notice(0, NOTICE.adopted, { ack: client.seq }));
    client.answered(270, 0);
  }
});

t.test('a client that waits in vain is reset', async (t) => {
  const client = new KernelClient(t);
  const { talk } = client;
  client.kernelMoves(0, get('/0'));
  talk.send(
    30,
    notice(0, NOTICE.reset, {
      reason: IxcpReason.heldBack,
      flags: 1,
      seq: client.ack,
      ack: client.seq,
    }),
  );
  const sent = talk.rest(30 + REPEATED_MS + 50);
  const resets = sent.filter(({ ip, tcp }) => ip?.protocol === 6 && tcp?.flags.includes('R'));
  t.equal(resets.length, 1);
  talk.counted({ closed_node_reset: 1 });
});

t.test('what comes behind such a head waits', async (t) => {
  const client = new KernelClient(t);
  const { talk } = client;
  client.kernelMoves(0, get('/0'));
  const fin = fromClient({ flags: 'FA', seq: client.seq, ack: client.ack });
  const question = inIxp(
    0,
    { type: segment },
    { flags: 'A', seq: seqAdd(client.seq, -2), ack: client.ack },
    '',
  );
  talk.send(30, fin);
  talk.expect(30, question);
  t.equal(client.action, FOLLOWS, 'the program goes on');
  talk.send(31, fromClient({ flags: 'A', seq: client.seq, ack: client.ack }));
  talk.expect(31, question);
  talk.send(40, notice(0, NOTICE.adopted, { ack: client.seq }));
  talk.send(230, fin);
  talk.expectForwarded(230, 0, fin);
});

t.test('the client shows that the node has got the head', async (t) => {
  const client = new KernelClient(t);
  const { talk } = client;
  client.kernelMoves(0, get('/0'));
  client.answered(40, 0);
  t.equal(client.moves.getUint32(SESSION_MOVES.unproven, true), 0);
  t.equal(client.moves.getUint32(SESSION_MOVES.generation, true), 1);
  // In the middle of a repetition that comes in two parts.
  const other = new KernelClient(t);
  other.kernelMoves(0, get('/0'));
  const half = get('/0').slice(0, 10);
  other.repeats(250, half);
  const [ack] = other.talk.rest(250);
  t.equal(ack?.tcp?.ack, other.at + half.length, 'nothing before the head is missing');
  other.ack += 500;
  const acknowledgement = fromClient({ flags: 'A', seq: other.seq, ack: other.ack });
  other.talk.send(260, acknowledgement);
  const ixp = { type: segment };
  other.talk.expect(260, inIxp(0, ixp, { flags: 'A', seq: other.seq, ack: other.ack }, ''));
  t.ok(other.passes);
  t.equal(other.action, FOLLOWS);
  talk.quiet(300);
});

t.test('the end of such a session ends every socket', async (t) => {
  const client = new KernelClient(t);
  const { talk } = client;
  client.kernelMoves(0, get('/0'));
  const rst = fromClient({ flags: 'R', seq: client.seq });
  talk.send(30, rst);
  talk.expectForwarded(30, 0, rst);
  for (const node of [0, 1]) {
    const ixp = { type: leave, confirm: client.at };
    talk.expect(30, inIxp(node, ixp, { flags: 'A', seq: client.at }, ''));
  }
  talk.engine.settle();
  t.same([...talk.states.active.slice(0, 2)], [0, 0]);
});

t.test('a node that drains after the program has parked a session there is left', async (t) => {
  const client = new KernelClient(t);
  const { talk } = client;
  client.kernelMoves(0, get('/0'));
  client.answered(40, 0);
  talk.states.setAdmin(1, Admin.draining);
  const at = AGAIN_MS + 200;
  const sent = talk.rest(at + 200);
  const left = sent.filter(({ ixp }) => ixp?.type === leave);
  t.equal(left.length, 1);
  t.same(client.parked, []);
  t.equal(talk.states.heldHere[1], 0);
});
