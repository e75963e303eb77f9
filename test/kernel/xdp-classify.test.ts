/**
 * The XDP program, frame by frame: which frames it handles, which the engine gets, and which the
 * kernel keeps.
 */
import t from 'tap';
import { addressNumber, build, type PacketSpec } from '../../lab/packet.js';
import { CONTROL, SHARED_LAYOUT } from '../../src/datapath/xdp-layout.js';
import { SessionAction } from '../../src/engine/table/session-record.js';
import { insideNamespace } from './namespace.js';
import { Fast, XDP_COUNTERS } from './xdp-fixture.js';
import {
  BALANCER,
  CLIENT,
  CLIENT_ISN,
  KEY,
  NODE,
  notice,
  PORTS,
  SERVER_ISN,
  segment,
  tagged,
  Verdict,
  VIRTUAL,
} from './xdp-packets.js';

const { pass, redirect, drop } = Verdict;
const ack = { flags: 'A', seq: CLIENT_ISN + 1, ack: SERVER_ISN + 1 };

/**
 * An ICMP error for the virtual address about a segment from its port `port` to the usual client.
 */
function icmp(type: number, quotedPort: number = PORTS[0], change: PacketSpec = {}): PacketSpec {
  const quoted = build({
    ip: { source: VIRTUAL, destination: CLIENT.address, ...change.ip },
    tcp: { sourcePort: quotedPort, destinationPort: CLIENT.port },
  }).subarray(14, 14 + 28);
  return {
    ethernet: { source: CLIENT.mac, destination: BALANCER.mac },
    ip: { source: '10.78.0.254', destination: VIRTUAL },
    icmp: { type, quoted },
  };
}

const elsewhere = { destination: '02:00:00:00:00:77' };
const cut = (spec: PacketSpec, length: number): Uint8Array => build(spec, KEY).subarray(0, length);

const toEngine = 'to_engine_ixcp';
/** ADOPTED and FIN, which are reported without waking the engine if they have no error. */
const QUIET_NOTICES = [1, 3];
const OTHER_NOTICES = [0, 2, 4, 6, 7, 8, 0x41, 255];
/** Possible errors of these notices. */
const NOT_QUIET: readonly (readonly [string, PacketSpec])[] = [
  ['a wrong tag', { ixcp: { tag: 1n } }],
  ['a tag for another sender', { ixcp: { tag: tagOf({ ip: { source: '10.78.0.4' } }) } }],
  ['another version', { ixcp: { version: 2 } }],
  ['no version', { ixcp: { version: 0 } }],
  ['a shorter header', { ixcp: { length: 36 } }],
  ['a longer header', { ixcp: { length: 44 } }],
  ['a wrong IPv4 checksum', { ip: { checksum: 0x1234 } }],
  ['a longer packet', { payload: 'four' }],
  ['a total length beyond the frame', { ip: { totalLength: 61 } }],
  ['a total length of less', { ip: { totalLength: 59 } }],
  ['more fragments to come', { ip: { moreFragments: true } }],
  ['a place in a fragment', { ip: { fragmentOffset: 1 } }],
  ['IPv4 options', { ip: { options: new Uint8Array(4) } }],
];

/** The tag of the usual notice, changed. */
function tagOf(change: PacketSpec): bigint {
  const frame = build(notice(change), KEY);
  return new DataView(frame.buffer).getBigUint64(frame.length - 8);
}

/** [description, frame, counter if the engine gets it; none: the stack gets it] */
type Given = readonly [string, PacketSpec | Uint8Array, string?];
const FRAMES: readonly Given[] = [
  ['a segment of no session', segment(ack), 'to_engine_unknown'],
  ['one without any flag', segment({ ...ack, flags: '' }), 'to_engine_unknown'],
  ['an RST of no session', segment({ flags: 'R', seq: 1 }), 'to_engine_unknown'],
  ['a SYN/ACK of no session', segment({ flags: 'SA', seq: 1 }), 'to_engine_unknown'],
  ['SYN and FIN at once', segment({ flags: 'SF', seq: 1 }), 'to_engine_unknown'],
  ['SYN and RST at once', segment({ flags: 'SR', seq: 1 }), 'to_engine_unknown'],
  ['for another MAC address', segment(ack, '', { ethernet: elsewhere })],
  ['broadcast', segment(ack, '', { ethernet: { destination: 'ff:ff:ff:ff:ff:ff' } })],
  ['ARP', segment(ack, '', { ethernet: { type: 0x0806 } })],
  ['IPv6', segment(ack, '', { ethernet: { type: 0x86dd } })],
  ['IPv4 of version 5', segment(ack, '', { ip: { version: 5 } })],
  ['UDP to the virtual address', segment(ack, '', { ip: { protocol: 17 } })],
  ['another port of the virtual address', segment({ ...ack, destinationPort: PORTS[0] + 1 })],
  [
    'the second virtual server',
    segment({ ...ack, destinationPort: PORTS[1] }),
    'to_engine_unknown',
  ],
  ['the same port of another address', segment(ack, '', { ip: { destination: BALANCER.address } })],
  ['a SYN to another port', segment({ flags: 'S', destinationPort: 22 })],
  ['IXP from the wire', segment(ack, 'x', { ixp: {} })],
  ['a tag of a VLAN', tagged(build(segment(ack)), 5)],
  ['a tag of a VLAN with a priority', tagged(build(segment(ack)), 0xe005)],
  ['a service tag', tagged(build(segment(ack)), 0, 0x88a8)],
  ['two tags', tagged(tagged(build(segment(ack)), 5), 0)],
  ['ARP with a priority', tagged(build(segment(ack, '', { ethernet: { type: 0x0806 } })), 0xe000)],
  ['a frame of 14 bytes', cut(segment(ack), 14)],
  ['nothing but part of an IPv4 header', cut(segment(ack), 33)],

  [
    'IPv4 options',
    segment(ack, '', { ip: { options: Uint8Array.of(1, 1, 1, 0) } }),
    'to_engine_odd',
  ],
  [
    'IPv4 options to another port',
    segment({ ...ack, destinationPort: 22 }, '', { ip: { options: Uint8Array.of(1, 1, 1, 0) } }),
  ],
  [
    'IPv4 options to another address',
    segment(ack, '', { ip: { words: 6, destination: NODE.address } }),
  ],
  ['an IPv4 header of four words', segment(ack, '', { ip: { words: 4 } }), 'to_engine_odd'],
  ['an IPv4 header that does not fit', segment(ack, '', { ip: { words: 15 } }), 'to_engine_odd'],
  ['a first fragment', segment(ack, 'text', { ip: { moreFragments: true } }), 'to_engine_odd'],
  [
    'a first fragment to another port',
    segment({ ...ack, destinationPort: 22 }, 'text', { ip: { moreFragments: true } }),
  ],
  ['a later fragment, which has no port', segment(ack, '', { ip: { fragmentOffset: 2 } })],
  [
    'a total length beyond the frame',
    segment(ack, '', { ip: { totalLength: 41 } }),
    'to_engine_odd',
  ],
  [
    'a total length without a TCP header',
    segment(ack, '', { ip: { totalLength: 39 } }),
    'to_engine_odd',
  ],
  ['a total length of 0', segment(ack, '', { ip: { totalLength: 0 } }), 'to_engine_odd'],
  ['a TCP header of four words', segment({ ...ack, words: 4 }), 'to_engine_odd'],
  ['a TCP header beyond the packet', segment({ ...ack, words: 6 }), 'to_engine_odd'],
  ['a TCP header of four words, another port', segment({ ...ack, words: 4, destinationPort: 22 })],

  ['ICMP: destination unreachable', icmp(3), 'to_engine_icmp'],
  ['ICMP: time exceeded', icmp(11), 'to_engine_icmp'],
  ['ICMP: parameter problem', icmp(12), 'to_engine_icmp'],
  ['ICMP: a ping', icmp(8)],
  ['ICMP: unreachable, of another address', { ...icmp(3), ip: { destination: BALANCER.address } }],
  ['ICMP: unreachable, about another port', icmp(3, 22)],
  ['ICMP: unreachable, about UDP', icmp(3, PORTS[0], { ip: { protocol: 17 } })],
  [
    'ICMP: unreachable, of a packet with options',
    icmp(3, PORTS[0], { ip: { words: 6 } }),
    'to_engine_icmp',
  ],
  ['ICMP: unreachable, cut', cut(icmp(3), 60), 'to_engine_icmp'],
  ['ICMP: its type only', cut(icmp(3), 35), 'to_engine_icmp'],
  ['ICMP: without its type', cut(icmp(3), 34)],
  ['ICMP: a fragment', { ...icmp(3), ip: { ...icmp(3).ip, fragmentOffset: 1 } }],

  ...OTHER_NOTICES.map(
    (type): Given => [`a notice of type ${type}`, notice({ ixcp: { type } }), toEngine],
  ),
  ...QUIET_NOTICES.flatMap((type) =>
    NOT_QUIET.map(([name, change]): Given => {
      const spec = notice({ ...change, ixcp: { type, ...change.ixcp } });
      return [`a notice of type ${type} with ${name}`, spec, toEngine];
    }),
  ),
  ...QUIET_NOTICES.map((type): Given => {
    const forged = build(notice({ ixcp: { type } }), KEY.slice().reverse());
    return [`a notice of type ${type} under another key`, forged, toEngine];
  }),
  ['a report', notice({ ixcp: { type: 5, client: '0.0.0.0' } }), 'to_engine_ixcp'],
  [
    'a notice about a virtual server that is not ours',
    notice({ ixcp: { virtualPort: 1 } }),
    'to_engine_ixcp',
  ],
  ['a cut notice', cut(notice(), 70), 'to_engine_ixcp'],
  ['a notice to another machine', notice({ ip: { destination: CLIENT.address } })],
  ['a notice to another MAC address', notice({ ethernet: elsewhere })],
];

if (insideNamespace(import.meta.url)) {
  t.test('the counters', async (t) => {
    t.ok(XDP_COUNTERS.length > 20, `${XDP_COUNTERS.length} counters`);
    t.equal(new Set(XDP_COUNTERS).size, XDP_COUNTERS.length);
  });

  t.test('each frame, with and without an engine', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    for (const engine of [true, false]) {
      fast.engine(engine);
      for (const [name, spec, given] of FRAMES) {
        const frame = spec instanceof Uint8Array ? spec : build(spec, KEY);
        const verdict = given === undefined ? pass : engine ? redirect : drop;
        const counters = given === undefined ? [] : [engine ? given : 'engine_absent'];
        const outcome = fast.run(frame);
        t.strictSame(
          { ...outcome, frame: [...outcome.frame] },
          { verdict, frame: [...frame], counters },
          name,
        );
      }
    }
    t.strictSame(fast.events(), []);
  });

  t.test('before it is set up, and with another layout, every frame passes', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    fast.session();
    for (const layout of [0, SHARED_LAYOUT + 1]) {
      fast.control.setUint32(CONTROL.layout, layout, true);
      for (const [name, spec] of [...FRAMES, ['a SYN', segment({ flags: 'S' })] as const]) {
        const { verdict, counters } = fast.run(spec);
        t.strictSame({ verdict, counters }, { verdict: pass, counters: [] }, name);
      }
    }
  });

  t.test('a VLAN tag that only carries a priority is removed', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const plain = build(segment(ack, 'text'));
    for (const tci of [0, 0xe000, 0x1000]) {
      const outcome = fast.run(tagged(plain, tci));
      t.match(outcome, { verdict: redirect, counters: ['to_engine_unknown'] });
      t.strictSame([...outcome.frame], [...plain]);
    }
    const other = build(segment({ ...ack, destinationPort: 22 }));
    t.strictSame([...fast.run(tagged(other, 0)).frame], [...other], 'also of what the stack gets');
    const short = tagged(plain, 0).subarray(0, 18);
    const { verdict, counters } = fast.run(short);
    t.strictSame(
      { verdict, counters },
      { verdict: pass, counters: [] },
      'a frame that ends behind the tag',
    );
  });

  t.test('MAC addresses of both interfaces count', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const second = { ethernet: { destination: '02:00:00:00:00:cc' } };
    new Uint8Array(fast.control.buffer).set([2, 0, 0, 0, 0, 0xcc], CONTROL.mac + 6);
    t.equal(fast.run(segment(ack, '', second)).verdict, pass);
    fast.control.setUint32(CONTROL.interfaces, 2, true);
    t.equal(fast.run(segment(ack, '', second)).verdict, redirect);
    t.equal(fast.run(segment(ack)).verdict, redirect);
  });

  t.test(
    'a segment truncated at any length behind its address never reaches the stack',
    async (t) => {
      const fast = new Fast();
      t.teardown(() => fast.close());
      fast.engine(true);
      fast.session(SessionAction.forward);
      const frame = build(segment({ ...ack, options: { timestamps: [1, 2] } }, 'some text'));
      for (let length = 34; length < frame.length; length++) {
        t.match(
          fast.run(frame.subarray(0, length)),
          { verdict: redirect, counters: ['to_engine_odd'] },
          `${length}`,
        );
      }
      t.match(fast.run(frame), { counters: ['forwarded'] });
    },
  );

  t.test('each worker gets the frames of its sessions', async (t) => {
    const workers = 3;
    const fast = new Fast({ workers });
    t.teardown(() => fast.close());
    fast.engine(true);
    const key = (port: number, server: number): number => ((port << 16) | server) >>> 0;
    /** The worker without whose socket the frame is lost. */
    const workerOf = (spec: PacketSpec): number[] => {
      const found: number[] = [];
      for (let worker = 0; worker < workers; worker++) {
        fast.withoutSocket(worker, () => {
          if (fast.run(spec).verdict === drop) found.push(worker);
        });
      }
      return found;
    };
    const seen = new Set<number>();
    for (let port = 1000; port < 1024; port++) {
      const server = port % 2;
      const worker = fast.workerOf(addressNumber(CLIENT.address), key(port, server));
      const destinationPort = PORTS[server]!;
      seen.add(worker);
      t.strictSame(
        workerOf(segment({ ...ack, sourcePort: port, destinationPort })),
        [worker],
        `segment ${port}`,
      );
      const about = { client: CLIENT.address, clientPort: port, virtualPort: destinationPort };
      // A reported notice is dropped, with or without a socket.
      t.strictSame(workerOf(notice({ ixcp: { ...about, type: 2 } })), [worker], `notice ${port}`);
      const quoted = build({
        ip: { source: VIRTUAL, destination: CLIENT.address },
        tcp: { sourcePort: destinationPort, destinationPort: port },
      }).subarray(14, 14 + 28);
      t.strictSame(workerOf({ ...icmp(3), icmp: { type: 3, quoted } }), [worker], `ICMP ${port}`);
    }
    t.equal(seen.size, workers, 'each had some');
    t.strictSame(
      workerOf(notice({ ixcp: { type: 5, client: '0.0.0.0', clientPort: 0 } })),
      [0],
      'reports: the first',
    );
  });
}
