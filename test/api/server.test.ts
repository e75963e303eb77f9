import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer, request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ControlClient } from '../../src/api/client.js';
import type { Control } from '../../src/api/control.js';
import type { SessionPage, StatsDocument } from '../../src/api/documents.js';
import { ControlApi } from '../../src/api/server.js';
import { renderStats } from '../../src/cli/reports.js';

const directory = mkdtempSync(join(tmpdir(), 'baton-api-'));
t.teardown(() => rmSync(directory, { recursive: true }));
let sockets = 0;
const newPath = (): string => join(directory, `s${sockets++}`);

const STATS: StatsDocument = {
  version: '0.1.0',
  startedAt: 1_700_000_000_000,
  uptimeMs: 12_345.5,
  interface: 'eth0',
  datapath: 'packet',
  virtualServers: [
    { name: 'www', address: '10.99.0.100', port: 80, predictor: 'round-robin', active: 2 },
  ],
  nodes: [
    {
      name: 'n1',
      address: '10.99.0.3',
      mac: '02:00:00:00:00:01',
      weight: 1,
      state: 'up',
      by: 'config',
      why: '',
      since: 1_000,
      condition: 'up',
      sources: [
        { source: 'config', state: 'up', by: 'config', why: '', since: 0 },
        { source: 'balancer', state: 'up', by: 'balancer', why: '', since: 1_000 },
      ],
      active: 2,
      held: 3,
      adopted: 7,
      lastReportMs: 400,
    },
    {
      name: 'n2',
      address: '10.99.0.4',
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
      active: 0,
      held: 0,
      adopted: 0,
      lastReportMs: null,
    },
  ],
  notOffered: [],
  sessions: {
    total: 2_500,
    halfOpen: 1,
    collecting: 0,
    handing: 0,
    passing: 2_499,
    answering: 0,
    closing: 0,
  },
  counters: { frames: 9_007_199_254_740_991, drop_malformed_tcp: 3 },
  losses: [],
  stages: [
    {
      worker: 0,
      nanoseconds: { waiting: 6e9, loop: 1e9, receive: 5e8, engine: 2e9, timers: 1e8, flush: 4e8 },
      batches: 1_000,
      frames: 4_000,
    },
  ],
  kernel: { runNanoseconds: 1_000, runCount: 20 },
};
const TOTAL = 2_500;

/** Sessions in slots 0 to TOTAL - 1. The slot number is the cursor. */
class FakeBalancer implements Pick<Control, 'stats' | 'sessions'> {
  asked: [number, number][] = [];
  async stats(): Promise<StatsDocument> {
    return STATS;
  }
  async sessions(after: number, limit: number): Promise<SessionPage> {
    this.asked.push([after, limit]);
    const end = Math.min(after + limit, TOTAL);
    const sessions = Array.from({ length: end - after }, (_, index) => ({
      client: `10.99.0.200:${after + index}`,
      virtualServer: 'www',
      state: 'passing',
      node: 'n1',
      request: 'GET /\\x1b',
      ageMs: 1_000,
      idleMs: 10,
      packets: 4,
      moves: 0,
    }));
    return { sessions, total: TOTAL, next: end < TOTAL ? end : null };
  }
}

async function get(
  path: string,
  target: string,
  method = 'GET',
): Promise<{ status: number; body: unknown }> {
  const call = request({ socketPath: path, path: target, method, agent: false }).end();
  const [response] = await once(call, 'response');
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode, body: JSON.parse(Buffer.concat(chunks).toString()) };
}

t.test('answers on a socket that only its owner can open', async (t) => {
  const path = join(directory, 'made', 'on', 'the', 'way', 's');
  const balancer = new FakeBalancer();
  const api = new ControlApi(balancer);
  const mask = process.umask();
  await api.start(path);
  t.equal(process.umask(), mask);
  t.equal(statSync(path).mode & 0o777, 0o600);

  const client = new ControlClient(path);
  t.same(await client.stats(), STATS);
  t.equal((await client.sessions(5)).sessions.length, 5);
  t.same(balancer.asked, [[0, 5]]);

  await api.stop();
  t.notOk(existsSync(path), 'the socket is removed');
});

t.test('the client understands a balancer that was started before an update', async (t) => {
  // It sends the document of its own version, without fields that were added later.
  const { notOffered, losses, ...older } = STATS;
  const path = newPath();
  const balancer = new FakeBalancer();
  balancer.stats = () => Promise.resolve(older);
  const api = new ControlApi(balancer);
  await api.start(path);
  t.teardown(() => api.stop());
  const stats = await new ControlClient(path).stats();
  t.same(stats, older);
  t.equal(renderStats(stats), renderStats(STATS), 'missing fields are not shown');
});

t.test('a balancer is asked to leave, after the response has been sent', async (t) => {
  const path = newPath();
  let left = 0;
  const leave = (): void => {
    left += 1;
    void api.stop();
  };
  const api = new ControlApi({ leave });
  t.equal(await new ControlClient(path).leave(), false, 'no balancer is running');
  await api.start(path);
  t.match(await get(path, '/v1/leave'), { status: 405 }, 'a GET does not make it leave');
  t.equal(left, 0);
  t.equal(await new ControlClient(path).leave(), true);
  t.equal(left, 1);
  t.equal(await new ControlClient(path).leave(), false, 'the balancer has left');

  const other = newPath();
  const silent = new ControlApi(new FakeBalancer());
  await silent.start(other);
  t.teardown(() => silent.stop());
  await t.rejects(new ControlClient(other).leave(), {
    code: 'BATON_UNKNOWN',
    message: 'nothing at POST /v1/leave',
  });
});

t.test('long lists come in pages', async (t) => {
  const path = newPath();
  const balancer = new FakeBalancer();
  const api = new ControlApi(balancer);
  await api.start(path);
  t.teardown(() => api.stop());
  const all = await new ControlClient(path).sessions(1_000_000);
  t.equal(all.sessions.length, TOTAL);
  t.equal(all.sessions[TOTAL - 1]?.client, `10.99.0.200:${TOTAL - 1}`);
  t.equal(all.total, TOTAL);
  t.same(balancer.asked, [
    [0, 1_000],
    [1_000, 1_000],
    [2_000, 1_000],
  ]);
});

t.test('a request that is not valid is refused', async (t) => {
  const path = newPath();
  const api = new ControlApi(new FakeBalancer());
  await api.start(path);
  t.teardown(() => api.stop());
  for (const target of [
    'limit=0',
    'limit=1001',
    'limit=x',
    'after=-1',
    'after=4294967296',
    'colour=red',
  ]) {
    const { status, body } = await get(path, `/v1/sessions?${target}`);
    t.equal(status, 400, target);
    t.match(body, { error: { code: 'BATON_REQUEST', message: String } });
  }
  t.equal((await get(path, '/v1/sessions')).status, 200);
  t.match(await get(path, '/v2/stats'), {
    status: 404,
    body: { error: { code: 'BATON_UNKNOWN', message: 'nothing at GET /v2/stats' } },
  });
  t.equal((await get(path, '/v1/stats', 'POST')).status, 405);
});

t.test('a source that fails is a 500, and the client reports it', async (t) => {
  const path = newPath();
  const balancer = new FakeBalancer();
  balancer.stats = () => Promise.reject(new Error('the engine\u001b is gone'));
  const api = new ControlApi(balancer);
  await api.start(path);
  t.teardown(() => api.stop());
  await t.rejects(new ControlClient(path).stats(), {
    code: 'BATON_SYSTEM',
    message: 'the engine\\x1b is gone',
  });
});

t.test('the socket of a process that was killed is replaced', async (t) => {
  const path = newPath();
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`;
  const holder = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(holder.stdout, 'data');

  const second = new ControlApi(new FakeBalancer());
  await t.rejects(second.start(path), {
    code: 'BATON_IN_USE',
    message: 'another balancer uses it',
  });
  await second.stop();
  t.ok(existsSync(path), 'the socket of a running process stays');

  holder.kill('SIGKILL');
  await once(holder, 'exit');
  t.ok(existsSync(path));
  await t.rejects(new ControlClient(path).stats(), {
    code: 'BATON_CONTROL',
    message: 'no balancer is running there',
  });
  const third = new ControlApi(new FakeBalancer());
  await third.start(path);
  t.same(await new ControlClient(path).stats(), STATS);
  await third.stop();
});

t.test('a file with that name stays', async (t) => {
  const path = newPath();
  writeFileSync(path, 'precious');
  const api = new ControlApi(new FakeBalancer());
  await t.rejects(api.start(path), {
    code: 'BATON_IN_USE',
    message: 'exists already, and is not a socket',
  });
  await api.stop();
  t.ok(existsSync(path));
  await t.rejects(new ControlClient(path).stats(), { code: 'BATON_CONTROL' });
});

t.test('the client says what is wrong', async (t) => {
  await t.rejects(new ControlClient(join(directory, 'absent')).stats(), {
    code: 'BATON_CONTROL',
    message: 'no balancer is running there',
  });

  const strangers: [
    string,
    (path: string) => Promise<{ close(): unknown }>,
    { code: string; message: string | RegExp },
  ][] = [
    [
      'another HTTP server',
      (path) =>
        listening(
          createHttpServer((_, response) => response.end('{}')),
          path,
        ),
      { code: 'BATON_CONTROL', message: 'the process that answers is not Baton' },
    ],
    [
      'no HTTP server',
      (path) =>
        listening(
          createServer((socket) => socket.end('+OK hello\r\n')),
          path,
        ),
      { code: 'BATON_CONTROL', message: 'the process that answers is not Baton' },
    ],
    [
      'one that hangs up',
      (path) =>
        listening(
          createServer((socket) => socket.destroy()),
          path,
        ),
      { code: 'BATON_CONTROL', message: 'the process that answers is not Baton' },
    ],
    [
      'a Baton of another form',
      (path) =>
        listening(
          createHttpServer((_, response) =>
            response.setHeader('server', 'Baton').end('{"version": 7}'),
          ),
          path,
        ),
      { code: 'BATON_CONTROL', message: /^the response is not valid/ },
    ],
    [
      'one that says nothing',
      (path) => listening(createServer(() => {}).unref(), path),
      { code: 'BATON_CONTROL', message: 'no answer within 5 s' },
    ],
  ];
  for (const [name, start, expected] of strangers) {
    const path = newPath();
    const server = await start(path);
    await t.rejects(new ControlClient(path).stats(), expected, name);
    server.close();
  }
});

async function listening<Server extends { listen(path: string): Server }>(
  server: Server,
  path: string,
): Promise<Server> {
  server.listen(path);
  await once(server as unknown as NodeJS.EventEmitter, 'listening');
  return server;
}

t.test(
  'another user gets no answer',
  { skip: process.getuid?.() === 0 ? false : 'not root' },
  async (t) => {
    const path = newPath();
    const api = new ControlApi(new FakeBalancer());
    await api.start(path);
    t.teardown(() => api.stop());
    execFileSync('chmod', ['711', directory]);
    const script = `
    import { ControlClient } from ${JSON.stringify(new URL('../../src/api/client.js', import.meta.url).href)};
    process.setgid(65534); process.setuid(65534);
    await new ControlClient(${JSON.stringify(path)}).stats().catch((error) => console.log(error.code, error.message));`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    await once(child, 'close');
    t.equal(Buffer.concat(chunks).toString(), 'BATON_PRIVILEGE permission denied\n');
  },
);
