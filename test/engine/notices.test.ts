/**
 * IXCP: notices that are believed, and those that are not; reports; malformed frames of all kinds.
 */
import t from 'tap';
import { build, type IxcpSpec, type PacketSpec } from '../../lab/packet.js';
import type { CounterName } from '../../src/base/counters.js';
import { FrameFlags } from '../../src/datapath/datapath.js';
import { Random } from '../sim/random.js';
import {
  BALANCER,
  CLIENT,
  Conversation,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
  KEY,
  NODES,
  NOTICE,
  notice,
  SERVER,
  toClient,
} from '../support/conversation.js';

const OTHER_KEY = new Uint8Array(16).fill(9);

/** A conversation in which node 0 has got the ADOPT and has not answered. */
function waiting(talk: Conversation): string {
  talk.handshake(0);
  const request = get('/0');
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, request));
  talk.expect(0, inIxp(0, { type: IXP_TYPE.adopt }, {}, request));
  return request;
}

t.test('a notice is believed only if every part is right', async (t) => {
  const good = notice(0, NOTICE.adopted, { ack: 2000 });
  const changed = (ixcp: IxcpSpec): PacketSpec => ({ ...good, ixcp: { ...good.ixcp, ...ixcp } });
  const cases: [string, CounterName, Uint8Array][] = [
    ['another key', 'drop_ixcp_tag', build(good, OTHER_KEY)],
    ['a changed tag', 'drop_ixcp_tag', build(changed({ tag: 1n }), KEY)],
    ['another session', 'drop_ixcp_stale', build(changed({ session: 99 }), KEY)],
    ['another client', 'drop_ixcp_stale', build(changed({ client: '10.1.0.2' }), KEY)],
    ['another client port', 'drop_ixcp_stale', build(changed({ clientPort: 40_001 }), KEY)],
    [
      'another virtual address',
      'drop_ixcp_stale',
      build(changed({ virtualAddress: '10.9.0.101' }), KEY),
    ],
    ['another virtual port', 'drop_ixcp_stale', build(changed({ virtualPort: 81 }), KEY)],
    [
      'a node that was not asked',
      'drop_ixcp_stale',
      build({ ...good, ip: { source: NODES[2].address, destination: BALANCER.address } }, KEY),
    ],
    [
      'no node at all',
      'drop_ixcp_unknown_node',
      build({ ...good, ip: { source: '10.9.0.99', destination: BALANCER.address } }, KEY),
    ],
    ['another version', 'drop_malformed_ixcp', build(changed({ version: 2 }), KEY)],
    ['another length', 'drop_malformed_ixcp', build(changed({ length: 39 }), KEY)],
    [
      'a wrong IPv4 checksum',
      'drop_ipv4_checksum',
      build({ ...good, ip: { ...good.ip, checksum: 1 } }, KEY),
    ],
    [
      'another destination',
      'drop_not_ours',
      build({ ...good, ip: { ...good.ip, destination: SERVER.address } }, KEY),
    ],
  ];
  for (const [name, counter, frame] of cases) {
    const talk = new Conversation(t);
    waiting(talk);
    talk.send(5, frame);
    // A node that was not asked, but says that it has the session, gets an RST: that does no harm.
    if (name !== 'a node that was not asked') talk.quiet(10);
    t.equal(talk.counters.get(counter), 1, `${name}: ${counter}`);
    t.notOk(
      talk.events.some((event) => event.startsWith('adopted')),
      name,
    );
  }
});

t.test('notices cut short, at every byte', async (t) => {
  const talk = new Conversation(t);
  waiting(talk);
  const whole = build(notice(0, NOTICE.adopted, { ack: 2000 }), KEY);
  for (let length = 0; length < whole.length; length++) {
    const frame = whole.slice(0, length);
    talk.send(5, frame);
    if (length < 34) continue;
    // The same with an IPv4 length that fits: now the notice itself is too short.
    talk.send(
      5,
      build({
        ip: { source: NODES[0].address, destination: BALANCER.address, protocol: 254 },
        payload: whole.slice(34, length),
      }),
    );
  }
  talk.quiet(10);
  talk.counted({
    adopted: 0,
    drop_malformed_ethernet: 34,
    drop_malformed_ipv4: 40,
    drop_malformed_ixcp: 40,
  });
});

t.test('any one bit of a notice flipped', async (t) => {
  const talk = new Conversation(t);
  waiting(talk);
  const whole = build(notice(0, NOTICE.adopted, { ack: 2000 }), KEY);
  const hole = 14 + 20 + 16;
  const type = 14 + 20 + 1;
  for (let bit = 14 * 8; bit < whole.length * 8; bit++) {
    const at = bit >> 3;
    // Nothing reads the hole in the header (bpf/lib/ixp.h). A report with a wrong tag gets an
    // answer.
    if (at === hole || at === hole + 1 || at === type) continue;
    const frame = whole.slice();
    frame[at]! ^= 1 << (bit & 7);
    talk.send(5, frame);
  }
  talk.quiet(10);
  talk.counted({ adopted: 0 });
  const finishedByADevice = whole.slice();
  finishedByADevice[hole] = 0xab;
  talk.send(11, finishedByADevice);
  talk.counted({ adopted: 1 });
});

t.test('a notice of an unknown type', async (t) => {
  const talk = new Conversation(t);
  waiting(talk);
  for (const type of [0, 6, 7, 8, 255]) talk.send(5, notice(0, type, { ack: 2000 }));
  talk.quiet(10);
  talk.counted({ adopted: 0 });
});

t.test('notices before the handoff', async (t) => {
  const talk = new Conversation(t);
  talk.handshake(0);
  for (const type of [NOTICE.adopted, NOTICE.refused, NOTICE.fin, NOTICE.reset])
    talk.send(5, notice(0, type));
  talk.end(10, 1);
  talk.counted({ drop_ixcp_stale: 4 });
});

t.test('a report is answered, and says what the node can do', async (t) => {
  const talk = new Conversation(t);
  const report = (time: number, ixcp: IxcpSpec): void => {
    talk.send(
      time,
      notice(0, NOTICE.report, {
        session: 7,
        client: '0.0.0.0',
        clientPort: 0,
        virtualAddress: '0.0.0.0',
        virtualPort: 0,
        ...ixcp,
      }),
    );
  };
  const welcome: PacketSpec = {
    ethernet: { source: BALANCER.mac, destination: NODES[0].mac },
    ip: { source: BALANCER.address, destination: NODES[0].address },
    ixcp: { type: NOTICE.welcome, version: 1, length: 40 },
  };
  report(0, { flags: 1, seq: 100 });
  talk.expect(0, welcome);
  t.ok(talk.nodes.takesHandoffs(0, 0, 0, 0));
  report(1000, { flags: 0, seq: 101 });
  talk.expect(1000, welcome);
  t.notOk(talk.nodes.takesHandoffs(0, 0, 0, 0), 'its kernel cannot adopt');
  // Replayed by an attacker: older than the newest report.
  report(1500, { flags: 1, seq: 100 });
  talk.quiet(1600);
  t.notOk(talk.nodes.takesHandoffs(0, 0, 0, 0));
  report(2000, { flags: 1, seq: 102 });
  talk.expect(2000, welcome);
  report(3000, { flags: 0x8001, seq: 103 });
  talk.expect(3000, welcome);
  t.notOk(talk.nodes.takesHandoffs(0, 0, 0, 0), 'it is leaving');
  talk.counted({ report: 4, drop_ixcp_stale: 1 });
});

t.test(
  'an agent whose clock was set back is believed once its old reports are outdated',
  async (t) => {
    const talk = new Conversation(t);
    const none = { client: '0.0.0.0', clientPort: 0, virtualAddress: '0.0.0.0', virtualPort: 0 };
    const report = (time: number, session: number, seq: number, flags: number): void =>
      talk.send(time, notice(0, NOTICE.report, { ...none, session, seq, flags }));
    report(0, 7, 5000, 0x8001);
    talk.expect(0, { ixcp: { type: NOTICE.welcome, session: 7 } });
    report(1000, 8, 100, 1);
    talk.quiet(1500);
    t.notOk(talk.nodes.takesHandoffs(0, 0, 0, 1500));
    report(6000, 8, 105, 1);
    talk.expect(6000, { ixcp: { type: NOTICE.welcome, session: 8 } });
    t.ok(talk.nodes.takesHandoffs(0, 0, 0, 6000));
  },
);

t.test('an RST for a SYN counts only once the node has had the session', async (t) => {
  const unknown = { reason: 4, seq: 0, ack: 4242 };
  const passing = new Conversation(t);
  passing.passing(0);
  passing.send(100, notice(0, NOTICE.reset, unknown));
  t.equal(passing.events.at(-1), 'closed node-reset');
  const handing = new Conversation(t);
  handing.handshake(0);
  handing.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, get('/0')));
  handing.expect(0, inIxp(0, { type: IXP_TYPE.adopt }, {}));
  handing.send(1, notice(0, NOTICE.reset, unknown));
  t.notOk(handing.events.some((event) => event.startsWith('closed')));
});

t.test('a report with another key gets BAD_KEY, within a rate limit', async (t) => {
  const talk = new Conversation(t);
  const frame = build(notice(0, NOTICE.report, { flags: 1, seq: 1 }), OTHER_KEY);
  for (let i = 0; i < 100; i++) talk.send(i, frame);
  const answer = talk.expect(0, {
    ip: { destination: NODES[0].address },
    ixcp: { type: NOTICE.badKey },
  });
  t.ok(answer.frame.length <= 128);
  t.ok(talk.counters.get('sent') <= 6, `${talk.counters.get('sent')} answers to 100 reports`);
  talk.counted({ drop_ixcp_tag: 100, report: 0 });
});

t.test('malformed frames, each with its counter', async (t) => {
  const cases: [string, CounterName, PacketSpec | Uint8Array, number?][] = [
    ['nothing', 'drop_malformed_ethernet', new Uint8Array(0)],
    ['Ethernet alone', 'drop_malformed_ethernet', new Uint8Array(14)],
    [
      'ARP',
      'drop_malformed_ethernet',
      fromClient({ flags: 'S' }, '', { ethernet: { type: 0x0806 } }),
    ],
    [
      'IPv6 with the version of IPv4',
      'drop_malformed_ipv6',
      fromClient({ flags: 'S' }, '', { ethernet: { type: 0x86dd } }),
    ],
    ['truncated by the ring', 'drop_truncated', fromClient({ flags: 'S' }), FrameFlags.truncated],
    ['IP version 5', 'drop_malformed_ipv4', fromClient({ flags: 'S' }, '', { ip: { version: 5 } })],
    [
      'a header of 4 words',
      'drop_malformed_ipv4',
      fromClient({ flags: 'S' }, '', { ip: { words: 4 } }),
    ],
    [
      'IP options',
      'drop_ipv4_options',
      fromClient({ flags: 'S' }, '', { ip: { options: new Uint8Array(4).fill(1) } }),
    ],
    [
      'a length beyond the frame',
      'drop_malformed_ipv4',
      fromClient({ flags: 'S' }, '', { ip: { totalLength: 41 } }),
    ],
    [
      'a length below the header',
      'drop_malformed_ipv4',
      fromClient({ flags: 'S' }, '', { ip: { totalLength: 19 } }),
    ],
    [
      'a first fragment',
      'drop_ipv4_fragment',
      fromClient({ flags: 'S' }, '', { ip: { moreFragments: true } }),
    ],
    [
      'a later fragment',
      'drop_ipv4_fragment',
      fromClient({ flags: 'S' }, '', { ip: { fragmentOffset: 8 } }),
    ],
    ['UDP', 'drop_not_ours', fromClient({ flags: 'S' }, '', { ip: { protocol: 17 } })],
    ['IXP', 'drop_not_ours', fromClient({ flags: 'S' }, '', { ip: { protocol: 253 } })],
    [
      'no room for TCP',
      'drop_malformed_tcp',
      fromClient({ flags: 'S' }, '', { ip: { totalLength: 39 } }),
    ],
    ['a TCP header of 4 words', 'drop_malformed_tcp', fromClient({ flags: 'S', words: 4 })],
    ['a TCP header beyond the packet', 'drop_malformed_tcp', fromClient({ flags: 'S', words: 6 })],
    ['SYN and FIN', 'drop_malformed_tcp', fromClient({ flags: 'SF' })],
    ['SYN and RST', 'drop_malformed_tcp', fromClient({ flags: 'SR' })],
    ['all flags', 'drop_malformed_tcp', fromClient({ flags: 'FSRPAUEC' })],
    ['a wrong TCP checksum', 'drop_tcp_checksum', fromClient({ flags: 'S', checksum: 1 })],
    [
      'a wrong IPv4 checksum',
      'drop_ipv4_checksum',
      fromClient({ flags: 'S' }, '', { ip: { checksum: 1 } }),
    ],
  ];
  for (const [name, counter, packet, flags] of cases) {
    const talk = new Conversation(t);
    // `fromClient` merges: addresses are the usual ones unless a case overrides them.
    talk.send(0, packet, flags);
    talk.end(10, 0);
    t.equal(talk.counters.get(counter), 1, `${name}: ${counter}`);
    talk.counted({ frames: 1, syn: 0 });
  }
});

t.test('any frame at all', async (t) => {
  const random = new Random(1);
  const talk = new Conversation(t);
  const seeds = [
    build(
      fromClient({ flags: 'S', options: { mss: 1460, windowScale: 3, timestamps: [1, 0] } }),
      KEY,
    ),
    build(fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, get('/0')), KEY),
    build(notice(0, NOTICE.adopted), KEY),
    build({
      ip: { source: CLIENT.address, destination: SERVER.address },
      icmp: { quoted: new Uint8Array(60).fill(0x45) },
    }),
  ];
  for (let i = 0; i < 20_000; i++) {
    const frame = random
      .pick(seeds)
      .slice(0, random.chance(0.3) ? random.between(0, 90) : undefined);
    for (let n = random.between(0, 3); n > 0 && frame.length > 12; n--)
      frame[random.between(12, frame.length - 1)] = random.bits();
    talk.send(i / 100, frame, random.chance(0.5) ? FrameFlags.checksumValid : 0);
  }
  t.equal(talk.counters.get('frames'), 20_000);
});

t.test('an answer to a report goes to the source of the report', async (t) => {
  const talk = new Conversation(t);
  const router = '02:00:00:00:00:fe';
  const report = notice(1, NOTICE.report, { flags: 1, seq: 5 });
  talk.send(0, { ...report, ethernet: { ...report.ethernet, source: router } });
  talk.expect(0, {
    ethernet: { destination: router },
    ip: { destination: NODES[1].address },
    ixcp: { type: NOTICE.welcome },
  });
  talk.send(1, fromClient({ flags: 'S', seq: 1 }));
  talk.expect(1, toClient({ flags: 'SA' }));
});
