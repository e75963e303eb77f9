/**
 * Every recorded capture through the whole engine. What is expected was read from the frames:
 * test/fixtures/captures/EXPECTED.md tells it in words.
 */
import t from 'tap';
import { type ReplayConfig, type ReplayResult, ReplayRun } from '../../src/control/replay-run.js';
import { openCapture } from '../../src/wire/capture-file.js';
import { finish, sumBytes } from '../../src/wire/checksum.js';
import { formatIpv4 } from '../../src/wire/ipv4.js';
import { IXP_HEADER_BYTES } from '../../src/wire/ixp.js';
import { GrowingBytes, PcapWriter } from '../../src/wire/pcap-writer.js';
import { verifyTcpChecksum } from '../../src/wire/tcp.js';
import { CAPTURES, capture } from '../support/captures.js';

const IP = 14;
const TCP = 34;
const WRAPPED_TCP = TCP + IXP_HEADER_BYTES;

/** As in a config without limits and timeouts of its own. */
const DEFAULTS = {
  limits: {
    sessions: 1_000_000,
    halfOpen: 65_536,
    headBytes: 16_384,
    heads: 65_536,
    handoffTries: 2,
    synAckTries: 5,
  },
  timeouts: { synAck: 1_000, head: 10_000, handoff: 300, idle: 900_000, closing: 60_000, linger: 5_000 },
} as const;

/** Two nodes that hold everything, in turn. */
function config(servers: readonly string[], more: Partial<ReplayConfig> = {}): ReplayConfig {
  return {
    address: '10.99.0.2',
    virtualServers: servers.map((server) => {
      const [address = '', port = ''] = server.split(':');
      return { name: server, address, port: Number(port), predictor: 'round-robin' as const };
    }),
    nodes: [
      { name: 'n1', address: '10.99.0.3', weight: 1 },
      { name: 'n2', address: '10.99.0.4', weight: 1 },
    ],
    resources: [{ host: undefined, path: '/', nodes: [0, 1] }],
    ...DEFAULTS,
    ...more,
  };
}

/** An Ethernet frame that the engine sent. */
interface Sent {
  /** ms since 1970, of the output file. */
  at: number;
  bytes: Uint8Array;
  view: DataView;
  protocol: number;
  source: string;
  destination: string;
}

interface Replayed {
  result: ReplayResult;
  sent: Sent[];
}

function replay(name: string, settings: ReplayConfig, checksums: 'detect' | 'strict' = 'detect'): Replayed {
  const output = new GrowingBytes();
  const result = ReplayRun.open(capture(name), settings, checksums)!.run(new PcapWriter(output.append));
  const sent: Sent[] = [];
  const reader = openCapture(output.contents())!;
  while (reader.next()) {
    const bytes = reader.bytes.slice(reader.offset, reader.offset + reader.capturedLength);
    const view = new DataView(bytes.buffer);
    sent.push({
      at: reader.timestamp,
      bytes,
      view,
      protocol: view.getUint8(IP + 9),
      source: formatIpv4(view.getUint32(IP + 12)),
      destination: formatIpv4(view.getUint32(IP + 16)),
    });
  }
  return { result, sent };
}

/** The counters that are not 0, but for those that only say how much traffic there was. */
function counted(result: ReplayResult): Record<string, number> {
  const volume = ['frames', 'sent', 'forwarded_bytes'];
  return Object.fromEntries(
    Object.entries(result.counters).filter(([name, value]) => value !== 0 && !volume.includes(name)),
  );
}

/** What EXPECTED.md says of one connection. */
interface Expected {
  client: string;
  /** Of the request as it is shown: method and target. */
  request: string;
  /** Client frames passed on once the node had the session. */
  packets: number;
  closed?: string;
}

interface Case {
  file: string;
  server: string;
  frames: { of: number; client: number; server: number };
  sessions: Expected[];
  /** IXP frames: the pieces of the head, and what came before the confirmation. */
  wrapped: number;
  /** Counters besides those that follow from `sessions`. */
  counters?: Record<string, number>;
}

const CASES: Case[] = [
  {
    file: 'get.pcap',
    server: '192.150.187.43:80',
    frames: { of: 14, client: 7, server: 7 },
    sessions: [{ client: '141.142.228.5:59856', request: 'GET /download/CHANGES.bro-aux.txt', packets: 4 }],
    wrapped: 1,
  },
  {
    file: 'entity_gap.pcap',
    server: '192.150.187.43:80',
    frames: { of: 13, client: 7, server: 6 },
    sessions: [{ client: '141.142.228.5:59856', request: 'GET /download/CHANGES.bro-aux.txt', packets: 4 }],
    wrapped: 1,
  },
  {
    file: 'content-length-overflow.pcap',
    server: '10.0.0.2:80',
    frames: { of: 10, client: 5, server: 5 },
    sessions: [{ client: '10.0.0.1:54321', request: 'GET /bigfile', packets: 2 }],
    wrapped: 1,
  },
  {
    file: 'multipart.pcap',
    server: '54.243.88.146:80',
    frames: { of: 10, client: 6, server: 4 },
    sessions: [{ client: '141.142.228.5:57262', request: 'POST /post', packets: 3 }],
    wrapped: 1,
  },
  {
    file: 'http-lower-case-nonstandard-port.pcap',
    server: '127.0.0.1:1234',
    frames: { of: 10, client: 6, server: 4 },
    sessions: [{ client: '127.0.0.1:49742', request: 'GET /index.html', packets: 3 }],
    wrapped: 1,
  },
  {
    file: 'websocket.pcap',
    server: '54.148.114.85:80',
    frames: { of: 27, client: 15, server: 12 },
    sessions: [{ client: '192.168.0.5:50798', request: 'GET /echo?.kl=Y', packets: 12 }],
    wrapped: 1,
  },
  {
    // The head is valid; three segments of body come before the node has confirmed.
    file: 'smuggle-http-request.pcap',
    server: '127.0.0.1:8080',
    frames: { of: 23, client: 13, server: 10 },
    sessions: [{ client: '127.0.0.1:44202', request: 'POST /first', packets: 7 }],
    wrapped: 4,
    counters: { wrapped: 3 },
  },
  {
    file: 'pipelined-requests.pcap',
    server: '63.245.209.11:80',
    frames: { of: 49, client: 16, server: 33 },
    sessions: [{ client: '192.168.1.104:1673', request: 'GET /style/enhanced.css', packets: 13 }],
    wrapped: 1,
  },
  {
    file: '100-continue.pcap',
    server: '128.146.216.51:80',
    frames: { of: 66, client: 18, server: 48 },
    sessions: [{ client: '192.168.3.103:54102', request: 'POST /', packets: 15 }],
    wrapped: 1,
  },
  {
    // A head of 1,542 bytes: two segments of the client, and two in IXP (1,424 and 118 bytes).
    file: 'zero-length-bodies-with-drops.pcap',
    server: '75.98.70.31:80',
    frames: { of: 44, client: 26, server: 18 },
    sessions: [
      {
        client: '10.0.0.118:51534',
        request:
          'GET /ad/l/1?last=0&ct=0&metr=127&s=b019&t=1300988780203466&adid=364838&reid=180527&arid=2&auid=&cn=defaultImpression&et=i&_cc=364838,180525,,12028.12150.,1300988780,1&tpos=1260&iw=&uxnw=&uxss=&uxct=&i...',
        packets: 22,
      },
    ],
    wrapped: 2,
  },
  {
    // Our own SYN/ACK goes again after 1 s and after 2 s more, before the client's second SYN at 3 s is answered.
    file: '206_example_a.pcap',
    server: '129.174.93.161:80',
    frames: { of: 672, client: 266, server: 406 },
    sessions: [
      { client: '10.101.84.70:10977', request: 'GET /~tr-admin/papers/GMU-CS-TR-2010-20.pdf', packets: 15 },
      { client: '10.101.84.70:10978', request: 'GET /~tr-admin/papers/GMU-CS-TR-2010-20.pdf', packets: 244 },
    ],
    wrapped: 2,
    counters: { syn_retransmitted: 1, syn_ack_retransmitted: 2 },
  },
  {
    // All but one frame twice: the second copy of the request is not sent on, since we keep the first.
    file: 'm57-long-49583-80.pcap',
    server: '208.111.129.62:80',
    frames: { of: 227, client: 61, server: 166 },
    sessions: [
      {
        client: '192.168.1.105:49583',
        request:
          'GET /msdownload/update/software/secu/2009/07/windows6.0-kb971657-x86_d80725113915f67a2693bd66a9307243fa3f8e2c.psf',
        packets: 56,
        closed: 'client-reset',
      },
    ],
    wrapped: 1,
    counters: { syn_retransmitted: 1 },
  },
  {
    file: 'vnd.ms-cab-compressed-multi-conn.pcap',
    server: '65.54.95.7:80',
    frames: { of: 158, client: 70, server: 88 },
    sessions: [
      [49433, 5],
      [49459, 8],
      [49461, 8],
      [49462, 12],
      [49463, 8],
    ].map(([port, packets = 0]) => ({
      client: `192.168.1.105:${port}`,
      request:
        'GET /msdownload/update/software/crup/2009/04/windows6.0-kb955430-x86-express_9c8a57958486102e94e591384dc69dd7e8d01169.cab',
      packets,
      closed: 'client-reset',
    })),
    wrapped: 5,
    counters: { syn_retransmitted: 5 },
  },
];

for (const { file, server, frames, sessions, wrapped, counters } of CASES) {
  t.test(file, async (t) => {
    const { result, sent } = replay(file, config([server]));
    t.match(result.capture, {
      frames: frames.of,
      delivered: frames.client,
      fromServers: frames.server,
      others: 0,
      truncated: 0,
      notIpv4: 0,
    });
    t.equal(result.sessions.length, sessions.length);
    for (const [index, { client, request, packets, closed = 'fin' }] of sessions.entries()) {
      const node = index % 2 === 0 ? 'n1' : 'n2';
      t.match(result.sessions[index], {
        client,
        virtualServer: server,
        request,
        status: 200,
        resource: '/',
        node,
        handoffs: [{ node, attempts: 1, outcome: 'adopted' }],
        packets,
        closed,
      });
    }
    const all = sessions.length;
    const resets = sessions.filter(({ closed }) => closed === 'client-reset').length;
    t.strictSame(counted(result), {
      syn: all,
      established: all,
      requests: all,
      handoffs: all,
      adopted: all,
      forwarded: sessions.reduce((sum, { packets }) => sum + packets, 0),
      ...(resets < all ? { closed_fin: all - resets } : {}),
      ...(resets > 0 ? { closed_client_reset: resets } : {}),
      ...counters,
    });
    t.strictSame(result.nodeSide, { wrapped, refused: 0, plain: result.counters.forwarded, stray: 0 });
    t.equal(sent.filter(({ protocol }) => protocol === 253).length, wrapped);
  });
}

t.test('captures without a SYN: no session, and an RST to every segment', async (t) => {
  for (const [file, server, segments] of [
    ['get_nosyn.pcap', '192.150.187.43:80', 5],
    ['zeek-image-1080-80-x.pcapng', '127.0.0.1:80', 9],
  ] as const) {
    const { result, sent } = replay(file, config([server]));
    t.strictSame(result.sessions, [], file);
    t.strictSame(counted(result), { drop_no_session: segments, reset_sent: segments }, file);
    t.equal(sent.length, segments, file);
    t.ok(
      sent.every(({ view }) => (view.getUint8(TCP + 13) & 0x04) !== 0),
      file,
    );
  }
});

t.test('http-post-large.pcap: two virtual servers, and segments of loopback size', async (t) => {
  const { result, sent } = replay('http-post-large.pcap', config(['127.0.0.1:80', '127.0.0.1:5000']));
  t.match(result.capture, { frames: 38, delivered: 20, fromServers: 18, unfinished: 20, truncated: 0 });
  const expected = { request: 'POST /hello', status: 200, packets: 5, closed: 'fin', node: 'n1' };
  t.match(result.sessions, [
    { ...expected, client: '127.0.0.1:37526', virtualServer: '127.0.0.1:80' },
    { ...expected, client: '127.0.0.1:60644', virtualServer: '127.0.0.1:5000' },
  ]);
  t.strictSame(counted(result), {
    syn: 2,
    established: 2,
    requests: 2,
    handoffs: 2,
    adopted: 2,
    forwarded: 10,
    wrapped: 2, // the 27 bytes after the first segment
    drop_unconfirmed_oversize: 2, // the 29 KB after those
    closed_fin: 2,
  });
  // 32,741 bytes in pieces of 1,412 are 24, and the 27 bytes.
  t.equal(sent.filter(({ protocol }) => protocol === 253).length, 2 * 25);
});

t.test('methods.pcap: a lone LF ends no line (RFC 9112 section 2.2), so all get 400', async (t) => {
  const { result, sent } = replay('methods.pcap', config(['173.194.75.103:80']));
  t.match(result.capture, { frames: 655, delivered: 332, fromServers: 323 });
  t.equal(result.sessions.length, 49);
  for (const [index, session] of result.sessions.entries()) {
    t.match(session, {
      client: `128.2.6.136:${46_562 + index}`,
      status: 400,
      resource: null,
      node: 'local',
      why: 'not valid HTTP: 400',
      handoffs: [{ node: 'local', attempts: 1, outcome: 'adopted' }],
      closed: 'fin',
    });
  }
  t.strictSame(
    result.sessions.slice(0, 5).map(({ request }) => request),
    ['OPTIONS * HTTP/1.1', 'OPTIONS HTTP/1.1', 'OPTIONSHTTP/1.1', 'OPTIONS', 'GET / HTTP/1.1'],
  );
  t.equal(
    result.sessions[10]?.request,
    '\\xc3\\x83\\xc3\\x82\\xc3\\x83 / HTTP/1.',
    'what is not ASCII is escaped',
  );
  t.strictSame(counted(result), {
    syn: 49,
    established: 49,
    handoffs: 49,
    handoffs_local: 49,
    answer_400: 49,
    adopted: 49,
    forwarded: 185,
    closed_fin: 49,
  });
  t.strictSame(result.nodeSide, { wrapped: 49, refused: 0, plain: 185, stray: 0 });
  t.ok(
    sent.filter(({ protocol }) => protocol === 253).every(({ view }) => view.getUint8(TCP + 3) === 1),
    'each goes to the service for bad requests',
  );
});

t.test('bro.org.pcap: each request to the node that holds it', async (t) => {
  const { result } = replay(
    'bro.org.pcap',
    config(['192.150.187.43:80'], {
      nodes: [
        { name: 'styles', address: '10.99.0.3', weight: 1 },
        { name: 'scripts', address: '10.99.0.4', weight: 1 },
        { name: 'pages', address: '10.99.0.5', weight: 1 },
        { name: 'files', address: '10.99.0.6', weight: 1 },
      ],
      resources: [
        { host: 'bro.org', path: '/css/', nodes: [0] },
        { host: 'bro.org', path: '/js/', nodes: [1] },
        { host: 'bro.org', path: '/', nodes: [2] },
        { host: '*.bro.org', path: '/downloads/', nodes: [3] },
      ],
    }),
  );
  t.match(result.capture, { frames: 751, delivered: 247, fromServers: 504 });
  const local = { request: '', status: null, node: 'local', packets: 1, closed: 'fin', resource: null };
  t.match(result.sessions, [
    { client: '10.0.2.15:55079', request: 'GET /', node: 'pages', packets: 42 },
    { client: '10.0.2.15:55080', request: 'GET /css/print.css', node: 'styles', packets: 73 },
    { client: '10.0.2.15:55081', request: 'GET /js/jquery.cycle.all.min.js', node: 'scripts', packets: 27 },
    {
      client: '10.0.2.15:55082',
      request: 'GET /js/jquery.fancybox-1.3.4.pack.js',
      node: 'scripts',
      packets: 19,
    },
    { client: '10.0.2.15:55083', request: 'GET /css/960.css', node: 'styles', packets: 13 },
    { client: '10.0.2.15:55085', request: 'GET /css/bro-ids.css', node: 'styles', packets: 21 },
    {
      client: '10.0.2.15:55120',
      request: 'GET /downloads/release/binpac-0.41.tar.gz.asc',
      node: 'files',
      packets: 5,
    },
    { client: '10.0.2.15:55127', request: 'GET /download/CHANGES.binpac.txt', node: 'pages', packets: 3 },
    { client: '10.0.2.15:55128', ...local },
    { client: '10.0.2.15:55129', ...local },
    { client: '10.0.2.15:55130', ...local },
    { client: '10.0.2.15:55131', ...local },
    { client: '10.0.2.15:55132', ...local },
  ]);
  t.match(result.sessions[1], { resource: 'bro.org/css/', why: 'only holder of bro.org/css/' });
  const open = result.sessions.filter(({ state }) => state === 'passing');
  t.match(open, [{ client: '10.0.2.15:55127', closed: 'idle' }], 'one is still open at the end');
  // Its last packet is #731, 15.216 s after the first frame; a gap that long has steps of 900 ms.
  const idle = (open[0]?.closedMs ?? 0) - 15_216 - DEFAULTS.timeouts.idle;
  t.ok(idle >= 0 && idle < 2_000, `idle ${idle} ms too long`);
  t.strictSame(counted(result), {
    syn: 13,
    established: 13,
    requests: 8,
    handoffs: 13,
    handoffs_local: 5,
    closed_silent_client: 5,
    adopted: 13,
    forwarded: 208,
    closed_fin: 12,
    closed_idle: 1,
  });
  t.strictSame(
    result.nodes.map(({ name, sessions }) => [name, sessions]),
    [
      ['styles', 3],
      ['scripts', 2],
      ['pages', 2],
      ['files', 1],
    ],
  );
});

t.test('content that nobody holds gets 404', async (t) => {
  const { result } = replay(
    'get.pcap',
    config(['192.150.187.43:80'], { resources: [{ host: 'www.bro.org', path: '/', nodes: [0] }] }),
  );
  t.match(result.sessions, [
    {
      request: 'GET /download/CHANGES.bro-aux.txt',
      status: 404,
      node: 'local',
      why: 'nobody holds it: 404',
      closed: 'fin',
    },
  ]);
  t.match(counted(result), { requests: 1, answer_404: 1 });
});

t.test('checksums that were left to hardware', async (t) => {
  const server = '127.0.0.1:1234';
  const detected = replay('http-lower-case-nonstandard-port.pcap', config([server]));
  t.equal(detected.result.capture.unfinished, 6);
  const strict = replay('http-lower-case-nonstandard-port.pcap', config([server]), 'strict');
  t.strictSame(strict.result.sessions, []);
  t.strictSame(counted(strict.result), { drop_tcp_checksum: 6 });
  t.equal(replay('get.pcap', config(['192.150.187.43:80'])).result.capture.unfinished, 0);
});

t.test('a machine whose segments are mostly right is not excused', async (t) => {
  // Damage the request: one wrong segment of seven is damage on the way, and the client sends it again.
  const file = capture('get.pcap');
  const reader = openCapture(file)!;
  for (let frame = 1; frame <= 4; frame++) reader.next();
  file[reader.offset + reader.capturedLength - 1]! ^= 1;
  const result = ReplayRun.open(file, config(['192.150.187.43:80']))!.run();
  t.match(counted(result), { drop_tcp_checksum: 1, established: 1 });
  t.match(result.capture, { unfinished: 0 });
});

t.test("the client's direction alone, as a balancer sees it, gives the same sessions", async (t) => {
  const servers: Record<string, string> = Object.fromEntries(CASES.map(({ file, server }) => [file, server]));
  for (const file of ['get.pcap', 'zero-length-bodies-with-drops.pcap', '206_example_a.pcap']) {
    const settings = config([servers[file] ?? '']);
    const bytes = capture(file);
    const reader = openCapture(bytes)!;
    const output = new GrowingBytes();
    const writer = new PcapWriter(output.append);
    const view = new DataView(bytes.buffer);
    while (reader.next()) {
      if (view.getUint16(reader.offset + TCP + 2) !== 80) continue;
      writer.frame(bytes, reader.offset, reader.capturedLength, reader.seconds, reader.nanoseconds);
    }
    const both = ReplayRun.open(bytes, settings)!.run();
    const one = ReplayRun.open(output.contents().slice(), settings)!.run();
    t.equal(one.capture.fromServers, 0);
    // The server's FIN is not there to be told of: sessions end otherwise, all else is the same.
    const seen = ({ sessions }: ReplayResult) =>
      sessions.map(({ client, request, node, packets, establishedMs }) => ({
        client,
        request,
        node,
        packets,
        establishedMs,
      }));
    t.strictSame(seen(one), seen(both), file);
  }
});

t.test('every frame that is sent is whole, in order, and from what the client sent', async (t) => {
  const servers = new Map(CASES.map(({ file, server }) => [file, [server]]));
  servers.set('http-post-large.pcap', ['127.0.0.1:80', '127.0.0.1:5000']);
  servers.set('methods.pcap', ['173.194.75.103:80']);
  servers.set('bro.org.pcap', ['192.150.187.43:80']);
  servers.set('get_nosyn.pcap', ['192.150.187.43:80']);
  servers.set('zeek-image-1080-80-x.pcapng', ['127.0.0.1:80']);
  t.equal(servers.size, CAPTURES.length, 'all of them');
  for (const [file, names] of servers) {
    const { sent } = replay(file, config(names));
    const { packets, streams } = recorded(file, names);
    let last = 0;
    for (const frame of sent) {
      if (frame.at < last) throw new Error(`${file}: time goes back`);
      last = frame.at;
      checkFrame(file, frame, names, packets, streams);
    }
    t.pass(`${file}: ${sent.length} frames`);
  }
});

/** Packets of clients without their TCP checksum, and the bytes of each client's stream by sequence number. */
function recorded(
  file: string,
  servers: readonly string[],
): { packets: Set<string>; streams: Map<string, number> } {
  const bytes = capture(file);
  const view = new DataView(bytes.buffer);
  const packets = new Set<string>();
  const streams = new Map<string, number>();
  const reader = openCapture(bytes)!;
  while (reader.next()) {
    const ip = reader.offset + IP;
    const tcp = reader.offset + TCP;
    if (!servers.includes(`${formatIpv4(view.getUint32(ip + 16))}:${view.getUint16(tcp + 2)}`)) continue;
    const end = ip + view.getUint16(ip + 2);
    packets.add(withoutChecksum(bytes.slice(ip, end)));
    const client = `${formatIpv4(view.getUint32(ip + 12))}:${view.getUint16(tcp)}`;
    let sequence = view.getUint32(tcp + 4);
    for (let at = tcp + (view.getUint8(tcp + 12) >>> 4) * 4; at < end; at++) {
      streams.set(`${client}/${sequence}`, bytes[at]!);
      sequence = (sequence + 1) >>> 0;
    }
  }
  return { packets, streams };
}

function withoutChecksum(packet: Uint8Array): string {
  packet[20 + 16] = 0;
  packet[20 + 17] = 0;
  return Buffer.from(packet).toString('latin1');
}

function checkFrame(
  file: string,
  { view, bytes, protocol, source }: Sent,
  servers: readonly string[],
  packets: ReadonlySet<string>,
  streams: ReadonlyMap<string, number>,
): void {
  const fail = (what: string): never => {
    throw new Error(`${file}: ${what}: ${Buffer.from(bytes).toString('hex')}`);
  };
  const total = view.getUint16(IP + 2);
  if (finish(sumBytes(view, IP, 20, 0)) !== 0) fail('IPv4 checksum');
  if (total + IP > bytes.length) fail('length');
  const tcp = protocol === 253 ? WRAPPED_TCP : TCP;
  const segmentBytes = IP + total - tcp;
  if (!verifyTcpChecksum(view, tcp, segmentBytes, view.getUint32(IP + 12), view.getUint32(IP + 16))) {
    fail('TCP checksum');
  }
  if (protocol === 253) {
    if (total > 1500) fail('IXP beyond the MTU');
    const client = `${source}:${view.getUint16(tcp)}`;
    const first = view.getUint32(tcp + 4);
    const payload = tcp + (view.getUint8(tcp + 12) >>> 4) * 4;
    for (let at = payload; at < IP + total; at++) {
      if (streams.get(`${client}/${(first + at - payload) >>> 0}`) !== bytes[at])
        fail('not what the client sent');
    }
  } else if (!servers.includes(`${source}:${view.getUint16(tcp)}`)) {
    // Passed on: nothing but the MAC addresses may differ (and the checksum, where it was finished).
    if (!packets.has(withoutChecksum(bytes.slice(IP, IP + total)))) fail('changed on its way');
  }
}
