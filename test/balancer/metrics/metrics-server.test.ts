/** The listener for Prometheus. */
import { once } from 'node:events';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import t from 'tap';
import { MetricsServer } from '../../../src/balancer/metrics/metrics-server.js';
import { LOCALHOST } from '../../../src/wire/address.js';

const ANYWHERE = { address: LOCALHOST, port: 0 };

interface Answer {
  status: number;
  headers: Record<string, unknown>;
  body: string;
}

function ask(server: MetricsServer, path: string, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = request({ host: '127.0.0.1', port: server.port, path, method, agent: false });
    call.once('error', reject);
    call.once('response', async (response) => {
      let body = '';
      for await (const chunk of response.setEncoding('utf8')) body += String(chunk);
      resolve({ status: response.statusCode ?? 0, headers: response.headers, body });
    });
    call.end();
  });
}

async function open(server: MetricsServer): Promise<Socket> {
  const socket = connect(server.port, '127.0.0.1');
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

t.test('it answers GET /metrics, and nothing else', async (t) => {
  const server = await MetricsServer.start(ANYWHERE, async () => 'baton_up 1\n');
  t.teardown(() => server.stop());
  const found = await ask(server, '/metrics');
  t.equal(found.status, 200);
  t.equal(found.body, 'baton_up 1\n');
  t.equal(found.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
  t.equal(found.headers.connection, 'close');
  t.equal((await ask(server, '/metrics?x=1')).status, 200);
  const head = await ask(server, '/metrics', 'HEAD');
  t.same([head.status, head.body], [200, '']);
  t.equal((await ask(server, '/')).status, 404);
  t.equal((await ask(server, '/v1/stats')).status, 404);
  t.equal((await ask(server, '/metrics', 'POST')).status, 405);
});

t.test('a failure is an answer, and the next scrape works', async (t) => {
  let fails = true;
  const server = await MetricsServer.start(ANYWHERE, async () => {
    if (fails) throw new Error('the engine did not answer');
    return 'x 1\n';
  });
  t.teardown(() => server.stop());
  const failed = await ask(server, '/metrics');
  t.equal(failed.status, 503);
  t.match(failed.body, /the engine did not answer/);
  fails = false;
  t.equal((await ask(server, '/metrics')).status, 200);
});

t.test('a scraper that sends nothing or reads nothing is disconnected', async (t) => {
  // More than the buffers of both sockets hold.
  const text = 'x'.repeat(64 * 1024 * 1024);
  const server = await MetricsServer.start(ANYWHERE, async () => text, 200);
  t.teardown(() => server.stop());
  const silent = await open(server);
  const slow = await open(server);
  slow.pause();
  slow.write('GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n');
  silent.resume();
  await once(silent, 'close');
  slow.resume();
  await once(slow, 'close');
  t.ok(slow.bytesRead < text.length, `${slow.bytesRead} bytes were read`);
});

t.test('no more than a few connections are open', async (t) => {
  const server = await MetricsServer.start(ANYWHERE, async () => 'x 1\n');
  t.teardown(() => server.stop());
  const sockets = await Promise.all(Array.from({ length: 12 }, () => open(server)));
  const closed = sockets.map(
    (socket) => new Promise<void>((resolve) => socket.resume().once('close', () => resolve())),
  );
  await Promise.race(closed);
  let left = 0;
  for (const socket of sockets) if (!socket.destroyed) left++;
  t.ok(left < 12, 'some are closed at once');
  for (const socket of sockets) socket.destroy();
  await Promise.all(closed);
  t.equal((await ask(server, '/metrics')).status, 200, 'there is room again');
});

t.test('stopping ends open connections', async (t) => {
  const server = await MetricsServer.start(ANYWHERE, async () => 'x 1\n');
  const socket = await open(server);
  const closed = once(socket.resume(), 'close');
  await server.stop();
  await closed;
  t.pass('both are closed');
});

t.test('an address that is taken is a clear error', async (t) => {
  const server = await MetricsServer.start(ANYWHERE, async () => '');
  t.teardown(() => server.stop());
  await t.rejects(
    MetricsServer.start({ address: LOCALHOST, port: server.port }, async () => ''),
    {
      code: 'BATON_IN_USE',
      where: `metrics.listen 127.0.0.1:${server.port}`,
      message: 'this port is taken',
    },
  );
});
