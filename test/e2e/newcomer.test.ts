/**
 * The farm that users begin with: clients behind a router, a bridge, nodes with four kinds of web
 * servers, all offloads at their defaults. Connections go on while the balancer is killed and
 * replaced.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { Arrivals } from '../../lab/clients/arrivals.js';
import { type CurlAnswer, curl, sha256 } from '../../lab/clients/curl.js';
import type { Talk } from '../../lab/clients/websocket-client.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoApache, whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import type { RunResult } from '../../lab/farm/process.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const SERVERS = ['nginx', 'apache', 'node', 'python'] as const;
const film = randomBytes(20_000_000);
/** nginx stores it in a file; Node.js answers with its hash. */
const upload = randomBytes(19_000_000);
const resources = [
  ...SERVERS.map((server, index) => ({ path: `/${server}/`, nodes: [`n${index + 1}`] })),
  { path: '/post', nodes: ['n1'] },
  { path: '/upload', nodes: ['n3'] },
  { path: '/poll', nodes: ['n3'] },
  { path: '/echo', nodes: ['n3'] },
];

function fill(farm: Farm): void {
  farm.webs.forEach((web, index) => {
    web.put(`${SERVERS[index]}/a.txt`, `${SERVERS[index]}\n`);
    web.put(`${SERVERS[index]}/film.bin`, film);
  });
}

/** A connection works when so many messages have come back. */
const SIGN_OF_LIFE = 10;
const REPLACEMENTS = 3;
const SEND = ['-sS', '-m', String(PATIENCE_MS / 1000), '-H', 'Expect:', '--data-binary', '@-'];

/**
 * All clients that are connected while something happens to the balancer: those that stay, and
 * those that arrive.
 */
class Crowd {
  private readonly stop: string;
  private readonly progress: string;
  private readonly arrivals: Arrivals;
  private readonly talk: Promise<RunResult>;
  private readonly poll: Promise<CurlAnswer>;
  private readonly upload: Promise<RunResult>;
  private readonly download: Promise<CurlAnswer>;

  constructor(private readonly farm: Farm) {
    const { client, directory } = farm;
    this.stop = path.join(directory, 'stop');
    this.progress = path.join(directory, 'progress');
    const slowly = ['--limit-rate', '3M'];
    this.arrivals = Arrivals.start(farm, '/nginx/a.txt');
    const talker = fileURLToPath(new URL('../../lab/clients/websocket-client.js', import.meta.url));
    const talk = [talker, `ws://${VIRTUAL_ADDRESS}/echo`, this.progress, this.stop];
    this.talk = client.run(process.execPath, talk, { timeoutMs: FILE_TIMEOUT_MS });
    this.poll = curl(client, `${BASE}/poll`, [], FILE_TIMEOUT_MS);
    this.upload = client.run('curl', [...slowly, ...SEND, `${BASE}/upload`], { input: upload });
    this.download = curl(client, `${BASE}/python/film.bin`, slowly, PATIENCE_MS);
    // A client that fails early is reported at the end.
    for (const end of [this.talk, this.poll, this.upload, this.download]) end.catch(() => {});
  }

  /** Waits until a connection from before has carried messages both ways. */
  async goesOn(when: string): Promise<void> {
    const echoed = (): number =>
      existsSync(this.progress) ? Number(readFileSync(this.progress, 'utf8')) : 0;
    const before = echoed();
    await this.farm.waitFor(
      () => echoed() >= before + SIGN_OF_LIFE,
      `the WebSocket goes on ${when}`,
      PATIENCE_MS,
    );
  }

  /** Ends all clients, and asserts that none has noticed anything. */
  async check(t: Test): Promise<void> {
    writeFileSync(this.stop, '');
    writeFileSync(this.farm.webs[2]?.release ?? '', '');
    const { count, lost, slowestMs } = await this.arrivals.stop();
    t.same(lost, [], `${count} newcomers, each answered in ${slowestMs} ms at most`);
    const talk = JSON.parse((await this.talk).stdout) as Talk;
    t.equal(
      talk.closeCode,
      1000,
      `${talk.echoed} messages came back, each within ${talk.longestMs.toFixed(0)} ms`,
    );
    t.equal((await this.poll).body.toString(), 'released\n', 'the long poll is answered');
    t.equal((await this.upload).stdout, `${sha256(upload)}\n`, 'the upload arrived');
    t.equal(sha256((await this.download).body), sha256(film), 'the download arrived');
  }
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test(
  'a first farm works without any tuning',
  { skip: whyNoFarm() || whyNoApache() },
  async (t) => {
    const use = {
      resources,
      fill,
      nodes: SERVERS.length,
      clientNetwork: true,
      web: SERVERS.map((server) => ({ server })),
      balancer: { datapath: DATAPATH === 'xdp' ? 'auto' : DATAPATH },
    };
    await withFarm(t, use, async (farm) => {
      const { client, webs } = farm;

      await t.test('every kind of server sends short and long answers', async (t) => {
        for (const server of SERVERS) {
          const short = await curl(client, `${BASE}/${server}/a.txt`);
          t.equal(short.body.toString(), `${server}\n`);
          const long = await curl(client, `${BASE}/${server}/film.bin`);
          t.equal(
            sha256(long.body),
            sha256(film),
            `${server}: ${(long.rate / 1e6).toFixed(0)} MB/s`,
          );
        }
      });

      await t.test('uploads and a long head arrive', async (t) => {
        const stored = await client.run('curl', [...SEND, `${BASE}/post`], { input: upload });
        t.equal(stored.stdout, 'stored by n1\n');
        t.equal(
          sha256(webs[0]?.lastPosted() ?? Buffer.alloc(0)),
          sha256(upload),
          'nginx received all of it',
        );
        const hashed = await client.run('curl', [...SEND, `${BASE}/upload`], { input: upload });
        t.equal(hashed.stdout, `${sha256(upload)}\n`, 'Node.js received all of it');
        for (const server of SERVERS) {
          const cookie = `Cookie: c=${'x'.repeat(7_900)}`;
          const { status, seconds } = await curl(client, `${BASE}/${server}/a.txt`, ['-H', cookie]);
          t.equal(status, 200, `${server}: ${seconds.toFixed(3)} s`);
        }
      });

      const ends = DATAPATH === 'packet' && 'sessions of the packet datapath end with the process';
      await t.test(
        'connections outlive a balancer that is killed, started again, and replaced',
        { skip: ends },
        async (t) => {
          const crowd = new Crowd(farm);
          await crowd.goesOn('before');
          await farm.balancerProgram?.kill();
          await crowd.goesOn('while no balancer runs');
          await farm.startBalancer();
          await crowd.goesOn('after a start');
          for (let round = 0; round < REPLACEMENTS; round++) {
            await farm.startBalancer(['--replace']);
            await crowd.goesOn('after a replacement');
          }
          await crowd.check(t);
        },
      );
    });
  },
);
