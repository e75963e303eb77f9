import t from 'tap';
import { Directory } from '../../src/directory/directory.js';
import { directoryImage } from '../../src/directory/directory-image.js';
import { Verdict } from '../../src/directory/dispatcher.js';
import { ownStates } from '../../src/directory/node-states.js';
import { RequestDispatcher } from '../../src/directory/request-dispatcher.js';
import { inSlots } from '../../src/engine/farm.js';
import { HandoffCandidates } from '../../src/engine/handoff/candidates.js';
import { NodeTable } from '../../src/engine/node-table.js';
import { IxcpReason } from '../../src/wire/ixcp.js';

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
