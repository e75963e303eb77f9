/** The access log of a balancer is turned on and off, and changed, while sessions end. */
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../../lab/patience.js';
import { httpServer, serverSlot } from '../../../lab/virtual-server.js';
import { AccessLog, type Recordable } from '../../../src/balancer/access-log/access-log.js';
import { AccessRecorder } from '../../../src/balancer/access-log/recorder.js';
import type { FarmSlots } from '../../../src/balancer/objects/farm.js';
import { monotonicClock } from '../../../src/base/clock.js';
import type { Log } from '../../../src/base/log.js';
import { SessionState, SessionTable } from '../../../src/engine/table/session-table.js';
import { toAddress } from '../../../src/wire/address.js';

/** Engine threads that record sessions of one client port after the other. */
class Engines implements Recordable {
  private recorders: AccessRecorder[] = [];
  private readonly tables = [new SessionTable(4, 8, 1, 2), new SessionTable(4, 8, 1, 2)];
  private readonly clock = monotonicClock();
  private port = 1;

  async setAccessLog(rings: readonly SharedArrayBuffer[] | undefined): Promise<void> {
    this.recorders = (rings ?? []).map(
      (ring, worker) => new AccessRecorder(ring, this.tables[worker]!),
    );
  }

  get areRecording(): boolean {
    return this.recorders.length > 0;
  }

  /** A session of this node begins and ends on an engine thread. Returns the client's port. */
  session(worker: number, node: number): number {
    const port = this.port++;
    const table = this.tables[worker]!;
    const now = this.clock();
    const slot = table.insert(0x0a00_0001, port << 16, now);
    const head = Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    this.recorders[worker]?.request(slot, 1, head, 0, 5, now, head.length);
    table.setNode(slot, node);
    table.setState(slot, SessionState.handing);
    this.recorders[worker]?.closed(slot, 'fin', now);
    table.remove(slot);
    return port;
  }
}

t.setTimeout(FILE_TIMEOUT_MS);

const slots = (names: readonly string[]): FarmSlots => ({
  nodes: names.map((name, slot) => ({
    slot,
    name,
    address: 1 as never,
    weight: 1,
    retired: false,
  })),
  servers: [serverSlot(0, httpServer('www', toAddress(1), 80))],
});

interface Line {
  client_port: number;
  node: string | null;
  worker: number;
  request: string;
}
const linesOf = (file: string): Line[] =>
  readFileSync(file, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);

async function until(test: () => boolean): Promise<void> {
  for (const limit = Date.now() + PATIENCE_MS; !test(); await sleep(5))
    if (Date.now() > limit) throw new Error('not in time');
}

function setUp(t: Test): { log: AccessLog; engines: Engines; said: string[]; directory: string } {
  const said: string[] = [];
  const say = (message: string): void => void said.push(message);
  const log: Log = { error: say, warn: say, info: say, debug: say };
  const accessLog = new AccessLog({ workers: 2, log });
  t.teardown(() => accessLog.stop());
  return { log: accessLog, engines: new Engines(), said, directory: t.testdir() };
}

t.test('lines of all engine threads, with names by slot, and everything at the end', async (t) => {
  const { log, engines, directory } = setUp(t);
  const file = path.join(directory, 'access.json');
  await log.change({ file, format: 'json' });
  await log.setNames(slots(['n1', 'n2']));
  await log.attach(engines);
  const ports = [engines.session(0, 0), engines.session(1, 1)];
  await log.stop();
  const lines = linesOf(file);
  t.match(lines, [
    { client_port: ports[0], node: 'n1', worker: 0, request: 'GET / HTTP/1.1' },
    { client_port: ports[1], node: 'n2', worker: 1, request: 'GET / HTTP/1.1' },
  ]);
  t.same(log.counters(), { lines: 2, lost: 0, ring_lost: 0, table_lost: 0 });
});

t.test('a session has the name that its node had when it ended', async (t) => {
  const { log, engines, directory } = setUp(t);
  const file = path.join(directory, 'access.json');
  await log.change({ file, format: 'json' });
  await log.attach(engines);
  for (const name of ['old', 'new']) {
    await log.setNames(slots([name]));
    engines.session(0, 0);
    // Slots of nodes are used again only after their sessions have ended.
    await until(() => linesOf(file).some(({ node }) => node === name));
  }
  t.same(
    linesOf(file).map(({ node }) => node),
    ['old', 'new'],
  );
});

t.test('on and off, to other files, in another format', async (t) => {
  const { log, engines, directory } = setUp(t);
  await log.attach(engines);
  t.notOk(engines.areRecording, 'nothing is recorded without the key');
  engines.session(0, 0);
  const [one, two] = [path.join(directory, 'one'), path.join(directory, 'two')];
  await log.change({ file: one, format: 'json' });
  const first = engines.session(0, 0);
  await log.change({ file: two, format: 'json' });
  t.same(
    linesOf(one).map(({ client_port }) => client_port),
    [first],
    'what was recorded before is in the file before',
  );
  engines.session(1, 0);
  await log.change({ file: two, format: 'combined' });
  engines.session(1, 0);
  await log.change(undefined);
  t.notOk(engines.areRecording);
  engines.session(1, 0);
  t.match(
    readFileSync(two, 'utf8'),
    /^\{"time".*\}\n10\.0\.0\.1 - - \[.*\] "GET \/ HTTP\/1\.1" - - "-" "-"\n$/,
  );
  await log.change({ file: one, format: 'json' });
  const last = engines.session(0, 0);
  await log.stop();
  t.same(
    linesOf(one).map(({ client_port }) => client_port),
    [first, last],
  );
  t.equal(log.counters().lines, 4, 'counters go on');
});

t.test('a file that cannot be opened changes nothing', async (t) => {
  const { log, engines, directory } = setUp(t);
  await log.attach(engines);
  const wrong = { file: path.join(directory, 'none', 'log'), format: 'json' } as const;
  const refusal = { code: 'BATON_LOG', where: wrong.file, message: /no such directory/ };
  await t.rejects(log.change(wrong), refusal);
  t.notOk(engines.areRecording);
  const file = path.join(directory, 'log');
  await log.change({ file, format: 'json' });
  await t.rejects(log.change({ ...wrong, format: 'combined' }), refusal);
  const port = engines.session(0, 0);
  await log.stop();
  t.match(linesOf(file), [{ client_port: port }], 'the log goes on as before');
});

t.test('reopening: no line is lost, also if the file cannot be opened', async (t) => {
  const { log, engines, said, directory } = setUp(t);
  const file = path.join(directory, 'log', 'access.json');
  mkdirSync(path.dirname(file));
  await log.change({ file, format: 'json' });
  await log.attach(engines);
  const first = engines.session(0, 0);
  renameSync(file, `${file}.1`);
  const second = engines.session(0, 0);
  log.reopen();
  await until(() => existsSync(file));
  t.same(
    linesOf(`${file}.1`).map(({ client_port }) => client_port),
    [first, second],
  );
  const moved = path.join(directory, 'moved');
  renameSync(path.dirname(file), moved);
  log.reopen();
  await until(() => said.some((message) => /still go to the file before/.test(message)));
  const third = engines.session(0, 0);
  await log.stop();
  t.match(linesOf(path.join(moved, 'access.json')), [{ client_port: third }]);
});

t.test('engine threads that do not answer leave no log thread behind', async (t) => {
  const { log, directory } = setUp(t);
  await log.attach({ setAccessLog: async () => Promise.reject(new Error('no answer')) });
  const file = path.join(directory, 'log');
  await t.rejects(log.change({ file, format: 'json' }), { message: 'no answer' });
  t.same(linesOf(file), []);
  log.reopen();
});
