/**
 * The farm that people begin with: clients behind a router, a bridge, nodes with four kinds of web servers, every offload
 * as the kernel has it. And what goes on there, while the balancer is killed and replaced.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import t from 'tap';
import { whyNoFarm, withFarm } from '../support/farm/needs.js';
import { curl, sha256 } from '../support/farm/requests.js';
import { APACHE } from '../support/farm/web.js';
import { DATAPATH, type Farm, VIRTUAL_ADDRESS } from '../support/farm.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../support/patience.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const SERVERS = ['nginx', 'apache', 'node', 'python'] as const;
const film = randomBytes(20_000_000);
/** nginx keeps it in a file, Node answers with its hash. */
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

t.setTimeout(FILE_TIMEOUT_MS);

t.test('a first farm', { skip: whyNoFarm() || (!existsSync(APACHE) && `needs ${APACHE}`) }, async (t) => {
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

    await t.test('every server answers, short and long', async (t) => {
      for (const server of SERVERS) {
        const short = await curl(client, `${BASE}/${server}/a.txt`);
        t.equal(short.body.toString(), `${server}\n`);
        const long = await curl(client, `${BASE}/${server}/film.bin`);
        t.equal(sha256(long.body), sha256(film), `${server}: ${(long.rate / 1e6).toFixed(0)} MB/s`);
      }
    });

    await t.test('uploads, and a long head', async (t) => {
      const send = ['-H', 'Expect:', '--data-binary', '@-'];
      const stored = await client.run(
        'curl',
        ['-sS', '-m', String(PATIENCE_MS / 1000), ...send, `${BASE}/post`],
        {
          input: upload,
        },
      );
      t.equal(stored.stdout, 'stored by n1\n');
      t.equal(sha256(webs[0]?.lastPosted() ?? Buffer.alloc(0)), sha256(upload), 'nginx has all of it');
      const hashed = await client.run(
        'curl',
        ['-sS', '-m', String(PATIENCE_MS / 1000), ...send, `${BASE}/upload`],
        {
          input: upload,
        },
      );
      t.equal(hashed.stdout, `${sha256(upload)}\n`, 'Node has all of it');
      for (const server of SERVERS) {
        const cookie = `Cookie: c=${'x'.repeat(7_900)}`;
        const { status, seconds } = await curl(client, `${BASE}/${server}/a.txt`, ['-H', cookie]);
        t.equal(status, 200, `${server}: ${seconds.toFixed(3)} s`);
      }
    });
  });
});
