/**
 * Nodes on another interface than the clients: where each frame leaves, and with which MAC address.
 */
import t, { type Test } from 'tap';
import { macBytes, type PacketSpec } from '../../lab/packet.js';
import { Port } from '../../src/datapath/datapath.js';
import { Answer } from '../../src/directory/answers.js';
import {
  answered,
  BALANCER,
  Conversation,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
  NODES,
  NOTICE,
  notice,
  toClient,
} from '../support/conversation.js';

const NODE_SIDE_MAC = '02:00:00:00:01:bb';
const { adopt, segment } = IXP_TYPE;
const CAN_ADOPT = 1;

const conversation = (test: Test): Conversation =>
  new Conversation(test, { engine: { nodeMac: macBytes(NODE_SIDE_MAC) } });

/** As it leaves on the interface of the nodes. */
function thence(packet: PacketSpec): PacketSpec {
  return { ...packet, ethernet: { ...packet.ethernet, source: NODE_SIDE_MAC } };
}

t.test(
  'frames to nodes leave on the interface of the nodes, frames to clients on theirs',
  async (t) => {
    const talk = conversation(t);
    // handshake() expects the SYN/ACK at Port.wire, from the MAC address of the clients' interface.
    talk.handshake(0);
    const request = get('/0');
    talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, request));
    talk.expect(
      0,
      thence(inIxp(0, { type: adopt }, { flags: 'PA', seq: 1001 }, request)),
      Port.nodes,
    );

    const seq = 1001 + request.length;
    talk.send(5, fromClient({ flags: 'PA', seq, ack: ISN + 1 }, 'more'));
    talk.expect(5, thence(inIxp(0, { type: segment }, { flags: 'PA', seq }, 'more')), Port.nodes);

    talk.send(10, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: seq + 4 }));
    const passed = fromClient({ flags: 'A', seq: seq + 4, ack: ISN + 1000 });
    talk.send(20, passed);
    talk.expectForwarded(20, 0, passed);
    talk.end(30, 1);
  },
);

t.test('a node that is given up gets its RST on the interface of the nodes', async (t) => {
  const talk = conversation(t);
  talk.handshake(0);
  const request = get('/01');
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, request));
  const handed = (node: number): PacketSpec =>
    thence(inIxp(node, { type: adopt }, { seq: 1001 }, request));
  talk.expect(0, handed(0), Port.nodes);
  talk.expect(300, handed(0), Port.nodes);
  talk.expect(600, thence(inIxp(0, { type: segment }, { flags: 'R' }, '')), Port.nodes);
  talk.expect(600, handed(1), Port.nodes);
});

t.test('answers of the balancer leave on the interface of the clients', async (t) => {
  const talk = conversation(t);
  talk.handshake(0);
  const request = get('/nowhere');
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, request));
  talk.expect(0, answered(Answer.notFound, request.length), Port.wire);
});

t.test('reports are answered on the interface of the nodes', async (t) => {
  const talk = conversation(t);
  talk.send(0, notice(0, NOTICE.report, { session: 7, flags: CAN_ADOPT, seq: 1 }));
  talk.expect(
    0,
    {
      ethernet: { source: NODE_SIDE_MAC, destination: NODES[0].mac },
      ip: { source: BALANCER.address, destination: NODES[0].address },
      ixcp: { type: NOTICE.welcome, session: 7 },
    },
    Port.nodes,
  );
});

t.test('an unknown client gets its RST on the interface of the clients', async (t) => {
  const talk = conversation(t);
  talk.send(0, fromClient({ flags: 'A', seq: 1, ack: 77 }));
  talk.expect(0, toClient({ flags: 'R', seq: 77 }));
});
