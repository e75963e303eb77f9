/**
 * Stopped web servers (SIGSTOP), while the kernels of their nodes go on adopting sessions; and slow
 * web servers.
 */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { type CurlAnswer, curl } from '../../lab/clients/curl.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const LONGEST_MS = 30_000;
const REQUESTS = 12;

const resources = [
  { path: '/one/', nodes: ['n1'] },
  { path: '/both/', nodes: ['n1', 'n2'] },
  { path: '/poll', nodes: ['n2', 'n3'] },
  { path: '/upload', nodes: ['n2', 'n3'] },
];

function fill(farm: Farm): void {
  farm.webs.forEach((web, index) => {
    web.put('one/a.txt', `from node ${index + 1}\n`);
    web.put('both/a.txt', `from node ${index + 1}\n`);
  });
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test(
  'a request that a stopped web server has not read goes to the next holder',
  { skip: whyNoFarm() },
  async (t) => {
    const web = [{}, {}, { server: 'node' as const }];
    await withFarm(t, { resources, fill, nodes: 3, web }, async (farm) => {
      const get = (path: string, args: readonly string[] = []): Promise<CurlAnswer> =>
        curl(farm.client, BASE + path, args, LONGEST_MS);
      const counter = async (name: string): Promise<number> =>
        (await farm.stats()).counters[name] ?? 0;
      const nodeState = async (
        node: number,
      ): Promise<{ state: string; condition: string; why?: string }> =>
        (await farm.stats()).nodes[node]!;
      const [web1, , app] = farm.webs;

      await t.test('a server that has read a request may answer late', async (t) => {
        // One of the two goes to the node without /poll, which answers 404.
        const polls = [get('/poll'), get('/poll')];
        await farm.waitFor(
          async () => (await counter('unanswered_asked')) > 0,
          'the balancer has asked the node',
          LONGEST_MS,
        );
        writeFileSync(app!.release, '');
        const answers = await Promise.all(polls);
        t.same(answers.map(({ status }) => status).sort(), [200, 404]);
        t.equal(await counter('handoff_taken_back'), 0);
        t.equal((await nodeState(2)).condition, 'up');
      });

      await t.test(
        'unread requests go to the next holder, and the stopped node comes back',
        async (t) => {
          web1!.signal('SIGSTOP');
          const answers = await Promise.all(
            Array.from({ length: REQUESTS }, () => get('/both/a.txt')),
          );
          t.same(
            [...new Set(answers.map(({ status, body }) => `${status} ${body}`))],
            ['200 from node 2\n'],
          );
          t.ok((await counter('handoff_taken_back')) > 0);
          const { state, condition, why } = await nodeState(0);
          t.same([state, condition], ['down', 'suspended']);
          t.match(why, /does not read the requests of www/);
          // No other node holds this: the request waits, as for a slow server.
          const taken = await counter('adopted');
          const waiting = get('/one/a.txt');
          await farm.waitFor(
            async () => (await counter('adopted')) > taken,
            'the waiting request is adopted',
          );
          web1!.signal('SIGCONT');
          t.equal((await waiting).status, 200);
          await farm.waitFor(
            async () => (await get('/both/a.txt')).body.toString() === 'from node 1\n',
            'node 1 is up again',
            LONGEST_MS,
          );
          t.match(await nodeState(0), { state: 'up', condition: 'up' });
        },
      );

      await t.test('a request that may change something is never sent twice', async (t) => {
        app!.signal('SIGSTOP');
        const taken = await counter('adopted');
        const posts = [1, 2].map(() => get('/upload', ['--data-binary', 'once']));
        await farm.waitFor(
          async () => (await counter('adopted')) >= taken + 2,
          'both are handed over',
        );
        // Safe requests are taken back meanwhile, when it is the turn of the node that stands
        // still.
        const before = await counter('handoff_taken_back');
        await farm.waitFor(async () => {
          t.equal((await get('/poll')).status, 404, 'from node 2');
          return (await counter('handoff_taken_back')) > before;
        }, 'a safe request is taken back');
        app!.signal('SIGCONT');
        const answers = await Promise.all(posts);
        const digest = createHash('sha256').update('once').digest('hex');
        const served = answers.filter(({ status }) => status === 200);
        t.same(
          served.map(({ body }) => body.toString().trim()),
          [digest],
          'the node that had it answered',
        );
        t.equal(app!.requests().filter((line) => line.startsWith('POST')).length, 1);
      });
    });
  },
);
