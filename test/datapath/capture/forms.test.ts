/** One connection in every form of a capture: link types, formats, clocks, damage. */
import t from 'tap';
import { httpServer } from '../../../lab/virtual-server.js';
import { type ReplayConfig, type ReplayResult, ReplayRun } from '../../../src/replay/replay-run.js';
import { requireAddress } from '../../../src/wire/address.js';
import { openCapture } from '../../../src/wire/capture-file.js';
import { LinkType } from '../../../src/wire/link.js';
import { GrowingBytes, PcapWriter } from '../../../src/wire/pcap-writer.js';
import { finishTcpChecksum } from '../../../src/wire/tcp.js';
import { block, capture, FileBuilder } from '../../support/captures.js';
import { DEFAULTS } from './replay.js';

const CONFIG: ReplayConfig = {
  address: undefined,
  virtualServers: [httpServer('www', requireAddress('192.150.187.43'), 80)],
  nodes: [{ name: 'n1', address: requireAddress('10.99.0.3'), weight: 1 }],
  resources: [{ host: undefined, path: '/', nodes: [0] }],
  limits: {
    sessions: 1_000,
    halfOpen: 100,
    headBytes: 16_384,
    heads: 100,
    handoffTries: 2,
    synAckTries: 5,
  },
  timeouts: DEFAULTS.timeouts,
};

interface Frame {
  seconds: number;
  nanoseconds: number;
  /** From the IPv4 header on. */
  packet: Uint8Array;
}

function frames(): Frame[] {
  const reader = openCapture(capture('get.pcap'))!;
  const list: Frame[] = [];
  while (reader.next()) {
    const { seconds, nanoseconds, offset, capturedLength } = reader;
    list.push({
      seconds,
      nanoseconds,
      packet: reader.bytes.slice(offset + 14, offset + capturedLength),
    });
  }
  return list;
}

function file(
  list: readonly Frame[],
  linkType: number,
  link: readonly number[],
  nanoseconds = true,
): Uint8Array {
  const output = new GrowingBytes();
  const writer = new PcapWriter(output.append, { nanoseconds, linkType });
  for (const { seconds, nanoseconds: part, packet } of list) {
    const frame = Uint8Array.from([...link, ...packet]);
    writer.frame(frame, 0, frame.length, seconds, part);
  }
  return output.contents().slice();
}

function run(bytes: Uint8Array): ReplayResult {
  return ReplayRun.open(bytes, CONFIG)!.run();
}

/** The result of the connection, without the numbers that depend on the link header. */
function outcome({ sessions, counters, nodeSide }: ReplayResult): unknown {
  return { sessions, nodeSide, counters: { ...counters, forwarded_bytes: 0 } };
}

const USUAL = outcome(run(capture('get.pcap')));
const MACS = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

t.test('link types', async (t) => {
  const cases: [string, number, number[]][] = [
    ['Ethernet', LinkType.ethernet, [...MACS, 8, 0]],
    ['Ethernet with a VLAN tag', LinkType.ethernet, [...MACS, 0x81, 0, 0, 5, 8, 0]],
    ['Linux cooked', LinkType.linuxCooked, [0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 2, 0, 0, 8, 0]],
    [
      'Linux cooked 2',
      LinkType.linuxCooked2,
      [8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 2, 0, 0],
    ],
    ['raw IP', LinkType.raw, []],
    ['raw IPv4', LinkType.rawIpv4, []],
    ['BSD loopback', LinkType.null, [2, 0, 0, 0]],
  ];
  for (const [name, linkType, link] of cases) {
    t.strictSame(outcome(run(file(frames(), linkType, link))), USUAL, name);
    t.strictSame(
      outcome(run(file(frames(), linkType, link, false))),
      USUAL,
      `${name}, microseconds`,
    );
  }
});

t.test('an unknown link type is reported', async (t) => {
  const result = run(file(frames(), 105, [...MACS, 8, 0]));
  t.match(result, { sessions: [], capture: { frames: 14, notIpv4: 14, others: 14 } });
  t.strictSame([...result.scan.unknownLinkTypes], [105]);
});

t.test('pcapng with a clock of nanoseconds', async (t) => {
  const b = () => new FileBuilder(true);
  const blocks = [
    block(true, 0x0a0d0d0a, b().u32(0x1a2b3c4d).u16(1, 0).u32(0xffff_ffff, 0xffff_ffff).build()),
    block(true, 1, b().u16(LinkType.raw, 0).u32(0).u16(9, 1).u8(9).pad().build()),
  ];
  for (const { seconds, nanoseconds, packet } of frames()) {
    const count = BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
    const body = b().u32(
      0,
      Number(count >> 32n),
      Number(count & 0xffff_ffffn),
      packet.length,
      packet.length,
    );
    blocks.push(block(true, 6, body.bytes(packet).build()));
  }
  t.strictSame(outcome(run(new Uint8Array(Buffer.concat(blocks)))), USUAL);
});

t.test("a clock that steps back does not set back the engine's clock", async (t) => {
  const list = frames();
  for (const frame of list.slice(3)) frame.seconds -= 3_600;
  const result = run(file(list, LinkType.raw, []));
  t.match(result.sessions, [
    { request: 'GET /download/CHANGES.bro-aux.txt', closed: 'fin', packets: 4 },
  ]);
  t.ok(result.capture.durationMs < 1_000);
});

t.test('a clock that is set forward by years costs no more than two days', async (t) => {
  const list = frames();
  for (const frame of list.slice(3)) frame.seconds = 4_294_967_290;
  const result = run(file(list, LinkType.raw, []));
  t.match(result.sessions, [
    { closed: 'fin', why: 'the client sent nothing: closed without an answer' },
  ]);
  t.equal(Math.floor(result.capture.durationMs / 1000), 2 * 86_400);
});

t.test('a damaged file is replayed up to the damage', async (t) => {
  const bytes = capture('get.pcap');
  const whole = openCapture(bytes)!;
  for (let frame = 1; frame <= 5; frame++) whole.next();
  const result = run(bytes.slice(0, whole.offset + 10));
  t.match(result.capture, {
    frames: 4,
    fault: { offset: whole.offset - 16, message: /cut off after 10$/ },
  });
  t.match(result.sessions, [
    { request: 'GET /download/CHANGES.bro-aux.txt', state: 'passing', closed: 'idle' },
  ]);
});

t.test('truncated frames are dropped and counted', async (t) => {
  const list = frames();
  list[3]!.packet = list[3]!.packet.slice(0, 100); // the request, cut by a snap length
  const result = run(file(list, LinkType.raw, []));
  t.match(result.capture, { truncated: 1 });
  t.match(result.counters, { drop_truncated: 1, established: 1, requests: 0 });
});

t.test(
  'a port that is used again: each connection has its own initial sequence numbers',
  async (t) => {
    const shift = 0x7000_0000;
    const again = frames().map(({ seconds, nanoseconds, packet }): Frame => {
      const view = new DataView(packet.buffer);
      view.setUint32(24, view.getUint32(24) + shift); // sequence number, wrapping
      if ((view.getUint8(33) & 0x10) !== 0) view.setUint32(28, view.getUint32(28) + shift);
      finishTcpChecksum(view, 20, view.getUint16(2) - 20, view.getUint32(12), view.getUint32(16));
      return { seconds: seconds + 1, nanoseconds, packet };
    });
    const result = run(file([...frames(), ...again], LinkType.raw, []));
    const session = {
      client: '141.142.228.5:59856',
      request: 'GET /download/CHANGES.bro-aux.txt',
      packets: 4,
    };
    t.match(result.sessions, [
      { ...session, closed: 'fin' },
      { ...session, closed: 'fin' },
    ]);
    t.match(result.counters, { syn: 2, established: 2, adopted: 2, drop_bad_ack: 0 });
  },
);

t.test('an unanswered SYN is given up as configured', async (t) => {
  const result = run(file(frames().slice(0, 1), LinkType.raw, []));
  t.match(result.sessions, [
    { state: 'half-open', closed: 'handshake-timeout', request: '', node: null },
  ]);
  t.match(result.counters, { syn: 1, syn_ack_retransmitted: 4, closed_handshake_timeout: 1 });
  // 1 + 2 + 4 + 8 + 16 s, and a little more because of the steps between ticks.
  const { closedMs } = result.sessions[0]!;
  t.ok(closedMs !== null && closedMs >= 31_000 && closedMs < 31_300, String(closedMs));
});

t.test('a head that never ends gets 408', async (t) => {
  const list = frames().slice(0, 4);
  const request = list[3]!.packet;
  const view = new DataView(request.buffer);
  view.setUint16(2, view.getUint16(2) - 2); // without its last line end
  view.setUint16(10, 0);
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += view.getUint16(at);
  view.setUint16(10, ~((sum & 0xffff) + (sum >>> 16)) & 0xffff);
  finishTcpChecksum(view, 20, view.getUint16(2) - 20, view.getUint32(12), view.getUint32(16));
  const result = run(file(list, LinkType.raw, []));
  t.match(result.sessions, [
    { state: 'collecting', node: null, why: 'head not complete in time: 408' },
  ]);
  t.match(result.counters, { answer_408: 1, requests: 0 });
});

t.test("a server's FIN before the request is reported once a node has the session", async (t) => {
  const early = (list: Frame[]): Frame[] => {
    const [syn, synAck, ack, request, , , , , , , , , fin] = list;
    return [syn!, synAck!, ack!, fin!, request!].map((frame, index) => ({
      ...frame,
      nanoseconds: syn!.nanoseconds + index * 1_000_000,
    }));
  };
  const result = run(file(early(frames()), LinkType.raw, []));
  t.match(result.sessions, [{ node: 'n1', state: 'passing', closed: 'idle' }]);
  const { closedMs } = result.sessions[0]!;
  t.ok(
    (closedMs ?? 0) < 65_000,
    `after ${closedMs} ms: the wait for a FIN of the client, not the idle timeout`,
  );
});
