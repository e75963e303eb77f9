/** The access log of a farm: one line for each session, with what is true of it. */
import { renameSync } from 'node:fs';
import t from 'tap';
import { curl } from '../../lab/clients/curl.js';
import { converse } from '../../lab/clients/raw-client.js';
import { Wrk } from '../../lab/clients/wrk.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';
import { type AccessLine, AccessLogReader } from '../../lab/probes/access-log.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const UPLOAD_BYTES = 3_000_000;
/** Times in lines are whole ms, and two clocks are compared. */
const SLACK_MS = 10;

t.setTimeout(FILE_TIMEOUT_MS);

t.test('each session has a line', { skip: whyNoFarm() }, async (t) => {
  const resources = [
    { path: '/', nodes: ['n1', 'n2'] },
    { path: '/one/', nodes: ['n1'] },
  ];
  const fill = (farm: Farm): void => {
    for (const web of farm.webs) {
      web.put('a.txt', 'here\n');
      web.put('one/a.txt', 'one\n');
    }
  };
  const balancer = { accessLog: { file: 'access.json' } };
  await withFarm(t, { resources, fill, nodes: 2, balancer }, async (farm) => {
    const { client } = farm;
    const log = new AccessLogReader(farm, 'access.json');

    await t.test('with what curl knows of it', async (t) => {
      const from = Date.now();
      const args = ['-A', 'a "test"', '-e', 'http://www.example.org/'];
      const answer = await curl(client, `${BASE}/a.txt?q=1`, args);
      t.equal(answer.status, 200);
      const line = await log.ofPort(answer.localPort);
      const { time, duration, time_to_handoff, packets, bytes, node, ...rest } = line;
      t.same(rest, {
        client: client.address,
        client_port: answer.localPort,
        virtual_server: 'www',
        request: 'GET /a.txt?q=1 HTTP/1.1',
        rewritten: null,
        method: 'GET',
        host: VIRTUAL_ADDRESS,
        referer: 'http://www.example.org/',
        user_agent: 'a "test"',
        tried: [],
        status: null,
        closed: 'fin',
        reasons: [],
        worker: 0,
      });
      t.match(node, /^n[12]$/);
      const opened = Date.parse(time);
      t.ok(
        opened >= from - SLACK_MS && opened <= Date.now() + SLACK_MS,
        `${time} is when curl ran`,
      );
      const passed = Date.now() - from;
      t.ok(duration * 1_000 <= passed + SLACK_MS, `${duration} s, and ${passed} ms have passed`);
      t.ok(time_to_handoff !== null && time_to_handoff <= duration, `${time_to_handoff} s`);
      t.ok(packets >= 1, `${packets} packets`);
      const request = `GET /a.txt?q=1 HTTP/1.1\r\nHost: ${VIRTUAL_ADDRESS}\r\nUser-Agent: a "test"\r\nAccept: */*\r\nReferer: http://www.example.org/\r\n\r\n`;
      t.equal(bytes, request.length, 'the bytes of the request');
    });

    await t.test('answers of the balancer itself', async (t) => {
      const bad = await converse(client, {
        address: VIRTUAL_ADDRESS,
        port: 80,
        steps: [{ send: 'GET /b"\\\x07ad\xff HTTP/1.1\r\nX\r\n\r\n' }, { untilClosed: true }],
        timeoutMs: PATIENCE_MS,
      });
      const line = await log.ofPort(bad.localPort);
      t.match(line, { status: 400, node: null, reasons: ['bad-request'] });
      t.equal(line.request, 'GET /b"\\\x07ad\xff HTTP/1.1', 'each character is a byte');
      const silent = await converse(client, {
        address: VIRTUAL_ADDRESS,
        port: 80,
        steps: [{ finish: true }, { untilClosed: true }],
        timeoutMs: PATIENCE_MS,
      });
      const none = await log.ofPort(silent.localPort);
      t.match(none, { status: null, request: null, reasons: ['silent-client'], bytes: 0 });
      await farm.webs[0]!.stop();
      const answer = await curl(client, `${BASE}/one/a.txt`);
      t.equal(answer.status, 503);
      const lost = await log.ofPort(answer.localPort);
      t.match(lost, { status: 503, node: null, tried: ['n1'] });
      t.same([...lost.reasons].sort(), ['no-holder', 'node-refused']);
      await farm.webs[0]!.start();
    });

    await t.test('an upload with its bytes, and a client that resets', async (t) => {
      const head = `POST /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: ${UPLOAD_BYTES}\r\n\r\n`;
      const sent = await converse(client, {
        address: VIRTUAL_ADDRESS,
        port: 80,
        steps: [
          { send: head },
          { send: 'x'.repeat(UPLOAD_BYTES) },
          { hear: 'HTTP/1.1 405' },
          { finish: true },
          { untilClosed: true },
        ],
        timeoutMs: PATIENCE_MS,
      });
      const line = await log.ofPort(sent.localPort);
      t.match(line, { method: 'POST', closed: 'fin', bytes: head.length + UPLOAD_BYTES });
      const gone = await converse(client, {
        address: VIRTUAL_ADDRESS,
        port: 80,
        steps: [
          { send: 'GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n' },
          { hear: 'here\n' },
          { reset: true },
        ],
        timeoutMs: PATIENCE_MS,
      });
      const reset = await log.ofPort(gone.localPort);
      t.match(reset, { closed: 'client-reset', host: 'x' });
    });

    await t.test('under load, also while the file is rotated', async (t) => {
      const rotated = `${log.file}.1`;
      const load = new Wrk(client, `${BASE}/a.txt`, { connections: 16, seconds: 600, close: true });
      const is = (line: AccessLine): boolean => line.user_agent === null && line.request !== null;
      const loaded = (): number => log.lines().filter(is).length;
      await farm.waitFor(() => loaded() >= 1_000, 'lines of wrk');
      renameSync(log.file, rotated);
      process.kill(farm.balancerProgram!.pid, 'SIGUSR1');
      await farm.balancerProgram!.waitForLog(/access log reopened/);
      await farm.waitFor(() => loaded() >= 1_000, 'lines of wrk in the new file');
      await load.stop();
      await farm.waitEmpty();
      const { counters } = await farm.stats();
      const lines = [...log.lines(rotated), ...log.lines()];
      t.equal(lines.length, counters.established, 'a line for each completed handshake');
      t.equal(counters.access_log_lines, lines.length);
      t.ok(lines.length > 2_000, 'there were many');
      for (const name of ['lost', 'ring_lost', 'table_lost'])
        t.equal(counters[`access_log_${name}`], 0);
      const sessions = lines.map(({ client_port, time }) => `${time} ${client_port}`);
      t.equal(new Set(sessions).size, sessions.length, 'no session twice');
    });

    await t.test('what is buffered is written at the end', async (t) => {
      const answer = await curl(client, `${BASE}/a.txt`);
      await farm.balancerProgram!.stop();
      const line = log.lines().find((line) => line.client_port === answer.localPort);
      t.match(line, { request: 'GET /a.txt HTTP/1.1' });
    });
  });
});
