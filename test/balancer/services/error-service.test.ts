import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../../lab/patience.js';
import {
  ErrorService,
  type ErrorServiceOptions,
} from '../../../src/balancer/services/error-service.js';
import { LocalService, type LocalServiceNumber } from '../../../src/wire/ixp.js';

const STATUS = new Map<LocalServiceNumber, [number, string]>([
  [LocalService.badRequest, [400, 'Bad Request']],
  [LocalService.notFound, [404, 'Not Found']],
  [LocalService.timeout, [408, 'Request Timeout']],
  [LocalService.headTooLarge, [431, 'Request Header Fields Too Large']],
  [LocalService.unavailable, [503, 'Service Unavailable']],
]);

async function started(
  t: Tap,
  options?: ErrorServiceOptions,
): Promise<{ service: ErrorService; ports: Map<LocalServiceNumber, number> }> {
  const service = new ErrorService(options);
  t.teardown(() => service.stop());
  return { service, ports: await service.start() };
}
type Tap = { teardown(end: () => unknown): void };

/** All bytes until the server ends its direction, with the time of the first one. */
async function read(socket: Socket): Promise<{ text: string; firstMs: number }> {
  const start = performance.now();
  let firstMs = Number.NaN;
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => {
    if (chunks.length === 0) firstMs = performance.now() - start;
    chunks.push(chunk);
  });
  await once(socket, 'end');
  return { text: Buffer.concat(chunks).toString('latin1'), firstMs };
}

async function until(condition: () => boolean): Promise<void> {
  const limit = performance.now() + PATIENCE_MS;
  while (!condition()) {
    if (performance.now() > limit) throw new Error(`not within ${PATIENCE_MS} ms: ${condition}`);
    await sleep(5);
  }
}

async function open(port: number | undefined): Promise<Socket> {
  const socket = connect({
    port: port ?? 0,
    host: '127.0.0.1',
    allowHalfOpen: true,
    noDelay: true,
  });
  await once(socket, 'connect');
  return socket;
}

async function ask(port: number | undefined, sent: string | Uint8Array): Promise<string> {
  const socket = await open(port);
  socket.write(sent);
  const { text } = await read(socket);
  socket.destroy();
  return text;
}

t.test('each service has its own port and its own response', async (t) => {
  const { service, ports } = await started(t);
  t.same([...ports.keys()].sort(), [1, 2, 3, 4, 5, 6]);
  t.equal(new Set(ports.values()).size, 6);
  for (const [number, [status, reason]] of STATUS) {
    const text = await ask(ports.get(number), 'GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    const [head = '', body = ''] = text.split('\r\n\r\n');
    const [statusLine, ...lines] = head.split('\r\n');
    t.equal(statusLine, `HTTP/1.1 ${status} ${reason}`);
    const fields = new Map(
      lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
    );
    t.match(
      fields.get('Date'),
      /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$/,
    );
    t.equal(fields.get('Content-Type'), 'text/plain; charset=utf-8');
    t.equal(fields.get('Content-Length'), String(body.length));
    t.equal(fields.get('Connection'), 'close');
    t.equal(fields.get('Cache-Control'), 'no-store');
    t.equal(fields.get('Retry-After'), status === 503 ? '1' : undefined);
    t.match(body, new RegExp(`^${status} ${reason}\n\n.+\\.\n$`));
  }
  t.match(service.counts, { accepted: 5, answered: 5, dropped: 0, failed: 0 });
});

t.test('HEAD gets the same head and no body, however its first bytes are split', async (t) => {
  // On a busy machine the rest of the first line must not arrive too late.
  const { ports } = await started(t, { firstBytesMs: PATIENCE_MS });
  const port = ports.get(LocalService.notFound);
  const noDate = (text: string): string => text.replace(/Date: .*\r\n/, '');
  const [head] = (await ask(port, 'GET / HTTP/1.1\r\n\r\n')).split('\r\n\r\n');
  const expected = noDate(`${head}\r\n\r\n`);
  const request = 'HEAD / HTTP/1.1\r\nHost: x\r\n\r\n';
  for (const prefix of ['', '\r\n', '\n', '\r\n\r\n\r\n']) {
    const whole = prefix + request;
    for (let split = 0; split <= 8; split++) {
      const socket = await open(port);
      const answer = read(socket);
      if (split > 0) socket.write(whole.slice(0, split));
      if (split > 0) await sleep(5);
      socket.write(whole.slice(split));
      t.equal(noDate((await answer).text), expected, `split at ${split}`);
      socket.destroy();
    }
  }
  for (const other of [
    'head / HTTP/1.1\r\n\r\n',
    'HEADER / HTTP/1.1\r\n\r\n',
    'POST / HTTP/1.1\r\n\r\n',
  ]) {
    t.match(await ask(port, other), /\r\n\r\n404 Not Found\n/, other);
  }
});

t.test('a client that sends nothing more gets its response after 50 ms', async (t) => {
  const { ports } = await started(t);
  for (const sent of ['', 'H', 'HEA']) {
    const socket = await open(ports.get(LocalService.timeout));
    if (sent !== '') socket.write(sent);
    const { text, firstMs } = await read(socket);
    socket.destroy();
    t.match(text, /^HTTP\/1\.1 408 /);
    t.ok(firstMs > 30 && firstMs < 1_000, `${Math.round(firstMs)} ms`);
  }
});

t.test('garbage gets the same response as a request', async (t) => {
  const { ports } = await started(t);
  const garbage = [
    Uint8Array.of(0x16, 3, 1, 2, 0),
    Uint8Array.of(0),
    '\r\n\r\n\r\n',
    Buffer.alloc(10_000, 0xff),
  ];
  for (const sent of garbage)
    t.match(await ask(ports.get(LocalService.badRequest), sent), /^HTTP\/1\.1 400 Bad Request\r\n/);
});

t.test('a client that ends its direction first still gets its response', async (t) => {
  const { ports } = await started(t);
  const socket = await open(ports.get(LocalService.notFound));
  socket.end('GET / HTTP/1.1\r\n');
  t.match((await read(socket)).text, /^HTTP\/1\.1 404 /);
  const mute = await open(ports.get(LocalService.timeout));
  mute.end();
  t.match((await read(mute)).text, /^HTTP\/1\.1 408 /);
});

t.test('the rest of an upload is read, so that no RST destroys the response', async (t) => {
  const { ports } = await started(t);
  const socket = await open(ports.get(LocalService.notFound));
  const errors: Error[] = [];
  socket.on('error', (error) => errors.push(error));
  const body = Buffer.alloc(900_000, 'x');
  socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n');
  await sleep(100);
  socket.write(body);
  await sleep(100);
  const answer = read(socket);
  t.match((await answer).text, /^HTTP\/1\.1 404 /);
  await new Promise<void>((resolve) => socket.end(resolve));
  await once(socket, 'close');
  t.same(errors, []);
});

t.test('an endless upload is cut after 1 MiB', async (t) => {
  // Its length must end it: the time limit is out of reach.
  const { ports } = await started(t, { lingerMs: FILE_TIMEOUT_MS });
  const socket = await open(ports.get(LocalService.unavailable));
  socket.on('error', () => {});
  socket.resume();
  const piece = Buffer.alloc(65_536);
  let sent = 0;
  const feed = (): void => {
    while (!socket.destroyed && sent < 64 * piece.length) {
      sent += piece.length;
      if (!socket.write(piece)) return;
    }
  };
  socket.on('drain', feed);
  feed();
  await new Promise((resolve) => socket.once('close', resolve));
  t.ok(sent > 1 << 20, `${sent} bytes were sent`);
});

t.test('a silent connection is cut after 2 s', async (t) => {
  const { ports } = await started(t);
  const idle = await open(ports.get(LocalService.unavailable));
  const start = performance.now();
  idle.resume();
  await once(idle, 'end');
  // A write after the server has closed gets an RST.
  await sleep(Math.max(0, 2_200 - (performance.now() - start)));
  const failure = new Promise((resolve) => idle.once('error', resolve));
  const writing = setInterval(() => idle.write('x'), 50);
  const error = await failure;
  clearInterval(writing);
  t.match(error, { code: /ECONNRESET|EPIPE/ });
  idle.destroy();
});

t.test('the silent service only closes', async (t) => {
  const { service, ports } = await started(t);
  const socket = await open(ports.get(LocalService.silentClose));
  t.equal((await read(socket)).text, '');
  socket.destroy();
  t.match(service.counts, { accepted: 1, answered: 0 });
});

t.test('the oldest connection makes room for a new one', async (t) => {
  const { service, ports } = await started(t, { connections: 3, firstBytesMs: PATIENCE_MS });
  const sockets: Socket[] = [];
  for (let index = 0; index < 5; index++) {
    const socket = await open(ports.get(LocalService.notFound));
    socket.on('error', () => {});
    socket.resume();
    sockets.push(socket);
  }
  await until(() => service.counts.accepted === 5);
  t.equal(service.counts.dropped, 2);
  for (const socket of sockets) socket.write('HEAD ');
  await until(() => service.counts.answered === 3);
  await until(() =>
    sockets.slice(0, 2).every((socket) => socket.readableEnded || socket.destroyed),
  );
  t.ok(sockets.slice(2).every((socket) => !socket.destroyed));
  for (const socket of sockets) socket.destroy();
});

t.test('clients that vanish halfway leave nothing behind', async (t) => {
  const { service, ports } = await started(t);
  for (let index = 0; index < 200; index++) {
    const socket = await open(ports.get(LocalService.badRequest));
    socket.on('error', () => {});
    if (index % 3 === 0) socket.write('GET / HT');
    socket.resetAndDestroy();
  }
  await until(() => service.counts.accepted === 200);
  t.equal(service.counts.dropped, 0);
  t.match(await ask(ports.get(LocalService.badRequest), 'x'), /^HTTP\/1\.1 400 /);
});

t.test('stop ends all connections at once', async (t) => {
  const service = new ErrorService({ firstBytesMs: FILE_TIMEOUT_MS, lingerMs: FILE_TIMEOUT_MS });
  const ports = await service.start();
  const socket = await open(ports.get(LocalService.notFound));
  socket.on('error', () => {});
  socket.resume();
  await until(() => service.counts.accepted === 1);
  const start = performance.now();
  await service.stop();
  t.ok(performance.now() - start < PATIENCE_MS, 'and waits for no client');
  const refused = connect({ port: ports.get(LocalService.notFound) ?? 0, host: '127.0.0.1' });
  const [error] = await once(refused, 'error').catch((thrown) => [thrown]);
  t.match(error, { code: 'ECONNREFUSED' });
  socket.destroy();
});

t.test('curl accepts the responses', async (t) => {
  const { ports } = await started(t);
  const curl = (...args: string[]): Promise<string> =>
    new Promise((resolve, reject) => {
      execFile('curl', ['-sS', '--noproxy', '*', '-m', '10', ...args], (error, out) =>
        error === null ? resolve(out) : reject(error),
      );
    });
  const format = ['-o', '/dev/null', '-w', '%{http_code} %{size_download}'];
  for (const [number, [status]] of STATUS) {
    const url = `http://127.0.0.1:${ports.get(number)}/a`;
    t.match(await curl(...format, url), new RegExp(`^${status} [1-9]`));
    t.equal(await curl(...format, '-I', url), `${status} 0`);
    t.match(
      await curl(...format, '--data-binary', 'x'.repeat(1_000), url),
      new RegExp(`^${status} `),
    );
  }
});
