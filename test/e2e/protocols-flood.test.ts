/** TLS by name, and servers that speak first, while SYNs are answered with cookies. */
import t from 'tap';
import { curl } from '../../lab/clients/curl.js';
import { Flood } from '../../lab/clients/flood.js';
import { converse } from '../../lab/clients/raw-client.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import type { Host } from '../../lab/farm/host.js';
import { findCommand, whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';
import { startGreeter } from '../../lab/servers/greeter.js';

const NAME = 'www.example.org';
const GREETING_PORT = 25;
/** SYNs a second: enough to keep the table of half-open sessions full. */
const FLOOD_RATE = 1_000;
const HALF_OPEN = 64;
const CONNECTIONS = 20;

const resources = [{ host: NAME, path: '/', nodes: ['n1', 'n2'] }];
const balancer = {
  limits: { halfOpen: HALF_OPEN },
  virtualServers: [
    { name: 'tls', address: VIRTUAL_ADDRESS, port: 443, protocol: 'tls' },
    { name: 'mail', address: VIRTUAL_ADDRESS, port: GREETING_PORT, protocol: 'tcp' },
  ],
};
const web = [1, 2].map(() => ({ tls: [NAME] }));
const fill = (farm: Farm): void => {
  for (const web of farm.webs) web.put('a.txt', 'here\n');
};

t.setTimeout(FILE_TIMEOUT_MS);

const why = whyNoFarm() || (!findCommand('openssl') && 'needs openssl');
t.test('both work from cookies', { skip: why }, async (t) => {
  await withFarm(t, { resources, fill, nodes: 2, clients: 2, balancer, web }, async (farm) => {
    for (const node of farm.nodes) await startGreeter(node, GREETING_PORT);
    const [client, flooder] = farm.clients as [Host, Host];
    const counter = async (...names: string[]): Promise<number> => {
      const { counters } = await farm.stats();
      return names.reduce((sum, name) => sum + (counters[name] ?? 0), 0);
    };
    const flood = await Flood.from(flooder, {
      to: farm.balancer.mac,
      address: VIRTUAL_ADDRESS,
      port: 443,
      flags: 'S',
      rate: FLOOD_RATE,
      seconds: 120,
    });
    await farm.waitFor(
      async () => (await counter('syn_cookie', 'xdp_syn_cookie')) > 0,
      'SYN cookies are sent',
    );

    await t.test('TLS', async (t) => {
      const before = await counter('cookie_accepted');
      const args = ['--resolve', `${NAME}:443:${VIRTUAL_ADDRESS}`, '-k'];
      for (let i = 0; i < CONNECTIONS; i++) {
        const answer = await curl(client, `https://${NAME}/a.txt`, args);
        t.equal(answer.body.toString(), 'here\n', answer.error);
      }
      t.ok((await counter('cookie_accepted')) > before, 'some came in by a cookie');
    });

    await t.test('a server that speaks first', async (t) => {
      const before = await counter('cookie_accepted');
      for (let i = 0; i < CONNECTIONS; i++) {
        const heard = await converse(client, {
          address: VIRTUAL_ADDRESS,
          port: GREETING_PORT,
          steps: [{ hear: 'ready\r\n' }, { send: 'QUIT\r\n' }, { untilClosed: true }],
          timeoutMs: PATIENCE_MS,
        });
        t.match(heard.text, /^220 n[12] ready\r\n221 bye\r\n$/);
      }
      t.ok((await counter('cookie_accepted')) > before, 'some came in by a cookie');
    });
    await flood.stop();
  });
});
