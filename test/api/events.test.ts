/** Server-sent events of the API: their form, their limits, and how they end. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { PATIENCE_MS } from '../../lab/patience.js';
import { ControlClient } from '../../src/api/client.js';
import type { NumberedEvent } from '../../src/api/control.js';
import { ApiCounters } from '../../src/api/counters.js';
import { EventReader, type ServerEvent } from '../../src/api/event-reader.js';
import { MOST_SUBSCRIBERS } from '../../src/api/event-streams.js';
import { ControlApi } from '../../src/api/server.js';
import { FakeControl } from '../support/fake-control.js';

const directory = mkdtempSync(join(tmpdir(), 'baton-api-'));
t.teardown(() => rmSync(directory, { recursive: true }));
let sockets = 0;

async function start(t: Test, heartbeat?: number) {
  const path = join(directory, `s${sockets++}`);
  const control = new FakeControl();
  const counters = new ApiCounters();
  const api = new ControlApi(control, {
    counters,
    ...(heartbeat === undefined ? {} : { heartbeat }),
  });
  await api.start(path);
  t.teardown(() => api.stop());
  return { path, control, counters, api };
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const limit = Date.now() + PATIENCE_MS; !holds(); await sleep(2)) {
    if (Date.now() > limit) throw new Error(`not within ${PATIENCE_MS} ms: ${what}`);
  }
}

async function open(path: string, headers: Record<string, string> = {}): Promise<IncomingMessage> {
  const asked = request({ socketPath: path, path: '/v1/events', agent: false, headers }).end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  return response;
}

const change = (id: string, ...changed: string[]): NumberedEvent => ({
  id,
  event: { event: 'change', at: 7, by: 'local', changed, generation: 2 },
});

t.test('an event has its id, its kind, and JSON in one line', async (t) => {
  const { path, control } = await start(t);
  const response = await open(path, { 'last-event-id': '5-7' });
  t.match(response, {
    statusCode: 200,
    headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-store', server: 'Baton' },
  });
  t.same(control.seen, ['5-7'], 'the balancer learns what the client has seen');
  let text = '';
  response.on('data', (chunk: Buffer) => (text += chunk));
  control.publish(change('5-8', 'a\nb\r\n\n'));
  await until('the event is there', () => text.includes('data:') && text.endsWith('\n\n'));
  t.equal(
    text,
    `retry: 3000\n\nid: 5-8\nevent: change\ndata: ${JSON.stringify(change('', 'a\nb\r\n\n').event)}\n\n`,
  );
  response.destroy();
  await until('the balancer knows that it has gone', () => control.listeners.size === 0);
});

t.test('a comment comes from time to time', async (t) => {
  const { path } = await start(t, 5);
  const response = await open(path);
  let text = '';
  response.on('data', (chunk: Buffer) => (text += chunk));
  await until('two comments are there', () => text.includes(':\n\n:\n\n'));
  response.destroy();
});

t.test('the client reads events, and leaves out kinds that it does not know', async (t) => {
  const { path, control } = await start(t);
  const got: NumberedEvent[] = [];
  const stream = await new ControlClient(path).events((event) => got.push(event));
  control.publish(change('5-1', 'one'));
  control.publish({ id: '5-2', event: { event: 'later' } } as unknown as NumberedEvent);
  control.publish(change('5-3', 'zwölf 🚀'));
  await until('both are there', () => got.length === 2);
  t.same(got, [change('5-1', 'one'), change('5-3', 'zwölf 🚀')]);
  stream.close();
  await stream.ended;
});

t.test('events may arrive in any pieces', async (t) => {
  const got: ServerEvent[] = [];
  const reader = new EventReader((event) => got.push(event));
  const bytes = Buffer.from(
    'retry: 1\n\nid: 1\nevent: x\ndata: ü1\n\n:\n\ndata:2\r\ndata\r\n\r\nid: 3\n\n',
  );
  for (const byte of bytes) reader.take(Uint8Array.of(byte));
  t.same(got, [
    { id: '1', data: 'ü1' },
    { id: '1', data: '2\n' },
  ]);
});

t.test('beyond the most streams there is 503, until one of them closes', async (t) => {
  const { path, control, counters } = await start(t);
  const streams = await Promise.all(Array.from({ length: MOST_SUBSCRIBERS }, () => open(path)));
  const { statusCode, headers } = (await open(path)).resume();
  t.equal(statusCode, 503);
  t.equal(headers['retry-after'], '5');
  await t.rejects(
    new ControlClient(path).events(() => {}),
    { code: 'BATON_IN_USE', message: '16 event streams are open' },
  );
  t.equal(counters.read().api_event_refused, 2);
  streams[0]?.destroy();
  await until('one has gone', () => control.listeners.size < MOST_SUBSCRIBERS);
  const again = await open(path);
  t.equal(again.statusCode, 200);
  for (const stream of [...streams, again]) stream.destroy();
});

/** A client that asks for events and reads nothing. */
async function deaf(path: string): Promise<Socket> {
  const socket = createConnection(path).pause();
  await once(socket, 'connect');
  socket.write('GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n');
  return socket;
}

t.test('a client that does not read is cut off and counted; others get everything', async (t) => {
  const { path, control, counters } = await start(t);
  let bytes = 0;
  const good = await open(path);
  good.on('data', (chunk: Buffer) => (bytes += chunk.length));
  const socket = await deaf(path);
  await until('both listen', () => control.listeners.size === 2);
  const big = change('5-1', 'x'.repeat(10_000));
  let sent = 0;
  await until('it is cut off', () => {
    control.publish(big);
    sent += 1;
    return control.listeners.size === 1;
  });
  t.equal(counters.read().api_event_slow, 1);
  t.ok(sent < 200, `${sent} events of 10 kB waited`);
  await until('the other has all of them', () => bytes > sent * 10_000);
  socket.destroy();
  good.destroy();
});

t.test('streams end when the balancer stops, also of a client that does not read', async (t) => {
  const { path, control, api } = await start(t);
  const stream = await new ControlClient(path).events(() => {});
  const socket = await deaf(path);
  await until('both listen', () => control.listeners.size === 2);
  await api.stop();
  await stream.ended;
  await until('nobody listens', () => control.listeners.size === 0);
  socket.destroy();
});
