/** Sockets that nodes keep of sessions that move on, and to which sessions come back. */
import t from 'tap';
import { Admin } from '../../src/directory/node-memory.js';
import { AGAIN_MS } from '../../src/engine/sweep.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import { IxcpFlag, IxcpReason } from '../../src/wire/ixcp.js';
import { IxpFlag } from '../../src/wire/ixp.js';
import {
  fromClient,
  get,
  IXP_TYPE,
  inIxp,
  MANY_NODES,
  NOTICE,
  notice,
} from '../support/conversation.js';
import { FOLLOWED, MovingClient } from '../support/moving-client.js';

const { adopt, segment, leave, park, resume, awake } = IXP_TYPE;
const HANDOFF_MS = 300;
const TOLD = FOLLOWED | IxpFlag.tell;
const ABILITIES = IxcpFlag.canAdopt | IxcpFlag.canRelease | IxcpFlag.canLeave | IxcpFlag.canPark;
const PATHS = { '/0': [0], '/1': [1], '/2': [2], '/3': [3], '/4': [4], '/5': [5] };

class ParkingClient extends MovingClient {
  /** Where it was parked last. */
  at = 0;

  constructor(t: MovingClient['t'], timeouts = {}) {
    super(t, { able: ABILITIES, machines: MANY_NODES, timeouts });
    this.talk.dispatcher.use(PATHS);
  }

  held(node: number): number {
    return this.talk.states.heldHere[node]!;
  }

  /** The node asks nothing: it says that its answer has ended here. */
  ends(time: number, node: number, answers = 1): void {
    const fields = { seq: this.ack, ack: this.seq, flags: answers };
    this.talk.send(time, notice(node, NOTICE.ended, fields));
  }

  /** The session goes to `to` with a request, in a frame of this type. */
  goes(time: number, to: number, type: number, request: string): void {
    const first = this.seq;
    this.send(time, request);
    const ixp = { type, flags: TOLD };
    this.talk.expect(time, inIxp(to, ixp, { seq: first, ack: this.ack }, request));
  }

  /** A whole request at `to`, up to the end of its answer. */
  visits(time: number, to: number, type: number): void {
    this.goes(time, to, type, get(`/${to}`));
    this.talk.send(time + 1, notice(to, NOTICE.adopted, { ack: this.seq }));
    this.answered(time + 2, to);
    this.ends(time + 3, to);
  }

  /** From node 0 to node 1, by PARK. */
  parks(): void {
    const { talk } = this;
    this.first(0, get('/0'));
    const first = this.seq;
    this.send(20, get('/1'));
    const tcp = { flags: 'A', seq: first, ack: this.ack };
    talk.expect(20, inIxp(0, { type: park, tsval: 1 }, tcp, ''));
    talk.send(25, notice(0, NOTICE.parked, { seq: this.ack, ack: first }));
    const ixp = { type: adopt, flags: TOLD };
    talk.expect(25, inIxp(1, ixp, { seq: first, ack: this.ack }, get('/1')));
    talk.send(26, notice(1, NOTICE.adopted, { ack: this.seq }));
    this.answered(30, 1);
    this.at = first;
  }

  /** `node` is to end the socket that waits there. */
  leftAt(time: number, node: number, seq = this.at): void {
    this.talk.expect(time, inIxp(node, { type: leave, confirm: seq }, { flags: 'A', seq }, ''));
  }
}

t.test('a session comes back to the socket that its node has kept', async (t) => {
  const client = new ParkingClient(t);
  client.parks();
  t.same([client.held(0), client.held(1)], [1, 1]);
  // Node 1 tells, so it need not be asked.
  client.ends(40, 1);
  client.visits(50, 0, resume);
  client.visits(60, 1, resume);
  const { talk } = client;
  t.same([client.held(0), client.held(1)], [1, 1]);
  t.same([talk.states.active[0], talk.states.active[1]], [0, 1]);
  talk.counted({ moved: 3, moves_asked: 1, parked: 3, resumed: 2, resumes_refused: 0 });
});

t.test('ENDED counts only for the request, the answer and the number that it names', async (t) => {
  for (const wrong of [{ flags: 2 }, { seq: 1 }, { ack: 1 }]) {
    const client = new ParkingClient(t);
    client.parks();
    const fields = { seq: client.ack, ack: client.seq, flags: 1, ...wrong };
    client.talk.send(40, notice(1, NOTICE.ended, fields));
    const first = client.seq;
    client.send(50, get('/0'));
    const tcp = { flags: 'A', seq: first, ack: client.ack };
    client.talk.expect(50, inIxp(1, { type: park, tsval: 1 }, tcp, ''));
  }
});

t.test('a node without the socket gets an ADOPT', async (t) => {
  const client = new ParkingClient(t);
  const { talk } = client;
  client.parks();
  client.ends(40, 1);
  const first = client.seq;
  client.goes(50, 0, resume, get('/0'));
  talk.send(51, notice(0, NOTICE.refused, { reason: IxcpReason.ending }));
  const ixp = { type: adopt, flags: TOLD };
  talk.expect(51, inIxp(0, ixp, { seq: first, ack: client.ack }, get('/0')));
  // The network has made a copy.
  talk.send(52, notice(0, NOTICE.refused, { reason: IxcpReason.ending }));
  talk.quiet(53);
  talk.send(54, notice(0, NOTICE.adopted, { ack: client.seq }));
  client.answered(55, 0);
  t.same([client.held(0), client.held(1)], [1, 1]);
  talk.counted({ resumes_refused: 1, handoff_refused: 0 });
});

t.test('a resumed socket that closes without an answer is replaced at its node', async (t) => {
  for (const confirms of [false, true]) {
    const client = new ParkingClient(t);
    const { talk } = client;
    client.parks();
    client.ends(40, 1);
    const first = client.seq;
    client.goes(50, 0, resume, get('/0'));
    if (confirms) talk.send(51, notice(0, NOTICE.adopted, { ack: client.seq }));
    const heldBack = { reason: IxcpReason.heldBack, flags: 1 };
    const reset = notice(0, NOTICE.reset, { ...heldBack, seq: client.ack });
    // A late copy of one from an earlier place in the stream.
    talk.send(52, notice(0, NOTICE.reset, { ...heldBack, seq: client.ack - 1 }));
    talk.quiet(52);
    talk.send(52, reset);
    // The socket that was resumed may still be there.
    talk.expect(52, inIxp(0, { type: segment }, { flags: 'R', seq: client.seq }));
    client.leftAt(52, 0, first);
    const ixp = { type: adopt, flags: TOLD };
    talk.expect(52, inIxp(0, ixp, { seq: first, ack: client.ack }, get('/0')));
    // The old socket has sent a FIN and an RST.
    talk.send(53, reset);
    talk.quiet(54);
    talk.send(55, notice(0, NOTICE.adopted, { ack: client.seq }));
    talk.send(56, reset);
    client.answered(57, 0);
    talk.counted({ retried_after_reset: 1, drop_ixcp_stale: 3, answer_503: 0 });
  }
});

t.test('what a node has said before the session came back counts no more', async (t) => {
  for (const type of [NOTICE.fin, NOTICE.ended, NOTICE.reset]) {
    const client = new ParkingClient(t);
    const { talk } = client;
    client.parks();
    client.ends(40, 1);
    const first = client.seq;
    client.goes(50, 0, resume, get('/0'));
    talk.send(51, notice(0, type, { reason: IxcpReason.parked, ack: client.at }));
    talk.quiet(52);
    talk.send(53, notice(0, NOTICE.refused, { reason: IxcpReason.ending }));
    const ixp = { type: adopt, flags: TOLD };
    talk.expect(53, inIxp(0, ixp, { seq: first, ack: client.ack }, get('/0')));
    talk.counted({ drop_ixcp_stale: 1, resumes_refused: 1 });
  }
});

t.test('a resumed node that is silent is replaced by another holder', async (t) => {
  const client = new ParkingClient(t);
  const { talk } = client;
  talk.dispatcher.use({ ...PATHS, '/02': [0, 2] });
  client.parks();
  client.ends(40, 1);
  const first = client.seq;
  client.goes(50, 0, resume, get('/02'));
  const tcp = { seq: first, ack: client.ack };
  talk.expect(350, inIxp(0, { type: resume }, tcp, get('/02')));
  // Whether the RESUME arrived is not known: an RST for the socket that goes on, a LEAVE for the
  // one that waits.
  talk.expect(650, inIxp(0, { type: segment }, { flags: 'R', seq: client.seq }));
  client.leftAt(650, 0, first);
  talk.expect(650, inIxp(2, { type: adopt }, tcp, get('/02')));
  t.equal(client.held(0), 0);
});

t.test('the connection ends: so do the sockets that wait', async (t) => {
  for (const [name, how] of [
    ['both sides have sent FIN', 'F'],
    ['the client has sent RST', 'R'],
  ] as const) {
    const client = new ParkingClient(t);
    const { talk } = client;
    client.parks();
    if (how === 'F') talk.send(40, notice(1, NOTICE.fin, { seq: client.ack, ack: client.seq }));
    const last = fromClient({ flags: `${how}A`, seq: client.seq, ack: client.ack });
    talk.send(50, last);
    talk.expectForwarded(50, 1, last);
    client.leftAt(50, 0);
    t.equal(talk.engine.sessions.state(client.slot), SessionState.lingering, name);
    t.equal(client.held(0), 0, name);
    talk.send(51, notice(0, NOTICE.left));
    talk.counted({ drop_ixcp_stale: 0 });
  }
});

t.test('a session that was idle for too long leaves no socket behind', async (t) => {
  const client = new ParkingClient(t, { idle: 2_000 });
  client.parks();
  const [left, ...others] = client.talk.rest(5_000);
  t.equal(left?.ixp?.type, leave);
  t.same(others, []);
  t.equal(client.talk.engine.sessions.size, 0);
  t.equal(client.held(0), 0);
});

t.test('a server closes a socket that waits, and the client does not see it', async (t) => {
  for (const type of [NOTICE.fin, NOTICE.ended, NOTICE.reset]) {
    const client = new ParkingClient(t);
    const { talk } = client;
    client.parks();
    talk.send(40, notice(0, type, { reason: IxcpReason.parked, ack: client.at }));
    // A socket that was reset has ended already.
    if (type !== NOTICE.reset) client.leftAt(40, 0);
    talk.quiet(41);
    t.equal(client.held(0), 0);
    client.ends(50, 1);
    client.goes(60, 0, adopt, get('/0'));
    talk.counted({ parked_closed: 1, drop_ixcp_stale: 0 });
  }
});

t.test('a socket that waits repeats its answer: it gets the acknowledgement', async (t) => {
  const client = new ParkingClient(t);
  const { talk } = client;
  client.parks();
  const end = client.ack - 500;
  talk.send(40, notice(0, NOTICE.ended, { seq: end, ack: client.at, flags: 1 }));
  const tcp = { flags: 'A', seq: client.at, ack: end };
  talk.expect(40, inIxp(0, { type: park, tsval: 1 }, tcp, ''));
  talk.send(41, notice(0, NOTICE.parked, { seq: end, ack: client.at }));
  // A late copy of what it said before.
  talk.send(42, notice(0, NOTICE.adopted, { ack: client.at }));
  talk.quiet(43);
  t.equal(client.held(0), 1);
});

t.test('the server of the present node closes: the client gets its FIN', async (t) => {
  const client = new ParkingClient(t);
  const { talk } = client;
  client.parks();
  client.ends(40, 1);
  const fields = { reason: IxcpReason.parked, seq: client.ack, ack: client.seq };
  talk.send(50, notice(1, NOTICE.fin, fields));
  talk.expect(50, inIxp(1, { type: awake }, { flags: 'A', seq: client.seq, ack: client.ack }, ''));
  // Its next request is not moved without a question: the socket is closing.
  const first = client.seq;
  client.send(60, get('/0'));
  talk.expect(60, inIxp(1, { type: park }, { flags: 'A', seq: first, ack: client.ack }, ''));
  talk.send(61, notice(1, NOTICE.refused, { reason: IxcpReason.ending }));
  talk.expect(61, inIxp(1, { type: segment }, { seq: first }, get('/0')));
});

t.test('the server closes while a request is on its way to another node', async (t) => {
  const client = new ParkingClient(t);
  const { talk } = client;
  client.parks();
  const first = client.seq;
  client.send(40, get('/2'));
  talk.expect(40, inIxp(1, { type: park }, { flags: 'A', seq: first }, ''));
  talk.send(41, notice(1, NOTICE.fin, { reason: IxcpReason.parked, seq: client.ack, ack: first }));
  client.leftAt(41, 1, first);
  talk.expect(41, inIxp(2, { type: adopt }, { seq: first, ack: client.ack }, get('/2')));
  t.same([client.held(0), client.held(1), client.held(2)], [1, 0, 1]);
});

t.test('an idle socket of the present node that was reset: the client is told', async (t) => {
  const client = new ParkingClient(t);
  const { talk } = client;
  client.parks();
  client.ends(40, 1);
  talk.send(50, notice(1, NOTICE.reset, { reason: IxcpReason.parked }));
  const sent = talk.rest(51).map(({ tcp }) => tcp?.flags);
  t.same(sent, ['RA', 'A'], 'RST to the client, LEAVE to node 0');
  talk.counted({ reset_sent: 1 });
});

t.test('sockets at a node that drains, or leaves the config, are ended', async (t) => {
  for (const how of ['drain', 'weight'] as const) {
    const client = new ParkingClient(t);
    const { talk } = client;
    client.parks();
    if (how === 'drain') talk.states.setAdmin(0, Admin.draining);
    else talk.states.setWeight(0, 0);
    client.leftAt(31, 0);
    t.equal(client.held(0), 0);
    talk.quiet(31 + 2 * AGAIN_MS);
    // A node that drains keeps no socket either.
    talk.states.setAdmin(1, Admin.draining);
    client.ends(700, 1);
    const first = client.seq;
    client.send(710, get('/2'));
    client.leftAt(710, 1, first);
    talk.expect(710, inIxp(2, { type: adopt }, { seq: first, ack: client.ack }, get('/2')));
    t.equal(client.held(1), 0);
  }
});

t.test('four nodes keep a socket; that of a fifth takes the place of the oldest', async (t) => {
  const client = new ParkingClient(t);
  client.parks();
  client.ends(40, 1);
  client.visits(50, 2, adopt);
  client.visits(60, 3, adopt);
  client.visits(70, 4, adopt);
  const { sessions } = client.talk.engine;
  const parked = (): number[] => [...sessions.parkedAt(client.slot)];
  t.same(parked(), [0, 1, 2, 3]);
  const first = client.seq;
  client.send(80, get('/5'));
  client.leftAt(80, 0, first);
  const ixp = { type: adopt, flags: TOLD };
  client.talk.expect(80, inIxp(5, ixp, { seq: first, ack: client.ack }, get('/5')));
  t.same(parked(), [1, 2, 3, 4]);
  client.talk.counted({ parked_evicted: 1 });
});

t.test('a node that does not know PARK is left by LEAVE', async (t) => {
  const client = new MovingClient(t);
  client.first(0, get('/0'));
  const first = client.leaves(20, 0, 1, get('/1'));
  client.talk.send(30, notice(0, NOTICE.left, { seq: client.ack, ack: first }));
  const ixp = { type: adopt, flags: FOLLOWED };
  client.talk.expect(30, inIxp(1, ixp, { seq: first, ack: client.ack }, get('/1')));
  client.talk.counted({ parked: 0 });
  client.talk.quiet(30 + HANDOFF_MS / 2);
});

t.test('a parked socket that repeats its last answer does not confirm a RESUME', async (t) => {
  const client = new ParkingClient(t);
  client.parks();
  const { talk } = client;
  client.ends(40, 1);
  const first = client.seq;
  client.goes(50, 0, resume, get('/0'));
  // The RESUME was lost. The socket has not heard of the client's acknowledgement either.
  talk.send(60, notice(0, NOTICE.adopted, { ack: client.at }));
  const again = inIxp(0, { type: resume, flags: TOLD }, { seq: first, ack: client.ack }, get('/0'));
  talk.expect(50 + HANDOFF_MS, again);
  talk.send(360, notice(0, NOTICE.adopted, { ack: client.seq }));
  t.ok(client.passes);
});
