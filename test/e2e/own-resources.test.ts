/** Many virtual servers, addresses and ports, some with resources of their own. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { parse } from 'yaml';
import { curl } from '../../lab/clients/curl.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Resource } from '../../lab/farm/configs.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';

const SECOND = '10.99.0.101';
const WWW = `http://${VIRTUAL_ADDRESS}`;
const ADMIN = `http://${VIRTUAL_ADDRESS}:8080`;
const FILMS = `http://${SECOND}`;
const NODES = 2;

const common: Resource[] = [
  { path: '/', nodes: ['n1'] },
  { path: '/a.txt', nodes: ['n2'] },
];
const www = { name: 'www', address: VIRTUAL_ADDRESS, port: 80, keepAlive: 'migrate' };
const more = { name: 'more', address: SECOND, port: 8081 };
const admin = {
  name: 'admin',
  address: VIRTUAL_ADDRESS,
  port: 8080,
  resources: [{ path: '/admin/', nodes: ['n2'] }],
};
const films = {
  name: 'films',
  address: SECOND,
  port: 80,
  resources: [
    { path: '/', nodes: ['n2'] },
    { host: 'one.example.org', path: '/', nodes: ['n1'] },
  ],
};

t.setTimeout(FILE_TIMEOUT_MS);

t.test('virtual servers have directories of their own', { skip: whyNoFarm() }, async (t) => {
  const servers = { virtualServers: [www, more, admin, films] };
  const options = {
    nodes: NODES,
    web: Array.from({ length: NODES }, () => ({ extra: 'listen 8080; listen 8081;' })),
    agents: Array.from({ length: NODES }, () => ({
      virtualAddresses: [VIRTUAL_ADDRESS, SECOND],
    })),
    resources: common,
    balancer: servers,
    fill: (farm: Parameters<Parameters<typeof withFarm>[2]>[0]) => {
      for (const [index, web] of farm.webs.entries())
        for (const name of ['a.txt', 'b.txt', 'admin/a.txt']) web.put(name, `n${index + 1}\n`);
    },
  };
  await withFarm(t, options, async (farm) => {
    const { client } = farm;
    const get = async (url: string, args: string[] = []): Promise<string> => {
      const { status, body } = await curl(client, url, args);
      return status === 200 ? body.toString().trim() : String(status);
    };
    const run = (...args: string[]) => farm.baton([...args, '-c', farm.balancerConfig]);

    await t.test('each goes by its own resources, or by the common ones', async (t) => {
      t.equal(await get(`${WWW}/b.txt`), 'n1', 'common');
      t.equal(await get(`${WWW}/a.txt`), 'n2', 'common');
      t.equal(await get(`http://${SECOND}:8081/a.txt`), 'n2', 'common, another address and port');
      t.equal(await get(`${ADMIN}/admin/a.txt`), 'n2', 'own, another port of an address');
      t.equal(await get(`${ADMIN}/b.txt`), '404', 'the common ones do not apply');
      t.equal(await get(`${FILMS}/b.txt`), 'n2', 'own');
      t.equal(await get(`${FILMS}/b.txt`, ['-H', 'Host: one.example.org']), 'n1', 'own host');
      t.equal(await get(`${WWW}/b.txt`, ['-H', 'Host: two.example.org']), 'n1');
    });

    await t.test('explain and the list of resources say whose it is', async (t) => {
      const { stdout } = await run('explain', `${FILMS}/b.txt`);
      t.match(stdout, /n2/);
      t.match((await run('explain', `${ADMIN}/b.txt`)).stdout, /404/);
      const list = (await run('resources')).stdout;
      t.match(list, /VIRTUAL SERVER/);
      t.match(list, /films +one\.example\.org +\/ +up/);
    });

    await t.test('through the API', async (t) => {
      t.equal(await get(`${ADMIN}/b.txt`), '404');
      await run('add', 'resource', '/b.txt', 'n1', '--virtual', 'admin');
      t.equal(await get(`${ADMIN}/b.txt`), 'n1');
      t.equal(await get(`${FILMS}/b.txt`), 'n2', 'no other virtual server has it');
      await farm.control().change({
        kind: 'add-virtual-server',
        virtualServer: {
          name: 'third',
          address: SECOND,
          port: 8080,
          predictor: 'round-robin',
          resources: [{ path: '/a.txt', nodes: ['n1'] }],
        },
      });
      t.equal(await get(`http://${SECOND}:8080/a.txt`), 'n1');
      t.equal(await get(`http://${SECOND}:8080/b.txt`), '404');
      await run('remove', 'resource', '/admin/', '--virtual', 'admin');
      t.equal(await get(`${ADMIN}/admin/a.txt`), '404');
      await run('config', '--save');
      const saved = parse(readFileSync(farm.balancerConfig, 'utf8')) as {
        virtualServers: { name: string; resources?: unknown }[];
      };
      t.match(saved.virtualServers.find(({ name }) => name === 'admin')?.resources, [
        { path: '/b.txt', nodes: ['n1'] },
      ]);
      t.ok(saved.virtualServers.some(({ name }) => name === 'third'));
    });

    await t.test('by a reload', async (t) => {
      const own = { ...more, resources: [{ path: '/a.txt', nodes: ['n1'] }] };
      const { resources: _, ...plain } = films;
      farm.configureBalancer(common, { virtualServers: [www, own, plain] });
      const { stdout } = await run('reload');
      t.match(stdout, /virtual server films: resources own -> common/);
      t.match(stdout, /virtual server more: resources common -> own/);
      t.equal(await get(`http://${SECOND}:8081/a.txt`), 'n1');
      t.equal(await get(`http://${SECOND}:8081/b.txt`), '404');
      t.equal(await get(`${FILMS}/a.txt`), 'n2');
      t.equal(await get(`${FILMS}/b.txt`), 'n1');
    });
  });
});
