/** ICMP errors about packets that nodes sent. */
import t from 'tap';
import { build, type PacketSpec } from '../../lab/packet.js';
import { CLIENT, Conversation, KEY, NODES, SERVER } from '../support/conversation.js';

t.test('the node gets "fragmentation needed"', async (t) => {
  const talk = new Conversation(t);
  const end = talk.passing(0);
  const quoted = build(
    {
      ip: { source: SERVER.address, destination: CLIENT.address },
      tcp: {
        sourcePort: SERVER.port,
        destinationPort: CLIENT.port,
        seq: 7000,
        ack: end,
        flags: 'A',
      },
      payload: 'x'.repeat(1000),
    },
    KEY,
  ).subarray(14);
  const router = {
    ethernet: { source: CLIENT.mac },
    ip: { source: '192.0.2.1', destination: SERVER.address },
  };
  const icmp = (bytes: Uint8Array, more = {}): PacketSpec => ({
    ...router,
    icmp: { type: 3, code: 4, rest: 1280, quoted: bytes, ...more },
  });
  // As much of the segment as routers quote: at least the ports and the sequence number.
  for (const length of [28, 40, 200]) {
    talk.send(length, icmp(quoted.slice(0, length)));
    talk.expectForwarded(length, 0, icmp(quoted.slice(0, length)));
  }
  talk.counted({ icmp_forwarded: 3 });

  const stranger = quoted.slice(0, 28);
  stranger[22] = 9;
  const fromElsewhere = quoted.slice(0, 28);
  fromElsewhere[12] = 9;
  const udp = quoted.slice(0, 28);
  udp[9] = 17;
  const withOptions = quoted.slice(0, 28);
  withOptions[0] = 0x46;
  for (const bytes of [
    new Uint8Array(0),
    quoted.slice(0, 27),
    stranger,
    fromElsewhere,
    udp,
    withOptions,
  ])
    talk.send(300, icmp(bytes));
  talk.send(300, icmp(quoted.slice(0, 28), { type: 8, code: 0 }));
  talk.quiet(310);
  talk.counted({ icmp_forwarded: 3, drop_malformed_icmp: 7 });
  talk.send(310, {
    ...icmp(quoted.slice(0, 28)),
    ip: { source: '192.0.2.1', destination: '10.9.0.2' },
  });
  talk.end(320, 1);
  talk.counted({ drop_not_ours: 1 });
});

t.test('an ICMP error about a session that no node has yet', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  const quoted = build({
    ip: { source: SERVER.address, destination: CLIENT.address },
    tcp: { sourcePort: 80, destinationPort: CLIENT.port },
  }).subarray(14);
  talk.send(1, { ip: { source: '192.0.2.1', destination: SERVER.address }, icmp: { quoted } });
  talk.end(2, 1);
  talk.counted({ icmp_forwarded: 0, drop_malformed_icmp: 1 });
  t.ok(NODES.length > 0);
});
