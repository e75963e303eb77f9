import t from 'tap';
import { Directory } from '../../src/directory/directory.js';
import { directoryImage } from '../../src/directory/directory-image.js';
import { alertOf, alertVerdict, Protocol, Verdict } from '../../src/directory/dispatcher.js';
import { ownStates } from '../../src/directory/node-states.js';
import { poolOf, RequestDispatcher } from '../../src/directory/request-dispatcher.js';
import { inSlots } from '../../src/engine/farm.js';
import { HandoffCandidates } from '../../src/engine/handoff/candidates.js';
import { NodeTable } from '../../src/engine/node-table.js';
import { Alert } from '../../src/request/tls/alert.js';
import { IxcpReason } from '../../src/wire/ixcp.js';
import { alpn, bytewise, earlyData, hello, serverName, tls13 } from '../request/tls/hellos.js';

/** Three nodes, as two virtual servers see them. */
function threeNodes(): NodeTable {
  const nodes = [1, 2, 3].map((address) => ({ address, weight: 1 }));
  return new NodeTable(inSlots(nodes), ownStates(nodes, 2));
}

function dispatcher(nodes = threeNodes()): RequestDispatcher {
  nodes.resolved.fill(1);
  const directory = new Directory(
    directoryImage([
      { path: '/images/', nodes: [0, 1] },
      { host: 'www.example.org', path: '/', nodes: [2] },
    ]),
  );
  return new RequestDispatcher({
    directory,
    predictors: ['round-robin', 'least-connections'],
    candidates: new HandoffCandidates(nodes),
    headBytes: 256,
  });
}

const request = (line: string, ...fields: string[]) =>
  Buffer.from(`${[line, ...fields].join('\r\n')}\r\n\r\n`);

t.test('finds a node for a request, and the next one when it fails', async (t) => {
  const it = dispatcher();
  const bytes = Buffer.concat([
    Buffer.from('....'),
    request('GET /x/../images/a%2E.png?q HTTP/1.1', 'Host: a:80'),
  ]);
  t.equal(it.inspect(bytes, 4, bytes.length, 0, 0), Verdict.found);
  t.equal(it.resource, 0);
  t.equal(
    bytes.toString('latin1', 4 + it.requestStart, 4 + it.requestEnd),
    'GET /x/../images/a%2E.png?q',
  );
  const first = it.pick(it.resource, 0, 0, 0, 0);
  const tried = it.pickedBit;
  const second = it.pick(it.resource, tried, 0, 0, 0);
  t.same([first, second], [0, 1]);
  t.equal(it.pick(it.resource, tried | it.pickedBit, 0, 0, 0), -1);
  t.equal(it.pick(it.resource, 0, 1, 0, 0), 0, 'another virtual server has turns of its own');
});

t.test('reads the heads of two connections in turn, in pieces', async (t) => {
  const it = dispatcher();
  const one = request('GET /images/a HTTP/1.1', 'Host: www.example.org');
  const two = request('GET /b HTTP/1.1', 'Host: www.example.org');
  let resumeOne = 0;
  let resumeTwo = 0;
  for (let end = 1; end < Math.min(one.length, two.length); end++) {
    t.equal(it.inspect(one, 0, end, resumeOne, 0), Verdict.incomplete);
    resumeOne = it.resume;
    t.equal(it.inspect(two, 0, end, resumeTwo, 0), Verdict.incomplete);
    resumeTwo = it.resume;
    t.not(resumeTwo, 0, 'the position is remembered');
  }
  t.equal(it.inspect(one, 0, one.length, resumeOne, 0), Verdict.found);
  t.equal(it.resource, 1, 'a matching host wins over a longer path');
  t.equal(it.pick(1, 0, 0, 0, 0), 2);
  t.equal(it.inspect(two, 0, two.length, resumeTwo, 0), Verdict.found);
});

t.test('requests that get an error', async (t) => {
  const table: [Buffer, number, string][] = [
    [request('GET /none HTTP/1.1', 'Host: a'), Verdict.notFound, 'GET /none'],
    [request('GET /images HTTP/1.1', 'Host: a'), Verdict.notFound, 'GET /images'],
    [request('OPTIONS * HTTP/1.1', 'Host: a'), Verdict.notFound, 'OPTIONS *'],
    [request('OPTIONS * HTTP/1.1', 'Host: www.example.org'), Verdict.found, 'OPTIONS *'],
    [request('GET /images/ HTTP/1.1'), Verdict.badRequest, 'GET /images/'],
    [request('GET /images/ HTTP/3.1', 'Host: a'), Verdict.badRequest, ''],
    [Buffer.from([0x16, 3, 1]), Verdict.badRequest, ''],
    [
      request('GET /images/ HTTP/1.1', 'Host: a', `X: ${'x'.repeat(256)}`),
      Verdict.headTooLarge,
      'GET /images/',
    ],
    [request(`GET /images/${'x'.repeat(256)} HTTP/1.1`, 'Host: a'), Verdict.headTooLarge, ''],
  ];
  for (const [bytes, verdict, line] of table) {
    const it = dispatcher();
    t.equal(it.inspect(bytes, 0, bytes.length, 0, 0), verdict, bytes.toString('latin1', 0, 30));
    t.equal(bytes.toString('latin1', it.requestStart, it.requestEnd), line);
  }
});

t.test('the size limit of a head must be in range', async (t) => {
  const make = (headBytes: number) => () =>
    new RequestDispatcher({
      directory: new Directory(directoryImage([])),
      predictors: [],
      candidates: new HandoffCandidates(new NodeTable([], ownStates([]))),
      headBytes,
    });
  t.throws(make(65_536), { code: 'BATON_CONFIG' });
  t.doesNotThrow(make(65_535));
});

t.test(
  'a node that refuses one virtual server becomes the last choice, for this server only',
  async (t) => {
    const nodes = threeNodes();
    const it = dispatcher(nodes);
    const now = 1_000;
    for (let i = 0; i < 3; i++) nodes.states.handoffRefused(0, 1, IxcpReason.noListener, now);
    for (let i = 0; i < 4; i++) t.equal(it.pick(0, 0, 1, 0, now), 1);
    t.equal(it.pick(0, it.pickedBit, 1, 0, now), 0, 'it is better than none');
    t.same([it.pick(0, 0, 0, 0, now), it.pick(0, 0, 0, 0, now)], [0, 1]);
    nodes.states.setLacks(0, 1, true);
    t.equal(it.pick(0, 2, 1, 0, now), -1, 'without the virtual address it is not picked');
  },
);

t.test('a suspended node is the last choice', async (t) => {
  const nodes = threeNodes();
  const it = dispatcher(nodes);
  const now = 1_000;
  while (!nodes.states.isSuspended(0, now)) nodes.states.handoffTimedOut(0, now);
  for (let i = 0; i < 4; i++) t.equal(it.pick(0, 0, 0, 0, now), 1, 'another holder is available');
  const tried = it.pickedBit;
  t.equal(it.pick(0, tried, 0, 0, now), 0, 'it is better than none');
  t.equal(it.pick(0, tried | it.pickedBit, 0, 0, now), -1, 'it is tried once');
  nodes.setMac(0, undefined);
  t.equal(it.pick(0, tried, 0, 0, now), -1, 'an unresolved node is not picked');
});

t.test('other routes: indexes and turns of the new directory', async (t) => {
  const it = dispatcher();
  const bytes = request('GET /images/a HTTP/1.1', 'Host: a');
  it.inspect(bytes, 0, bytes.length, 0, 0);
  t.equal(it.pick(it.resource, 0, 0, 0, 0), 0);
  t.same(
    [0, 1, 2].map((node) => it.holderBit(0, node)),
    [1, 2, 0],
  );
  it.use({
    directory: new Directory(
      directoryImage([
        { path: '/first/', nodes: [0] },
        { path: '/images/', nodes: [1, 2] },
      ]),
    ),
    // The slot 0 is free. A session of it would still be served.
    predictors: [undefined, 'least-connections'],
  });
  t.equal(it.inspect(bytes, 0, bytes.length, 0, 0), Verdict.found);
  t.equal(it.resource, 1);
  t.same([it.pick(1, 0, 0, 0, 0), it.pick(1, 0, 1, 0, 0)], [1, 1]);
  t.same(
    [0, 1, 2].map((node) => it.holderBit(1, node)),
    [0, 1, 2],
  );
});

/** Virtual server 0 reads TLS, 1 reads nothing and has the nodes 1 and 2. */
function otherProtocols(): RequestDispatcher {
  const nodes = threeNodes();
  nodes.resolved.fill(1);
  const directory = new Directory(
    directoryImage([
      { host: 'www.example.org', path: '/', nodes: [0, 1] },
      { host: 'h2.example.org', path: '/', alpn: ['h2'], nodes: [2] },
    ]),
  );
  return new RequestDispatcher({
    directory,
    predictors: ['round-robin', 'round-robin'],
    protocols: [Protocol.tls, Protocol.tcp],
    pools: [[], [1, 2]],
    candidates: new HandoffCandidates(nodes),
    headBytes: 256,
  });
}

/** The request that is shown, and the lines behind it. */
function shown(it: RequestDispatcher): [string, string] {
  const text = Buffer.from(it.text ?? []).toString('latin1');
  return [text.slice(it.requestStart, it.requestEnd), text.slice(it.requestEnd, it.textEnd)];
}

t.test('a ClientHello finds a resource by name and protocol', async (t) => {
  const it = otherProtocols();
  const bytes = hello({ extensions: [serverName('WWW.example.org'), alpn('h2', 'a,\n\x0a')] });
  let resume = 0;
  for (const end of bytewise(bytes).slice(0, -1)) {
    t.equal(it.inspect(bytes, 0, end, resume, 0), Verdict.incomplete);
    resume = it.resume;
  }
  t.equal(it.inspect(bytes, 0, bytes.length, resume, 0), Verdict.found);
  t.equal(it.resource, 0);
  t.ok(it.repeatable);
  t.same(shown(it), [
    'TLS www.example.org h2,a\\x2c\\x0a\\x0a',
    '\r\nHost: www.example.org\r\n\r\n',
  ]);
  t.same([it.pick(0, 0, 0, 0, 0), it.pick(0, 0, 0, 0, 0)], [0, 1]);

  const early = hello({ extensions: [serverName('h2.example.org'), alpn('h2'), earlyData] });
  t.equal(it.inspect(early, 0, early.length, 0, 0), Verdict.found);
  t.equal(it.resource, 1);
  t.notOk(it.repeatable, 'a request may be in the early data');

  const names = Array.from({ length: 100 }, (_, index) => `p${index}`);
  const many = hello({ extensions: [serverName('a'.repeat(253)), alpn(...names)] });
  it.inspect(many, 0, many.length, 0, 0);
  t.match(shown(it)[0], /^TLS a{253} p0,p1,.*\.\.\.$/);
  t.ok(it.requestEnd < 400);
});

t.test('a ClientHello without a resource gets an alert', async (t) => {
  const it = otherProtocols();
  const cases: [string, Buffer, number, string][] = [
    [
      'another name',
      hello({ extensions: [serverName('a.org')] }),
      Alert.unrecognizedName,
      'TLS a.org',
    ],
    ['no name, TLS 1.3', hello({ extensions: [tls13] }), Alert.missingExtension, 'TLS'],
    ['no name, TLS 1.2', hello({ extensions: [] }), Alert.handshakeFailure, 'TLS'],
    [
      'another protocol',
      hello({ extensions: [serverName('h2.example.org'), alpn('http/1.1')] }),
      Alert.noApplicationProtocol,
      'TLS h2.example.org http/1.1',
    ],
    ['no TLS', request('GET / HTTP/1.1', 'Host: a'), Alert.unexpectedMessage, 'TLS'],
  ];
  for (const [name, bytes, alert, line] of cases) {
    const verdict = it.inspect(bytes, 0, bytes.length, 0, 0);
    t.equal(verdict, alertVerdict(alert as typeof Alert.decodeError), name);
    t.equal(alertOf(verdict), alert);
    t.equal(shown(it)[0], line);
  }
  t.equal(alertOf(Verdict.unavailable), undefined);
});

t.test('without a protocol to read, the predictor picks from the pool', async (t) => {
  const it = otherProtocols();
  const bytes = Buffer.from('\x16\x03anything');
  for (const end of [0, bytes.length]) {
    t.equal(it.inspect(bytes, 0, end, 0, 1), Verdict.found);
    t.same(shown(it), ['', '']);
    t.notOk(it.repeatable);
  }
  const { resource } = it;
  t.equal(resource, poolOf(1));
  t.doesNotThrow(() => it.countRequest(resource), 'it is no resource of the directory');
  const first = it.pick(resource, 0, 1, 0, 0);
  const bit = it.pickedBit;
  t.equal(it.holderBit(resource, first), bit);
  t.equal(it.holderBit(resource, 0), 0, 'node 0 is not in the pool');
  const second = it.pick(resource, bit, 1, 0, 0);
  t.same([first, second], [1, 2]);
  t.equal(it.pick(resource, bit | it.pickedBit, 1, 0, 0), -1);
  t.same(
    it.preview(resource, 1, 0, 0).holders.map(({ node }) => node),
    [1, 2],
  );
  it.use({ directory: new Directory(directoryImage([])), predictors: [undefined, 'round-robin'] });
  t.equal(it.inspect(bytes, 0, bytes.length, 0, 1), Verdict.badRequest, 'now it reads HTTP');
});
