/**
 * Pages in headless Chromium, over one connection: in clear, over TLS with HTTP/2, and with parts
 * on different nodes.
 */
import t, { type Test } from 'tap';
import { IMAGE, loadPage, pageOf, saidBy, whyNoBrowser } from '../../lab/clients/browser.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { AccessLogReader } from '../../lab/probes/access-log.js';

const NAME = 'www.example.org';
const PARTS = ['/scripts/one.js', '/images/a.gif', '/scripts/two.js', '/images/b.gif'];
const ARRIVED = 'one.js;/images/a.gif;two.js;/images/b.gif;done;';

const resources = [{ path: '/', nodes: ['n1', 'n2', 'n3'] }];
const virtualServers = [
  { name: 'www', address: VIRTUAL_ADDRESS, port: 80 },
  { name: 'tls', address: VIRTUAL_ADDRESS, port: 443, protocol: 'tls' },
];

function fill(farm: Farm): void {
  for (const web of farm.webs) {
    web.put('index.html', pageOf(PARTS));
    for (const name of ['a', 'b']) web.put(`images/${name}.gif`, IMAGE);
    for (const name of ['one', 'two']) web.put(`scripts/${name}.js`, `say('${name}.js');\n`);
  }
}

/** The request lines that each node has logged. */
const served = (farm: Farm): string[][] => farm.webs.map((web) => web.requests());

/** What the nodes have logged since `before`: the node's name, and its line. */
function servedSince(farm: Farm, before: readonly string[][]): string[] {
  return served(farm).flatMap((lines, index) =>
    lines.slice(before[index]?.length).map((line) => `n${index + 1} ${line}`),
  );
}

/** Nothing unusual is in the error logs of the nodes, after all connections have ended. */
async function checkErrorLogs(t: Test, farm: Farm): Promise<void> {
  await farm.waitEmpty();
  for (const [index, web] of farm.webs.entries())
    t.same(web.complaints(), [], `the error log of n${index + 1}`);
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test('a browser loads a page', { skip: whyNoFarm() || whyNoBrowser() }, async (t) => {
  const balancer = { virtualServers, accessLog: { file: 'access.json' } };
  const web = [1, 2, 3].map(() => ({ tls: [NAME] }));
  await withFarm(t, { resources, fill, nodes: 3, balancer, web }, async (farm) => {
    const log = new AccessLogReader(farm, 'access.json');
    const cases = [
      { scheme: 'http', server: 'www', request: 'GET / HTTP/1.1', version: 'HTTP/1.1' },
      { scheme: 'https', server: 'tls', request: `TLS ${NAME} `, version: 'HTTP/2.0' },
    ];
    for (const { scheme, server, request, version } of cases) {
      await t.test(scheme, async (t) => {
        const before = served(farm);
        const document = await loadPage(farm.client, `${scheme}://${NAME}/`, {
          [NAME]: VIRTUAL_ADDRESS,
        });
        t.equal(saidBy(document), ARRIVED);
        // Browsers open connections in advance, which then have no request.
        const { request: first, node } = await log.line(
          `the session with ${request}`,
          (line) => line.virtual_server === server && line.request?.startsWith(request) === true,
        );
        t.ok(first?.startsWith(request));
        await farm.waitFor(
          () => servedSince(farm, before).length > PARTS.length,
          'the node has logged every request',
        );
        t.same(
          servedSince(farm, before),
          ['/', ...PARTS].map((path) => `${node} GET ${path} ${version}`),
          'all from one node',
        );
        const lines = log.lines().filter((line) => line.virtual_server === server);
        t.equal(lines.filter((line) => line.request !== null).length, 1, 'over one connection');
      });
    }
    await checkErrorLogs(t, farm);
  });
});

/** The page, its images and its scripts are on three nodes. */
const spread = [
  { path: '/', nodes: ['n1'] },
  { path: '/images/', nodes: ['n2'] },
  { path: '/scripts/', nodes: ['n3'] },
];

function fillSpread(farm: Farm): void {
  const [html, images, scripts] = farm.webs;
  html?.put('index.html', pageOf(PARTS));
  for (const name of ['a', 'b']) images?.put(`images/${name}.gif`, IMAGE);
  for (const name of ['one', 'two']) scripts?.put(`scripts/${name}.js`, `say('${name}.js');\n`);
}

t.test(
  'a browser loads a page whose parts are on three nodes',
  { skip: whyNoFarm() || whyNoBrowser() },
  async (t) => {
    const balancer = {
      virtualServers: [{ name: 'www', address: VIRTUAL_ADDRESS, port: 80, keepAlive: 'migrate' }],
      accessLog: { file: 'access.json' },
    };
    const use = { resources: spread, fill: fillSpread, nodes: 3, balancer };
    await withFarm(t, use, async (farm) => {
      const log = new AccessLogReader(farm, 'access.json');
      const document = await loadPage(farm.client, `http://${NAME}/`, { [NAME]: VIRTUAL_ADDRESS });
      t.equal(saidBy(document), ARRIVED);
      const line = await log.line('the session', ({ request }) => request !== null);
      t.equal(line.closed, 'fin');
      const asking = log.lines().filter(({ request }) => request !== null);
      t.equal(asking.length, 1, 'over one connection');
      const { counters } = await farm.stats();
      t.equal(counters.moved, PARTS.length, 'which has moved for each part');
      const wanted = [
        ['/'],
        ['/images/a.gif', '/images/b.gif'],
        ['/scripts/one.js', '/scripts/two.js'],
      ];
      await farm.waitFor(
        () => served(farm).flat().length === 1 + PARTS.length,
        'the nodes have logged every request',
      );
      t.same(
        served(farm),
        wanted.map((paths) => paths.map((path) => `GET ${path} HTTP/1.1`)),
        'each from the node that holds it',
      );
      await checkErrorLogs(t, farm);
    });
  },
);
