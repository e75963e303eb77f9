/**
 * Every recorded capture through the whole engine. The expectations come from reading the frames:
 * test/fixtures/captures/EXPECTED.md has them in words.
 */
import t from 'tap';
import { type ReplayResult, ReplayRun } from '../../../src/replay/replay-run.js';
import { requireAddress } from '../../../src/wire/address.js';
import { openCapture } from '../../../src/wire/capture-file.js';
import { GrowingBytes, PcapWriter } from '../../../src/wire/pcap-writer.js';
import { capture } from '../../support/captures.js';
import { CASES } from './cases.js';
import { config, counted, DEFAULTS, replay, TCP } from './replay.js';

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
    t.strictSame(result.nodeSide, {
      wrapped,
      refused: 0,
      plain: result.counters.forwarded,
      stray: 0,
    });
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
  const { result, sent } = replay(
    'http-post-large.pcap',
    config(['127.0.0.1:80', '127.0.0.1:5000']),
  );
  t.match(result.capture, {
    frames: 38,
    delivered: 20,
    fromServers: 18,
    unfinished: 20,
    truncated: 0,
  });
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
    wrapped: 4, // the 27 bytes after the first segment, and the 29 KB after those
    closed_fin: 2,
  });
  // In pieces of 1,412: 32,741 bytes are 24, the 27 bytes one, and 29,139 or 29,149 bytes 21.
  t.equal(sent.filter(({ protocol }) => protocol === 253).length, 2 * (24 + 1 + 21));
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
      node: null,
      why: 'not valid HTTP: 400',
      handoffs: [],
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
    'bytes outside ASCII are escaped',
  );
  t.strictSame(counted(result), {
    syn: 49,
    established: 49,
    answers: 49,
    answer_400: 49,
    closed_fin: 49,
  });
  t.strictSame(result.nodeSide, { wrapped: 0, refused: 0, plain: 0, stray: 0 });
  const texts = sent.map(({ view }) => Buffer.from(view.buffer).toString('latin1'));
  t.equal(texts.filter((text) => text.includes('HTTP/1.1 400 Bad Request')).length, 49);
});

t.test('bro.org.pcap: each request to the node that holds it', async (t) => {
  const { result } = replay(
    'bro.org.pcap',
    config(['192.150.187.43:80'], {
      nodes: [
        { name: 'styles', address: requireAddress('10.99.0.3'), weight: 1 },
        { name: 'scripts', address: requireAddress('10.99.0.4'), weight: 1 },
        { name: 'pages', address: requireAddress('10.99.0.5'), weight: 1 },
        { name: 'files', address: requireAddress('10.99.0.6'), weight: 1 },
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
  const closed = {
    request: '',
    status: null,
    node: null,
    packets: 0,
    closed: 'fin',
    resource: null,
  };
  t.match(result.sessions, [
    { client: '10.0.2.15:55079', request: 'GET /', node: 'pages', packets: 42 },
    { client: '10.0.2.15:55080', request: 'GET /css/print.css', node: 'styles', packets: 73 },
    {
      client: '10.0.2.15:55081',
      request: 'GET /js/jquery.cycle.all.min.js',
      node: 'scripts',
      packets: 27,
    },
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
    {
      client: '10.0.2.15:55127',
      request: 'GET /download/CHANGES.binpac.txt',
      node: 'pages',
      packets: 3,
    },
    { client: '10.0.2.15:55128', ...closed },
    { client: '10.0.2.15:55129', ...closed },
    { client: '10.0.2.15:55130', ...closed },
    { client: '10.0.2.15:55131', ...closed },
    { client: '10.0.2.15:55132', ...closed },
  ]);
  t.match(result.sessions[1], { resource: 'bro.org/css/', why: 'only holder of bro.org/css/' });
  const open = result.sessions.filter(({ state }) => state === 'passing');
  t.match(
    open,
    [{ client: '10.0.2.15:55127', closed: 'idle' }],
    'one session is still open at the end',
  );
  // Its last packet is #731, 15.216 s after the first frame; a gap that long has steps of 900 ms.
  const idle = (open[0]?.closedMs ?? 0) - 15_216 - DEFAULTS.timeouts.idle;
  t.ok(idle >= 0 && idle < 2_000, `idle ${idle} ms too long`);
  t.strictSame(counted(result), {
    syn: 13,
    established: 13,
    requests: 8,
    handoffs: 8,
    answers: 5,
    closed_silent_client: 5,
    adopted: 8,
    forwarded: 203,
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

t.test('content that no node holds gets 404', async (t) => {
  const { result } = replay(
    'get.pcap',
    config(['192.150.187.43:80'], { resources: [{ host: 'www.bro.org', path: '/', nodes: [0] }] }),
  );
  t.match(result.sessions, [
    {
      request: 'GET /download/CHANGES.bro-aux.txt',
      status: 404,
      node: null,
      why: 'no node holds it: 404',
      closed: 'fin',
    },
  ]);
  t.match(counted(result), { requests: 1, answer_404: 1 });
});

t.test('checksums that the sender left to hardware', async (t) => {
  const server = '127.0.0.1:1234';
  const detected = replay('http-lower-case-nonstandard-port.pcap', config([server]));
  t.equal(detected.result.capture.unfinished, 6);
  const strict = replay('http-lower-case-nonstandard-port.pcap', config([server]), 'verify');
  t.strictSame(strict.result.sessions, []);
  t.strictSame(counted(strict.result), { drop_tcp_checksum: 6 });
  t.equal(replay('get.pcap', config(['192.150.187.43:80'])).result.capture.unfinished, 0);
});

t.test('wrong checksums count for a client whose segments are mostly right', async (t) => {
  // Damage the request: one wrong segment of seven is damage on the way, and the client sends it
  // again.
  const file = capture('get.pcap');
  const reader = openCapture(file)!;
  for (let frame = 1; frame <= 4; frame++) reader.next();
  file[reader.offset + reader.capturedLength - 1]! ^= 1;
  const result = ReplayRun.open(file, config(['192.150.187.43:80']))!.run();
  t.match(counted(result), { drop_tcp_checksum: 1, established: 1 });
  t.match(result.capture, { unfinished: 0 });
});

t.test(
  "the client's direction alone, as a balancer sees it, gives the same sessions",
  async (t) => {
    const servers: Record<string, string> = Object.fromEntries(
      CASES.map(({ file, server }) => [file, server]),
    );
    for (const file of ['get.pcap', 'zero-length-bodies-with-drops.pcap', '206_example_a.pcap']) {
      const settings = config([servers[file] ?? '']);
      const bytes = capture(file);
      const reader = openCapture(bytes)!;
      const output = new GrowingBytes();
      const writer = new PcapWriter(output.append);
      const view = new DataView(bytes.buffer);
      while (reader.next()) {
        if (view.getUint16(reader.offset + TCP + 2) !== 80) continue;
        writer.frame(
          bytes,
          reader.offset,
          reader.capturedLength,
          reader.seconds,
          reader.nanoseconds,
        );
      }
      const both = ReplayRun.open(bytes, settings)!.run();
      const one = ReplayRun.open(output.contents().slice(), settings)!.run();
      t.equal(one.capture.fromServers, 0);
      // The capture lacks the server's FIN: sessions end in another way, all else is the same.
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
  },
);
