/**
 * Heads that the engine gives to the kernel, and what the kernel does with them meanwhile. The test
 * writes what the XDP program would write (test/kernel/xdp-heads.test.ts).
 */
import t, { type Test } from 'tap';
import { addressNumber, type PacketSpec } from '../../lab/packet.js';
import {
  HEAD_WAYS,
  JUDGED_HEAD,
  JUDGED_HEAD_BYTES,
  movesEntries,
  movesParts,
  SESSION_MOVES,
  SESSION_MOVES_BYTES,
} from '../../src/datapath/heads-layout.js';
import { Admin } from '../../src/directory/node-memory.js';
import { inSlots, KeepAlive } from '../../src/engine/farm.js';
import { type HeadMemory, voidHeads } from '../../src/engine/moving/judged-heads.js';
import { SessionAction } from '../../src/engine/table/session-record.js';
import { REQUEST_BYTES, SessionState } from '../../src/engine/table/session-table.js';
import { IxcpFlag } from '../../src/wire/ixcp.js';
import { IxpFlag } from '../../src/wire/ixp.js';
import { seqAdd } from '../../src/wire/seq.js';
import {
  CLIENT,
  Conversation,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
  NOTICE,
  notice,
  SERVER,
} from '../support/conversation.js';
import { START } from '../support/uptime.js';

const SESSIONS = 64;
const SETS = 2;
const FOLLOWED = IxpFlag.follow | IxpFlag.holdReset;
const ABILITIES = IxcpFlag.canAdopt | IxcpFlag.canRelease | IxcpFlag.canLeave;
const FOLLOWS = SessionAction.forward | SessionAction.payloadUp | SessionAction.heads;

class Client {
  readonly talk: Conversation;
  readonly memory: HeadMemory = {
    heads: new ArrayBuffer(SETS * HEAD_WAYS * JUDGED_HEAD_BYTES),
    headsOffset: 0,
    sets: SETS,
    moves: new ArrayBuffer(movesEntries(SESSIONS, 1) * SESSION_MOVES_BYTES),
    ...movesParts(SESSIONS, 1, 0),
    generation: Uint32Array.of(1),
    key: new Uint8Array(16).fill(9),
  };
  seq = 1001;
  ack = ISN + 1;

  /** A client whose first request goes to node 0, which answers 500 bytes. */
  constructor(t: Test, first = get('/01')) {
    const address = addressNumber(SERVER.address);
    const server = { address, port: SERVER.port, keepAlive: KeepAlive.migrate };
    this.talk = new Conversation(t, {
      limits: { sessions: SESSIONS },
      engine: { virtualServers: inSlots([server]), heads: this.memory },
    });
    const { talk } = this;
    for (const node of [0, 1, 2]) talk.states.reported(node, 1, 1, ABILITIES, START);
    talk.handshake(0);
    this.send(0, first);
    const tcp = { flags: 'PA', seq: 1001, ack: ISN + 1 };
    talk.expect(0, inIxp(0, { type: IXP_TYPE.adopt, flags: FOLLOWED }, tcp, first));
    talk.send(5, notice(0, NOTICE.adopted, { ack: this.seq }));
    this.answered(10);
  }

  get slot(): number {
    return this.talk.engine.sessions.find(addressNumber(CLIENT.address), (CLIENT.port << 16) >>> 0);
  }

  get action(): number {
    return this.talk.engine.sessions.action(this.slot);
  }

  send(time: number, bytes: string): PacketSpec {
    const packet = fromClient({ flags: 'PA', seq: this.seq, ack: this.ack }, bytes);
    this.talk.send(time, packet);
    this.seq += bytes.length;
    return packet;
  }

  answered(time: number): void {
    this.ack += 500;
    const ack = fromClient({ flags: 'A', seq: this.seq, ack: this.ack });
    this.talk.send(time, ack);
    this.talk.expectForwarded(time, 0, ack);
  }

  stays(time: number, bytes: string): void {
    this.talk.expectForwarded(time, 0, this.send(time, bytes));
    this.answered(time);
  }

  /** The places with a head that is valid now. */
  get places(): number[] {
    const words = new Uint32Array(this.memory.heads);
    const [generation] = this.memory.generation;
    return Array.from({ length: SETS * HEAD_WAYS }, (_, place) => place).filter(
      (place) => words[(place * JUDGED_HEAD_BYTES + JUDGED_HEAD.generation) / 4] === generation,
    );
  }

  /** The kernel forwards the head at this place for the session, and the client gets the answer. */
  kernelForwards(place: number, bytes: string): void {
    const { sessions } = this.talk.engine;
    const heads = new DataView(this.memory.heads, place * JUDGED_HEAD_BYTES);
    const moves = new DataView(this.memory.moves, this.slot * SESSION_MOVES_BYTES);
    const raise = (view: DataView, at: number): void =>
      view.setUint32(at, view.getUint32(at, true) + 1, true);
    this.seq += bytes.length;
    this.ack += 500;
    sessions.setHandedTo(this.slot, seqAdd(sessions.handedTo(this.slot), bytes.length));
    sessions.setReceiveNext(this.slot, this.seq);
    sessions.setClientAck(this.slot, this.ack);
    raise(heads, JUDGED_HEAD.requests);
    raise(moves, SESSION_MOVES.requests);
    moves.setUint32(SESSION_MOVES.head, heads.getUint32(JUDGED_HEAD.number, true), true);
  }

  /** What people see as the last request. */
  get request(): string {
    const { sessions } = this.talk.engine;
    this.talk.engine.showLastRequest(this.slot);
    const start = this.slot * REQUEST_BYTES;
    const end = start + sessions.requestLength[this.slot]!;
    return Buffer.from(sessions.request.subarray(start, end)).toString();
  }
}

t.test('the second time, a head is given to the kernel, which follows the client', async (t) => {
  const client = new Client(t);
  const { talk } = client;
  t.equal(client.action, FOLLOWS, 'from the first request on');
  client.stays(20, get('/0'));
  t.same(client.places, [], 'once');
  client.stays(30, get('/0'));
  const [place = -1] = client.places;
  t.ok(place >= 0, 'twice');
  client.stays(40, get('/01'));
  t.equal(client.places.length, 1, 'the first request of a connection does not count');
  t.equal(client.request, 'GET /01');

  for (let n = 0; n < 3; n++) client.kernelForwards(place, get('/0'));
  t.equal(client.request, 'GET /0', 'the last request is that of the kernel');
  talk.quiet(60);
  talk.counted({ requests: 4 + 3, heads_judged: 1, heads_replaced: 0 });

  const first = client.seq;
  client.send(70, get('/1'));
  const asked = { type: IXP_TYPE.leave, tsval: 4 + 3 };
  talk.expect(70, inIxp(0, asked, { flags: 'A', seq: first, ack: client.ack }, ''));
  talk.send(80, notice(0, NOTICE.left, { seq: client.ack, ack: first }));
  const tcp = { seq: first, ack: client.ack };
  talk.expect(80, inIxp(1, { type: IXP_TYPE.adopt, flags: FOLLOWED }, tcp, get('/1')));
  t.equal(client.action & SessionAction.heads, 0, 'the kernel does not follow meanwhile');
  talk.send(81, notice(1, NOTICE.adopted, { ack: client.seq }));
  t.equal(client.action, FOLLOWS);
  const { sessions } = talk.engine;
  t.equal(sessions.clientBytes(client.slot), client.seq - 1001);
});

t.test('a copy that the kernel forwards meanwhile is not counted twice', async (t) => {
  const client = new Client(t);
  const { talk } = client;
  for (const time of [20, 30]) client.stays(time, get('/0'));
  const [place = -1] = client.places;
  // The segment is with the engine, and a copy of it with the kernel.
  const { datapath } = talk;
  const moves = new DataView(client.memory.moves, client.slot * SESSION_MOVES_BYTES);
  const forward = datapath.forward.bind(datapath);
  datapath.forward = (...frame) => {
    moves.setUint32(SESSION_MOVES.requests, 1, true);
    forward(...frame);
  };
  client.stays(40, get('/0'));
  datapath.forward = forward;
  client.kernelForwards(place, get('/0'));
  const first = client.seq;
  client.send(50, get('/1'));
  const asked = { type: IXP_TYPE.leave, tsval: 5 };
  talk.expect(50, inIxp(0, asked, { flags: 'A', seq: first, ack: client.ack }, ''));
});

t.test('heads whose verdict is not always the same are not given', async (t) => {
  const head = 'HEAD /0 HTTP/1.1\r\nHost: a\r\n\r\n';
  const body = 'POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc';
  const rest = 'POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n';
  const client = new Client(t);
  const { talk } = client;
  for (const time of [20, 30]) {
    client.stays(time, body);
    client.stays(time + 1, rest);
    t.equal(client.action, FOLLOWS & ~SessionAction.heads, 'in a body');
    client.stays(time + 2, 'abc');
    client.send(time + 3, head);
    talk.rest(time + 3);
    client.answered(time + 3);
  }
  t.same(client.places, []);
  const closing = 'GET /0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';
  for (const request of [`${get('/0')}${get('/0')}`, closing]) {
    for (let time = 0; time < 2; time++) {
      const other = new Client(t);
      other.stays(20, request);
      t.equal(other.action, SessionAction.forward, 'a client that is pinned');
      t.same(other.places, []);
    }
  }
});

t.test('a change voids them', async (t) => {
  const client = new Client(t);
  const { talk, memory } = client;
  talk.states.onRestrict = () => voidHeads(memory.generation);
  for (const time of [20, 30]) client.stays(time, get('/0'));
  t.equal(client.places.length, 1);
  talk.states.setAdmin(2, Admin.draining);
  t.equal(client.places.length, 0, 'a node drains');
  client.stays(40, get('/0'));
  t.equal(client.places.length, 1);
  const [place = -1] = client.places;
  client.kernelForwards(place, get('/0'));
  const before = talk.counters.get('requests');
  talk.change(41, {});
  t.equal(client.places.length, 0, 'another farm');
  t.equal(talk.counters.get('requests'), before + 1, 'what was forwarded before is counted');
  // The node itself drains: its sessions move, and nothing is given to the kernel.
  talk.states.setAdmin(0, Admin.draining);
  const first = client.seq;
  client.send(50, get('/01'));
  const asked = { type: IXP_TYPE.leave, tsval: 5 };
  talk.expect(50, inIxp(0, asked, { flags: 'A', seq: first, ack: client.ack }, ''));
});

t.test('the end of a session shows its last request', async (t) => {
  const client = new Client(t);
  const { talk } = client;
  for (const time of [20, 30]) client.stays(time, get('/0'));
  client.stays(40, get('/01'));
  const [place = -1] = client.places;
  client.kernelForwards(place, get('/0'));
  const { slot } = client;
  const { sessions } = talk.engine;
  const reset = fromClient({ flags: 'R', seq: client.seq, ack: 0 });
  talk.send(50, reset);
  talk.expectForwarded(50, 0, reset);
  t.equal(sessions.state(slot), SessionState.lingering);
  const start = slot * REQUEST_BYTES;
  t.equal(Buffer.from(sessions.request.subarray(start, start + 6)).toString(), 'GET /0');
});
