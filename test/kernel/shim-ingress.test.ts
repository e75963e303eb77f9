/**
 * The shim at ingress, packet by packet (BPF_PROG_TEST_RUN): packet in, verdict, packet out,
 * counters.
 */
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { build, ETHERNET, IXP, type PacketSpec } from '../../lab/packet.js';
import { SHIM_NAMES } from '../../src/base/kernel-counters.js';
import { insideNamespace, run } from './namespace.js';
import { type Case, dropped, passed, runCases, Verdict } from './shim-cases.js';
import {
  ACK,
  BALANCER,
  CLIENT,
  handoff,
  KEY,
  notice,
  OWN,
  project,
  SEQ,
  SESSION,
  Shim,
  VIRTUAL,
} from './shim-fixture.js';

const Reason = { noListener: 1, unable: 2, unknownSession: 4 } as const;
const Ixcp = { adopted: 1, refused: 2, fin: 3, rst: 4 } as const;
const IXP_FRAME_BYTES = 90;
const IPV4_END = 34;
const USER_MARK = 7;

function changed(frame: Uint8Array, at: number): Uint8Array {
  const copy = frame.slice();
  copy[at]! ^= 1;
  return copy;
}

/** The answer to a handoff, with the numbers of a socket that has accepted nothing of it. */
const answered = (type: number, reason = 0): PacketSpec =>
  notice({ ixcp: { type, reason, seq: ACK, ack: SEQ } });

const plain = handoff();
delete plain.ixp;
const refused = { verdict: Verdict.redirect };
const segment = { ixp: { type: 2 } };

const CARRY_BYTES = 8;

/** What CARRY is made of, with these changes. `inner`: the frame whose packet is carried. */
interface Carried {
  version?: number;
  length?: number;
  session?: number;
  ip?: PacketSpec['ip'];
  inner?: PacketSpec;
}

/** A packet carried across routers, as bpf/lib/ixp.h defines it. */
function carried({ version, length, session, ip, inner }: Carried = {}): PacketSpec {
  const packet = build(inner ?? handoff(), KEY).slice(ETHERNET);
  const payload = new Uint8Array(CARRY_BYTES + packet.length);
  payload.set([version ?? 1, 9, length ?? CARRY_BYTES, 0]);
  new DataView(payload.buffer).setUint32(4, session ?? SESSION);
  payload.set(packet, CARRY_BYTES);
  const { ethernet } = handoff();
  return {
    ...(ethernet && { ethernet }),
    ip: { source: BALANCER, destination: OWN, protocol: IXP.protocol, ...ip },
    payload,
  };
}

const CARRIED: readonly Case[] = [
  {
    name: 'an ADOPT across routers is handled as on the link',
    frame: carried(),
    ...refused,
    out: answered(Ixcp.refused, Reason.unable),
    counters: ['refused_unable', 'carried'],
  },
  {
    name: 'a segment of the session across routers',
    session: {},
    frame: carried({ inner: plain }),
    ...passed,
    out: plain,
    counters: ['carried'],
  },
  {
    name: 'a segment of no session across routers reaches the kernel, as on the link',
    frame: carried({ inner: plain }),
    ...passed,
    out: plain,
    counters: ['carried'],
  },
  {
    name: 'a segment across routers with another number than its session',
    session: { nonce: SESSION + 1 },
    frame: carried({ inner: plain }),
    ...dropped,
    counters: ['drop_carried'],
  },
  {
    name: 'a carried packet of another protocol',
    frame: carried({ inner: { ...plain, ip: { ...plain.ip, protocol: 17 } } }),
    ...dropped,
    counters: ['drop_carried'],
  },
  {
    name: 'a carried fragment',
    frame: carried({ inner: { ...plain, ip: { ...plain.ip, moreFragments: true } } }),
    ...dropped,
    counters: ['drop_carried'],
  },
  {
    name: 'a carried packet with a header length of 4 words',
    frame: carried({ inner: { ...plain, ip: { ...plain.ip, words: 4 } } }),
    ...dropped,
    counters: ['drop_carried'],
  },
  {
    name: 'a carried packet in a carried packet',
    frame: carried({ inner: { ...plain, ip: { ...plain.ip, protocol: 4 } } }),
    ...dropped,
    counters: ['drop_carried'],
  },
  {
    name: 'a carried packet with another length',
    frame: carried({ inner: { ...plain, ip: { ...plain.ip, totalLength: 41 } } }),
    ...dropped,
    counters: ['drop_length'],
  },
  {
    name: 'CARRY with another length',
    frame: carried({ length: 36 }),
    ...dropped,
    counters: ['drop_length'],
  },
  {
    name: 'CARRY of another version',
    frame: carried({ version: 2 }),
    ...dropped,
    counters: ['drop_version'],
  },
  {
    name: 'CARRY in a fragment',
    frame: carried({ ip: { moreFragments: true } }),
    ...dropped,
    counters: ['drop_fragment'],
  },
  {
    name: 'CARRY of a balancer that is not allowed',
    frame: carried({ ip: { source: CLIENT } }),
    ...dropped,
    counters: ['drop_unknown_balancer'],
  },
  {
    name: 'CARRY that ends before the carried header does',
    frame: build(carried(), KEY).slice(0, 61),
    ...dropped,
    counters: ['drop_truncated'],
  },
];

const INGRESS: readonly Case[] = [
  { name: 'plain TCP passes untouched', frame: plain, ...passed, counters: [] },
  {
    name: 'the mark of another program stays',
    frame: plain,
    mark: USER_MARK,
    ...passed,
    markOut: USER_MARK,
    counters: [],
  },
  {
    name: 'other protocols pass untouched',
    frame: handoff({ ethernet: { type: 0x0806 } }),
    ...passed,
    counters: [],
  },
  {
    name: 'IPv4 options',
    frame: handoff({ ip: { options: Uint8Array.of(1, 1, 1, 0) } }),
    ...dropped,
    counters: ['drop_ip_options'],
  },
  {
    name: 'header length 4',
    frame: handoff({ ip: { words: 4 } }),
    ...dropped,
    counters: ['drop_ip_options'],
  },
  {
    name: 'a first fragment',
    frame: handoff({ ip: { moreFragments: true } }),
    ...dropped,
    counters: ['drop_fragment'],
  },
  {
    name: 'a later fragment',
    frame: handoff({ ip: { fragmentOffset: 1 } }),
    ...dropped,
    counters: ['drop_fragment'],
  },
  {
    name: 'version 2',
    frame: handoff({ ixp: { version: 2 } }),
    ...dropped,
    counters: ['drop_version'],
  },
  {
    name: 'IXP length 35',
    frame: handoff({ ixp: { length: 35 } }),
    ...dropped,
    counters: ['drop_length'],
  },
  {
    name: 'IXP length 40',
    frame: handoff({ ixp: { length: 40 } }),
    ...dropped,
    counters: ['drop_length'],
  },
  {
    name: 'a total length beyond the frame',
    frame: handoff({ ip: { totalLength: 1000 } }),
    ...dropped,
    counters: ['drop_length'],
  },
  {
    name: 'a total length without room for TCP',
    frame: handoff({ ip: { totalLength: 75 } }),
    ...dropped,
    counters: ['drop_length'],
  },
  {
    name: 'a TCP header of 16 bytes',
    frame: handoff({ tcp: { words: 4 } }),
    ...dropped,
    counters: ['drop_tcp_header'],
  },
  {
    name: 'a TCP header longer than the packet',
    frame: handoff({ tcp: { words: 15 }, payload: 'x' }),
    ...dropped,
    counters: ['drop_tcp_header'],
  },
  { name: 'type 99', frame: handoff({ ixp: { type: 99 } }), ...dropped, counters: ['drop_type'] },
  {
    name: 'a balancer that is not listed',
    frame: handoff({ ixp: { balancer: CLIENT } }),
    ...dropped,
    counters: ['drop_unknown_balancer'],
  },
  { name: 'a wrong tag', frame: handoff({ ixp: { tag: 1n } }), ...dropped, counters: ['drop_tag'] },
  {
    name: 'a tag of another key',
    frame: build(handoff(), new Uint8Array(16)),
    ...dropped,
    counters: ['drop_tag'],
  },
  ...(
    [
      ['the source address', 29],
      ['the destination address', 33],
      ['the service', 37],
      ['the session', 41],
      ['the confirm mark', 49],
      ['the last byte of the echo', 61],
      ['the source port', 71],
      ['the sequence number', 77],
      ['the acknowledgement number', 81],
    ] as const
  ).map(
    ([what, at]): Case => ({
      name: `${what} changed after the tag was made`,
      frame: changed(build(handoff(), KEY), at),
      ...dropped,
      counters: ['drop_tag'],
    }),
  ),
  ...(['SA', 'RA', 'P', 'FA'] as const).map(
    (flags): Case => ({
      name: `no session begins with flags ${flags}`,
      frame: handoff({ tcp: { flags }, payload: flags === 'FA' ? '' : 'x' }),
      ...dropped,
      counters: ['drop_flags'],
    }),
  ),
  {
    name: 'a service that is not there',
    frame: handoff({ ixp: { service: 5 } }),
    ...refused,
    out: answered(Ixcp.refused, Reason.noListener),
    counters: ['refused_no_listener'],
  },
  {
    name: 'nothing listens',
    frame: handoff({ tcp: { destinationPort: 81 } }),
    ...refused,
    out: notice({
      ixcp: { type: Ixcp.refused, reason: Reason.noListener, virtualPort: 81, seq: ACK, ack: SEQ },
    }),
    counters: ['refused_no_listener'],
  },
  {
    // Outside a real ingress hook the kernel function returns an error: this shows the effect.
    name: 'a listener, but the kernel does not build the socket',
    frame: handoff(),
    ...refused,
    out: answered(Ixcp.refused, Reason.unable),
    counters: ['refused_unable'],
  },
  {
    name: 'a session that had a socket does not start again',
    session: { sent: true },
    frame: handoff(),
    ...refused,
    out: answered(Ixcp.rst),
    counters: ['adopt_finished', 'notice_rst'],
  },
  {
    name: 'another session may begin where one ended',
    session: { nonce: SESSION + 1, sent: true },
    frame: handoff(),
    ...refused,
    out: answered(Ixcp.refused, Reason.unable),
    counters: ['refused_unable'],
  },
  {
    name: 'a segment of no session',
    frame: handoff(segment),
    ...dropped,
    counters: ['drop_no_session'],
  },
  {
    name: 'a segment of an older session',
    session: { nonce: SESSION - 1 },
    frame: handoff(segment),
    ...dropped,
    counters: ['drop_no_session'],
  },
  {
    name: 'a segment of a session without socket never reaches the listener',
    session: {},
    frame: handoff(segment),
    ...dropped,
    counters: ['drop_no_socket'],
  },
  {
    name: 'a SYN of a session without socket never reaches the listener either',
    session: {},
    frame: handoff({ ...segment, tcp: { flags: 'S' } }),
    ...refused,
    out: answered(Ixcp.rst, Reason.unknownSession),
    counters: ['notice_rst', 'drop_no_socket'],
  },
  {
    name: 'a SYN of no session: the balancer must hear that it is over',
    frame: handoff({ ...segment, tcp: { flags: 'S' } }),
    ...refused,
    out: answered(Ixcp.rst, Reason.unknownSession),
    counters: ['notice_rst', 'drop_no_session'],
  },
  {
    name: 'a segment of a session that has lost its socket',
    session: { sent: true },
    frame: handoff(segment),
    ...refused,
    out: answered(Ixcp.rst),
    counters: ['adopt_finished', 'notice_rst'],
  },
];

if (insideNamespace(import.meta.url)) {
  run('ip', 'address', 'add', `${VIRTUAL}/32`, 'dev', 'lo');
  const shim = new Shim();
  const server: Server = createServer();
  await new Promise<void>((resolve) => server.listen(80, VIRTUAL, resolve));
  t.teardown(() => {
    server.close();
    shim.object.close();
  });

  t.test('the counters have the names that the agent shows', async (t) => {
    const header = readFileSync(join(project, 'bpf', 'lib', 'counters.h'), 'utf8');
    const list = /SHIM_COUNTERS\(X\)(.*?)\n\n/s.exec(header)?.[1] ?? '';
    const names = [...list.matchAll(/X\((\w+),/g)].map(([, name = '']) => name.toLowerCase());
    t.strictSame(names, SHIM_NAMES);
  });

  t.test('ingress', async (t) => runCases(t, shim, 'shim_ingress', INGRESS));
  t.test('across routers', async (t) => runCases(t, shim, 'shim_ingress', CARRIED));

  t.test('an IXP frame truncated at any length', async (t) => {
    const whole = build(handoff(), KEY);
    for (let length = IPV4_END; length < whole.length; length++) {
      const expected = length < IXP_FRAME_BYTES ? 'drop_truncated' : 'drop_length';
      const rose = shim.counted(() => {
        const { verdict } = shim.object.testRun('shim_ingress', whole.subarray(0, length));
        t.equal(verdict, Verdict.drop, `${length} bytes`);
      });
      t.strictSame(rose, [expected], `${length} bytes`);
    }
  });
}
