/** The commands that change a running balancer, and the one that shows its events. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';
import { makeCertificate } from '../../lab/servers/certificates.js';
import type { Change } from '../../src/api/control.js';
import { ControlApi } from '../../src/api/server.js';
import { BatonError } from '../../src/base/errors.js';
import { writeNewKey } from '../../src/config/key.js';
import { Commands, type Outcome } from '../support/commands.js';
import { FakeControl, NODE } from '../support/fake-control.js';

t.setTimeout(FILE_TIMEOUT_MS);

const directory = mkdtempSync(join(tmpdir(), 'baton-cli-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));

writeFileSync(
  join(directory, 'balancer.yaml'),
  `interface: eth0
keyFile: key.hex
controlSocket: baton.sock
virtualServers:
  - {name: www, address: 10.99.0.100, port: 80}
nodes:
  - {name: n1, address: 10.99.0.3}
resources:
  - {path: /, nodes: [n1]}
`,
);

const commands = new Commands(directory);
t.teardown(() => commands.stop());
const baton = (...args: string[]): Promise<Outcome> => commands.run(...args);

const control = new FakeControl();
const api = new ControlApi(control);
t.before(() => api.start(join(directory, 'baton.sock')));
t.teardown(() => api.stop());

t.test('each command makes its change, and prints what has changed', async (t) => {
  const cases: [string[], Change][] = [
    [
      ['drain', 'n1', '--reason', 'new disk'],
      { kind: 'node-state', node: 'n1', state: 'draining', reason: 'new disk' },
    ],
    [['disable', 'n1'], { kind: 'node-state', node: 'n1', state: 'maintenance' }],
    [['enable', 'n1'], { kind: 'node-state', node: 'n1', state: 'up' }],
    [['weight', 'n1', '20'], { kind: 'weight', node: 'n1', weight: 20 }],
    [
      ['add', 'node', 'n2', '10.99.0.4', '--weight', '3'],
      { kind: 'add-node', node: { name: 'n2', address: '10.99.0.4', weight: 3 } },
    ],
    [
      [
        ...['add', 'virtual', 'files', '10.99.0.101:21,9000-9100', '--mode', 'forward'],
        ...['--nodes', 'n1,n2', '--sticky', '30m', '--sticky-prefix', '24'],
      ],
      {
        kind: 'add-virtual-server',
        virtualServer: {
          name: 'files',
          address: '10.99.0.101',
          ports: ['21', '9000-9100'],
          mode: 'forward',
          predictor: 'round-robin',
          nodes: ['n1', 'n2'],
          sticky: '30m',
          stickyPrefix: 24,
        },
      },
    ],
    [
      ['add', 'resource', '/old/', 'n1', '--rewrite', '/new/%p'],
      { kind: 'add-resource', resource: { path: '/old/', rewrite: '/new/%p', nodes: ['n1'] } },
    ],
    [
      ['remove', 'resource', '/', '--alpn', 'h2,http/1.1'],
      { kind: 'remove-resource', path: '/', alpn: ['h2', 'http/1.1'] },
    ],
    [
      ['add', 'virtual', 'shop', '10.99.0.101:8080', '--predictor', 'least-connections'],
      {
        kind: 'add-virtual-server',
        virtualServer: {
          name: 'shop',
          address: '10.99.0.101',
          port: 8080,
          predictor: 'least-connections',
        },
      },
    ],
    [
      ['add', 'resource', 'www.example.org/a/', 'n1', 'n2'],
      {
        kind: 'add-resource',
        resource: { host: 'www.example.org', path: '/a/', nodes: ['n1', 'n2'] },
      },
    ],
    [['remove', 'node', 'n2'], { kind: 'remove-node', node: 'n2' }],
    [['remove', 'virtual', 'shop'], { kind: 'remove-virtual-server', virtualServer: 'shop' }],
    [
      ['remove', 'virtual', 'shop', '--end-sessions'],
      { kind: 'remove-virtual-server', virtualServer: 'shop', endSessions: true },
    ],
    [
      ['remove', 'resource', '/ä b/?x&host=1', 'n2'],
      { kind: 'remove-resource', path: '/ä b/?x&host=1', node: 'n2' },
    ],
    [
      ['remove', 'resource', 'www.example.org/a/'],
      { kind: 'remove-resource', host: 'www.example.org', path: '/a/' },
    ],
    [['reload'], { kind: 'reload', file: join(directory, 'balancer.yaml') }],
  ];
  for (const [args, change] of cases) {
    control.changes = [];
    t.same(
      await baton(...args, '-c', 'balancer.yaml'),
      { code: 0, out: 'node n1: weight 2, was 1\n', errors: '' },
      args.join(' '),
    );
    t.same(control.changes, [{ change, actor: 'local' }], args.join(' '));
  }
});

t.test('defaults are those of the config file', async (t) => {
  control.changes = [];
  await baton('add', 'node', 'n2', '10.99.0.4', '--socket', 'baton.sock');
  await baton('add', 'virtual', 'shop', '10.99.0.101:80', '--socket', 'baton.sock');
  await baton('reload', '--socket', 'baton.sock');
  t.match(
    control.changes.map(({ change }) => change),
    [
      { node: { weight: 1 } },
      { virtualServer: { predictor: 'round-robin' } },
      { kind: 'reload', file: undefined },
    ],
  );
});

t.test('warnings, nothing to change, and the document itself', async (t) => {
  const { report } = control;
  control.report = { changed: [], generation: 3, warnings: ['b.yaml:7:12: a\u001b warning'] };
  t.same(await baton('reload', '-c', 'balancer.yaml'), {
    code: 0,
    out: 'nothing had to change\n',
    errors: 'baton: warning: b.yaml:7:12: a\\x1b warning\n',
  });
  const json = await baton('drain', 'n1', '-c', 'balancer.yaml', '--json');
  t.same(JSON.parse(json.out), control.report);
  control.report = report;
});

t.test('what is wrong is one line, and the exit code 1', async (t) => {
  control.error = new BatonError('BATON_UNKNOWN', 'there is no node "n11"', {
    hint: 'did you mean n1?',
  });
  t.same(await baton('drain', 'n11', '-c', 'balancer.yaml'), {
    code: 1,
    out: '',
    errors: 'baton: there is no node "n11" (did you mean n1?)\n',
  });
  control.error = undefined;
  control.changes = [];
  const cases: [string[], string][] = [
    [
      ['add', 'node', 'n 2', '10.99.0.4'],
      'body: name: is "n 2", expected a name of 1 to 63 letters, digits, ".", "_" and "-"',
    ],
    [
      ['add', 'node', 'n2', '10.99.0'],
      'body: address: is "10.99.0", expected an IP address such as 10.99.0.3 or fd99::3, or local',
    ],
    [
      ['drain', 'n1', '--reason', 'x'.repeat(201)],
      `body: reason: is "${'x'.repeat(60)}"..., expected a text of 0 to 200 characters`,
    ],
    [['config', '--force'], '--force has a meaning only with --save'],
  ];
  for (const [args, message] of cases) {
    const line = `baton: ${message}\n`;
    t.same(await baton(...args, '-c', 'balancer.yaml'), { code: 1, out: '', errors: line });
  }
  const usage: [string[], RegExp][] = [
    [['weight', 'n1', '0'], /Expected a whole number from 1 to 1000\./],
    [['add', 'virtual', 'x', '10.99.0.101:0'], /Expected an address and ports, such as/],
    [['add', 'virtual', 'x', '10.99.0.101:80', '--predictor', 'rr'], /Allowed choices are/],
    [['add', 'resource', 'images', 'n1'], /Expected a path such as/],
    [['add', 'resource', '/images/'], /missing required argument 'nodes'/],
    [['drian', 'n1'], /unknown command 'drian' \(Did you mean drain\?\)/],
    [['remove', 'nod', 'n1'], /unknown command 'nod' \(Did you mean node\?\)/],
  ];
  for (const [args, errors] of usage) t.match(await baton(...args), { code: 1, out: '', errors });
  t.same(control.changes, [], 'nothing has reached the balancer');
});

t.test('the config that runs is printed, or saved', async (t) => {
  t.same(await baton('config', '-c', 'balancer.yaml'), {
    code: 0,
    out: 'nodes: []\n',
    errors: '',
  });
  control.configDocument = { ...control.configDocument, saved: false };
  t.same(await baton('config', '-c', 'balancer.yaml'), {
    code: 0,
    out: 'nodes: []\n',
    errors: 'baton: what runs differs from /etc/b.yaml; `baton config --save` writes it there\n',
  });
  t.same(await baton('config', '--save', '-c', 'balancer.yaml'), {
    code: 0,
    out: '/etc/b.yaml is written\n',
    errors: '',
  });
  await baton('config', '--save', '--force', '-c', 'balancer.yaml');
  t.same(control.saves, [{}, { force: true }]);
});

t.test('a line for the file of tokens', async (t) => {
  t.match(await baton('token', 'alice', 'read-only'), {
    code: 0,
    out: /^alice read-only [A-Za-z0-9_-]{43}\n$/,
    errors: '',
  });
  t.match(await baton('token', 'alice', 'read-olny'), {
    code: 1,
    errors: 'baton: the role is "read-olny", did you mean read-only?\n',
  });
});

t.test('events are shown as they come', async (t) => {
  const child = spawn(process.execPath, [MAIN, 'events', '--no-rates', '-c', 'balancer.yaml'], {
    cwd: directory,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let errors = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk));
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk));
  const until = async (what: string, holds: () => boolean): Promise<void> => {
    for (const limit = Date.now() + PATIENCE_MS; !holds(); await sleep(5)) {
      if (Date.now() > limit) throw new Error(`not within ${PATIENCE_MS} ms: ${what}: ${errors}`);
    }
  };
  await until('the command listens', () => control.listeners.size === 1);
  const { name: node, state, by, since, condition } = NODE;
  const why = 'new\u001b disk';
  const at = new Date(2026, 0, 2, 3, 4, 5).getTime();
  const rates = { seconds: 1, connections: 1, handoffs: 1, packets: 1, bytes: 1, active: 1 };
  control.publish({ id: '1-1', event: { event: 'rates', at, ...rates } });
  control.publish({
    id: '1-2',
    event: { event: 'node', at, node, state, by, why, since, condition },
  });
  control.publish({
    id: '1-3',
    event: { event: 'change', at, by: 'local', changed: ['node n1: weight 2'], generation: 2 },
  });
  await until('both lines are there', () => out.split('\n').length > 2);
  t.equal(
    out,
    '03:04:05 node n1 is draining, by alice: new\\x1b disk\n03:04:05 changed by local: node n1: weight 2\n',
  );
  child.kill('SIGINT');
  t.same(await once(child, 'exit'), [0, null]);
  t.equal(errors, '');
  await until('the balancer knows that it has gone', () => control.listeners.size === 0);
});

t.test('check reads certificate, key and tokens of the API', async (t) => {
  const config = readFileSync(join(directory, 'balancer.yaml'), 'utf8');
  writeFileSync(
    join(directory, 'api.yaml'),
    `${config}api: {listen: "10.99.0.2:8443", certificate: a.pem, key: a.key, tokens: t.txt}\n`,
  );
  writeNewKey(join(directory, 'key.hex'));
  makeCertificate(directory, 'a', { days: 3 });
  const tokens = join(directory, 't.txt');
  writeFileSync(tokens, 'alice admin short\n', { mode: 0o600 });
  t.match(await baton('check', '-c', 'api.yaml'), {
    code: 1,
    errors: `baton: tokens file ${tokens}: line 1: the token of alice is not valid`,
  });
  writeFileSync(tokens, (await baton('token', 'alice', 'admin')).out);
  t.match(await baton('check', '-c', 'api.yaml'), {
    code: 0,
    errors: `baton: warning: certificate ${join(directory, 'a.pem')}: ends on `,
  });
});
