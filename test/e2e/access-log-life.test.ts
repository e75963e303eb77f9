/** The access log while things go wrong: a node dies, a disk is full, the balancer is replaced. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { curl } from '../../lab/clients/curl.js';
import type { Talk } from '../../lab/clients/websocket-client.js';
import { Wrk } from '../../lab/clients/wrk.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { findCommand, whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { AccessLogReader } from '../../lab/probes/access-log.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
/** Times in lines are whole ms, and two clocks are compared. */
const SLACK_MS = 10;
const resources = [
  { path: '/', nodes: ['n1', 'n2'] },
  ...['/poll', '/echo'].map((each) => ({ path: each, nodes: ['n3'] })),
];

function fill(farm: Farm): void {
  for (const web of farm.webs) web.put('a.txt', 'here\n');
  // Lines go to a directory of their own, which other users cannot write to.
  mkdirSync(path.join(farm.directory, 'log'), { mode: 0o755 });
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test('the access log goes on', { skip: whyNoFarm() }, async (t) => {
  const web = [{}, {}, { server: 'node' as const }];
  const balancer = { accessLog: { file: 'log/access.json' } };
  await withFarm(t, { resources, fill, nodes: 3, web, balancer }, async (farm) => {
    const { client } = farm;
    const directory = path.join(farm.directory, 'log');
    const log = new AccessLogReader(farm, 'log/access.json');
    const counter = async (name: string): Promise<number> =>
      (await farm.stats()).counters[`access_log_${name}`] ?? 0;

    await t.test('a long poll and a WebSocket have their line at their end', async (t) => {
      const release = farm.webs[2]!.release;
      const before = Date.now();
      const poll = curl(client, `${BASE}/poll`);
      const progress = path.join(farm.directory, 'progress');
      const stop = path.join(farm.directory, 'stop');
      const talker = fileURLToPath(
        new URL('../../lab/clients/websocket-client.js', import.meta.url),
      );
      const talk = client.run(process.execPath, [
        talker,
        `ws://${VIRTUAL_ADDRESS}/echo`,
        progress,
        stop,
      ]);
      const echoed = (): number => (existsSync(progress) ? Number(readFileSync(progress)) : 0);
      const passing = async (): Promise<number> => (await farm.stats()).sessions.passing;
      await farm.waitFor(async () => (await passing()) === 2, 'both sessions');
      const open = Date.now();
      await farm.waitFor(() => echoed() >= 5, 'messages');
      t.same(log.lines(), [], 'no line while they are open');
      const released = Date.now();
      writeFileSync(release, '');
      writeFileSync(stop, '');
      const answer = await poll;
      const line = await log.ofPort(answer.localPort);
      t.match(line, { request: 'GET /poll HTTP/1.1', node: 'n3', status: null, closed: 'fin' });
      const passed = Date.now() - before;
      const lasted = line.duration * 1_000;
      t.ok(lasted >= released - open - SLACK_MS, `${lasted} ms, at least ${released - open}`);
      t.ok(lasted <= passed + SLACK_MS, `and at most ${passed} ms`);
      const told = JSON.parse((await talk).stdout) as Talk;
      const socket = await log.line(
        'the WebSocket',
        ({ request }) => request === 'GET /echo HTTP/1.1',
      );
      t.match(socket, { method: 'GET', node: 'n3', closed: 'fin' });
      // A frame of a client has 6 bytes before its message.
      const messages = Array.from({ length: told.echoed }, (_, i) => 6 + `message ${i}`.length);
      const sent = messages.reduce((sum, bytes) => sum + bytes, 0);
      const rest = socket.bytes - sent;
      t.ok(rest > 100 && rest < 1_000, `${sent} bytes of messages, ${rest} of head and close`);
    });

    await t.test('a node that is gone is named, and the time that it cost', async (t) => {
      await farm.nodes[0]!.setLink(false);
      for (let index = 0; index < 2; index++)
        t.equal((await curl(client, `${BASE}/a.txt?gone`)).status, 200);
      const line = await log.line('a session that moved', ({ tried }) => tried.length > 0);
      t.match(line, {
        request: 'GET /a.txt?gone HTTP/1.1',
        node: 'n2',
        tried: ['n1'],
        status: null,
      });
      t.ok(line.reasons.includes('node-silent'), `${line.reasons}`);
      t.ok((line.time_to_handoff ?? 0) >= 0.3, `${line.time_to_handoff} s`);
      await farm.nodes[0]!.setLink(true);
      await farm.waitNodesUp();
    });

    await t.test(
      'logrotate of the distribution loses nothing',
      { skip: !findCommand('logrotate') && 'needs logrotate' },
      async (t) => {
        const config = path.join(farm.directory, 'logrotate.conf');
        const pid = farm.balancerProgram!.pid;
        writeFileSync(
          config,
          `${log.file} {\n rotate 9\n create 0640 root root\n postrotate\n kill -USR1 ${pid}\n endscript\n}\n`,
          { mode: 0o600 },
        );
        const lines = await counter('lines');
        const load = new Wrk(client, `${BASE}/a.txt`, {
          connections: 8,
          seconds: 600,
          close: true,
        });
        for (let round = 1; round <= 3; round++) {
          const now = await counter('lines');
          await farm.waitFor(async () => (await counter('lines')) > now + 200, 'lines of wrk');
          execFileSync('logrotate', ['-f', '-s', `${config}.state`, config]);
          await farm.waitFor(() => log.lines().length > 0, 'lines in the new file');
        }
        await load.stop();
        await farm.waitEmpty();
        const files = ['.3', '.2', '.1', ''].map((suffix) => log.lines(`${log.file}${suffix}`));
        const { counters } = await farm.stats();
        t.equal(files.flat().length, counters.established, 'a line for each session');
        t.ok((counters.access_log_lines ?? 0) > lines + 600);
        t.equal(counters.access_log_lost, 0);
        for (const [index, each] of files.entries()) t.ok(each.length > 0, `file ${index}`);
      },
    );

    await t.test('a full disk costs lines, and nothing else', async (t) => {
      // The balancer gets the small disk in place of its directory when it opens the file again.
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'baton-test', directory]);
      try {
        const ballast = path.join(directory, 'ballast');
        writeFileSync(ballast, Buffer.alloc(45_056));
        process.kill(farm.balancerProgram!.pid, 'SIGUSR1');
        await farm.waitFor(() => existsSync(log.file), 'the file on the small disk');
        const load = new Wrk(client, `${BASE}/a.txt`, {
          connections: 8,
          seconds: 600,
          close: true,
        });
        await farm.waitFor(async () => (await counter('lost')) > 500, 'lost lines');
        t.ok(log.lines().length > 10, 'the file has whole lines');
        t.equal((await curl(client, `${BASE}/a.txt`)).status, 200);
        // Read first: the room of the ballast is full again within a moment.
        const before = await counter('lines');
        rmSync(ballast);
        await farm.waitFor(async () => (await counter('lines')) > before, 'lines again');
        const result = await load.stop();
        t.equal(result.errors.status + result.errors.timeout, 0, 'clients noticed nothing');
        await farm.balancerProgram!.waitForLog(/lines of the access log were lost: ENOSPC/);
        // The disk may be full again: what it has is whole.
        t.ok(log.lines().length > 10);
      } finally {
        execFileSync('umount', ['-l', directory]);
      }
      // wrk has used most ports, and later clients get some of them again: without its lines, a
      // port names one session.
      await farm.waitEmpty();
      rmSync(log.file);
      process.kill(farm.balancerProgram!.pid, 'SIGUSR1');
      const answer = await curl(client, `${BASE}/a.txt?again`);
      await log.ofPort(answer.localPort);
    });

    await t.test('the next balancer writes the lines of sessions that it takes over', async (t) => {
      const release = farm.webs[2]!.release;
      rmSync(release);
      const poll = curl(client, `${BASE}/poll`);
      await farm.waitFor(async () => (await farm.stats()).sessions.passing === 1, 'the long poll');
      const old = farm.balancerProgram!;
      await farm.startBalancer(['--replace']);
      await old.exited;
      t.notMatch(old.log(), /Debugger listening/, 'SIGUSR1 has started no debugger');
      writeFileSync(release, '');
      const answer = await poll;
      if (DATAPATH === 'xdp') {
        const line = await log.ofPort(answer.localPort);
        t.match(line, { node: 'n3', request: null, closed: 'fin', reasons: ['earlier-run'] });
      }
      await farm.waitNodesUp();
      const next = await curl(client, `${BASE}/a.txt?new`);
      t.match(await log.ofPort(next.localPort), { request: 'GET /a.txt?new HTTP/1.1' });
    });

    await t.test('a reload changes file and format, and turns the log off', async (t) => {
      const other = path.join(directory, 'access.log');
      const reload = async (more: Record<string, unknown>): Promise<void> => {
        farm.configureBalancer(resources.slice(1), more);
        await farm.baton(['reload', '-c', farm.balancerConfig]);
      };
      const before = await curl(client, `${BASE}/a.txt?before`);
      await log.ofPort(before.localPort);
      await reload({ accessLog: { file: 'log/access.log', format: 'combined' } });
      const lines = log.lines().length;
      const args = ['-A', 'a "quoted" name', '-e', 'http://a/\\'];
      t.equal((await curl(client, `${BASE}/none`, args)).status, 404);
      await farm.waitFor(() => readFileSync(other).length > 0, 'a line');
      const text = readFileSync(other, 'utf8');
      t.match(
        text,
        /^10\.99\.0\.200 - - \[\d\d\/[A-Z][a-z]{2}\/\d{4}(:\d\d){3} \+0000\] "GET \/none HTTP\/1\.1" 404 - "http:\/\/a\/\\\\" "a \\"quoted\\" name"\n$/,
      );
      t.equal(log.lines().length, lines, 'the file before gets no more lines');
      await reload({});
      t.equal((await curl(client, `${BASE}/none`)).status, 404);
      await farm.waitEmpty();
      await farm.balancerProgram!.stop();
      t.equal(readFileSync(other, 'utf8'), text, 'no line while the log is off');
    });
  });
});
