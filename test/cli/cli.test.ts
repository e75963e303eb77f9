import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import type { SessionRow } from '../../src/api/documents.js';
import { ControlApi } from '../../src/api/server.js';
import { VERSION } from '../../src/base/version.js';
import { GLOSSARY } from '../../src/cli/glossary.js';
import { Commands, type Outcome } from '../support/commands.js';

/** A table without sessions. */
const NO_SESSIONS = { halfOpen: 0, collecting: 0, handing: 0, answering: 0, closing: 0 };

t.setTimeout(FILE_TIMEOUT_MS);

const directory = mkdtempSync(join(tmpdir(), 'baton-cli-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));

const commands = new Commands(directory);
t.teardown(() => commands.stop());
const baton = (...args: string[]): Promise<Outcome> => commands.run(...args);

/** Runs the command as people do: as a process, in a directory of its own. */
function start(...args: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const env = { ...process.env, BATON_DEBUG: '' };
    execFile(process.execPath, [MAIN, ...args], { cwd: directory, env }, (error, out, errors) => {
      resolve({
        code: typeof error?.code === 'number' ? error.code : error === null ? 0 : -1,
        out,
        errors,
      });
    });
  });
}

const CONFIG = `interface: eth0
keyFile: key.hex
controlSocket: baton.sock
virtualServers:
  - {name: www, address: 10.99.0.100, port: 80}
nodes:
  - {name: n1, address: 10.99.0.3}
resources:
  - {path: /, nodes: [n1]}
`;
writeFileSync(join(directory, 'balancer.yaml'), CONFIG);
writeFileSync(
  join(directory, 'node.yaml'),
  'interface: eth0\nkeyFile: key.hex\nvirtualAddresses: [10.99.0.100]\nbalancers: [10.99.0.2]\n',
);

/** The command's output on a terminal with this many columns. */
function onTerminal(columns: number, ...args: string[]): Promise<string> {
  const command = [process.execPath, MAIN, ...args].map((word) => `'${word}'`).join(' ');
  return new Promise((resolve, reject) => {
    const line = `stty cols ${columns} && ${command}`;
    execFile('script', ['-qec', line, '/dev/null'], { cwd: directory }, (error, out) => {
      if (error === null) resolve(out.replaceAll('\r\n', '\n'));
      else reject(error);
    });
  });
}

/** Removes warnings about eth0: this machine may have that interface or not. */
const ONLY_OF_THE_MACHINE = /^(baton: warning: on this machine, interface eth0: .*\n)?$/;

t.test('version and help', async (t) => {
  t.same(await start('--version'), { code: 0, out: `${VERSION}\n`, errors: '' });
  t.match(await start('balancer', '--help'), { code: 0, out: /--config <file>/, errors: '' });
  const nothing = await start();
  t.match(nothing, { code: 1, out: '', errors: /^Usage: baton/ });
});

t.test('a command line that is not valid gives one line and exit code 1', async (t) => {
  const cases: [string[], string][] = [
    [['blancer'], "unknown command 'blancer' (Did you mean balancer?)"],
    [['check'], "required option '-c, --config <file>' not specified"],
    [['check', '-c'], "option '-c, --config <file>' argument missing"],
    [
      ['check', '-c', 'node.yaml', 'more'],
      "too many arguments for 'check'. Expected 0 arguments but got 1.",
    ],
    [['stats', '--jsn'], "unknown option '--jsn' (Did you mean --json?)"],
    [
      ['stats', '-c', 'a', '--socket', 'b'],
      "option '--socket <path>' cannot be used with option '-c, --config <file>'",
    ],
    [
      ['balancer', '-c', 'a', '--replace', '--detach-all'],
      "option '--detach-all' cannot be used with option '--replace'",
    ],
    [
      ['sessions', '--limit', '0'],
      "option '--limit <count>' argument '0' is invalid. Expected a whole number from 1 to 16000000.",
    ],
    [
      ['stats', '--watch', '--wide'],
      "option '--wide' cannot be used with option '-w, --watch [seconds]'",
    ],
    [
      ['capture', '-c', 'a', '-w', 'b', '--client', '192.0.2.7:0'],
      "option '--client <address[:port]>' argument '192.0.2.7:0' is invalid. Expected an IPv4 address, or one with a port, such as 192.0.2.7:40000.",
    ],
    [
      ['capture', '-c', 'a', '-w', 'b', '--snaplen', '63'],
      "option '--snaplen <bytes>' argument '63' is invalid. Expected a whole number from 64 to 262144.",
    ],
    [
      ['replay', '-c', 'a', '--in', 'b', '--checksums', 'maybe'],
      "option '--checksums <how>' argument 'maybe' is invalid. Allowed choices are verify, ignore.",
    ],
    [['\u001b[2J'], "unknown command '\\x1b[2J'"],
  ];
  for (const [args, message] of cases) {
    const refused = { code: 1, out: '', errors: `baton: ${message} (see \`baton --help\`)\n` };
    t.same(await baton(...args), refused);
    if (args[0] === 'check') t.same(await start(...args), refused);
  }
});

t.test('a new key is printed, or written to a new file', async (t) => {
  const printed = await baton('key');
  t.match(printed, { code: 0, out: /^[0-9a-f]{32}\n$/, errors: '' });
  t.same(await baton('key', 'key.hex'), { code: 0, out: '', errors: '' });
  t.equal(statSync(join(directory, 'key.hex')).mode & 0o777, 0o600);
  const before = readFileSync(join(directory, 'key.hex'), 'latin1');
  t.same(await baton('key', 'key.hex'), {
    code: 1,
    out: '',
    errors:
      'baton: key file key.hex: exists, and is not overwritten (to give a new key to balancer and nodes, remove it first)\n',
  });
  t.equal(readFileSync(join(directory, 'key.hex'), 'latin1'), before);
});

t.test('check shows the kind of the config and its meaning', async (t) => {
  const balancer = await baton('check', '-c', 'balancer.yaml');
  t.match(balancer, { code: 0, errors: ONLY_OF_THE_MACHINE });
  t.same(balancer.out.split('\n'), [
    'balancer.yaml: the config of a balancer',
    '  interface        eth0',
    '  own address      the first address of the interface',
    `  key file         ${join(directory, 'key.hex')}`,
    '  datapath         auto',
    `  control socket   ${join(directory, 'baton.sock')}`,
    '  virtual servers  www  10.99.0.100:80, round-robin',
    '  nodes            n1  10.99.0.3, weight 1',
    '  resources        /  n1',
    '',
  ]);
  const node = await baton('check', '-c', 'node.yaml');
  t.match(node, { code: 0, errors: ONLY_OF_THE_MACHINE });
  t.match(node.out, /^node\.yaml: the config of a node\n/);
});

t.test('check only warns about this machine: the config may be for another one', async (t) => {
  writeFileSync(
    join(directory, 'elsewhere.yaml'),
    CONFIG.replace('interface: eth0', 'interface: nosuch0\nnodeInterface: lo\naddress: 10.99.7.7'),
  );
  const checked = await baton('check', '-c', 'elsewhere.yaml');
  t.equal(checked.code, 0);
  t.match(checked.out, /^elsewhere\.yaml: the config of a balancer\n/);
  const lines = checked.errors.trimEnd().split('\n');
  t.equal(lines.length, 2);
  t.match(
    lines[0],
    /^baton: warning: on this machine, interface nosuch0: no such interface \(this machine has .*lo.*\)$/,
  );
  t.match(
    lines[1],
    /^baton: warning: on this machine, interface lo: is the loopback interface; name /,
  );
});

t.test('check counts the remaining entries only if that is shorter than the list', async (t) => {
  for (const [count, last] of [
    [8, 'n8'],
    [9, 'n9'],
    [10, 'and 2 more'],
  ] as const) {
    const one = '  - {name: n1, address: 10.99.0.3}\n';
    const more = Array.from({ length: count - 1 }, (_, index) => index + 2);
    const nodes = more.map((n) => `  - {name: n${n}, address: 10.99.1.${n}}\n`);
    writeFileSync(join(directory, 'many.yaml'), CONFIG.replace(one, `${one}${nodes.join('')}`));
    const { out, code } = await baton('check', '-c', 'many.yaml');
    t.equal(code, 0);
    const lines = out.split('\n');
    const lastOfNodes = lines[lines.findIndex((line) => line.startsWith('  resources')) - 1];
    t.match(lastOfNodes, new RegExp(`^ +${last}`), `${count} nodes`);
  }
});

t.test('check prints one line for each mistake', async (t) => {
  writeFileSync(
    join(directory, 'bad.yaml'),
    CONFIG.replace('port: 80', 'port: 0').replace('[n1]', '[n2, n1]'),
  );
  t.same(await baton('check', '-c', 'bad.yaml'), {
    code: 1,
    out: '',
    errors: [
      'baton: bad.yaml:5:45: virtualServers[0].port: is 0, expected a port number from 1 to 65535\n',
      'baton: bad.yaml:9:23: resources[0].nodes[0]: is "n2", but no node has this name, expected the name of a node\n',
    ].join(''),
  });
  t.same(await baton('check', '-c', 'absent.yaml'), {
    code: 1,
    out: '',
    errors: 'baton: absent.yaml: cannot be read: there is no such file\n',
  });
  writeFileSync(
    join(directory, 'idle.yaml'),
    CONFIG.replace('nodes:\n', 'nodes:\n  - {name: n2, address: 10.99.0.4}\n'),
  );
  t.match(await baton('check', '-c', 'idle.yaml'), {
    code: 0,
    errors:
      'baton: warning: idle.yaml:7:12: nodes[0].name: node "n2" holds no resource, so it gets no sessions: add it to a resource or remove it\n',
  });
});

t.test('check also reads the key file', async (t) => {
  const file = join(directory, 'key.hex');
  chmodSync(file, 0o644);
  t.match(await baton('check', '-c', 'balancer.yaml'), {
    code: 1,
    errors: `baton: key file ${file}: mode 0644 gives access to other users, expected 0600 (run \`chmod 600 ${file}\`)\n`,
  });
  chmodSync(file, 0o600);
});

t.test('a program refuses a config of the other kind before it changes anything', async (t) => {
  t.match(await start('replay', '-c', 'node.yaml', '--in', 'x.pcap'), {
    code: 1,
    errors:
      'baton: node.yaml:1:1: is the config of a node, expected the config of a balancer (run it with `baton node -c node.yaml`)\n',
  });
  t.match(await start('node', '-c', 'balancer.yaml'), {
    code: 1,
    errors: /the config of a balancer, expected the config of a node/,
  });
  t.match(await start('balancer', '-c', 'node.yaml'), {
    code: 1,
    errors: /the config of a node, expected the config of a balancer/,
  });
});

const ROW: SessionRow = {
  client: '10.99.0.200:40000',
  virtualServer: 'www',
  state: 'passing',
  node: 'n1',
  request: 'GET /a.html',
  ageMs: 61_000,
  idleMs: 15,
  packets: 12,
  moves: 2,
};

t.test('commands ask a running balancer through its control socket', async (t) => {
  t.match(await baton('stats', '-c', 'balancer.yaml'), {
    code: 1,
    out: '',
    errors: `baton: control socket ${join(directory, 'baton.sock')}: no balancer is running there (name its config with -c, or its socket with --socket)\n`,
  });
  let running = VERSION;
  let datapath = 'packet';
  const api = new ControlApi({
    stats: async () => ({
      version: running,
      startedAt: 1_700_000_000_000,
      uptimeMs: 3_000,
      interface: 'eth0',
      datapath,
      virtualServers: [
        { name: 'www', address: '10.99.0.100', port: 80, predictor: 'round-robin', active: 1 },
        {
          name: 'old',
          address: '10.99.0.101',
          port: 80,
          predictor: 'round-robin',
          state: 'removed',
          active: 2,
        },
      ],
      nodes: [
        {
          name: 'n1',
          address: '10.99.0.3',
          mac: null,
          weight: 1,
          state: 'down',
          by: 'balancer',
          why: 'no reply',
          since: 1_000,
          condition: 'unresolved',
          sources: [
            { source: 'config', state: 'up', by: 'config', why: '', since: 0 },
            { source: 'balancer', state: 'down', by: 'balancer', why: 'no reply', since: 1_000 },
          ],
          active: 1,
          held: 1,
          adopted: 1,
          lastReportMs: null,
        },
      ],
      notOffered: [],
      sessions: { ...NO_SESSIONS, total: 3, passing: 3 },
      counters: { frames: 1_234, drop_malformed_tcp: 0, drop_ixcp_tag: 2 },
      losses: [],
      stages: [
        {
          worker: 0,
          nanoseconds: {
            waiting: 24e8,
            loop: 3e8,
            receive: 6e7,
            engine: 18e7,
            timers: 15e6,
            flush: 45e6,
          },
          batches: 600,
          frames: 1_200,
        },
      ],
      kernel: null,
    }),
    sessions: async (_, limit) => ({
      sessions: Array(Math.min(limit, 3)).fill(ROW),
      total: 3,
      next: limit < 3 ? limit : null,
    }),
  });
  await api.start(join(directory, 'baton.sock'));
  t.teardown(() => api.stop());

  const stats = await baton('stats', '-c', 'balancer.yaml');
  t.match(stats, { code: 0, errors: '' });
  t.same(stats.out.split('\n'), [
    `Baton ${VERSION} on eth0, datapath packet, up 3.0s`,
    '',
    'VIRTUAL SERVER  ADDRESS         MODE  PREDICTOR    STATE    SESSIONS',
    'www             10.99.0.100:80  -     round-robin  -               1',
    'old             10.99.0.101:80  -     round-robin  removed         2',
    '',
    'NODE  ADDRESS    MAC  STATE  ACTIVE  HELD  ADOPTED  REPORT  WHY',
    'n1    10.99.0.3  -    down        1     1        1       -  unresolved: no reply',
    '',
    'sessions: 3 (half-open 0, collecting 0, handing 0, passing 3, answering 0); ended, kept for late packets: 0',
    '',
    'time of engine thread 0: waiting 80.0 %, loop 10.0 %, receive 2.0 %, engine 6.0 %, timers 0.5 %, flush 1.5 %; 500,000 ns/frame, 2.0 frames/batch',
    '',
    'COUNTER        VALUE',
    'frames         1,234',
    'drop_ixcp_tag      2',
    '(1 more counter is 0)',
    '',
  ]);
  running = '0.0.7';
  t.match(await baton('stats', '-c', 'balancer.yaml'), {
    code: 0,
    out: /^Baton 0\.0\.7 on eth0/,
    errors: `baton: warning: the running balancer is version 0.0.7, this command is version ${VERSION}; \`baton balancer --replace\` starts the installed version\n`,
  });
  datapath = 'xdp (native)';
  t.match(
    (await baton('stats', '-c', 'balancer.yaml')).out,
    /datapath xdp .*\n\(tcpdump .* `baton capture`\)\n\n/,
  );
  const json = await baton('stats', '--socket', 'baton.sock', '--json');
  t.match(JSON.parse(json.out), { counters: { drop_malformed_tcp: 0 }, nodes: [{ mac: null }] });

  const sessions = await baton('sessions', '--socket', 'baton.sock', '--limit', '1');
  t.same(sessions.out.split('\n'), [
    'CLIENT             SERVER  STATE    NODE    AGE  IDLE  PACKETS  MOVES  REQUEST',
    '10.99.0.200:40000  www     passing  n1    1m01s  15ms       12      2  GET /a.html',
    '(1 of 3 sessions; --limit N shows more)',
    '',
  ]);
  // On a terminal, text is cut as far as possible so that tables fit. JSON and --wide are not cut.
  const narrow = await onTerminal(62, 'stats', '-c', 'balancer.yaml');
  t.match(
    narrow,
    /\nNODE {2}ADDRESS {4}MAC {2}STATE {2}ACTIVE {2}HELD {2}ADOPTED {2}REPORT {2}WHY\n/,
  );
  const rows = async (columns: number, ...options: string[]): Promise<string | undefined> =>
    (await onTerminal(columns, 'sessions', '-c', 'balancer.yaml', ...options)).split('\n')[1];
  t.match(
    await rows(80),
    /^10\.99\.0\.200:40000 {2}www {5}passing {2}n1 {4}1m01s {2}15ms {7}12 {6}2 {2}GET \/a\.\.\.$/,
  );
  t.match(await rows(200), /GET \/a\.html$/);
  t.match(await rows(73, '--wide'), /GET \/a\.html$/);
  t.match(await onTerminal(40, 'sessions', '-c', 'balancer.yaml', '--json'), /"GET \/a\.html"/);

  const list = await baton('sessions', '-c', 'balancer.yaml', '--json');
  t.same(JSON.parse(list.out), { sessions: [ROW, ROW, ROW], total: 3 });
});

t.test('counters are explained without a balancer', async (t) => {
  const one = await baton('stats', '--explain', 'closed_idle');
  t.match(one, {
    code: 0,
    errors: '',
    out: /^closed_idle \(counter, sessions\)\n {4}Sessions that ended because /,
  });
  t.ok(one.out.split('\n').every((line) => line.length <= 100));
  const all = await baton('stats', '--explain');
  t.equal(all.out.match(/^\w+ \(counter, /gm)?.length, GLOSSARY.size);
  const { code, out } = await baton('stats', '--explain', 'xdp_absorbed', '--json');
  t.equal(code, 0);
  t.match(JSON.parse(out), {
    xdp_absorbed: { kind: 'counter', unit: 'segments', help: /^ACKs that / },
  });
  t.match(await baton('stats', '--explain', 'absorbed'), {
    code: 1,
    out: '',
    errors: 'baton: there is no counter "absorbed" (similar: xdp_absorbed)\n',
  });
});

t.test('a reader that closes the pipe is not an error', async (t) => {
  const shell = spawn(
    'sh',
    ['-c', `{ "${process.execPath}" "${MAIN}" --help; echo "code $?" >&2; } | true`],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  const chunks: Buffer[] = [];
  shell.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  shell.stderr.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(shell, 'close');
  t.equal(Buffer.concat(chunks).toString(), 'code 0\n');
});
