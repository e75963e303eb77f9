/** A virtual server with mode forward whose node is the balancer itself. */
import t from 'tap';
import { curl } from '../../lab/clients/curl.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { WebServer } from '../../lab/servers/web.js';

t.setTimeout(FILE_TIMEOUT_MS);

t.test('mode forward reaches the web server of the balancer', { skip: whyNoFarm() }, async (t) => {
  const start: Parameters<typeof withFarm>[1]['start'] = async (farm) => {
    const here = new WebServer(farm.balancer, farm.directory);
    here.put('a.txt', 'from here\n');
    await here.start();
    await farm.startAll([], {
      virtualServers: [{ name: 'www', address: VIRTUAL_ADDRESS, port: 80, mode: 'forward' }],
      nodes: [{ name: 'here', address: 'local' }],
    });
  };
  await withFarm(t, { nodes: 1, start }, async (farm) => {
    for (let i = 0; i < 3; i++) {
      const answer = await curl(farm.client, `http://${VIRTUAL_ADDRESS}/a.txt`, ['-m', '5']);
      t.equal(answer.body.toString(), 'from here\n', answer.error);
    }
  });
});
