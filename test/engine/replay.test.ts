/** Handoffs to nodes that take sessions by replay of the handshake. */
import t, { type Test } from 'tap';
import type { PacketSpec } from '../../lab/packet.js';
import { Way } from '../../src/directory/node-memory.js';
import { IxcpFlag } from '../../src/wire/ixcp.js';
import { IxpFlag } from '../../src/wire/ixp.js';
import {
  Conversation,
  fromClient,
  ISN,
  IXP_TYPE,
  inIxp,
  NOTICE,
  notice,
} from '../support/conversation.js';
import { asked, handed, unavailable, withdrawn } from '../support/handoff-frames.js';
import { START } from '../support/uptime.js';

const { replay } = IXP_TYPE;

/** The SYN of the usual client, as a node gets it. */
function played(node: number): PacketSpec {
  return inIxp(node, { type: replay, service: 0 }, { flags: 'S', seq: 1000, ack: ISN + 1 }, '');
}

function replaying(t: Test, ...nodes: number[]): Conversation {
  const talk = new Conversation(t);
  for (const node of nodes) talk.states.setWay(node, Way.replay);
  return talk;
}

t.test('the SYN has all that the handshake agreed on, then the request follows', async (t) => {
  const talk = replaying(t, 0);
  const options = { mss: 1400, sackPermitted: true, windowScale: 9 };
  const request = asked(talk, '/0', options);
  talk.expect(
    0,
    inIxp(
      0,
      {
        type: replay,
        confirm: 1001 + request.length,
        mss: 1400,
        scales: 0x97,
        flags: IxpFlag.windowScaleOk | IxpFlag.sackOk | IxpFlag.holdReset,
      },
      { flags: 'S', seq: 1000, ack: ISN + 1, window: 4321, options },
      '',
    ),
  );
  talk.quiet(50);
  talk.send(50, notice(0, NOTICE.synAck, { ack: 1001 }));
  talk.expect(50, handed(0, request));
  talk.send(51, notice(0, NOTICE.adopted, { ack: 1001 + request.length }));
  talk.end(1000, 1);
  talk.counted({ handoffs: 1, replay_syn: 1, adopted: 1, handoff_retransmitted: 0 });
  const more = fromClient({ flags: 'A', seq: 1001 + request.length, ack: ISN + 100 });
  talk.send(1000, more);
  talk.expectForwarded(1000, 0, more);
});

t.test('a SYN or an answer that is lost: the SYN is played again', async (t) => {
  const talk = replaying(t, 0);
  const request = asked(talk, '/0');
  talk.expect(0, played(0));
  talk.expect(300, played(0));
  talk.send(310, notice(0, NOTICE.synAck, { ack: 1001 }));
  talk.expect(310, handed(0, request));
  talk.send(311, notice(0, NOTICE.adopted, { ack: 1001 + request.length }));
  // It was sent twice as well.
  talk.send(312, notice(0, NOTICE.synAck, { ack: 1001 }));
  talk.end(2000, 1);
  talk.counted({ replay_syn: 2, handoff_retransmitted: 1, adopted: 1 });
});

t.test('a listener that answers and never takes the request is silent', async (t) => {
  const talk = replaying(t, 0);
  const request = asked(talk, '/01');
  talk.expect(0, played(0));
  talk.send(10, notice(0, NOTICE.synAck, { ack: 1001 }));
  talk.expect(10, handed(0, request));
  talk.expect(310, played(0));
  talk.send(320, notice(0, NOTICE.synAck, { ack: 1001 }));
  talk.expect(320, handed(0, request));
  talk.expect(620, withdrawn(0, 1001 + request.length));
  talk.expect(620, handed(1, request));
  // The handshake is still open there.
  talk.send(630, notice(0, NOTICE.synAck, { ack: 1001 }));
  talk.expect(630, withdrawn(0, 1001));
  talk.send(640, notice(1, NOTICE.adopted, { ack: 1001 + request.length }));
  talk.end(2000, 1);
  talk.counted({ handoff_silent: 1, drop_ixcp_stale: 1, adopted: 1 });
});

t.test('nodes of both kinds are holders of one resource', async (t) => {
  const talk = replaying(t, 1);
  const request = asked(talk, '/01');
  talk.expect(0, handed(0, request));
  talk.send(1, notice(0, NOTICE.refused, { reason: 1 }));
  talk.expect(1, played(1));
  talk.send(2, notice(1, NOTICE.synAck, { ack: 1001 }));
  talk.expect(2, handed(1, request));
  talk.send(3, notice(1, NOTICE.refused, { reason: 2 }));
  talk.expect(3, unavailable(request));
  talk.counted({ handoff_refused: 2, replay_fallback: 0, answer_503: 1 });
});

t.test('a kernel that refuses to adopt gets the session by replay', async (t) => {
  const talk = new Conversation(t);
  const able = IxcpFlag.canAdopt | IxcpFlag.canReplay;
  talk.states.reported(0, 1, 1, able, START);
  const request = asked(talk, '/0');
  talk.expect(0, handed(0, request));
  talk.send(1, notice(0, NOTICE.refused, { reason: 2 }));
  talk.expect(1, played(0));
  talk.send(2, notice(0, NOTICE.synAck, { ack: 1001 }));
  talk.expect(2, handed(0, request));
  talk.send(3, notice(0, NOTICE.adopted, { ack: 1001 + request.length }));
  talk.end(1000, 1);
  talk.counted({ handoff_refused: 1, replay_fallback: 1, replay_syn: 1, adopted: 1 });
  t.ok(talk.states.replays(0, 0), 'and all later ones');
  t.ok(talk.nodes.takesHandoffs(0, 0, 0, START + 1000), 'it is no last choice');
});

t.test('all sessions that were under way to such a kernel are replayed', async (t) => {
  const talk = new Conversation(t);
  talk.states.reported(0, 1, 1, IxcpFlag.canAdopt | IxcpFlag.canReplay, START);
  const request = asked(talk, '/0');
  talk.expect(0, handed(0, request));
  // Another session was faster.
  t.ok(talk.states.fallsBack(0, 0));
  talk.send(1, notice(0, NOTICE.refused, { reason: 2 }));
  talk.expect(1, played(0));
  // The listener refuses the SYN, too: nothing is left.
  talk.send(2, notice(0, NOTICE.refused, { reason: 2 }));
  talk.expect(2, unavailable(request));
  talk.counted({ handoff_refused: 2, replay_fallback: 1, answer_503: 1 });
});
