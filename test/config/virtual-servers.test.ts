/** Virtual servers of every kind: what their keys become, and which keys do not go together. */
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { loadBalancerConfig } from '../../src/config/load.js';
import { formatPlace, serverSummary } from '../../src/config/virtual-server.js';
import { BALANCER, changed, FILE, problems } from './fixture.js';

/** What a virtual server has that does not use these keys. */
const UNUSED = {
  nodes: undefined,
  sticky: 0,
  buckets: 0,
  bucketIdle: 60_000,
  firstBytes: 50,
} as const;

const NODES = BALANCER.slice(BALANCER.indexOf('nodes:'));

/** A config with these virtual servers, each as a map on one line; the first is on line 4. */
function config(servers: readonly string[], resources = true): string {
  const lines = servers.map((server) => `  - {${server}}\n`).join('');
  const nodes = resources ? NODES : NODES.slice(0, NODES.indexOf('resources:'));
  return `interface: eth0\nkeyFile: key.hex\nvirtualServers:\n${lines}${nodes}`;
}

const load = (text: string) => {
  writeFileSync(FILE, text);
  return loadBalancerConfig(FILE);
};

const says = (servers: readonly string[], resources = true) =>
  problems(loadBalancerConfig, config(servers, resources));

t.test('each kind of virtual server has its values', async (t) => {
  const { virtualServers, nodes } = load(
    config([
      'name: www, address: 10.99.0.100, port: 80, mode: handoff, protocol: http, keepAlive: migrate, retry: all',
      'name: tls, address: 10.99.0.100, port: 443, mode: handoff, protocol: tls',
      'name: mail, address: 10.99.0.100, port: 25, protocol: tcp, firstBytes: 1s, nodes: [n2]',
      'name: files, address: 10.99.0.101, ports: [8080, 80, "9000-9100", 9100-9200], mode: forward, nodes: [n2, n1], sticky: 30m, stickyPrefix: 24',
      'name: names, address: 10.99.0.101, port: 80, transport: udp, mode: forward, buckets: 1024, bucketIdle: 30s',
      'name: all, address: 10.99.0.102, ports: any, mode: forward',
    ]),
  );
  t.same(
    virtualServers.map(
      (server) => `${server.name} ${formatPlace(server)} ${serverSummary(server, nodes)}`,
    ),
    [
      'www 10.99.0.100:80 round-robin, retry all, keepAlive migrate',
      'tls 10.99.0.100:443 round-robin, protocol tls',
      'mail 10.99.0.100:25 round-robin, protocol tcp, firstBytes 1s, nodes n2',
      'files 10.99.0.101:80,8080,9000-9200 round-robin, mode forward, nodes n1, n2, sticky 30m, stickyPrefix 24',
      'names 10.99.0.101:80/udp round-robin, mode forward, transport udp, buckets 1024, bucketIdle 30s',
      'all 10.99.0.102:any round-robin, mode forward',
    ],
  );
  t.same(
    virtualServers.map(({ ports, port, nodes, sticky, buckets, bucketIdle, firstBytes }) => {
      return { port, ranges: ports.length, nodes, sticky, buckets, bucketIdle, firstBytes };
    }),
    [
      { port: 80, ranges: 1, ...UNUSED },
      { port: 443, ranges: 1, ...UNUSED },
      { port: 25, ranges: 1, ...UNUSED, nodes: [1], firstBytes: 1_000 },
      { port: 80, ranges: 3, ...UNUSED, nodes: [1, 0], sticky: 1_800_000 },
      { port: 80, ranges: 1, ...UNUSED, buckets: 1_024, bucketIdle: 30_000 },
      { port: 1, ranges: 1, ...UNUSED },
    ],
  );
});

t.test('a key that does not go with the others is refused, with reason and remedy', async (t) => {
  const www = 'name: www, address: 10.99.0.100, port: 80';
  const forward = `${www}, mode: forward`;
  const cases: [server: string, key: string, problem: string][] = [
    [
      `${forward}, keepAlive: migrate`,
      'keepAlive',
      'is set, but mode is forward: remove it, or use mode: handoff with protocol: http',
    ],
    [
      `${www}, protocol: tls, keepAlive: sticky`,
      'keepAlive',
      'is set, but protocol is tls: remove it, or use mode: handoff with protocol: http',
    ],
    [
      `${forward}, protocol: tcp`,
      'protocol',
      'is set, but mode is forward: remove it: the mode forward reads nothing of a connection',
    ],
    [
      `${forward}, retry: all`,
      'retry',
      'is set, but mode is forward: remove it, or use mode: handoff',
    ],
    [
      `${www}, firstBytes: 10ms`,
      'firstBytes',
      'is set, but protocol is http: remove it, or use mode: handoff with protocol: tcp',
    ],
    [
      `${www}, nodes: [n1]`,
      'nodes',
      'is set, but protocol is http: remove it and name the nodes in resources, or use mode: forward or protocol: tcp',
    ],
    [
      `${www}, sticky: 30m`,
      'sticky',
      'is set, but mode is handoff: remove it, or use mode: forward',
    ],
    [
      `${www}, buckets: 1024`,
      'buckets',
      'is set, but mode is handoff: remove it, or use mode: forward',
    ],
    [
      `${forward}, stickyPrefix: 24`,
      'stickyPrefix',
      'is set, but sticky is not: add sticky, or remove it',
    ],
    [
      `${forward}, bucketIdle: 10s`,
      'bucketIdle',
      'is set, but buckets is not: add buckets, or remove it',
    ],
    [
      `${forward}, sticky: 30m, buckets: 1024`,
      'sticky',
      'is set beside buckets, which choose a node by address and port: remove one of both',
    ],
    [`${forward}, ports: [81]`, 'ports', 'is set beside port: remove one of both'],
  ];
  for (const [server, key, problem] of cases) {
    const column = 5 + 1 + server.lastIndexOf(`${key}:`);
    t.same(says([server]), [`4:${column}: virtualServers[0].${key}: ${problem}`], server);
  }
  t.same(says([`${www}, transport: udp`]), [
    `4:${5 + www.length + 14}: virtualServers[0].transport: is "udp", but mode is handoff, which is for tcp: use mode: forward, or remove it`,
  ]);
  t.same(says([`${forward}, buckets: 1000`]), [
    `4:${5 + forward.length + 12}: virtualServers[0].buckets: is 1000, not a power of two, expected one such as 512 or 1024`,
  ]);
});

t.test('ports', async (t) => {
  const files = 'name: files, address: 10.99.0.100, mode: forward';
  const expected =
    'expected a port from 1 to 65535, a range such as "9000-9100", "any", or a list of up to 64 of these';
  const at = 5 + files.length + 10;
  const path = 'virtualServers[0].ports';
  const cases: [ports: string, column: number, problem: string][] = [
    ['0', at, `${path}: is 0, ${expected}`],
    ['65536', at, `${path}: is 65536, ${expected}`],
    ['9100-9000', at, `${path}: is "9100-9000", ${expected}`],
    ['all', at, `${path}: is "all", ${expected}`],
    ['{from: 1}', at, `${path}: is a map, ${expected}`],
    ['[]', at, `${path}: is an empty list, ${expected}`],
    ['[80, 1-65536]', at + 5, `${path}[1]: is "1-65536", ${expected}`],
    ['[80, 80.5]', at + 5, `${path}[1]: is 80.5, ${expected}`],
    ['[80, 70000]', at + 5, `${path}[1]: is 70000, ${expected}`],
    ['[80, {a: 1}]', at + 5, `${path}[1]: is a map, ${expected}`],
  ];
  for (const [ports, column, problem] of cases)
    t.same(says([`${files}, ports: ${ports}`]), [`4:${column}: ${problem}`], ports);
  t.same(says([files]), [
    `4:5: virtualServers[0].port: is missing, expected a port number from 1 to 65535, or ports`,
  ]);
  t.same(says(['name: www, address: 10.99.0.100, ports: [80]']).length, 2);
});

t.test('two virtual servers cannot have the same port of an address', async (t) => {
  const at = (name: string, keys: string) => `name: ${name}, address: 10.99.0.100, ${keys}`;
  const range = at('files', 'mode: forward, ports: [21, 9000-9100]');
  t.same(says([range, at('www', 'port: 9050')]), [
    '5:5: virtualServers[1]: is 10.99.0.100:9050, already used by virtual server "files", expected another address or port',
  ]);
  t.same(says([at('www', 'port: 9050'), range]), [
    '5:63: virtualServers[1].ports: is 21,9000-9100, but 10.99.0.100:9050 is already used by virtual server "www", expected other ports or another address',
  ]);
  t.same(says([range, at('names', 'mode: forward, ports: any, transport: udp')]), []);
  const listener = 'metrics: {listen: "10.99.0.100:9001"}\n';
  t.same(problems(loadBalancerConfig, `${config([range])}${listener}`).length, 1);
});

t.test('resources are needed only by virtual servers that read requests', async (t) => {
  const forward = 'name: f, address: 10.99.0.100, ports: any, mode: forward';
  const www = 'name: www, address: 10.99.0.101, port: 80';
  t.same(says([forward], false), []);
  t.same(load(config([forward], false)).warnings, [], 'its nodes have work');
  t.same(says([`${forward}, nodes: [n1, n9]`], false), [
    '4:76: virtualServers[0].nodes[1]: is "n9", but no node has this name, expected the name of a node',
  ]);
  t.same(says([forward, www], false), [
    '1:1: resources: is empty, expected at least one: virtual server "www" finds nodes by them',
  ]);
});

t.test('alpn and rewrite have virtual servers that they are for', async (t) => {
  const tls = 'name: tls, address: 10.99.0.100, port: 443, protocol: tls';
  const www = 'name: www, address: 10.99.0.100, port: 80';
  const resource = (keys: string) => (servers: readonly string[]) =>
    problems(
      loadBalancerConfig,
      changed(
        '  - path: /images/',
        `  - {nodes: [n1], ${keys}}\n  - path: /images/`,
        config(servers),
      ),
    ).map((line) => line.replace(/^\d+:\d+: resources\[0\]\./, ''));
  t.same(resource('path: /, alpn: [h2]')([tls]), []);
  t.same(resource('path: /, alpn: [h2]')([www]), [
    'alpn: is set, but no virtual server has protocol: tls: add one, or remove it',
  ]);
  t.same(resource('path: /a/, alpn: [h2]')([tls]), [
    'alpn: is set, but TLS hides the path: expected the path "/", or remove it',
  ]);
  t.same(resource('path: /, alpn: [h2], rewrite: /b')([tls, www]), [
    'alpn: is set beside rewrite, which changes only requests in clear: remove one of both',
  ]);
  t.same(resource('path: /a/, rewrite: /b/%p')([tls]), [
    'rewrite: is set, but no virtual server has protocol: http: add one, or remove it',
  ]);
  for (const [rewrite, problem] of [
    ['b/', 'a path must begin with "/"'],
    ['/b?c=%p', 'it cannot contain "?": the query stays as the client sent it'],
    ['/b/%p#c', 'it cannot contain "#": a request has no fragment'],
    ['/%p/%p', '"%p" may occur only once'],
    ['/b/%2%p', '"%2/" is not "%" and two hex digits'],
    ['/b c/%p', '" " must be percent-encoded here, as %20'],
  ]) {
    t.same(resource(`path: /a/, rewrite: "${rewrite}"`)([www]), [
      `rewrite: is "${rewrite}": ${problem}`,
    ]);
  }
  t.same(resource('path: /a, rewrite: /b/%p')([www]), [
    'rewrite: is "/b/%p": "%p" stands for what follows a path that ends in "/", but the path of this resource ends in none',
  ]);
});

t.test('TLS connections reach no resource with another path than /', async (t) => {
  const tls = config(['name: tls, address: 10.99.0.100, port: 443, protocol: tls']);
  t.same(load(tls).warnings, []);
  const { warnings } = load(tls.replace('  - path: /\n    nodes: [n1]\n', ''));
  t.match(warnings, [
    /resources: virtual server "tls" has protocol: tls, but no resource has .*"\/"/,
  ]);
});

t.test('a predictor that buckets do not ask', async (t) => {
  const keys = 'name: f, address: 10.99.0.100, ports: any, mode: forward, buckets: 16';
  t.same(load(config([`${keys}, predictor: round-robin`])).warnings, []);
  t.same(load(config([`${keys}, predictor: least-connections`])).warnings, [
    `${FILE}:4:88: virtualServers[0].predictor: is "least-connections", but buckets go by the weights of the nodes alone: remove it, or remove buckets`,
  ]);
});

t.test('more ranges of ports than the tables have room for', async (t) => {
  const list = Array.from({ length: 64 }, (_, index) => 2 * index + 1).join(', ');
  const servers = Array.from({ length: 66 }, (_, index) => {
    const address = `10.98.0.${index + 1}`;
    return `name: s${index}, address: ${address}, ports: [${list}], mode: forward`;
  });
  t.same(says(servers.slice(0, 64)), []);
  t.same(says(servers), [
    '68:5: virtualServers[64]: has range 4097 of the ports of virtual servers with mode forward, expected at most 4096: use ranges instead of single ports',
  ]);
});
