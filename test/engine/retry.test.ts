/**
 * Nodes that end, fall silent or go into maintenance after they have confirmed, and before the
 * client has a byte of the answer: another holder gets the request, where that is sound.
 */
import t, { type Test } from 'tap';
import { addressNumber, type PacketSpec, type TcpOptionsSpec } from '../../lab/packet.js';
import { Admin } from '../../src/directory/node-memory.js';
import { inSlots, Retry } from '../../src/engine/farm.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import { IxcpFlag, IxcpReason } from '../../src/wire/ixcp.js';
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
  toClient,
} from '../support/conversation.js';
import { START } from '../support/uptime.js';

const { adopt, segment, release } = IXP_TYPE;
const ANSWER_MS = 1_000;
const HANDOFF_MS = 300;
/** How far a fence sets the timestamp clock of a session forward. */
const JUMP_MS = 2 ** 26;
const STAMPS: TcpOptionsSpec = { mss: 1460, timestamps: [77, 0] };
const POST = 'POST /01 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx';

const handed = (node: number, request: string): PacketSpec =>
  inIxp(node, { type: adopt }, { flags: 'PA', seq: 1001, ack: ISN + 1 }, request);
const reset = (node: number, seq: number): PacketSpec =>
  inIxp(node, { type: segment }, { flags: 'R', seq }, '');
const heldBack = (node: number, end: number): PacketSpec =>
  notice(node, NOTICE.reset, { reason: IxcpReason.heldBack, seq: ISN + 1, ack: end });

function stateOf(talk: Conversation): number {
  const { sessions } = talk.engine;
  return sessions.state(sessions.find(addressNumber(CLIENT.address), (CLIENT.port << 16) >>> 0));
}

interface Confirmed {
  t: Test;
  talk: Conversation;
  request: string;
  /** The client's next sequence number. */
  end: number;
  /** Our TSval in the SYN/ACK. */
  tsval: number;
}

/** A session that node 0 has confirmed at 10 ms. */
function confirmed(
  t: Test,
  { options, request = get('/01') }: { options?: TcpOptionsSpec; request?: string } = {},
): Confirmed {
  const talk = new Conversation(t);
  for (const node of [0, 1, 2])
    talk.states.reported(node, 1, 1, IxcpFlag.canAdopt | IxcpFlag.canRelease, START);
  const answer = talk.handshake(0, options === undefined ? {} : { options });
  const tsval = answer.tcp?.options.timestamps?.[0] ?? 0;
  const stamps: TcpOptionsSpec = options === undefined ? {} : { timestamps: [78, tsval] };
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1, options: stamps }, request));
  talk.expect(0, handed(0, request));
  const end = 1001 + request.length;
  talk.send(10, notice(0, NOTICE.adopted, { ack: end }));
  return { t, talk, request, end, tsval };
}

/** The frames with which a client is fenced off from node 0 at `time`. */
function fenced({ t, talk, end, tsval }: Confirmed, time: number): void {
  talk.expect(time, reset(0, end));
  for (const seq of [ISN + 1, ISN]) {
    const ack = talk.expect(time, toClient({ flags: 'A', seq, ack: end }));
    const sent = ack.tcp?.options.timestamps?.[0] ?? 0;
    const ahead = (sent - tsval) >>> 0;
    t.ok(ahead >= JUMP_MS + time && ahead < JUMP_MS + time + 100, `TSval ${ahead} ms ahead`);
  }
}

/** The client's answer to the fence at `time`. */
function proof({ end, tsval }: Confirmed, time: number, ack = ISN + 1): PacketSpec {
  const echo = (tsval + JUMP_MS + time) >>> 0;
  return fromClient({ flags: 'A', seq: end, ack, options: { timestamps: [79, echo] } });
}

t.test('a node that closes before it answers: the next holder gets the request', async (t) => {
  const { talk, request, end } = confirmed(t);
  talk.send(500, heldBack(0, end));
  talk.expect(500, reset(0, end));
  talk.expect(500, handed(1, request));
  // The socket of the old node sends its FIN again.
  talk.send(700, heldBack(0, end));
  talk.send(710, notice(1, NOTICE.adopted, { ack: end }));
  const ack = fromClient({ flags: 'A', seq: end, ack: ISN + 100 });
  talk.send(720, ack);
  talk.expectForwarded(720, 1, ack);
  talk.counted({ retried_after_reset: 1, reset_sent: 0, drop_ixcp_stale: 1 });
  t.equal(talk.states.active[0], 0);
  t.equal(talk.states.active[1], 1);
});

t.test('a reset before the node has confirmed', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  const request = get('/01');
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, request));
  talk.expect(0, handed(0, request));
  const end = 1001 + request.length;
  talk.send(10, heldBack(0, end));
  talk.expect(10, reset(0, end));
  talk.expect(10, handed(1, request));
});

t.test('where a held-back reset ends the session, the client is told', async (t) => {
  await t.test('no other node holds it', async (t) => {
    const { talk, end } = confirmed(t, { request: get('/0') });
    talk.send(500, heldBack(0, end));
    talk.expect(500, reset(0, end));
    talk.rest(500);
    talk.counted({ answer_503: 1, reset_sent: 0 });
  });
  await t.test('the client has sent more', async (t) => {
    const { talk, end } = confirmed(t);
    const more = fromClient({ flags: 'A', seq: end, ack: ISN + 1 }, 'GET');
    talk.send(100, more);
    talk.expectForwarded(100, 0, more);
    talk.send(500, heldBack(0, end + 3));
    talk.expect(500, reset(0, end));
    talk.expect(500, reset(0, end + 3));
    talk.expect(500, toClient({ flags: 'RA', seq: ISN + 1, ack: end + 3 }));
    t.equal(stateOf(talk), SessionState.lingering);
  });
});

t.test('a request that must not be repeated is not asked to be held back', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, POST));
  talk.expect(
    0,
    inIxp(0, { type: adopt, flags: 0 }, { flags: 'PA', seq: 1001, ack: ISN + 1 }, POST),
  );
});

t.test('with `retry: all` a request that may change something goes on too', async (t) => {
  const server = { address: addressNumber(SERVER.address), port: SERVER.port, retry: Retry.all };
  const talk = new Conversation(t, { engine: { virtualServers: inSlots([server]) } });
  for (const node of [0, 1])
    talk.states.reported(node, 1, 1, IxcpFlag.canAdopt | IxcpFlag.canRelease, START);
  talk.handshake(0);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, POST));
  talk.expect(0, handed(0, POST));
  const end = 1001 + POST.length;
  talk.send(10, notice(0, NOTICE.adopted, { ack: end }));
  talk.send(20, heldBack(0, end));
  talk.expect(20, reset(0, end));
  talk.expect(20, handed(1, POST));
  talk.counted({ retried_after_reset: 1 });
});

t.test('a node that falls silent: the client is fenced off from it first', async (t) => {
  const all = confirmed(t, { options: STAMPS });
  const { talk, request, end } = all;
  const first = 10 + ANSWER_MS;
  for (const time of [first, first + HANDOFF_MS])
    talk.expect(time, inIxp(0, { type: release }, { flags: 'A', seq: 1001, ack: ISN + 1 }, ''));
  const at = first + 2 * HANDOFF_MS;
  fenced(all, at);
  // What the node says from here on is too late.
  talk.send(at + 30, notice(0, NOTICE.adopted, { ack: end }));
  // The client has not heard of the fence yet.
  const before = { timestamps: [79, all.tsval] as const };
  talk.send(at + 40, fromClient({ flags: 'A', seq: end, ack: ISN + 1, options: before }));
  talk.send(at + 50, proof(all, at));
  const again = talk.expect(at + 50, handed(1, request));
  const ahead = ((again.ixp?.tsecr ?? 0) - all.tsval) >>> 0;
  t.ok(ahead >= JUMP_MS, 'the next node continues from the new clock');
  talk.send(at + 60, notice(1, NOTICE.adopted, { ack: end }));
  const ack = fromClient({ flags: 'A', seq: end, ack: ISN + 100 });
  talk.send(at + 70, ack);
  talk.expectForwarded(at + 70, 1, ack);
  talk.counted({ fenced: 1, retried_after_fence: 1, reset_sent: 0 });
});

t.test('a node whose MAC address is gone is not asked', async (t) => {
  const all = confirmed(t, { options: STAMPS });
  const { talk, request } = all;
  talk.nodes.setMac(0, undefined);
  const at = 10 + ANSWER_MS;
  for (const seq of [ISN + 1, ISN]) talk.expect(at, toClient({ flags: 'A', seq, ack: all.end }));
  talk.send(at + 50, proof(all, at));
  talk.expect(at + 50, handed(1, request));
});

t.test('a client that had some of the answer after all is reset', async (t) => {
  const all = confirmed(t, { options: STAMPS });
  const { talk, end } = all;
  talk.quiet(ANSWER_MS);
  talk.states.setAdmin(0, Admin.maintenance);
  talk.engine.sweep.endNode(0);
  fenced(all, ANSWER_MS);
  talk.send(ANSWER_MS + 50, proof(all, ANSWER_MS, ISN + 300));
  talk.expect(ANSWER_MS + 50, reset(0, end));
  talk.expect(ANSWER_MS + 50, toClient({ flags: 'RA', seq: ISN + 1, ack: end }));
  talk.end(ANSWER_MS + 50, 0);
});

t.test('a client that does not answer the fence', async (t) => {
  const all = confirmed(t, { options: STAMPS });
  const { talk } = all;
  talk.nodes.setMac(0, undefined);
  const at = 10 + ANSWER_MS;
  for (const time of [at, at + HANDOFF_MS])
    for (const seq of [ISN + 1, ISN])
      talk.expect(time, toClient({ flags: 'A', seq, ack: all.end }));
  talk.quiet(at + 2 * HANDOFF_MS + 30);
  t.equal(stateOf(talk), SessionState.passing);
  talk.counted({ fenced: 1, retried_after_fence: 0 });
});

t.test('without timestamps a silent node keeps the session', async (t) => {
  const { talk } = confirmed(t);
  talk.nodes.setMac(0, undefined);
  talk.quiet(5_000);
  t.equal(stateOf(talk), SessionState.passing);
  talk.counted({ fenced: 0 });
});

t.test('maintenance: a request without an answer goes to another holder', async (t) => {
  const all = confirmed(t, { options: STAMPS });
  const { talk, request, end } = all;
  talk.quiet(100);
  talk.states.setAdmin(0, Admin.maintenance);
  talk.engine.sweep.endNode(0);
  fenced(all, 100);
  // Another pass of the sweep changes nothing.
  talk.quiet(380);
  talk.send(390, proof(all, 100));
  talk.expect(390, handed(1, request));
  talk.send(395, notice(1, NOTICE.adopted, { ack: end }));
  talk.counted({ retried_after_fence: 1, closed_maintenance: 0, reset_sent: 0 });
});
