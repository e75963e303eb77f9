/** The API over TLS: real sockets, a real client (curl), certificates that openssl makes. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';
import { makeCertificate } from '../../lab/servers/certificates.js';
import { ApiCounters } from '../../src/api/counters.js';
import { ControlApi } from '../../src/api/server.js';
import type { ApiConfig } from '../../src/config/load.js';
import { requireAddress } from '../../src/wire/address.js';
import { FakeControl } from '../support/fake-control.js';

t.setTimeout(FILE_TIMEOUT_MS);

const ADMIN = 'admin-token-'.repeat(4);
const READER = 'reader-token-'.repeat(4);
const TOKENS = `alice admin ${ADMIN}\nbob read-only ${READER}\n`;

const directory = mkdtempSync(join(tmpdir(), 'baton-tls-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const first = makeCertificate(directory, 'first');
const second = makeCertificate(directory, 'second');

/** A port of loopback that nothing uses. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

interface Started {
  api: ControlApi;
  control: FakeControl;
  counters: ApiCounters;
  warnings: string[];
  options: ApiConfig;
}

let started = 0;

/** An API with files of its own. */
async function start(t: Test): Promise<Started> {
  const prefix = join(directory, `a${started++}`);
  const options = {
    listen: { address: requireAddress('127.0.0.1'), port: await freePort() },
    certificate: `${prefix}.pem`,
    key: `${prefix}.key`,
    tokens: `${prefix}.txt`,
  };
  copyFileSync(first.certificate, options.certificate);
  copyFileSync(first.key, options.key);
  writeFileSync(options.tokens, TOKENS, { mode: 0o600 });
  const control = new FakeControl();
  const counters = new ApiCounters();
  const warnings: string[] = [];
  const log = { warn: (message: string) => void warnings.push(message), info: () => {} };
  const api = new ControlApi(control, { log, counters });
  await api.start(`${prefix}.sock`);
  t.teardown(() => api.stop());
  await readAgain(api, options);
  return { api, control, counters, warnings, options };
}

/** What a reload of the same config does: it reads the files again. */
async function readAgain(api: ControlApi, options: ApiConfig): Promise<void> {
  await (await api.prepareRemote(options)).commit();
}

interface Answer {
  status: number;
  body: unknown;
  headers: string;
}

/** Asks with curl, which checks the certificate. */
function curl(
  { options }: Started,
  target: string,
  token: string | undefined,
  ...more: string[]
): Promise<Answer> {
  const url = `https://127.0.0.1:${options.listen.port}${target}`;
  const bearer = token === undefined ? [] : ['-H', `Authorization: Bearer ${token}`];
  const args = ['-sS', '-i', '--cacert', options.certificate, ...bearer, ...more, url];
  return new Promise((resolve, reject) => {
    execFile('curl', args, (error, out) => {
      if (error !== null) return reject(error);
      const [headers = '', body = ''] = out.split('\r\n\r\n').slice(-2);
      const status = Number(/^HTTP\/\S+ (\d+)/.exec(headers)?.[1]);
      resolve({ status, headers, body: body.startsWith('{') ? JSON.parse(body) : body });
    });
  });
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const limit = Date.now() + PATIENCE_MS; !holds(); await sleep(5)) {
    if (Date.now() > limit) throw new Error(`not within ${PATIENCE_MS} ms: ${what}`);
  }
}

const DRAIN = ['-X', 'PATCH', '-H', 'Content-Type: application/json', '-d', '{"state":"draining"}'];

t.test('a token opens the API, and its name is the actor of changes', async (t) => {
  const api = await start(t);
  t.match(await curl(api, '/v1/nodes', READER), { status: 200, body: { nodes: Array } });
  t.match(await curl(api, '/v1/nodes/n1', ADMIN, ...DRAIN), { status: 200 });
  t.match(api.control.changes, [
    { actor: 'alice', change: { kind: 'node-state', node: 'n1', state: 'draining' } },
  ]);
  t.match(await curl(api, '/v1/openapi.json', READER), { body: { openapi: '3.1.0' } });
});

t.test('without a valid token every call gets 401, also one to nowhere', async (t) => {
  const api = await start(t);
  const cases: [string | undefined, string][] = [
    [undefined, 'the call has no token'],
    [ADMIN.slice(1), 'the token is not valid'],
    ['x'.repeat(2_000), 'the call has no token'],
  ];
  for (const [token, message] of cases) {
    for (const target of ['/v1/nodes', '/v1/nowhere', '/v1/events', '/metrics']) {
      const { status, body, headers } = await curl(api, target, token);
      t.equal(status, 401, target);
      t.match(body, { error: { code: 'BATON_TOKEN', message, where: 'Authorization' } });
      t.match(headers, /^www-authenticate: Bearer realm="baton"\r?$/im);
    }
  }
  t.match(await curl(api, '/v1/nodes', undefined, '-u', `alice:${ADMIN}`), { status: 401 });
  t.equal(api.counters.read().api_no_token, 13);
  t.ok(api.warnings.length >= 1 && api.warnings.length < 13, 'not a line for each call');
  t.equal(
    api.warnings[0],
    'API: a call without a valid token, the last from 127.0.0.1',
    'the first one is logged at once',
  );
  t.notMatch(api.warnings.join('\n'), /token-/);
});

t.test('a token that may only read cannot change anything', async (t) => {
  const api = await start(t);
  const changing: [string, string[]][] = [
    ['/v1/nodes/n1', DRAIN],
    ['/v1/nodes/n1', ['-X', 'DELETE']],
    ['/v1/reload', ['-X', 'POST']],
    ['/v1/config/save', ['-X', 'POST']],
    ['/v1/leave', ['-X', 'POST']],
    ['/v1/capture?snapLength=100&received=true', []],
  ];
  for (const [target, args] of changing) {
    t.match(
      await curl(api, target, READER, ...args),
      { status: 403, body: { error: { code: 'BATON_TOKEN', message: 'token bob may only read' } } },
      target,
    );
  }
  t.same(api.control.changes, []);
  t.same(api.control.saves, []);
  t.equal(api.control.left, 0);
  t.equal(api.counters.read().api_no_right, changing.length);
});

t.test('leaving and the name of a file belong to the unix socket', async (t) => {
  const api = await start(t);
  t.match(await curl(api, '/v1/leave', ADMIN, '-X', 'POST'), {
    status: 403,
    body: { error: { message: 'this call is possible only on the unix socket' } },
  });
  t.equal(api.control.left, 0);
  const reload = ['-X', 'POST', '-H', 'Content-Type: application/json', '-d'];
  t.match(await curl(api, '/v1/reload', ADMIN, ...reload, '{"file": "/etc/shadow"}'), {
    status: 403,
    body: { error: { where: 'body: file' } },
  });
  t.same(api.control.changes, []);
  t.match(await curl(api, '/v1/reload', ADMIN, ...reload, '{}'), { status: 200 });
  t.same(api.control.changes, [{ change: { kind: 'reload' }, actor: 'alice' }]);
});

t.test('TLS 1.2 is the oldest', async (t) => {
  const api = await start(t);
  t.match(await curl(api, '/v1/nodes', READER, '--tls-max', '1.2'), { status: 200 });
  const old = ['--tls-max', '1.1', '--ciphers', 'DEFAULT@SECLEVEL=0'];
  await t.rejects(curl(api, '/v1/nodes', READER, ...old), /curl/);
});

/** The name in the certificate that a new connection gets. */
async function servedName({ options }: Started): Promise<string | undefined> {
  const socket = connect({ ...options.listen, host: '127.0.0.1', rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  const name = socket.getPeerCertificate().subject.CN;
  socket.destroy();
  return Array.isArray(name) ? name[0] : name;
}

t.test('a reload takes certificate and tokens in, or leaves both', async (t) => {
  const started = await start(t);
  const { api, options } = started;
  const carol = 'carol-token-'.repeat(4);
  copyFileSync(second.certificate, options.certificate);
  await t.rejects(readAgain(api, options), {
    code: 'BATON_CERTIFICATE',
    message: `is not the key of the certificate ${options.certificate}`,
  });
  copyFileSync(second.key, options.key);
  writeFileSync(options.tokens, `carol admin ${carol}\nbob`);
  await t.rejects(readAgain(api, options), { code: 'BATON_TOKEN', message: /^has 1 words/ });
  t.equal(await servedName(started), 'first', 'the old certificate still works');

  writeFileSync(options.tokens, `carol admin ${carol}\nbob read-only ${READER}\n`);
  await readAgain(api, options);
  t.equal(await servedName(started), 'second');
  t.match(await curl(started, '/v1/nodes', carol), { status: 200 });
  t.match(await curl(started, '/v1/nodes', READER), { status: 200 });
  t.match(await curl(started, '/v1/nodes', ADMIN), { status: 401 }, 'the token is gone');
});

/** Opens an event stream, and resolves when the response has begun. */
async function listen({ options }: Started, token: string): Promise<TLSSocket> {
  const socket = connect({ ...options.listen, host: '127.0.0.1', rejectUnauthorized: false });
  socket.write(`GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`);
  const [chunk] = (await once(socket, 'data')) as [Buffer];
  if (!chunk.toString().startsWith('HTTP/1.1 200')) throw new Error(chunk.toString());
  socket.resume();
  return socket;
}

t.test('a stream ends when its token is gone, and others go on', async (t) => {
  const started = await start(t);
  const { api, control, options } = started;
  const alice = await listen(started, ADMIN);
  const bob = await listen(started, READER);
  await until('both listen', () => control.listeners.size === 2);
  writeFileSync(options.tokens, `bob read-only ${READER}\n`);
  const ended = once(alice, 'close');
  await readAgain(api, options);
  await ended;
  await until('one is left', () => control.listeners.size === 1);
  const told = once(bob, 'data');
  control.publish({
    id: '1-1',
    event: { event: 'change', at: 1, by: 'local', changed: [], generation: 2 },
  });
  t.match(String((await told)[0]), /event: change/);
  bob.destroy();
});

t.test('it moves to another address, and goes when the config has it no longer', async (t) => {
  const started = await start(t);
  const { api, options } = started;
  const moved = { ...options, listen: { ...options.listen, port: await freePort() } };
  const stream = await listen(started, READER);
  const prepared = await api.prepareRemote(moved);
  t.match(await curl(started, '/v1/nodes', READER), { status: 200 }, 'nothing has changed yet');
  await prepared.abandon();
  t.match(await curl(started, '/v1/nodes', READER), { status: 200 });
  await t.rejects(
    curl({ ...started, options: moved }, '/v1/nodes', READER),
    /Fail|refused|connect/,
  );

  const ended = once(stream, 'close');
  await (await api.prepareRemote(moved)).commit();
  await ended;
  await t.rejects(curl(started, '/v1/nodes', READER), /Fail|refused|connect/);
  t.match(await curl({ ...started, options: moved }, '/v1/nodes', READER), { status: 200 });
  await (await api.prepareRemote(undefined)).commit();
  await t.rejects(
    curl({ ...started, options: moved }, '/v1/nodes', READER),
    /Fail|refused|connect/,
  );
});

t.test('a call that closes its own listener gets its answer', async (t) => {
  const started = await start(t);
  const { api, control } = started;
  control.change = async () => {
    await (await api.prepareRemote(undefined)).commit();
    return control.report;
  };
  t.match(await curl(started, '/v1/reload', ADMIN, '-X', 'POST'), {
    status: 200,
    body: control.report,
  });
  await t.rejects(curl(started, '/v1/nodes', READER), /Fail|refused|connect/);
});

t.test('what cannot work is said at the start', async (t) => {
  const { api, options } = await start(t);
  const taken: Server = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  t.teardown(() => taken.close());
  const { port } = taken.address() as { port: number };
  const text = (name: string, content: string, mode = 0o600): string => {
    const file = join(directory, name);
    writeFileSync(file, content, { mode });
    chmodSync(file, mode);
    return file;
  };
  const encrypted =
    '-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----';
  const cases: [Partial<ApiConfig>, { code: string; message: RegExp; where: RegExp }][] = [
    [
      { listen: { ...options.listen, port } },
      {
        code: 'BATON_IN_USE',
        message: /^this port is taken$/,
        where: /^api\.listen 127/,
      },
    ],
    [
      { listen: { address: requireAddress('192.0.2.1'), port } },
      { code: 'BATON_SYSTEM', message: /does not have this address/, where: /^api\.listen 192/ },
    ],
    [
      { certificate: join(directory, 'absent') },
      { code: 'BATON_CERTIFICATE', message: /there is no such file/, where: /^certificate / },
    ],
    [
      { certificate: text('bad.pem', 'hello') },
      { code: 'BATON_CERTIFICATE', message: /^is not a certificate as PEM/, where: /bad\.pem$/ },
    ],
    [
      { key: text('bad.key', 'hello') },
      { code: 'BATON_CERTIFICATE', message: /^is not a private key as PEM/, where: /bad\.key$/ },
    ],
    [
      { key: text('secret.key', encrypted) },
      { code: 'BATON_CERTIFICATE', message: /passphrase/, where: /secret\.key$/ },
    ],
    [
      { key: text('open.key', 'hello', 0o644) },
      { code: 'BATON_CERTIFICATE', message: /^mode 0644 gives access/, where: /open\.key$/ },
    ],
    [
      { key: second.key },
      { code: 'BATON_CERTIFICATE', message: /^is not the key of the cert/, where: /second\.key$/ },
    ],
    [
      { tokens: join(directory, 'absent') },
      { code: 'BATON_TOKEN', message: /there is no such file/, where: /^tokens file / },
    ],
  ];
  for (const [change, expected] of cases) {
    await t.rejects(
      api.prepareRemote({ ...options, ...change }),
      expected,
      String(expected.message),
    );
  }
});

t.test('a certificate that ends soon is a warning', async (t) => {
  const { api, options, warnings } = await start(t);
  const soon = makeCertificate(directory, 'soon', { days: 3 });
  copyFileSync(soon.certificate, options.certificate);
  copyFileSync(soon.key, options.key);
  const prepared = await api.prepareRemote(options);
  t.match(prepared.warnings, [/^certificate .*: ends on /]);
  t.same(warnings, prepared.warnings, 'the log has them too');
  await prepared.commit();
});

t.test('connections that say nothing end, and there is a limit to them', async (t) => {
  const { options, counters } = await start(t);
  const silent = connect({ ...options.listen, host: '127.0.0.1', rejectUnauthorized: false });
  silent.resume();
  await Promise.all([once(silent, 'secureConnect'), once(silent, 'close')]);
  t.pass('a client that sends no request is cut off');

  const sockets = Array.from({ length: 257 }, () =>
    connect({ ...options.listen, host: '127.0.0.1', rejectUnauthorized: false }),
  );
  for (const socket of sockets) socket.on('error', () => {});
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  await until('one of them is refused', () => counters.read().api_connection_refused > 0);
  t.equal(counters.read().api_connection_refused, 1);
});
