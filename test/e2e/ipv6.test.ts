/** A virtual server with an IPv6 address: stock clients and servers, IPv6 from end to end. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { curl, curlAll, sha256 } from '../../lab/clients/curl.js';
import { converse } from '../../lab/clients/raw-client.js';
import { VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6 } from '../../lab/farm/addresses.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';
import { AccessLogReader } from '../../lab/probes/access-log.js';

const HOST = 'secure.example.com';
const URL_6 = `http://[${VIRTUAL_ADDRESS_6}]`;
const CLIENT_6 = 'fd99::200';
const server = { extra: 'listen [::]:80; listen [::]:443 ssl;', tls: [HOST] };
const web = [server, server];
const agents = web.map(() => ({ virtualAddresses: [VIRTUAL_ADDRESS, VIRTUAL_ADDRESS_6] }));
const virtualServers = [
  { name: 'www', address: VIRTUAL_ADDRESS, port: 80, keepAlive: 'migrate' },
  { name: 'www6', address: VIRTUAL_ADDRESS_6, port: 80, keepAlive: 'migrate' },
  { name: 'tls6', address: VIRTUAL_ADDRESS_6, port: 443, protocol: 'tls' },
];
const resources = [
  { path: '/a/', nodes: ['n1'] },
  { path: '/b/', nodes: ['n2'] },
  { host: HOST, path: '/', nodes: ['n2'] },
];

t.setTimeout(FILE_TIMEOUT_MS);

t.test('IPv6 from client to node', { skip: whyNoFarm() }, async (t) => {
  const big = Buffer.alloc(20_000_000, 'baton over IPv6\n');
  const balancer = {
    virtualServers,
    workers: 2,
    accessLog: { file: 'access.json' },
  };
  const fill: Parameters<typeof withFarm>[1]['fill'] = (farm) => {
    for (const [index, name] of ['a', 'b'].entries()) {
      farm.webs[index]!.put(`${name}/small.html`, `from n${index + 1}\n`);
      farm.webs[index]!.put(`${name}/big`, big);
      farm.webs[index]!.put('secret.html', `secret of n${index + 1}\n`);
    }
  };
  const options = { ipv6: true, nodes: 2, web, agents, resources, balancer, fill };
  await withFarm(t, options, async (farm) => {
    const log = new AccessLogReader(farm, 'access.json');

    await t.test('each node answers for what it holds', async (t) => {
      for (const [target, body] of [
        ['/a/small.html', 'from n1\n'],
        ['/b/small.html', 'from n2\n'],
      ] as const) {
        const answer = await curl(farm.client, `${URL_6}${target}`);
        t.equal(answer.body.toString(), body);
        t.equal(answer.remoteAddress, VIRTUAL_ADDRESS_6);
      }
      const ipv4 = await curl(farm.client, `http://${VIRTUAL_ADDRESS}/a/small.html`);
      t.equal(ipv4.body.toString(), 'from n1\n', 'beside IPv4');
    });

    await t.test('the log has the address of the client', async (t) => {
      const line = await log.line('the IPv6 client', ({ client }) => client === CLIENT_6);
      t.match(line, { virtual_server: 'www6', node: 'n1' });
    });

    await t.test('20 MB arrive intact', async (t) => {
      const answer = await curl(farm.client, `${URL_6}/b/big`);
      t.equal(answer.exit, 0, answer.error);
      t.equal(sha256(answer.body), sha256(big));
    });

    await t.test('a kept-alive connection moves between the nodes', async (t) => {
      const before = (await farm.stats()).counters.moved ?? 0;
      const targets = Array.from(
        { length: 10 },
        (_, i) => `/${i % 2 === 0 ? 'a' : 'b'}/small.html`,
      );
      const answers = await curlAll(
        farm.client,
        targets.map((target) => `${URL_6}${target}`),
      );
      for (const [index, answer] of answers.entries())
        t.equal(answer.body.toString(), `from n${(index % 2) + 1}\n`);
      t.equal(
        answers.reduce((sum, { connects }) => sum + connects, 0),
        1,
      );
      t.equal(((await farm.stats()).counters.moved ?? 0) - before, 9);
    });

    await t.test('the balancer answers itself', async (t) => {
      const answer = await curl(farm.client, `${URL_6}/nothing`);
      t.equal(answer.status, 404);
      const steps = [{ send: 'GET /\x01 HTTP/1.1\r\n\r\n' }, { hear: ' 400 ' }];
      const heard = await converse(farm.client, {
        address: VIRTUAL_ADDRESS_6,
        port: 80,
        steps,
        timeoutMs: PATIENCE_MS,
      });
      t.match(heard.text, / 400 /);
    });

    await t.test('TLS goes by its ClientHello', async (t) => {
      const args = ['-k', '--connect-to', `${HOST}:443:[${VIRTUAL_ADDRESS_6}]:443`];
      const answer = await curl(farm.client, `https://${HOST}/secret.html`, args);
      t.equal(answer.body.toString(), 'secret of n2\n');
    });

    await t.test('a session is shown with its address', async (t) => {
      const steps = [{ send: 'GET /a/small.html HTTP/1.1\r\nHost: x\r\n\r\n' }, { hear: 'n1\n' }];
      let shown = '';
      const seen = path.join(farm.directory, 'seen');
      const talk = converse(farm.client, {
        address: VIRTUAL_ADDRESS_6,
        port: 80,
        steps: [...steps, { untilFile: seen }],
        timeoutMs: PATIENCE_MS,
      });
      await farm.waitFor(async () => {
        const { stdout } = await farm.baton(['sessions', '-c', farm.balancerConfig]);
        shown = stdout;
        return stdout.includes(`[${CLIENT_6}]:`);
      }, 'a session of the client');
      writeFileSync(seen, '');
      t.match(shown, 'www6');
      await talk;
    });

    await t.test('operators name it in brackets', async (t) => {
      const config = ['-c', farm.balancerConfig];
      const explained = await farm.baton(['explain', `${URL_6}/a/small.html`, ...config]);
      t.match(explained.stdout, /www6/);
      t.match(explained.stdout, /on n1/);
      const added = await farm.baton(['add', 'virtual', 'alt6', '[fd99::101]:80', ...config]);
      t.match(added.stdout, /virtual server alt6 \[fd99::101\]:80 is added/);
      const refused = await curl(farm.client, 'http://[fd99::101]/a/small.html');
      t.equal(refused.status, 503, 'no node has the address');
    });

    await t.test('a connection outlives its balancer', async (t) => {
      const replaced = path.join(farm.directory, 'replaced');
      const request = 'GET /a/small.html HTTP/1.1\r\nHost: x\r\n\r\n';
      const talk = converse(farm.client, {
        address: VIRTUAL_ADDRESS_6,
        port: 80,
        steps: [
          { send: request },
          { hear: 'from n1' },
          { untilFile: replaced },
          { send: request },
          { hear: 'from n1', times: 2 },
        ],
        timeoutMs: PATIENCE_MS,
      });
      await farm.waitFor(async () => (await farm.stats()).sessions.passing > 0, 'a session');
      await farm.startBalancer(['--replace']);
      writeFileSync(replaced, '');
      t.equal((await talk).ending, 'open');
      // XDP has kept it. Without XDP the nodes were asked.
      const how = DATAPATH === 'xdp' ? 'taken_over' : 'found';
      t.equal((await farm.stats()).counters[how], 1);
    });

    await t.test('nodes stay silent about the virtual address, and nothing is left', async (t) => {
      await farm.client.run('ip', ['-6', 'neigh', 'flush', 'dev', 'eth0']);
      await curl(farm.client, `${URL_6}/a/small.html`);
      const { stdout } = await farm.client.run('ip', ['-6', 'neigh', 'show', VIRTUAL_ADDRESS_6]);
      t.match(stdout, farm.balancer.mac);
      await farm.waitEmpty();
      await farm.balancerProgram?.stop();
      for (const agent of farm.agents) await agent?.stop();
      for (const host of [farm.balancer, ...farm.nodes]) {
        const { stdout: addresses } = await host.run('ip', ['-6', 'addr', 'show']);
        t.notMatch(addresses, VIRTUAL_ADDRESS_6, host.name);
      }
    });
  });
});

t.test('IPv6 to nodes that take connections by replay', { skip: whyNoFarm() }, async (t) => {
  const big = Buffer.alloc(20_000_000, 'replayed over IPv6\n');
  const balancer = {
    virtualServers,
    nodes: [
      { name: 'n1', address: '10.99.0.3', handoff: 'replay' },
      { name: 'n2', address: '10.99.0.4' },
    ],
  };
  const fill: Parameters<typeof withFarm>[1]['fill'] = (farm) => {
    farm.webs[0]!.put('a/big', big);
    farm.webs[0]!.put('a/small.html', 'from n1\n');
    farm.webs[1]!.put('b/small.html', 'from n2\n');
  };
  const options = { ipv6: true, nodes: 2, web, agents, resources, balancer, fill };
  await withFarm(t, options, async (farm) => {
    await t.test('20 MB arrive intact, through translated numbers', async (t) => {
      const answer = await curl(farm.client, `${URL_6}/a/big`);
      t.equal(answer.exit, 0, answer.error);
      t.equal(sha256(answer.body), sha256(big));
    });

    await t.test('a connection moves between a replaying and an adopting node', async (t) => {
      const targets = Array.from(
        { length: 10 },
        (_, i) => `/${i % 2 === 0 ? 'a' : 'b'}/small.html`,
      );
      const answers = await curlAll(
        farm.client,
        targets.map((target) => `${URL_6}${target}`),
      );
      for (const [index, answer] of answers.entries())
        t.equal(answer.body.toString(), `from n${(index % 2) + 1}\n`);
    });
  });
});
