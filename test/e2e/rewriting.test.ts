/** Nodes get other paths than clients ask for: nginx and Apache, both directions, both logs. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { curl, curlAll, sha256 } from '../../lab/clients/curl.js';
import { converse } from '../../lab/clients/raw-client.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Resource } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoApache, whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';
import { type AccessLine, AccessLogReader } from '../../lab/probes/access-log.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const DEEP = `/${'a-long-name/'.repeat(30)}`;
const LONG_FIELD = 'x'.repeat(6_000);
const UPLOAD_BYTES = 3_000_000;

t.setTimeout(FILE_TIMEOUT_MS);

const skip = whyNoFarm() || whyNoApache();
t.test('a node gets the path that its resource says', { skip }, async (t) => {
  const resources: Resource[] = ['n1', 'n2'].flatMap((node) => [
    // Longer, shorter and as long as before.
    { path: `/${node}/longer/`, rewrite: `${DEEP}%p`, nodes: [node] },
    { path: `/${node}/much-shorter-than-this/`, rewrite: '/s/%p', nodes: [node] },
    { path: `/${node}/same/`, rewrite: `/same/${node}/%p`, nodes: [node] },
    { path: `/${node}/page`, rewrite: '/other.html', nodes: [node] },
    { path: `/${node}/`, nodes: [node] },
  ]);
  resources.push({ path: '/store/', rewrite: '/post', nodes: ['n1'] });
  const fill = (farm: Farm): void => {
    for (const web of farm.webs) {
      const { name } = web.host;
      web.put(`${DEEP}a.txt`, `deep on ${name}\n`);
      web.put('s/a b.txt', `short on ${name}\n`);
      web.put(`same/${name}/a.txt`, `same on ${name}\n`);
      web.put('other.html', `other on ${name}\n`);
      web.put(`${name}/a.txt`, `as it is on ${name}\n`);
    }
  };
  const use = {
    nodes: 2,
    resources,
    fill,
    web: [
      // A head of several segments.
      { extra: 'listen 8080;\nlarge_client_header_buffers 8 16k;' },
      {
        server: 'apache' as const,
        extra: 'Listen 8080\nLimitRequestFieldSize 16000\nCustomLog logs/access.log common',
      },
    ],
    balancer: {
      accessLog: { file: 'access.json' },
      virtualServers: [
        { name: 'www', address: VIRTUAL_ADDRESS, port: 80 },
        { name: 'kept', address: VIRTUAL_ADDRESS, port: 8080, keepAlive: 'migrate' },
      ],
    },
  };
  await withFarm(t, use, async (farm) => {
    const log = new AccessLogReader(farm, 'access.json');

    for (const web of farm.webs) {
      const { name } = web.host;
      const cases: [asked: string, got: string | null, body: string][] = [
        [`/${name}/longer/a.txt?q=a%20b`, `${DEEP}a.txt?q=a%20b`, `deep on ${name}\n`],
        [`/${name}/much-shorter-than-this/x/..//%61%20b.txt`, '/s/a%20b.txt', `short on ${name}\n`],
        [`/${name}/same/a.txt`, `/same/${name}/a.txt`, `same on ${name}\n`],
        [`/${name}/page?`, '/other.html?', `other on ${name}\n`],
        [`/${name}/a.txt`, null, `as it is on ${name}\n`],
      ];
      for (const field of ['short', LONG_FIELD]) {
        await t.test(`${name}, a field of ${field.length} bytes`, async (t) => {
          for (const [asked, got, body] of cases) {
            const answer = await curl(farm.client, `${BASE}${asked}`, ['-H', `X-Long: ${field}`]);
            t.equal(answer.status, 200, asked);
            t.equal(answer.body.toString(), body);
            const line: AccessLine = await log.ofPort(answer.localPort);
            t.match(line, { request: `GET ${asked} HTTP/1.1`, rewritten: got, node: name });
            t.equal(line.closed, 'fin');
            const target = got ?? asked;
            await farm.waitFor(
              () => web.requests().includes(`GET ${target} HTTP/1.1`),
              `${name} logs ${target}`,
            );
          }
        });
      }
    }

    await t.test('later requests of a connection get their paths too', async (t) => {
      const paths = [
        'n1/longer',
        'n2/same',
        'n2/much-shorter-than-this/a%20b',
        'n1/page',
        'n2/a.txt',
      ];
      const urls = [...paths, ...paths].map((path) =>
        path.startsWith('n2/much') ? `${BASE}:8080/${path}.txt` : `${BASE}:8080/${path}/a.txt`,
      );
      const wanted = urls.map((url) => url.replace(/(page|a\.txt)\/a\.txt$/, '$1'));
      const answers = await curlAll(farm.client, wanted);
      t.same(
        answers.slice(0, paths.length).map(({ body }) => body.toString()),
        ['deep on n1\n', 'same on n2\n', 'short on n2\n', 'other on n1\n', 'as it is on n2\n'],
      );
      t.equal(
        answers.reduce((sum, { connects }) => sum + connects, 0),
        1,
        'over one connection',
      );
    });

    await t.test('a body is behind it, byte for byte', async (t) => {
      const upload = randomBytes(UPLOAD_BYTES);
      const file = path.join(farm.directory, 'upload');
      writeFileSync(file, upload);
      const args = ['--data-binary', `@${file}`, '-H', 'Expect:'];
      const answer = await curl(farm.client, `${BASE}/store/anything`, args);
      t.equal(answer.body.toString(), 'stored by n1\n');
      t.equal(sha256(farm.webs[0]?.lastPosted() ?? Buffer.alloc(0)), sha256(upload));
    });

    await t.test('the absolute form keeps its authority', async (t) => {
      const head = `GET http://www.example.org/n2/page HTTP/1.1\r\nHost: ${VIRTUAL_ADDRESS}\r\nConnection: close\r\n\r\n`;
      const { text } = await converse(farm.client, {
        address: VIRTUAL_ADDRESS,
        port: 80,
        steps: [{ send: head }, { untilClosed: true }],
        timeoutMs: PATIENCE_MS,
      });
      t.match(text, /^HTTP\/1\.1 200 OK\r\n/);
      t.match(text, /other on n2\n$/);
      await farm.waitFor(
        () => farm.webs[1]!.requests().includes('GET http://www.example.org/other.html HTTP/1.1'),
        'Apache logs the target',
      );
    });

    await t.test('what would be requested is shown before', async (t) => {
      const { stdout } = await farm.baton([
        ...['explain', `${BASE}/n1/longer/b%2fc?d`, '-c', farm.balancerConfig],
      ]);
      t.match(stdout, `rewritten         ${DEEP}b%2Fc?d\n`);
    });

    const { counters } = await farm.stats();
    t.equal(counters.rewrite_no_room, 0);
    t.equal(counters.rewritten, 2 * 2 * 4 + 2 * 4 + 2);
    await farm.waitEmpty();
  });
});
