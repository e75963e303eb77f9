/** SYNs that the XDP program has answered, and the sessions that its events open. */
import t from 'tap';
import { addressNumber, macBytes } from '../../lab/packet.js';
import { KERNEL_EVENT_WORDS } from '../../src/engine/table/kernel-event.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import { IxpFlag } from '../../src/wire/ixp.js';
import {
  CLIENT,
  Conversation,
  FIRST_NONCE,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
  MSS,
  toClient,
} from '../support/conversation.js';
import { IN_COOKIE_PERIOD as START } from '../support/uptime.js';

/** The event of a SYN of the usual client, behind one word that is not part of it. */
function answeredSyn(serverIsn: number, clientIsn = 1000, port: number = CLIENT.port): Uint32Array {
  const words = new Uint32Array(1 + KERNEL_EVENT_WORDS);
  const view = new DataView(words.buffer, 4);
  view.setUint32(0, addressNumber(CLIENT.address), true);
  view.setUint32(4, (port << 16) >>> 0, true);
  view.setUint32(8, clientIsn, true);
  view.setUint32(12, serverIsn, true);
  view.setUint32(16, 0xfff0_0000, true);
  view.setUint32(20, 77, true);
  view.setUint16(24, 1460, true);
  view.setUint16(26, 5000, true);
  view.setUint8(28, 0x97);
  view.setUint8(29, 7);
  new Uint8Array(words.buffer).set(macBytes(CLIENT.mac), 4 + 30);
  return words;
}

t.test('the kernel keeps the last ACK of a handshake from the engine', async (t) => {
  const talk = new Conversation(t, { start: START });
  talk.engine.kernelEvent(answeredSyn(ISN), 1, START);
  const { sessions } = talk.engine;
  const slot = sessions.find(addressNumber(CLIENT.address), (CLIENT.port << 16) >>> 0);
  t.equal(sessions.clientAck(slot), ISN, 'not acknowledged yet');
  // The XDP program writes this.
  sessions.setClientAck(slot, ISN + 1);
  talk.rest(1000);
  t.equal(sessions.inState[SessionState.collecting], 1, 'no SYN/ACK is sent again');
  talk.counted({ established: 1, syn_ack_retransmitted: 0, sent: 0 });
  talk.rest(9_990);
  t.equal(sessions.inState[SessionState.collecting], 1);
  talk.rest(10_010);
  t.equal(sessions.inState[SessionState.answering], 1, 'its time is counted from the SYN');
  talk.counted({ closed_silent_client: 1 });
});

t.test('a session is as old as the SYN/ACK of the kernel', async (t) => {
  const openedAt = (echoedMs: number): number => {
    const talk = new Conversation(t, { start: START });
    talk.quiet(8);
    talk.engine.kernelEvent(answeredSyn(ISN), 1, START + 8);
    const timestamps = [99, (0xfff0_0000 + START + echoedMs) >>> 0] as const;
    talk.send(10, fromClient({ flags: 'A', seq: 1001, ack: ISN + 1, options: { timestamps } }));
    const { sessions } = talk.engine;
    const slot = sessions.find(addressNumber(CLIENT.address), (CLIENT.port << 16) >>> 0);
    return (sessions.openedAt(slot) - START) | 0;
  };
  t.equal(openedAt(1), 1, 'the engine read the event 7 ms later');
  t.equal(openedAt(9), 8, 'never younger than its event');
  t.equal(openedAt(-1_000_000), 8, 'nor older than a handshake can be');
});

t.test('a handshake that the kernel began continues as if the engine had begun it', async (t) => {
  const talk = new Conversation(t, { start: START });
  talk.engine.kernelEvent(answeredSyn(0xffff_ffff), 1, START);
  talk.quiet(900);
  t.same(talk.events, ['opened']);
  talk.counted({ syn: 1, syn_answered: 1, sent: 0 });
  // The SYN/ACK was lost, and is sent again as the kernel made it.
  const answer = talk.expect(
    1000,
    toClient({
      flags: 'SA',
      seq: 0xffff_ffff,
      ack: 1001,
      options: { mss: MSS, windowScale: 7, sackPermitted: true },
    }),
  );
  const [tsval, tsecr] = answer.tcp!.options.timestamps!;
  t.equal(tsecr, 77);
  t.ok((tsval - 0xfff0_0000 - START - 1000) >>> 0 < 20, 'its timestamp clock continues');
  talk.send(
    1100,
    fromClient({ flags: 'PA', seq: 1001, ack: 0, options: { timestamps: [99, tsval] } }, get('/0')),
  );
  talk.expect(
    1100,
    inIxp(
      0,
      {
        type: IXP_TYPE.adopt,
        mss: 1460,
        flags: 7 | IxpFlag.holdReset,
        scales: 0x97,
        tsval: 99,
        session: FIRST_NONCE,
      },
      { seq: 1001, ack: 0 },
      get('/0'),
    ),
  );
  talk.counted({ syn_ack_retransmitted: 1, established: 1, cookie_accepted: 0 });
});

t.test("its SYN/ACKs are given up after as many tries as the engine's own", async (t) => {
  const talk = new Conversation(t, { start: START });
  talk.engine.kernelEvent(answeredSyn(ISN), 1, START);
  for (const time of [1000, 3000, 7000, 15_000])
    talk.expect(time, toClient({ flags: 'SA', seq: ISN }));
  talk.end(31_200, 0);
  t.same(talk.events, ['opened', 'closed handshake-timeout']);
});

t.test('a repeated event, or one of an existing session, changes nothing', async (t) => {
  const talk = new Conversation(t, { start: START });
  talk.engine.kernelEvent(answeredSyn(111), 1, START);
  talk.engine.kernelEvent(answeredSyn(222), 1, START);
  talk.send(1, fromClient({ flags: 'A', seq: 1001, ack: 112 }));
  talk.engine.kernelEvent(answeredSyn(333, 2000), 1, START + 1);
  talk.end(500, 1);
  talk.counted({ syn: 1, syn_answered: 1, established: 1 });
});

t.test('its sessions count as half open, and a full table drops them like others', async (t) => {
  const talk = new Conversation(t, { start: START, limits: { sessions: 2, halfOpen: 2 } });
  talk.handshake(0, { sourcePort: 1 });
  talk.engine.kernelEvent(answeredSyn(ISN, 1000, 2), 1, START);
  t.notOk(talk.engine.stateless);
  talk.engine.kernelEvent(answeredSyn(ISN, 1000, 3), 1, START);
  talk.counted({ evicted_half_open: 1, drop_sessions_full: 0, syn_answered: 2 });
  talk.send(
    0,
    fromClient({
      flags: 'A',
      seq: 1001,
      ack: ISN + 1,
      sourcePort: 3,
      options: { timestamps: [78, 1] },
    }),
  );
  talk.engine.kernelEvent(answeredSyn(ISN, 1000, 4), 1, START);
  talk.end(10, 2);
  talk.counted({ evicted_half_open: 1, drop_sessions_full: 1, syn_answered: 2 });
});
