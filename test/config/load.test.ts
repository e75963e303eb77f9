/** What a config becomes, and what is no config. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { addressNumber } from '../../lab/packet.js';
import {
  loadBalancerConfig,
  loadConfig,
  loadNodeConfig,
  loadReplayConfig,
} from '../../src/config/load.js';
import { processorTime } from '../support/processor-time.js';
import { BALANCER, changed, directory, FILE, NODE, problems } from './fixture.js';

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
    virtualServers: [
      {
        name: 'www',
        address: addressNumber('10.99.0.100'),
        port: 80,
        ports: [{ from: 80, to: 80 }],
        transport: 'tcp',
        mode: 'handoff',
        protocol: 'http',
        predictor: 'least-connections',
        keepAlive: 'sticky',
        retry: 'safe',
        firstBytes: 50,
        nodes: undefined,
        sticky: 0,
        stickyPrefix: 32,
        buckets: 0,
        bucketIdle: 60_000,
      },
    ],
    nodes: [
      { name: 'n1', address: addressNumber('10.99.0.3'), weight: 1 },
      { name: 'n2', address: addressNumber('10.99.0.4'), weight: 1 },
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
    timeouts: {
      synAck: 1e3,
      head: 1e4,
      handoff: 300,
      answer: 1e3,
      idle: 9e5,
      closing: 6e4,
      linger: 5e3,
    },
    log: { level: 'info' },
    warnings: [],
  });
  t.equal(loadConfig(FILE).kind, 'balancer');
});

t.test('absent keys get their defaults, and given values are kept', async (t) => {
  const text = changed(
    '    predictor: least-connections\n',
    '',
    changed('controlSocket: baton.sock\n', ''),
  );
  writeFileSync(
    FILE,
    `${text}address: 10.99.0.2\nlimits: {sessions: 2000}\ntimeouts: {head: 2.5s}\nlog: {level: debug}\n`,
  );
  const config = loadBalancerConfig(FILE);
  t.equal(config.controlSocket, '/run/baton/baton.sock');
  t.equal(config.virtualServers[0]?.predictor, 'round-robin');
  t.equal(config.address, addressNumber('10.99.0.2'));
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
    virtualAddresses: [addressNumber('10.99.0.100')],
    balancers: [addressNumber('10.99.0.2')],
    listen: { address: addressNumber('127.0.0.1'), port: 8080 },
    maxSessions: 131_072,
    log: { level: 'info' },
    warnings: [],
  });
  t.equal(loadConfig(FILE).kind, 'node');
  writeFileSync(FILE, NODE);
  t.equal(loadNodeConfig(FILE).listen, undefined);
});

t.test('hosts are checked by the rules of the directory', async (t) => {
  const [line] = problems(loadBalancerConfig, changed('/images/', '/images/\n    host: a b'));
  t.match(line, /^18:11: resources\[0\]\.host: is "a b": a host consists of labels/);
  t.same(
    problems(loadBalancerConfig, changed('path: /images/', 'host: "*.example.org"\n    path: /')),
    [],
  );
});

t.test(
  'virtual servers may share an address, but not address and port, and not a name',
  async (t) => {
    const second = (name: string, port: number): string =>
      changed(
        'nodes:\n  - name',
        `  - {name: ${name}, address: 10.99.0.100, port: ${port}}\nnodes:\n  - name`,
      );
    t.same(problems(loadBalancerConfig, second('other', 81)), []);
    t.same(problems(loadBalancerConfig, second('other', 80)), [
      '10:5: virtualServers[1]: is 10.99.0.100:80, already used by virtual server "www", expected another address or port',
    ]);
    t.same(problems(loadBalancerConfig, second('www', 81)), [
      '10:12: virtualServers[1].name: is "www", already the name of a virtual server, expected another value',
    ]);
  },
);

t.test('all mistakes are reported at once, in the order of the file', async (t) => {
  const text = changed('[n2, n1]', '[n9]', changed('80', '0', changed('keyFile: key.hex\n', '')));
  t.same(
    problems(loadBalancerConfig, text).map((line) => line.split(': is')[0]),
    ['1:1: keyFile', '7:11: virtualServers[0].port', '17:13: resources[0].nodes[0]'],
  );
});

t.test('files that are not a config are refused', async (t) => {
  t.same(problems(loadBalancerConfig, ''), [
    '1:1: is empty, expected a map of keys such as interface, virtualServers, nodes and resources',
  ]);
  t.same(problems(loadNodeConfig, '- a\n'), [
    '1:1: is a list of 1, expected a map of keys such as interface, virtualAddresses and balancers',
  ]);
  t.same(problems(loadConfig, 'interface: eth0\n'), [
    '1:1: is neither the config of a balancer nor that of a node, expected keys such as virtualServers and resources, or virtualAddresses and balancers',
  ]);
  t.match(problems(loadBalancerConfig, 'a: [1, 2\nb: 3\n'), [/^2:1: not valid YAML: /]);
  t.match(problems(loadBalancerConfig, 'a: !!strange 1\n'), [
    /^1:4: not valid YAML: Unresolved tag/,
  ]);
  t.same(problems(loadBalancerConfig, 'a: 1\n---\nb: 2\n'), [
    '2:1: a second document begins here, expected one document in the file',
  ]);
  t.same(problems(loadBalancerConfig, Uint8Array.of(0x61, 0xff, 0xfe)), [
    ' not UTF-8 text, expected YAML',
  ]);
  t.throws(() => loadBalancerConfig(join(directory, 'absent')), {
    code: 'BATON_CONFIG',
    message: 'cannot be read: there is no such file',
  });
  const folder = join(directory, 'folder');
  mkdirSync(folder);
  t.throws(() => loadBalancerConfig(folder), { message: 'cannot be read: it is a directory' });
});

t.test('reading a pipe or a device as a config ends at once', async (t) => {
  const pipe = join(directory, 'pipe');
  execFileSync('mkfifo', [pipe]);
  for (const file of [pipe, '/dev/zero']) {
    t.throws(() => loadBalancerConfig(file), {
      code: 'BATON_CONFIG',
      message: 'cannot be read: it is not a regular file',
      where: file,
    });
  }
});

t.test('a config of the other kind gets one message only', async (t) => {
  t.same(problems(loadNodeConfig, BALANCER), [
    `1:1: is the config of a balancer, expected the config of a node (run it with \`baton balancer -c ${FILE}\`)`,
  ]);
  t.same(problems(loadBalancerConfig, NODE), [
    `1:1: is the config of a node, expected the config of a balancer (run it with \`baton node -c ${FILE}\`)`,
  ]);
});

t.test('a node that holds no resource gets a warning', async (t) => {
  writeFileSync(FILE, changed('[n2, n1]', '[n1]'));
  t.same(loadBalancerConfig(FILE).warnings, [
    `${FILE}:14:11: nodes[1].name: node "n2" holds no resource, so it gets no sessions: add it to a resource or remove it`,
  ]);
});

t.test('anchors and aliases work, and a mistake behind an alias is reported', async (t) => {
  t.same(
    problems(loadBalancerConfig, changed('[n2, n1]', '&both [n2, n1]').replace('[n1]', '*both')),
    [],
  );
  t.same(
    problems(loadBalancerConfig, changed('[n2, n1]', '&both [n2, n7]').replace('[n1]', '*both')),
    [
      '18:23: resources[0].nodes[1]: is "n7", but no node has this name, expected the name of a node',
      '18:23: resources[1].nodes[1]: is "n7", but no node has this name, expected the name of a node',
    ],
  );
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

t.test('twenty thousand resources load in a few seconds', async (t) => {
  const lines = [BALANCER];
  for (let index = 0; index < 20_000; index++)
    lines.push(`  - {path: /page/${index}.html, nodes: [n1, n2]}\n`);
  writeFileSync(FILE, lines.join(''));
  const start = processorTime();
  t.equal(loadBalancerConfig(FILE).resources.length, 20_002);
  const seconds = (processorTime() - start) / 1e9;
  t.ok(seconds < 6, `${seconds} s`);
});

t.test('a loopback address is valid for a replay only', async (t) => {
  const file = changed('10.99.0.100', '127.0.0.1');
  t.same(problems(loadReplayConfig, file), []);
  const [line] = problems(loadBalancerConfig, file);
  t.match(
    line,
    /virtualServers\[0\]\.address: is "127\.0\.0\.1", a loopback address, expected an IP address/,
  );
});

t.test('heads that need more than 4 GiB are refused', async (t) => {
  const file = changed('nodes:\n', 'limits: { heads: 1000000, headBytes: 65535 }\nnodes:\n');
  const [line] = problems(loadBalancerConfig, file);
  t.match(
    line,
    /limits\.heads: is 1000000: with headBytes 65535 this takes 6\.7 GiB, expected at most 4 GiB/,
  );
});
