/** What differs between two configs. */
import t from 'tap';
import { checkData } from '../../src/config/check-data.js';
import type { BalancerData } from '../../src/config/data.js';
import { diffConfig } from '../../src/config/diff.js';
import { processorTime } from '../support/processor-time.js';
import { manyResources } from './many-resources.js';

const DATA: BalancerData = {
  interface: 'eth0',
  keyFile: 'key.hex',
  virtualServers: [{ name: 'www', address: '10.99.0.100', port: 80 }],
  nodes: [
    { name: 'n1', address: '10.99.0.3' },
    { name: 'n2', address: '10.99.0.4' },
  ],
  resources: [
    { host: 'www.example.org', path: '/a/', nodes: ['n1', 'n2'] },
    { path: '/', nodes: ['n1'] },
  ],
};
const config = (data: BalancerData) => checkData(data, '/etc/baton/balancer.yaml');
const NOTHING = { added: 0, removed: 0, moved: 0, changed: 0 };

t.test('the same config in another order and spelling differs in nothing', async (t) => {
  const other = {
    ...DATA,
    nodes: DATA.nodes.toReversed(),
    resources: [
      { path: '/./', nodes: ['n1'] },
      { host: 'WWW.Example.org', path: '/a//', nodes: ['n2', 'n1'] },
    ],
    timeouts: { idle: '900s' },
  };
  t.same(diffConfig(config(DATA), config(other)), {
    lines: [],
    nodes: NOTHING,
    virtualServers: NOTHING,
    resources: NOTHING,
    settings: [],
    fixed: [],
    same: true,
  });
});

t.test('every kind of change has its line', async (t) => {
  const { lines, nodes, virtualServers, resources, fixed, same } = diffConfig(
    config({
      ...DATA,
      virtualServers: [
        { name: 'www', address: '10.99.0.101', port: 80, predictor: 'least-connections' },
        { name: 'tls', address: '10.99.0.100', port: 443 },
      ],
    }),
    config({
      ...DATA,
      virtualServers: [{ name: 'www', address: '10.99.0.100', port: 80 }],
      nodes: [
        { name: 'n1', address: '10.99.0.3', weight: 3 },
        { name: 'n2', address: '10.99.0.9', weight: 2 },
        { name: 'n3', address: '10.99.0.4', weight: 5 },
      ],
      resources: [
        { host: 'www.example.org', path: '/a/', nodes: ['n2'] },
        { path: '/new', nodes: ['n3', 'n1'] },
      ],
      timeouts: { idle: '5m' },
      log: { level: 'debug' },
      metrics: { listen: '127.0.0.1:9464' },
      accessLog: { file: 'access.json' },
    }),
  );
  t.same(lines, [
    'virtual server www: moved, 10.99.0.101:80 -> 10.99.0.100:80, predictor least-connections -> round-robin',
    'virtual server tls 10.99.0.100:443 is removed',
    'node n1: weight 1 -> 3',
    'node n2: moved, 10.99.0.4 -> 10.99.0.9, weight 1 -> 2',
    'node n3 10.99.0.4 is added, weight 5',
    'resource www.example.org/a/: holders n1, n2 -> n2',
    'resource /new is added: holders n3, n1',
    'resource / is removed',
    'timeouts.idle 15m -> 5m',
    'log.level info -> debug',
    'metrics.listen not set -> 127.0.0.1:9464',
    'accessLog.file not set -> /etc/baton/access.json',
    'accessLog.format not set -> json',
  ]);
  t.same(nodes, { added: 1, removed: 0, moved: 1, changed: 1 });
  t.same(virtualServers, { added: 0, removed: 1, moved: 1, changed: 0 });
  t.same(resources, { added: 1, removed: 1, moved: 0, changed: 1 });
  t.same([fixed, same], [[], false]);
});

t.test('a removed node whose index another node has got is another holder', async (t) => {
  const { lines } = diffConfig(
    config({ ...DATA, resources: [{ path: '/', nodes: ['n1', 'n2'] }] }),
    config({
      ...DATA,
      nodes: [
        { name: 'n2', address: '10.99.0.4' },
        { name: 'n3', address: '10.99.0.5' },
      ],
      resources: [{ path: '/', nodes: ['n2', 'n3'] }],
    }),
  );
  t.match(lines, [/n3 .* added/, /n1 .* removed/, 'resource /: holders n1, n2 -> n2, n3']);
});

t.test('keys that cannot change at run time are named with both values', async (t) => {
  const { lines, fixed, same } = diffConfig(
    config(DATA),
    config({
      ...DATA,
      interface: 'eth1',
      nodeInterface: 'eth2',
      address: '10.99.0.2',
      datapath: 'xdp',
      workers: 2,
      keyFile: '/k',
      controlSocket: '/s',
      limits: { headBytes: 2_048 },
    }),
  );
  t.same(
    fixed.map(({ key, running, wanted }) => `${key} ${running} -> ${wanted}`),
    [
      'interface eth0 -> eth1',
      'nodeInterface not set -> eth2',
      'address not set -> 10.99.0.2',
      'datapath auto -> xdp',
      'workers 1 -> 2',
      'keyFile /etc/baton/key.hex -> /k',
      'controlSocket /run/baton/baton.sock -> /s',
      'limits.headBytes 16384 -> 2048',
    ],
  );
  t.same([lines, same], [[], false]);
});

const many = manyResources(100_000, 1_000);
const before = config(many);

t.test('many changes of a kind are counted after the first 20', async (t) => {
  const after = config({
    ...many,
    resources: many.resources.map(({ nodes, ...rest }) => ({ ...rest, nodes: nodes.slice(1) })),
  });
  const start = processorTime();
  const { lines, resources } = diffConfig(before, after);
  const ms = (processorTime() - start) / 1e6;
  t.comment(`compared 100,000 resources in ${ms.toFixed(0)} ms`);
  t.equal(lines.length, 21);
  t.equal(lines.at(-1), 'and 99,980 more resources');
  t.equal(resources.changed, 100_000);
  t.ok(ms < 1_000, `${ms} ms`);
});

t.test('one insertion into many resources takes a few ms', async (t) => {
  const added = { path: '/new', nodes: ['node-1'] };
  const after = config({ ...many, resources: many.resources.toSpliced(50_000, 1, added) });
  const moved = config({ ...many, resources: many.resources.toSpliced(50_000, 0, added) });
  for (const [wanted, removed] of [
    [after, 1],
    [moved, 0],
  ] as const) {
    const start = processorTime();
    const { lines, resources } = diffConfig(before, wanted);
    const ms = (processorTime() - start) / 1e6;
    t.comment(`compared 100,000 resources in ${ms.toFixed(0)} ms`);
    t.same(resources, { ...NOTHING, added: 1, removed });
    t.equal(lines[0], 'resource /new is added: holders node-1');
    t.ok(ms < 300, `${ms} ms`);
  }
});

t.test('every key of a virtual server has its words', async (t) => {
  const www = { name: 'www', address: '10.99.0.100', port: 80 };
  const files = { name: 'files', address: '10.99.0.101', mode: 'forward' };
  const { lines } = diffConfig(
    config({
      ...DATA,
      virtualServers: [www, { ...files, ports: [80], nodes: ['n2', 'n1'], sticky: '1m' }],
    }),
    config({
      ...DATA,
      virtualServers: [
        { ...www, protocol: 'tcp', firstBytes: '1s' },
        { ...files, ports: [80, '9000-9100'], buckets: 1_024, bucketIdle: '30s' },
        { ...files, name: 'names', ports: 5353, transport: 'udp', stickyPrefix: 24, sticky: '30m' },
      ],
      resources: [
        { host: 'www.example.org', path: '/a/', nodes: ['n1', 'n2'] },
        { path: '/', nodes: ['n1'] },
      ],
    }),
  );
  t.same(lines, [
    'virtual server www: protocol http -> tcp, firstBytes 50ms -> 1s',
    'virtual server files: moved, 10.99.0.101:80 -> 10.99.0.101:80,9000-9100, nodes n1, n2 -> all, sticky 1m -> not set, buckets not set -> 1024, bucketIdle 1m -> 30s',
    'virtual server names 10.99.0.101:5353/udp is added, round-robin, mode forward, transport udp, sticky 30m, stickyPrefix 24',
  ]);
});

t.test('a rewrite that changes, and resources that differ in alpn', async (t) => {
  const tls = { name: 'tls', address: '10.99.0.100', port: 443, protocol: 'tls' };
  const virtualServers = [...DATA.virtualServers, tls];
  const { lines, resources } = diffConfig(
    config({
      ...DATA,
      virtualServers,
      resources: [
        { path: '/', nodes: ['n1'] },
        { path: '/', alpn: ['h2', 'http/1.1'], nodes: ['n1'] },
        { path: '/a/', rewrite: '/b/%p', nodes: ['n1'] },
        { path: '/c', nodes: ['n1'] },
      ],
    }),
    config({
      ...DATA,
      virtualServers,
      resources: [
        { path: '/', alpn: ['http/1.1', 'h2'], nodes: ['n2'] },
        { path: '/', nodes: ['n1'] },
        { path: '/a/', nodes: ['n1', 'n2'] },
        { path: '/c', rewrite: '/d', nodes: ['n1'] },
      ],
    }),
  );
  t.same(lines, [
    'resource / (alpn http/1.1, h2): holders n1 -> n2',
    'resource /a/: holders n1 -> n1, n2, rewrite /b/%p -> not set',
    'resource /c: rewrite not set -> /d',
  ]);
  t.same(resources, { added: 0, removed: 0, moved: 0, changed: 3 });
});

t.test('a resource that another virtual server gets is removed and added', async (t) => {
  const servers = (first: readonly string[], second: readonly string[]): BalancerData => ({
    ...DATA,
    resources: [],
    virtualServers: [
      { name: 'w1', address: '10.99.0.101', port: 80, resources: at(first) },
      { name: 'w2', address: '10.99.0.102', port: 80, resources: at(second) },
    ],
  });
  const at = (paths: readonly string[]) => paths.map((path) => ({ path, nodes: ['n1'] }));
  const running = config(servers(['/a', '/b'], ['/c']));
  const { same, resources } = diffConfig(running, config(servers(['/a'], ['/b', '/c'])));
  t.notOk(same);
  t.same(resources, { added: 1, removed: 1, moved: 0, changed: 0 });
});
