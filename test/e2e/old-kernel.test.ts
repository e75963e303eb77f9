/**
 * A node with Linux 6.1, in an emulated machine: its kernel cannot adopt, so it takes connections
 * by replay of the handshake, without any setting.
 */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { curl, curlAll, sha256 } from '../../lab/clients/curl.js';
import { keptAlive } from '../../lab/clients/kept-alive.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { startOldMachine, whyNoOldMachine } from '../../lab/farm/old-machine.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const long = randomBytes(20_000_000);
const upload = randomBytes(5_000_000);
const MOVES = 20;
const parts = [randomBytes(100_000), randomBytes(100_000)] as const;
const resources = [
  { path: '/old/', nodes: ['n1'] },
  { path: '/new/', nodes: ['n2'] },
];
const files = { 'old/a.txt': 'from Linux 6.1\n', 'old/long.bin': long, 'old/part.bin': parts[0] };

async function start(farm: Farm): Promise<void> {
  farm.webs[1]?.put('new/a.txt', 'from this kernel\n');
  farm.webs[1]?.put('new/part.bin', parts[1]);
  farm.configureBalancer(resources, {
    virtualServers: [{ name: 'www', address: VIRTUAL_ADDRESS, port: 80, keepAlive: 'migrate' }],
  });
  await Promise.all([
    startOldMachine(farm, 0, files),
    farm.webs[1]?.start(),
    farm.startNode(1),
    farm.startBalancer(),
  ]);
  await farm.waitNodesUp();
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test('a node with Linux 6.1', { skip: whyNoFarm() || whyNoOldMachine() }, async (t) => {
  await withFarm(t, { nodes: 2, start }, async (farm) => {
    const get = (path: string) => curl(farm.client, `${BASE}${path}`);
    const counter = async (name: string): Promise<number> =>
      (await farm.stats()).counters[name] ?? 0;

    await t.test('the balancer says how it takes connections', async (t) => {
      const [node] = (await farm.stats()).nodes;
      t.match(node, {
        condition: 'up',
        why: 'takes connections by replay: its agent says that its kernel cannot adopt',
      });
    });

    await t.test('requests', async (t) => {
      t.equal((await get('/old/a.txt')).body.toString(), 'from Linux 6.1\n');
      t.equal((await get('/new/a.txt')).body.toString(), 'from this kernel\n');
      t.ok((await counter('replay_syn')) >= 1);
      const urls = Array.from({ length: 10 }, () => `${BASE}/old/a.txt`);
      const answers = await curlAll(farm.client, urls);
      t.ok(answers.every(({ status }) => status === 200));
      t.equal(answers.filter(({ connects }) => connects === 1).length, 1, 'one connection');
      const closing = await curlAll(farm.client, urls, ['-H', 'Connection: close']);
      t.ok(closing.every(({ status, connects }) => status === 200 && connects === 1));
    });

    await t.test('a long answer, with each set of options', async (t) => {
      for (const option of ['', 'tcp_timestamps', 'tcp_window_scaling', 'tcp_sack']) {
        const set = (value: number): Promise<unknown> =>
          farm.client.run('sysctl', ['-qw', `net.ipv4.${option}=${value}`]);
        if (option !== '') await set(0);
        const answer = await get('/old/long.bin');
        if (option !== '') await set(1);
        t.match(answer, { exit: 0, status: 200 }, option === '' ? 'all' : `without ${option}`);
        t.equal(sha256(answer.body), sha256(long));
      }
    });

    await t.test('an upload', async (t) => {
      const body = path.join(farm.directory, 'upload.bin');
      writeFileSync(body, upload);
      const sent = await curl(farm.client, `${BASE}/old/put/upload.bin`, ['--upload-file', body]);
      t.match(sent, { exit: 0, status: 201 });
      t.equal(sha256((await get('/old/put/upload.bin')).body), sha256(upload));
    });

    await t.test('a kept-alive connection moves to it and away again', async (t) => {
      const before = await counter('moved');
      const requests = Array.from({ length: MOVES + 1 }, (_, index) => ({
        path: index % 2 === 0 ? '/old/part.bin' : '/new/part.bin',
      }));
      const { connections, answers } = await keptAlive(farm.client, VIRTUAL_ADDRESS, requests);
      t.equal(connections, 1);
      const hashes = parts.map((part) => sha256(part));
      t.same(
        answers.map(({ status, sha256 }) => [status, sha256]),
        requests.map((_, index) => [200, hashes[index % 2]]),
      );
      t.equal((await counter('moved')) - before, MOVES);
    });

    t.equal(await counter('handoff_refused'), 0);
    await farm.waitEmpty();
  });
});
