/** `baton explain` names the node that then answers. */
import path from 'node:path';
import t from 'tap';
import { curl } from '../../lab/clients/curl.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { CONTROL_SOCKET } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { ControlClient } from '../../src/api/client.js';
import type { ExplainDocument, ExplainQuery } from '../../src/api/documents.js';

const URL = `http://${VIRTUAL_ADDRESS}/a.txt`;
const OTHER = `http://${VIRTUAL_ADDRESS}:8080/a.txt`;
/** Requests of each kind. */
const REQUESTS = 12;
const CLIENT_PORT = 50_000;

const resources = [
  { path: '/', nodes: ['n1', 'n2', 'n3'] },
  { host: '*.example.org', path: '/', nodes: ['n2', 'n3'] },
  { path: '/only/', nodes: ['n3'] },
];

t.setTimeout(FILE_TIMEOUT_MS);

t.test('explain says which node a request gets', { skip: whyNoFarm() }, async (t) => {
  const fill = (farm: Farm): void => {
    for (const web of farm.webs) web.put('a.txt', `${web.host.name}\n`);
  };
  const balancer = {
    workers: 2,
    virtualServers: [
      { name: 'www', address: VIRTUAL_ADDRESS, port: 80, predictor: 'round-robin' },
      { name: 'busy', address: VIRTUAL_ADDRESS, port: 8080, predictor: 'least-connections' },
    ],
  };
  const web = [1, 2, 3].map(() => ({ extra: 'listen 8080;' }));
  await withFarm(t, { nodes: 3, resources, fill, balancer, web }, async (farm) => {
    const client = new ControlClient(path.join(farm.directory, CONTROL_SOCKET));
    const explain = (query: ExplainQuery): Promise<ExplainDocument> => client.explain(query);

    await t.test('the node that explain names answers the next request', async (t) => {
      const differ = new Set<string>();
      let nextPort = CLIENT_PORT;
      for (let i = 0; i < REQUESTS; i++) {
        for (const [url, host] of [
          [URL, undefined],
          [URL, 'www.example.org'],
          [OTHER, undefined],
        ] as const) {
          // The loads must not change between the question and the request.
          await farm.waitFor(
            async () => (await farm.stats()).nodes.every(({ active }) => active === 0),
            'the sessions before have ended',
          );
          // Each from a port of its own: the client keeps the last one in TIME-WAIT.
          const port = nextPort++;
          const header = host === undefined ? [] : ['-H', `Host: ${host}`];
          const said = await explain({
            url,
            ...(host === undefined ? {} : { host }),
            from: `${farm.client.address}:${port}`,
          });
          const answer = await curl(farm.client, url, ['--local-port', String(port), ...header]);
          t.equal(answer.body.toString().trim(), said.chosen, `${url} ${host ?? ''} from ${port}`);
          t.equal(said.thread.known, true);
          differ.add(`${said.thread.number} ${said.chosen}`);
        }
      }
      t.ok(differ.size > 3, `threads and nodes: ${[...differ].join(', ')}`);
    });

    await t.test('the command says the same as the API', async (t) => {
      const config = ['-c', farm.balancerConfig];
      const { stdout } = await farm.baton(['explain', URL, ...config, '--host', 'a.example.org']);
      t.match(stdout, /resource +\*\.example\.org\/ \(hosts below this one/);
      t.match(stdout, /would match next +\/ \(any host/);
      t.match(stdout, /engine thread +0 of 2; which one depends on the port/);
      t.match(stdout, /^=> +n[23] +up +up +1 +0 .*chosen: it is its turn$/m);
      const json = await farm.baton(['explain', URL, ...config, '--json']);
      t.match(JSON.parse(json.stdout), { virtualServer: 'www', lookedUp: { path: '/a.txt' } });
      const wrong = await farm.baton(['explain', 'http://10.99.0.7/', ...config], {
        allowFailure: true,
      });
      t.equal(wrong.code, 1);
      t.match(wrong.stderr, /no virtual server is at 10\.99\.0\.7:80.*www \(10\.99\.0\.100:80\)/);
    });

    await t.test('a node that is draining is not chosen, and the reason is shown', async (t) => {
      const config = ['-c', farm.balancerConfig];
      await farm.baton(['drain', 'n2', '--reason', 'new disks', ...config]);
      const said = await explain({ url: URL, host: 'a.example.org' });
      t.match(said, { chosen: 'n3' });
      t.match(said.candidates[0], {
        node: 'n2',
        state: 'draining',
        takes: false,
        why: /^it is draining: .*new disks/,
      });
      await farm.baton(['enable', 'n2', ...config]);
      t.match((await explain({ url: URL })).candidates[1], {
        node: 'n2',
        state: 'up',
        takes: true,
      });
      // The directory has changed: the rule that is shown is one of the new directory.
      await farm.baton(['add', 'resource', '/new/', 'n2', ...config]);
      t.match(await explain({ url: `${URL.replace('a.txt', 'new/x')}` }), {
        resource: { path: '/new/', nodes: ['n2'] },
        chosen: 'n2',
      });
    });

    await t.test('a node that cannot be reached is not chosen', async (t) => {
      await farm.agents[2]?.stop();
      await farm.waitFor(
        async () => (await explain({ url: URL })).candidates.some(({ takes }) => !takes),
        'n3 takes no sessions',
      );
      const said = await explain({ url: `http://${VIRTUAL_ADDRESS}/only/x` });
      t.match(said, { chosen: null, answer: 503, resource: { path: '/only/' } });
      t.match(said.candidates[0], { node: 'n3', takes: false, why: /agent is stopping/ });
      const answer = await curl(farm.client, `http://${VIRTUAL_ADDRESS}/only/x`);
      t.equal(answer.status, 503);
    });
  });
});
