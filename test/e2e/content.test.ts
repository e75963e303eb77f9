/**
 * Requests by curl and wrk to the virtual address are answered by the node that holds the content.
 * n1 is nginx on port 80, n2 is Apache on port 80, n3 is nginx bound to 127.0.0.1:8080.
 */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { curl, curlAll, sha256 } from '../../lab/clients/curl.js';
import { wrk } from '../../lab/clients/wrk.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoApache, whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const long = randomBytes(50_000_000);
const upload = randomBytes(5_000_000);

const resources = [
  { path: '/one/', nodes: ['n1'] },
  { path: '/two/', nodes: ['n2'] },
  { path: '/three/', nodes: ['n3'] },
  { path: '/both.txt', nodes: ['n1', 'n2'] },
  { path: '/post', nodes: ['n1'] },
  { path: '/one/inner/', nodes: ['n2'] },
  { path: '/café/', nodes: ['n1'] },
  { path: '/na%C3%AFve.txt', nodes: ['n2'] },
  { path: '/only-here.txt', host: 'shop.example.org', nodes: ['n2'] },
];

function fill(farm: Farm): void {
  const names = ['one', 'two', 'three'];
  farm.webs.forEach((web, index) => {
    web.put(`${names[index]}/a.txt`, `from node ${index + 1}\n`);
    web.put(`${names[index]}/b.txt`, `also from node ${index + 1}\n`);
    web.put(`${names[index]}/1k.bin`, Buffer.alloc(1024, index));
    web.put('both.txt', `both: node ${index + 1}\n`);
    web.put('only-here.txt', `shop: node ${index + 1}\n`);
  });
  farm.webs[0]?.put('café/é.txt', 'nginx has é\n');
  farm.webs[1]?.put('naïve.txt', 'node 2 has ï\n');
  farm.webs[1]?.put('one/inner/a.txt', 'inner: node 2\n');
  farm.webs[0]?.put('one/long.bin', long);
  farm.webs[2]?.put('three/long.bin', long);
}

/** A host name for which the nodes close every connection after one answer. */
const CLOSING = 'closing.example.org';

t.setTimeout(FILE_TIMEOUT_MS);

t.test(
  'the node that holds the content answers',
  { skip: whyNoFarm() || whyNoApache() },
  async (t) => {
    const use = {
      resources,
      fill,
      // 2,000 clients at once do not fit into nginx's usual accept queue of 511.
      web: [
        { backlog: 4096, closing: CLOSING },
        { server: 'apache' as const, closing: CLOSING },
        { listen: '127.0.0.1:8080', backlog: 4096 },
      ],
      agents: [{}, {}, { listen: '127.0.0.1:8080' }],
    };
    await withFarm(t, use, async (farm) => {
      const get = (path: string, args: string[] = []) => curl(farm.client, `${BASE}${path}`, args);

      await t.test(
        'each request is answered by the node that holds it, from the virtual address',
        async (t) => {
          for (const [path, node] of [
            ['/one/a.txt', 1],
            ['/two/a.txt', 2],
            ['/three/a.txt', 3],
          ] as const) {
            const answer = await get(path);
            t.equal(answer.status, 200, path);
            t.equal(answer.body.toString(), `from node ${node}\n`);
            t.equal(answer.remoteAddress, VIRTUAL_ADDRESS);
          }
          t.match((await get('/two/a.txt')).headers, /Server: Apache/);
        },
      );

      await t.test('the directory decides by host and normalized path', async (t) => {
        t.equal(
          (await get('/only-here.txt')).status,
          404,
          'no node holds it without the host name',
        );
        const shop = await get('/only-here.txt', ['-H', 'Host: Shop.Example.org:80']);
        t.equal(shop.body.toString(), 'shop: node 2\n');
        const odd = await get('/one/x/../%61.txt?q=/two/');
        t.equal(odd.body.toString(), 'from node 1\n');
      });

      await t.test(
        'other spellings of a path mean the same resource and reach the node unchanged',
        async (t) => {
          // curl sends characters beyond ASCII as they were typed.
          for (const [path, body] of [
            ['/café/é.txt', 'nginx has é\n'],
            ['/caf%C3%A9/%c3%a9.txt', 'nginx has é\n'],
            ['//café//é.txt', 'nginx has é\n'],
            ['/naïve.txt', 'node 2 has ï\n'],
            ['/na%c3%afve.txt', 'node 2 has ï\n'],
            ['//one/a.txt', 'from node 1\n'],
            ['/one//a.txt', 'from node 1\n'],
            ['/x//../one/a.txt', 'from node 1\n'],
            ['/one//inner//a.txt', 'inner: node 2\n'],
            ['//one///inner/a.txt', 'inner: node 2\n'],
            ['/one/x//../inner/a.txt', 'inner: node 2\n'],
          ] as const) {
            const answer = await get(path, ['--path-as-is']);
            t.equal(answer.status, 200, path);
            t.equal(answer.body.toString(), body, path);
          }
        },
      );

      await t.test('a request for content that no node holds gets 404', async (t) => {
        const answer = await get('/none/at-all.txt');
        t.equal(answer.status, 404);
        t.equal(answer.exit, 0);
        t.match(answer.headers, /Connection: close/i);
        const head = await get('/none/at-all.txt', ['-I']);
        t.equal(head.status, 404);
        t.equal(head.exit, 0);
      });

      await t.test('two holders take turns', async (t) => {
        const bodies: string[] = [];
        for (let index = 0; index < 10; index++) {
          bodies.push((await get('/both.txt')).body.toString());
        }
        t.equal(bodies.filter((body) => body === 'both: node 1\n').length, 5);
        t.equal(bodies.filter((body) => body === 'both: node 2\n').length, 5);
      });

      await t.test(
        '50 MB arrive intact, and only requests and ACKs pass the balancer',
        async (t) => {
          for (const path of ['/one/long.bin', '/three/long.bin']) {
            const before = await farm.balancer.traffic();
            const answer = await get(path);
            const after = await farm.balancer.traffic();
            t.equal(answer.exit, 0);
            t.equal(sha256(answer.body), sha256(long), path);
            t.ok(
              after.receivedBytes - before.receivedBytes < long.length / 20,
              'the balancer received little',
            );
            t.ok(after.sentBytes - before.sentBytes < long.length / 20, 'the balancer sent little');
            t.comment(
              `${Math.round(answer.rate / 1e6)} MB/s; ${after.receivedBytes - before.receivedBytes} bytes to the balancer`,
            );
          }
        },
      );

      await t.test('later requests on a connection go to the same node', async (t) => {
        const paths = ['/one/a.txt', '/one/b.txt', '/one/a.txt', '/two/a.txt'];
        const answers = await curlAll(
          farm.client,
          paths.map((path) => BASE + path),
        );
        t.same(
          answers.map((answer) => answer.connects),
          [1, 0, 0, 0],
        );
        t.same(
          answers.map((answer) => answer.status),
          [200, 200, 200, 404],
          'this node does not hold the last one',
        );
        t.match(answers[3]?.headers, /Server: nginx/);
      });

      await t.test('three set-ups help clients whose connections do not move', async (t) => {
        const ask = async (
          urls: readonly string[],
          ...args: string[]
        ): Promise<[number, string, number][]> => {
          const answers = await curlAll(farm.client, urls, args);
          return answers.map(({ status, body, connects }) => [status, body.toString(), connects]);
        };
        const paths = ['/one/a.txt', '/two/a.txt', '/one/b.txt', '/two/b.txt'];
        const from = ['from node 1\n', 'from node 2\n', 'also from node 1\n', 'also from node 2\n'];
        const urls = paths.map((path) => `${BASE}${path}`);
        const kept = await ask(urls);
        t.same(
          kept.map(([status, , connects]) => [status, connects]),
          [
            [200, 1],
            [404, 0],
            [200, 0],
            [404, 0],
          ],
          'a persistent connection gets wrong 404s',
        );
        t.same(
          await ask(urls, '-H', `Host: ${CLOSING}`),
          from.map((body) => [200, body, 1]),
          'way 1: the server closes each connection (keepalive_timeout 0, KeepAlive Off)',
        );
        const names = ['one.example.org', 'two.example.org'];
        const resolve = names.flatMap((name) => ['--resolve', `${name}:80:${VIRTUAL_ADDRESS}`]);
        const named = paths.map((path, index) => `http://${names[index % 2]}${path}`);
        t.same(
          await ask(named, ...resolve),
          from.map((body, index) => [200, body, index < 2 ? 1 : 0]),
          'way 2: a host name for each group gives a persistent connection for each',
        );
        t.same(
          await ask([`${BASE}/two/a.txt`, `${BASE}/both.txt`]),
          [
            [200, 'from node 2\n', 1],
            [200, 'both: node 2\n', 0],
          ],
          'way 3: content that all nodes hold comes from the node of the connection',
        );
      });

      await t.test('an upload of 5 MB arrives intact', async (t) => {
        const file = `${farm.directory}/upload.bin`;
        writeFileSync(file, upload);
        const outside = async (): Promise<number> =>
          (await farm.stats()).counters.drop_out_of_window ?? 0;
        const before = await outside();
        for (const args of [['-H', 'Expect:'], []]) {
          const answer = await get('/post', [...args, '--data-binary', `@${file}`]);
          t.equal(answer.status, 200);
          t.equal(answer.body.toString(), 'stored by n1\n');
          t.equal(sha256(farm.webs[0]?.lastPosted() ?? Buffer.alloc(0)), sha256(upload));
        }
        // This includes the upload that goes on when the node has sent 100: no retransmission, no
        // wait.
        t.equal(await outside(), before, 'no segment was outside the window');
      });

      await t.test('a client port can be used again at once', async (t) => {
        // The client's own TIME-WAIT would keep curl from binding the port, whichever side closes
        // first. The kernel gives this port to no other connection.
        await farm.client.run('sysctl', ['-qw', 'net.ipv4.tcp_max_tw_buckets=0']);
        const silent = async (): Promise<number> =>
          (await farm.stats()).counters.handoff_silent ?? 0;
        const before = await silent();
        const seconds: number[] = [];
        for (let index = 0; index < 12; index++) {
          const path = index % 3 === 2 ? '/two/a.txt' : '/one/a.txt';
          // Until the client's FIN is acknowledged, its own kernel still uses the port.
          await farm.waitFor(
            async () =>
              (await farm.client.run('ss', ['-tanH', 'sport = :20000'])).stdout.trim() === '',
            'the client port is free again',
          );
          const answer = await get(path, ['--local-port', '20000', '-H', 'Connection: close']);
          t.equal(answer.status, 200, `${path}: ${answer.error}`);
          seconds.push(answer.seconds);
        }
        t.equal(await silent(), before, 'each node answered each handoff');
        // A lost SYN is sent again after a second.
        t.ok(Math.max(...seconds) < 0.9, `no request waited: ${Math.max(...seconds)} s at most`);
      });

      await t.test(
        '2,000 connections at a time work with a new connection for each request',
        async (t) => {
          const result = await wrk(farm.client, `${BASE}/one/1k.bin`, {
            connections: 2000,
            seconds: 5,
            close: true,
          });
          t.same(result.errors, { connect: 0, read: 0, write: 0, status: 0, timeout: 0 });
          t.ok(result.requests > 2000, `${result.requests} requests`);
          t.comment(`${Math.round(result.perSecond)} requests/s`);
        },
      );

      await t.test('2,000 persistent connections work', async (t) => {
        const result = await wrk(farm.client, `${BASE}/three/1k.bin`, {
          connections: 2000,
          seconds: 4,
        });
        t.same(result.errors, { connect: 0, read: 0, write: 0, status: 0, timeout: 0 });
        t.comment(`${Math.round(result.perSecond)} requests/s`);
      });

      await t.test('the session table is empty when the connections have ended', async (t) => {
        await farm.waitEmpty();
        const { counters, nodes } = await farm.stats();
        t.same(
          nodes.map(({ active }) => active),
          [0, 0, 0],
        );
        t.equal(counters.drop_transmit_full, 0);
        t.equal(counters.answer_503, 0, 'every request had a node', counters);
      });
    });
  },
);
