/** What `baton explain` says, and what the dispatcher then does. */
import fc from 'fast-check';
import t from 'tap';
import { httpServer, serverSlot } from '../../../lab/virtual-server.js';
import type { ExplainQuery } from '../../../src/api/documents.js';
import { Explainer } from '../../../src/balancer/objects/explain.js';
import type { Farm, ServerSlot } from '../../../src/balancer/objects/farm.js';
import { explainPick } from '../../../src/balancer/threads/explain-pick.js';
import type { ResourceEntry } from '../../../src/config/load.js';
import { Directory } from '../../../src/directory/directory.js';
import { directoryImage } from '../../../src/directory/directory-image.js';
import { Protocol, Verdict } from '../../../src/directory/dispatcher.js';
import { Admin } from '../../../src/directory/node-memory.js';
import { ownStates } from '../../../src/directory/node-states.js';
import { RequestDispatcher } from '../../../src/directory/request-dispatcher.js';
import { inSlots } from '../../../src/engine/farm.js';
import { HandoffCandidates } from '../../../src/engine/handoff/candidates.js';
import { NodeTable } from '../../../src/engine/node-table.js';
import { requireAddress } from '../../../src/wire/address.js';
import { IxcpReason } from '../../../src/wire/ixcp.js';
import { IxpFlag } from '../../../src/wire/ixp.js';

const OPTIONS = IxpFlag.windowScaleOk | IxpFlag.sackOk | IxpFlag.timestampsOk;
const HEAD_BYTES = 1_024;
const RESOURCES: ResourceEntry[] = [
  { host: undefined, path: '/', nodes: [0, 1, 2] },
  { host: undefined, path: '/images/', nodes: [0, 1] },
  { host: undefined, path: '/images/logo.png', nodes: [2] },
  { host: '*.example.org', path: '/images/', nodes: [1] },
  { host: 'www.example.org', path: '/only/', nodes: [0] },
];

function server(slot: number, name: string, address: string, port: number): ServerSlot {
  const predictor = slot === 0 ? 'round-robin' : 'least-connections';
  return serverSlot(slot, httpServer(name, requireAddress(address), port, predictor));
}

const SERVERS = [
  server(0, 'www', '10.99.0.100', 80),
  server(1, 'files', '10.99.0.101', 80),
  server(2, 'admin', '10.99.0.100', 8080),
  { ...server(3, 'secure', '10.99.0.100', 443), protocol: 'tls' as const },
  { ...server(4, 'mail', '10.99.0.100', 25), protocol: 'tcp' as const, nodes: [1, 2] },
];
const TLS_RESOURCES: ResourceEntry[] = [
  { host: 'www.example.org', path: '/', nodes: [0, 1] },
  { host: 'www.example.org', path: '/', alpn: ['acme-tls/1'], nodes: [2] },
  { host: 'h2.example.org', path: '/', alpn: ['h2'], nodes: [2] },
  { host: '*.example.org', path: '/', nodes: [1] },
];

/** A farm of three nodes, and an explainer whose engine is `dispatcher`. */
class Fixture {
  readonly states = ownStates([{ weight: 1 }, { weight: 2 }, { weight: 1 }], SERVERS.length);
  readonly nodes: NodeTable;
  readonly dispatcher: RequestDispatcher;
  readonly explainer: Explainer;
  now = 1_000;
  workers = 1;
  /** How often the engine still says that it has another farm. */
  otherFarm = 0;
  readonly askedWorkers: number[] = [];

  constructor(resources = RESOURCES) {
    const addresses = ['10.99.0.3', '10.99.0.4', '10.99.0.5'].map(requireAddress);
    this.nodes = new NodeTable(inSlots(addresses.map((address) => ({ address }))), this.states);
    this.nodes.resolved.fill(1);
    const image = directoryImage(
      resources.map(({ host, ...rest }) => ({
        ...(host === undefined ? {} : { host }),
        ...rest,
      })),
    );
    this.dispatcher = new RequestDispatcher({
      directory: new Directory(image),
      predictors: SERVERS.map(({ predictor }) => predictor),
      protocols: SERVERS.map(({ protocol }) => Protocol[protocol]),
      pools: SERVERS.map(({ nodes }) => nodes),
      candidates: new HandoffCandidates(this.nodes),
      headBytes: HEAD_BYTES,
    });
    const farm: Farm = {
      generation: 7,
      nodes: addresses.map((address, slot) => ({
        slot,
        name: `n${slot + 1}`,
        address,
        weight: 1,
        retired: false,
      })),
      servers: [...SERVERS, { ...server(5, 'gone', '10.99.0.109', 80), retired: true }],
      directory: image,
      timeouts: {} as Farm['timeouts'],
    };
    const fixture = this;
    this.explainer = new Explainer({
      current: () => ({ farm, resources }),
      headBytes: HEAD_BYTES,
      node: () => ({ state: 'up', condition: 'up', why: '' }),
      forward: () => ({ candidates: [], chosen: null, why: 'forwarded' }),
      engine: {
        get workers() {
          return fixture.workers;
        },
        workerOf: (address, port, slot) => (Number(address) + port + slot) % fixture.workers,
        explain: async (worker, question) => {
          this.askedWorkers.push(worker);
          if (question.generation !== farm.generation) throw new Error('of another farm');
          if (this.otherFarm-- > 0) return undefined;
          return explainPick(this.dispatcher, this.nodes, question, this.now);
        },
      },
    });
  }

  /** What happens to a request: a status, or the node that it gets. */
  request(slot: number, head: string): number | string {
    const bytes = Buffer.from(head);
    const verdict = this.dispatcher.inspect(bytes, 0, bytes.length, 0, slot);
    if (verdict !== Verdict.found) return verdict;
    const node = this.dispatcher.pick(this.dispatcher.resource, 0, slot, OPTIONS, this.now);
    return node < 0 ? Verdict.unavailable : `n${node + 1}`;
  }
}

t.test('explain names the node that the next request gets', async (t) => {
  const step = fc.record({
    url: fc.constantFrom(
      'http://10.99.0.100/',
      'http://10.99.0.100/images/a%2e/../b?x=1',
      'http://10.99.0.101/images/cat.jpg',
      'http://10.99.0.101:80/images/logo.png',
      'http://10.99.0.100:8080/other#part',
      'http://10.99.0.101/only/x',
    ),
    host: fc.constantFrom(undefined, 'a.example.org', 'WWW.example.org.:80', 'no where'),
    node: fc.nat(2),
    event: fc.constantFrom('none', 'load', 'drain', 'up', 'refuse', 'silent', 'lost', 'lacks'),
    later: fc.constantFrom(0, 10, 2_000),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      const it = new Fixture(RESOURCES.slice(1));
      for (const { url, host, node, event, later } of steps) {
        it.now += later;
        if (event === 'load') it.states.active[node]! += 1;
        if (event === 'drain') it.states.setAdmin(node, Admin.draining);
        if (event === 'up') it.states.setAdmin(node, Admin.up);
        if (event === 'refuse') {
          for (let i = 0; i < 3; i++)
            it.states.handoffRefused(node, 1, IxcpReason.noListener, it.now);
        }
        if (event === 'silent') for (let i = 0; i < 3; i++) it.states.handoffTimedOut(node, it.now);
        if (event === 'lost') it.nodes.setMac(node, undefined);
        if (event === 'lacks') it.states.setLacks(node, 2, true);
        const query: ExplainQuery = { url, ...(host === undefined ? {} : { host }) };
        const said = await it.explainer.explain(query);
        const again = await it.explainer.explain(query);
        if (JSON.stringify(again) !== JSON.stringify(said))
          throw new Error('asking has changed something');
        const [, authority = '', target = ''] = /^http:\/\/([^/]*)([^#]*)/.exec(url) ?? [];
        const found = SERVERS.find(({ name }) => name === said.virtualServer);
        const does = it.request(
          found?.slot ?? -1,
          `GET ${target} HTTP/1.1\r\nHost: ${host ?? authority}\r\n\r\n`,
        );
        if ((said.chosen ?? said.answer) !== does)
          throw new Error(`said ${said.chosen ?? said.answer}, does ${does}`);
        const chosen = said.candidates.filter((candidate) => candidate.chosen);
        if (chosen.length !== (said.chosen === null ? 0 : 1))
          throw new Error('the table says something else');
        if (said.candidates.some(({ why }) => why === '')) throw new Error('a reason is missing');
      }
    }),
    { numRuns: 300 },
  );
  t.pass('for many farms and requests');
});

t.test('which resource matches, and which ones would match next', async (t) => {
  const { explainer } = new Fixture();
  const said = await explainer.explain({
    url: 'http://10.99.0.100/images/%6cogo.png?big',
    host: 'A.example.org:80',
  });
  t.same(said.lookedUp, { host: 'a.example.org', path: '/images/logo.png', protocols: null });
  t.same(said.resource, {
    host: '*.example.org',
    path: '/images/',
    alpn: null,
    hostMatch: 'wildcard',
    pathMatch: 'prefix',
    nodes: ['n2'],
  });
  t.same(
    said.next.map(({ path, hostMatch, pathMatch, nodes }) => [path, hostMatch, pathMatch, nodes]),
    [
      ['/images/logo.png', 'any', 'exact', ['n3']],
      ['/images/', 'any', 'prefix', ['n1', 'n2']],
      ['/', 'any', 'prefix', ['n1', 'n2', 'n3']],
    ],
  );
  t.match(said, { virtualServer: 'www', predictor: 'round-robin', chosen: 'n2', answer: null });
});

t.test('the target that the node gets', async (t) => {
  const { explainer } = new Fixture([
    { host: undefined, path: '/old/', rewrite: '/new/%p', nodes: [0] },
    { host: undefined, path: '/gone', rewrite: '/here', nodes: [0] },
    { host: undefined, path: '/', nodes: [0] },
  ]);
  const target = async (path: string) =>
    (await explainer.explain({ url: `http://10.99.0.100${path}` })).rewritten;
  t.equal(await target('/old/a%7e/./b?c=%2f'), '/new/a~/b?c=%2f');
  t.equal(await target('/gone?x'), '/here?x');
  t.equal(await target('/gone/x'), null);
});

t.test('the reasons', async (t) => {
  const it = new Fixture();
  const why = async (url = 'http://10.99.0.101/'): Promise<Record<string, string>> => {
    const { candidates } = await it.explainer.explain({ url });
    return Object.fromEntries(candidates.map((candidate) => [candidate.node, candidate.why]));
  };
  it.states.active.set([1, 2, 3]);
  t.same(await why(), {
    n1: 'not its turn',
    n2: 'chosen: the fewest sessions for its weight, and it is its turn',
    n3: 'more sessions for its weight than another holder',
  });
  t.same(await why('http://10.99.0.100/'), {
    n1: 'not its turn',
    n2: 'chosen: it is its turn',
    n3: 'not its turn',
  });
  it.states.active.set([0, 9, 9]);
  t.match(await why(), { n1: 'chosen: the fewest sessions for its weight' });
  it.states.setAdmin(0, Admin.draining);
  it.states.setLacks(1, 1, true);
  t.same(await why(), {
    n1: 'it is draining',
    n2: 'it lacks the address 10.99.0.101',
    n3: 'chosen: no other holder takes the session',
  });
  for (let i = 0; i < 3; i++) it.states.handoffTimedOut(2, it.now);
  t.match(
    (await why()).n3,
    /^chosen, because no other holder takes the session; it did not answer and is the last choice for another 1m00s$/,
  );
  it.nodes.setMac(2, undefined);
  const none = await it.explainer.explain({ url: 'http://10.99.0.101/' });
  t.match(none, { chosen: null, answer: 503 });
  t.match(none.candidates[2], { takes: false, why: 'its MAC address is not known' });
});

t.test('requests that the balancer answers itself', async (t) => {
  const { explainer } = new Fixture(RESOURCES.slice(1));
  const none = await explainer.explain({ url: 'http://10.99.0.100/none' });
  t.match(none, { answer: 404, resource: null, candidates: [], chosen: null });
  t.same(none.lookedUp, { host: '10.99.0.100', path: '/none', protocols: null });
  const bad = await explainer.explain({ url: 'http://10.99.0.100/a b' });
  t.match(bad, { answer: 400, lookedUp: null });
  const long = await explainer.explain({ url: `http://10.99.0.100/${'x'.repeat(HEAD_BYTES)}` });
  t.match(long, { answer: 431, lookedUp: null });
});

t.test('which virtual server a URL leads to', async (t) => {
  const { explainer } = new Fixture();
  const fails = async (url: string, code: string, pattern: RegExp): Promise<void> => {
    const error = await explainer.explain({ url }).catch((reason: unknown) => reason);
    t.match(error, { code });
    t.match((error as { toLine(): string }).toLine(), pattern, url);
  };
  t.match(await explainer.explain({ url: 'http://www.example.org:8080/' }), {
    virtualServer: 'admin',
    lookedUp: { host: 'www.example.org' },
  });
  t.match(await explainer.explain({ url: 'HTTP://10.99.0.101' }), { virtualServer: 'files' });
  await fails(
    'http://www.example.org/',
    'BATON_UNKNOWN',
    /several virtual servers have the port 80.*www \(10\.99\.0\.100:80\), files \(10\.99\.0\.101:80\)/,
  );
  await fails(
    'http://10.99.0.7/',
    'BATON_UNKNOWN',
    /no virtual server is at 10\.99\.0\.7:80.*files/,
  );
  await fails('http://10.99.0.109/', 'BATON_UNKNOWN', /no virtual server is at/);
  await fails('http://example.org:81/', 'BATON_UNKNOWN', /no virtual server has the port 81/);
  await fails(
    'https://10.99.0.101/',
    'BATON_UNKNOWN',
    /no virtual server is at 10\.99\.0\.101:443/,
  );
  await fails(
    'https://10.99.0.101:80/',
    'BATON_UNKNOWN',
    /"files" has the protocol http.*http:\/\//,
  );
  await fails('http://10.99.0.100:443/', 'BATON_UNKNOWN', /"secure" has the protocol tls.*https:/);
  await fails('http://10.99.0.100:25/', 'BATON_UNKNOWN', /"mail" has the protocol tcp.*tcp:\/\//);
  await fails('tcp://10.99.0.100/', 'BATON_REQUEST', /no valid port/);
  await fails('ftp://10.99.0.100/', 'BATON_REQUEST', /not an http, https, tcp or udp URL/);
  await fails('10.99.0.100/', 'BATON_REQUEST', /not an http, https, tcp or udp URL/);
  await fails('http:///x', 'BATON_REQUEST', /names no host/);
  await fails('http://me:secret@10.99.0.100/', 'BATON_REQUEST', /has a user name/);
  await fails('http://10.99.0.100:99999/', 'BATON_REQUEST', /no valid port/);
  await fails('http://10.99.0.100:0/', 'BATON_REQUEST', /no valid port/);
  await fails('http://[::1/', 'BATON_REQUEST', /no valid port/);
  await fails('http://[10.99.0.100]/', 'BATON_REQUEST', /not an IPv6 address/);
  await fails('http://[::1]/', 'BATON_UNKNOWN', /no virtual server is at \[::1\]:80/);
  await fails('http://10.99.0.100/a\r\nX: y', 'BATON_REQUEST', /no line breaks/);
  await fails('http://www\nX: y/a', 'BATON_REQUEST', /no line breaks/);
});

t.test('TLS connections', async (t) => {
  const { explainer } = new Fixture(TLS_RESOURCES);
  const ask = (url: string, more: Partial<ExplainQuery> = {}) =>
    explainer.explain({ url, ...more });
  const usual = await ask('https://WWW.example.org/ignored?x');
  t.match(usual, { virtualServer: 'secure', chosen: 'n2', answer: null, alert: null });
  t.same(usual.lookedUp, { host: 'www.example.org', path: null, protocols: ['h2', 'http/1.1'] });
  t.match(usual.resource, { host: 'www.example.org', path: '/', alpn: null });
  t.same(
    usual.next.map(({ host }) => host),
    ['*.example.org'],
  );
  const acme = await ask('https://www.example.org', { alpn: 'acme-tls/1' });
  t.match(acme, { chosen: 'n3', resource: { alpn: ['acme-tls/1'] } });
  t.match(await ask('https://10.99.0.100/', { host: 'x.example.org' }), { chosen: 'n2' });
  const refusals: [string, Partial<ExplainQuery>, string][] = [
    ['https://example.com/', {}, 'unrecognized_name'],
    ['https://10.99.0.100/', {}, 'missing_extension'],
    ['https://10.99.0.100/', { host: 'a b' }, 'illegal_parameter'],
  ];
  for (const [url, more, alert] of refusals) {
    const said = await ask(url, more);
    t.match(said, { alert, answer: null, chosen: null, resource: null });
    t.match(said.why, alert);
  }
  const { explainer: other } = new Fixture([TLS_RESOURCES[2]!]);
  t.match(await other.explain({ url: 'https://h2.example.org/', alpn: '' }), {
    alert: 'no_application_protocol',
    lookedUp: { protocols: [] },
  });
  await t.rejects(ask('https://www.example.org/', { alpn: 'h2,,x' }), { code: 'BATON_REQUEST' });
  await t.rejects(ask('http://10.99.0.100/', { alpn: 'h2' }), { code: 'BATON_REQUEST' });
});

t.test('connections that go to a pool of nodes', async (t) => {
  const it = new Fixture();
  const url = 'tcp://10.99.0.100:25';
  const said = await it.explainer.explain({ url });
  t.match(said, { virtualServer: 'mail', lookedUp: null, resource: null, chosen: 'n2' });
  t.same(
    said.candidates.map(({ node }) => node),
    ['n2', 'n3'],
  );
  for (const node of [1, 2]) it.states.setAdmin(node, Admin.draining);
  const none = await it.explainer.explain({ url });
  t.match(none, { chosen: null, answer: null, alert: null, why: /reset the connection/ });
});

t.test('the thread that owns the client is asked', async (t) => {
  const it = new Fixture();
  const url = 'http://10.99.0.101/';
  t.same((await it.explainer.explain({ url })).thread, { number: 0, of: 1, known: true });
  it.workers = 5;
  const from = '192.0.2.7:40001';
  const { thread } = await it.explainer.explain({ url, from });
  const number = (requireAddress('192.0.2.7') + 40_001 + 1) % 5;
  t.same(thread, { number, of: 5, known: true });
  t.equal(it.askedWorkers.at(-1), number);
  const unknown = await it.explainer.explain({ url, from: '192.0.2.7' });
  t.same(unknown.thread, { number: 0, of: 5, known: false });
  for (const wrong of ['192.0.2', '192.0.2.7:0', '192.0.2.7:65536', 'x:1'])
    await t.rejects(it.explainer.explain({ url, from: wrong }), { code: 'BATON_REQUEST' });
});

t.test('a change of the farm during the question', async (t) => {
  const it = new Fixture();
  it.otherFarm = 2;
  t.match(await it.explainer.explain({ url: 'http://10.99.0.101/' }), { chosen: 'n2' });
  it.otherFarm = 100;
  await t.rejects(it.explainer.explain({ url: 'http://10.99.0.101/' }), {
    code: 'BATON_CONFLICT',
  });
});
