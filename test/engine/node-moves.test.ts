/** Nodes whose MAC address changes or is lost during a handoff. */
import t from 'tap';
import { macBytes } from '../../lab/packet.js';
import { Conversation, NODES } from '../support/conversation.js';
import { asked, handed, unavailable, withdrawn } from '../support/handoff-frames.js';

t.test('a MAC address that is lost during the handoff', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/0');
  talk.expect(0, handed(0, request));
  talk.nodes.setMac(0, undefined);
  talk.quiet(500);
  talk.counted({ drop_unresolved: 1 });
  talk.expect(600, unavailable(request));
});

t.test('a MAC address that changes during the handoff', async (t) => {
  const talk = new Conversation(t, { timeouts: { handoff: 100 } });
  const request = asked(talk, '/0');
  talk.expect(0, handed(0, request));
  talk.expect(100, handed(0, request));
  t.notOk(talk.events.includes('silent node 0'));
  t.ok(talk.events.includes('unconfirmed node 0'), 'a listener may look up the address');
  talk.setMac(150, 0, '02:00:00:00:00:99');
  const moved = { ...handed(0, request), ethernet: { destination: '02:00:00:00:00:99' } };
  // Two more tries, as if the first two had never been sent. Then the node counts as silent, like
  // any other.
  talk.expect(200, moved);
  talk.expect(300, moved);
  const letGo = withdrawn(0, 1001 + request.length);
  talk.expect(400, { ...letGo, ethernet: { destination: '02:00:00:00:00:99' } });
  talk.expect(400, unavailable(request));
  const movedAt = talk.nodes.movedAt[0];
  talk.setMac(450, 0, '02:00:00:00:00:99');
  t.equal(talk.nodes.movedAt[0], movedAt, 'the same address again is no change');
});

t.test('a node that changes its MAC address between two tries', async (t) => {
  const talk = new Conversation(t);
  const request = asked(talk, '/0');
  talk.expect(0, handed(0, request));
  const mac = '02:00:00:00:99:10';
  talk.nodes.setMac(0, macBytes(mac));
  talk.expect(300, { ...handed(0, request), ethernet: { destination: mac } });
  t.not(NODES[0].mac, mac);
});
