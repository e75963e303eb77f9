import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { BatonError } from '../../src/base/errors.js';
import { loadBalancerConfig, loadConfig, loadNodeConfig, loadReplayConfig } from '../../src/config/load.js';
import { processorTime } from '../support/processor-time.js';

const directory = mkdtempSync(join(tmpdir(), 'baton-config-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const FILE = join(directory, 'baton.yaml');

const BALANCER = `interface: eth0
datapath: packet
keyFile: key.hex
controlSocket: baton.sock
virtualServers:
  - name: www
    address: 10.99.0.100
    port: 80
    predictor: least-connections
nodes:
  - name: n1
    address: 10.99.0.3
    weight: 1
  - name: n2
    address: 10.99.0.4
resources:
  - path: /images/
    nodes: [n2, n1]
  - path: /
    nodes: [n1]
`;
const NODE = `interface: eth0
keyFile: /etc/baton/key.hex
virtualAddresses: [10.99.0.100]
balancers: [10.99.0.2]
`;

/** Lines of what `load` says about `text`, without the file's name. */
function problems(load: (file: string) => unknown, text: string | Uint8Array): string[] {
  writeFileSync(FILE, text);
  try {
    load(FILE);
  } catch (error) {
    if (!(error instanceof BatonError) || error.code !== 'BATON_CONFIG') throw error;
    return error
      .toLine()
      .split('\n')
      .map((line) => line.replace(`${FILE}:`, ''));
  }
  return [];
}

/** `BALANCER` with one piece replaced. */
function changed(piece: string, replacement: string, text = BALANCER): string {
  if (!text.includes(piece)) throw new Error(`no ${piece}`);
  return text.replace(piece, replacement);
}

t.test('a balancer', async (t) => {
  writeFileSync(FILE, BALANCER);
  t.same(loadBalancerConfig(FILE), {
    kind: 'balancer',
    file: FILE,
    interface: 'eth0',
    datapath: 'packet',
    workers: 1,
    address: undefined,
    keyFile: join(directory, 'key.hex'),
    controlSocket: join(directory, 'baton.sock'),
    virtualServers: [{ name: 'www', address: '10.99.0.100', port: 80, predictor: 'least-connections' }],
    nodes: [
      { name: 'n1', address: '10.99.0.3', weight: 1 },
      { name: 'n2', address: '10.99.0.4', weight: 1 },
    ],
    resources: [
      { host: undefined, path: '/images/', nodes: [1, 0] },
      { host: undefined, path: '/', nodes: [0] },
    ],
    limits: {
      sessions: 1_000_000,
      halfOpen: 65_536,
      headBytes: 16_384,
      heads: 65_536,
      handoffTries: 2,
      synAckTries: 5,
    },
    timeouts: { synAck: 1e3, head: 1e4, handoff: 300, answer: 1e3, idle: 9e5, closing: 6e4, linger: 5e3 },
    log: { level: 'info' },
    warnings: [],
  });
  t.equal(loadConfig(FILE).kind, 'balancer');
});

t.test('what is left out has its default, what is said holds', async (t) => {
  const text = changed('    predictor: least-connections\n', '', changed('controlSocket: baton.sock\n', ''));
  writeFileSync(
    FILE,
    `${text}address: 10.99.0.2\nlimits: {sessions: 2000}\ntimeouts: {head: 2.5s}\nlog: {level: debug}\n`,
  );
  const config = loadBalancerConfig(FILE);
  t.equal(config.controlSocket, '/run/baton/baton.sock');
  t.equal(config.virtualServers[0]?.predictor, 'round-robin');
  t.equal(config.address, '10.99.0.2');
  t.match(config.limits, { sessions: 2_000, halfOpen: 2_000, heads: 2_000, headBytes: 16_384 });
  t.match(config.timeouts, { head: 2_500, idle: 900_000 });
  t.equal(config.log.level, 'debug');
});

t.test('a node', async (t) => {
  writeFileSync(FILE, `${NODE}listen: 127.0.0.1:8080\n`);
  t.same(loadNodeConfig(FILE), {
    kind: 'node',
    file: FILE,
    interface: 'eth0',
    address: undefined,
    keyFile: '/etc/baton/key.hex',
    virtualAddresses: ['10.99.0.100'],
    balancers: ['10.99.0.2'],
    listen: { address: '127.0.0.1', port: 8080 },
    maxSessions: 131_072,
    log: { level: 'info' },
    warnings: [],
  });
  t.equal(loadConfig(FILE).kind, 'node');
  writeFileSync(FILE, NODE);
  t.equal(loadNodeConfig(FILE).listen, undefined);
});

t.test('each mistake in a balancer.yaml has its line', async (t) => {
  const duration =
    'expected a duration from 1ms to 24h with its unit (ms, s, m, h), such as 300ms, 10s or 15m';
  const cases: [string, string, string][] = [
    [
      'interface: eth0\n',
      '',
      '1:1: interface: is missing, expected the name of a network interface such as eth0',
    ],
    [
      'eth0',
      '[eth0]',
      '1:12: interface: is a list of 1, expected the name of a network interface such as eth0',
    ],
    ['eth0', 'a/b', '1:12: interface: is "a/b", expected the name of a network interface such as eth0'],
    ['packet', 'XDP', '2:11: datapath: is "XDP", expected one of auto, xdp, packet'],
    ['packet', 'packet\nworkers: 9', '3:10: workers: is 9, expected a whole number from 1 to 8'],
    ['packet', 'packet\nworkers: 0', '3:10: workers: is 0, expected a whole number from 1 to 8'],
    ['keyFile:', 'kefFile: x\nkeyFile:', '3:1: kefFile: is not a known key, did you mean keyFile?'],
    [
      'keyFile:',
      'colour: red\nkeyFile:',
      '3:1: colour: is not a known key, expected one of interface, nodeInterface, datapath, workers, address, keyFile, controlSocket, virtualServers, nodes, resources, limits, timeouts, log',
    ],
    ['key.hex', '', '3:1: keyFile: is empty, expected a path of a file'],
    ['key.hex', '0x12', '3:10: keyFile: is 18, expected a path of a file (put it in quotes)'],
    ['key.hex', 'a\nkeyFile: b', '4:1: keyFile: is there already in this map, expected each key once'],
    [
      'baton.sock',
      'x'.repeat(120),
      `4:16: controlSocket: is a path of ${directory.length + 121} bytes in all, expected at most 107, the most for a Unix socket`,
    ],
    [
      '10.99.0.100',
      '10.99.0.256',
      '7:14: virtualServers[0].address: is "10.99.0.256", no IPv4 address, expected an IPv4 address such as 10.99.0.3',
    ],
    [
      '10.99.0.100',
      '2001:db8::1',
      '7:14: virtualServers[0].address: is "2001:db8::1", an IPv6 address, but Baton does IPv4 only, expected an IPv4 address such as 10.99.0.3',
    ],
    [
      '10.99.0.100',
      '224.0.0.1',
      '7:14: virtualServers[0].address: is "224.0.0.1", a multicast address, expected an IPv4 address such as 10.99.0.3',
    ],
    ['80', '0', '8:11: virtualServers[0].port: is 0, expected a port number from 1 to 65535'],
    ['80', '65536', '8:11: virtualServers[0].port: is 65536, expected a port number from 1 to 65535'],
    ['80', '80.5', '8:11: virtualServers[0].port: is 80.5, expected a port number from 1 to 65535'],
    ['80', '"80"', '8:11: virtualServers[0].port: is "80", expected a port number from 1 to 65535'],
    [
      'least-connections',
      'random',
      '9:16: virtualServers[0].predictor: is "random", expected one of round-robin, least-connections',
    ],
    [
      'nodes:\n',
      'nodes:\n  - {name: n1, address: 10.99.0.9}\n',
      '12:11: nodes[1].name: is "n1", which is the name of a node already, expected another',
    ],
    [
      'nodes:\n',
      'nodes:\n  - {name: n 2, address: 10.99.0.9}\n',
      '11:12: nodes[0].name: is "n 2", expected a name of 1 to 63 letters, digits, ".", "_" and "-"',
    ],
    [
      '10.99.0.4',
      '10.99.0.3',
      '15:14: nodes[1].address: is "10.99.0.3", which is the address of node "n1" already, expected another',
    ],
    [
      '10.99.0.4',
      '10.99.0.100',
      '15:14: nodes[1].address: is "10.99.0.100", which is a virtual address already, expected another',
    ],
    ['weight: 1', 'weight: 0', '13:13: nodes[0].weight: is 0, expected a whole number from 1 to 1000'],
    ['weight: 1', 'weight: 1001', '13:13: nodes[0].weight: is 1001, expected a whole number from 1 to 1000'],
    ['/images/', 'images/', '17:11: resources[0].path: is "images/": a path begins with "/"'],
    [
      '/images/',
      '/',
      '19:11: resources[1].path: is the same host and path as resources[0], expected each only once',
    ],
    [
      '/images/',
      '/x/../',
      '19:11: resources[1].path: is the same host and path as resources[0], expected each only once',
    ],
    [
      '[n2, n1]',
      '[n2, nx]',
      '18:17: resources[0].nodes[1]: is "nx", and there is no such node, expected the name of a node',
    ],
    [
      '[n2, n1]',
      '[n2, N1]',
      '18:17: resources[0].nodes[1]: is "N1", and there is no such node, did you mean n1?',
    ],
    [
      '[n2, n1]',
      '[n2, n1, n2]',
      '18:21: resources[0].nodes[2]: is "n2" once more, expected each node only once',
    ],
    [
      '[n2, n1]',
      '[]',
      '18:12: resources[0].nodes: is an empty list, expected a list of at least one node name',
    ],
    [
      'nodes: [n1]\n',
      'nodes: [n1]\naddress: 10.99.0.3\n',
      '12:14: nodes[0].address: is "10.99.0.3", which is the balancer\'s own address already, expected another',
    ],
    [
      'nodes: [n1]\n',
      'nodes: [n1]\naddress: 10.99.0.100\n',
      '21:10: address: is "10.99.0.100", which is a virtual address already, expected another',
    ],
    ['nodes: [n1]\n', 'nodes: [n1]\ntimeouts: {idle: 10}\n', `21:18: timeouts.idle: is 10, ${duration}`],
    ['nodes: [n1]\n', 'nodes: [n1]\ntimeouts: {idle: 2d}\n', `21:18: timeouts.idle: is "2d", ${duration}`],
    ['nodes: [n1]\n', 'nodes: [n1]\nlimits:\n', '21:1: limits: is empty, expected a map of limits'],
    [
      'nodes: [n1]\n',
      'nodes: [n1]\nlimits: {headBytes: 65536}\n',
      '21:21: limits.headBytes: is 65536, expected a whole number from 1024 to 65535',
    ],
    [
      'nodes: [n1]\n',
      'nodes: [n1]\nlimits: {session: 2000}\n',
      '21:10: limits.session: is not a known key, did you mean sessions?',
    ],
    [
      'nodes: [n1]\n',
      'nodes: [n1]\nlog: {level: loud}\n',
      '21:14: log.level: is "loud", expected one of error, warn, info, debug',
    ],
  ];
  for (const [piece, replacement, line] of cases) {
    t.same(problems(loadBalancerConfig, changed(piece, replacement)), [line], `${piece} -> ${replacement}`);
  }
});

t.test('hosts are checked as the directory checks them', async (t) => {
  const [line] = problems(loadBalancerConfig, changed('/images/', '/images/\n    host: a b'));
  t.match(line, /^18:11: resources\[0\]\.host: is "a b": a host is labels/);
  t.same(problems(loadBalancerConfig, changed('path: /images/', 'host: "*.example.org"\n    path: /')), []);
});

t.test('virtual servers may share an address, not address and port, nor a name', async (t) => {
  const second = (name: string, port: number): string =>
    changed('nodes:\n  - name', `  - {name: ${name}, address: 10.99.0.100, port: ${port}}\nnodes:\n  - name`);
  t.same(problems(loadBalancerConfig, second('other', 81)), []);
  t.same(problems(loadBalancerConfig, second('other', 80)), [
    '10:5: virtualServers[1]: is 10.99.0.100:80, which is virtual server "www" already, expected another address or port',
  ]);
  t.same(problems(loadBalancerConfig, second('www', 81)), [
    '10:12: virtualServers[1].name: is "www", which is the name of a virtual server already, expected another',
  ]);
});

t.test('all mistakes are told at once, in the order of the file', async (t) => {
  const text = changed('[n2, n1]', '[n9]', changed('80', '0', changed('keyFile: key.hex\n', '')));
  t.same(
    problems(loadBalancerConfig, text).map((line) => line.split(': is')[0]),
    ['1:1: keyFile', '7:11: virtualServers[0].port', '17:13: resources[0].nodes[0]'],
  );
});

t.test('each mistake in a node.yaml has its line', async (t) => {
  const cases: [string, string, string][] = [
    [
      '[10.99.0.100]',
      '10.99.0.100',
      '3:19: virtualAddresses: is "10.99.0.100", expected a list of 1 to 64 IPv4 addresses',
    ],
    [
      '[10.99.0.100]',
      '[]',
      '3:19: virtualAddresses: is an empty list, expected a list of 1 to 64 IPv4 addresses',
    ],
    [
      '[10.99.0.100]',
      '[10.99.0.100, 10.99.0.100]',
      '3:33: virtualAddresses[1]: is "10.99.0.100", which is a virtual address already, expected another',
    ],
    [
      '[10.99.0.100]',
      '["::1"]',
      '3:20: virtualAddresses[0]: is "::1", an IPv6 address, but Baton does IPv4 only, expected an IPv4 address such as 10.99.0.3',
    ],
    [
      '[10.99.0.2]',
      '[10.99.0.100]',
      '4:13: balancers[0]: is "10.99.0.100", which is a virtual address already, expected another',
    ],
    [
      'balancers',
      'listen: 8080\nbalancers',
      '4:9: listen: is 8080, expected an address and a port such as 127.0.0.1:8080 (put it in quotes)',
    ],
    [
      'balancers',
      'listen: 127.0.0.1:0\nbalancers',
      '4:9: listen: is "127.0.0.1:0", expected an address and a port such as 127.0.0.1:8080',
    ],
    [
      'balancers',
      'maxSessions: 10\nbalancers',
      '4:14: maxSessions: is 10, expected a whole number from 1024 to 4194304',
    ],
    [
      'balancers',
      'address: 10.99.0.100\nbalancers',
      '4:10: address: is "10.99.0.100", which is a virtual address already, expected another',
    ],
  ];
  for (const [piece, replacement, line] of cases) {
    t.same(problems(loadNodeConfig, changed(piece, replacement, NODE)), [line], `${piece} -> ${replacement}`);
  }
});

t.test('what is no config at all', async (t) => {
  t.same(problems(loadBalancerConfig, ''), [
    '1:1: is empty, expected a map of keys such as interface, virtualServers, nodes and resources',
  ]);
  t.same(problems(loadNodeConfig, '- a\n'), [
    '1:1: is a list of 1, expected a map of keys such as interface, virtualAddresses and balancers',
  ]);
  t.same(problems(loadConfig, 'interface: eth0\n'), [
    '1:1: neither a balancer nor a node, expected keys such as virtualServers and resources, or virtualAddresses and balancers',
  ]);
  t.match(problems(loadBalancerConfig, 'a: [1, 2\nb: 3\n'), [/^2:1: not valid YAML: /]);
  t.match(problems(loadBalancerConfig, 'a: !!strange 1\n'), [/^1:4: not valid YAML: Unresolved tag/]);
  t.same(problems(loadBalancerConfig, 'a: 1\n---\nb: 2\n'), [
    '2:1: a second document begins here, expected one in a file',
  ]);
  t.same(problems(loadBalancerConfig, Uint8Array.of(0x61, 0xff, 0xfe)), [' not UTF-8 text, expected YAML']);
  t.throws(() => loadBalancerConfig(join(directory, 'absent')), {
    code: 'BATON_CONFIG',
    message: 'can not be read: there is no such file',
  });
  const folder = join(directory, 'folder');
  mkdirSync(folder);
  t.throws(() => loadBalancerConfig(folder), { message: 'can not be read: it is a directory' });
});

t.test('a config of the other kind is called that, and nothing else is said', async (t) => {
  t.same(problems(loadNodeConfig, BALANCER), [
    `1:1: the config of a balancer, expected that of a node (\`baton balancer -c ${FILE}\` is what runs it)`,
  ]);
  t.same(problems(loadBalancerConfig, NODE), [
    `1:1: the config of a node, expected that of a balancer (\`baton node -c ${FILE}\` is what runs it)`,
  ]);
});

t.test('a node that holds nothing is worth a warning', async (t) => {
  writeFileSync(FILE, changed('[n2, n1]', '[n1]'));
  t.same(loadBalancerConfig(FILE).warnings, [
    `${FILE}:14:11: nodes[1].name: node "n2" holds no resource and will get no session`,
  ]);
});

t.test('anchors and aliases work, and a mistake behind one is shown', async (t) => {
  t.same(problems(loadBalancerConfig, changed('[n2, n1]', '&both [n2, n1]').replace('[n1]', '*both')), []);
  t.same(problems(loadBalancerConfig, changed('[n2, n1]', '&both [n2, n7]').replace('[n1]', '*both')), [
    '18:23: resources[0].nodes[1]: is "n7", and there is no such node, expected the name of a node',
    '18:23: resources[1].nodes[1]: is "n7", and there is no such node, expected the name of a node',
  ]);
  const bomb = ['a: &a [x, x, x, x, x, x, x, x, x, x]'];
  for (const [name, of] of ['ba', 'cb', 'dc', 'ed', 'fe'].map((pair) => [...pair])) {
    bomb.push(`${name}: &${name} [${Array(10).fill(`*${of}`).join(', ')}]`);
  }
  t.match(problems(loadBalancerConfig, bomb.join('\n')), [/not valid YAML: Excessive alias count/]);
});

t.test('control characters of a file never reach the terminal', async (t) => {
  const lines = problems(loadBalancerConfig, changed('80', '"\\e[2J"')).concat(
    problems(loadBalancerConfig, changed('port', '"\\e[2J"')),
  );
  t.equal(lines.length, 3);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  for (const line of lines) t.notMatch(line, /[\u0000-\u001f]/);
});

t.test('a hundred thousand resources load in a few seconds', async (t) => {
  const lines = [BALANCER];
  for (let index = 0; index < 100_000; index++)
    lines.push(`  - {path: /page/${index}.html, nodes: [n1, n2]}\n`);
  writeFileSync(FILE, lines.join(''));
  const start = processorTime();
  t.equal(loadBalancerConfig(FILE).resources.length, 100_002);
  const seconds = (processorTime() - start) / 1e9;
  t.ok(seconds < 30, `${seconds} s`);
});

t.test('a loopback address is good for a capture only', async (t) => {
  const file = changed('10.99.0.100', '127.0.0.1');
  t.same(problems(loadReplayConfig, file), []);
  const [line] = problems(loadBalancerConfig, file);
  t.match(
    line,
    /virtualServers\[0\]\.address: is "127\.0\.0\.1", a loopback address, expected an IPv4 address/,
  );
});

t.test('rooms for heads that no memory holds', async (t) => {
  const file = changed('nodes:\n', 'limits: { heads: 1000000, headBytes: 65535 }\nnodes:\n');
  const [line] = problems(loadBalancerConfig, file);
  t.match(
    line,
    /limits\.heads: is 1000000, which with heads of 65535 bytes takes 6\.7 GiB, expected at most 4 GiB/,
  );
});
