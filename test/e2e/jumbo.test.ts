/**
 * Jumbo frames: every interface of the farm has an MTU of 9,000. AF_XDP has no room for such
 * frames, so `xdp` refuses the interface and says what to do.
 */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { curl, curlAll, sha256 } from '../../lab/clients/curl.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Host } from '../../lab/farm/host.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { refuses } from '../support/refusal.js';

const MTU = 9_000;
/** More than two frames of the usual size. */
const LONG_HEAD_BYTES = 6_000;
const BASE = `http://${VIRTUAL_ADDRESS}`;
const LONG = randomBytes(20_000_000);
const UPLOAD = LONG.subarray(0, 4_000_000);
const resources = [
  { path: '/one/', nodes: ['n1'] },
  { path: '/two/', nodes: ['n2'] },
  { path: '/post', nodes: ['n1'] },
];
const server = { extra: 'large_client_header_buffers 4 16k;' };

/** What a machine has received so far. */
async function received(host: Host): Promise<{ bytes: number; packets: number }> {
  const { stdout } = await host.run('ip', ['-j', '-s', 'link', 'show', 'dev', 'eth0']);
  const [link] = JSON.parse(stdout) as { stats64: { rx: { bytes: number; packets: number } } }[];
  return link!.stats64.rx;
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test('frames of up to 9,000 bytes', { skip: whyNoFarm() }, async (t) => {
  const start: Parameters<typeof withFarm>[1]['start'] = async (farm) => {
    for (const [index, place] of ['one', 'two'].entries()) {
      farm.webs[index]!.put(`${place}/a.txt`, `from ${place}\n`);
      farm.webs[index]!.put(`${place}/long.bin`, LONG);
    }
    for (const host of farm.hosts) {
      await host.run('ip', ['link', 'set', 'eth0', 'mtu', String(MTU)]);
      const cable = farm.startAtSwitch(`mtu-${host.name}`, [
        ...['ip', 'link', 'set', host.name, 'mtu', String(MTU)],
      ]);
      t.equal((await cable.exited).code, 0);
      // Senders cut their segments: frames are as large as the MTU, and no larger.
      await host.setOffloads(false);
    }
    const balancer = {
      virtualServers: [{ name: 'www', address: VIRTUAL_ADDRESS, port: 80, keepAlive: 'migrate' }],
    };
    if (DATAPATH === 'packet') await farm.startAll(resources, balancer);
    else farm.configureBalancer(resources, balancer);
  };
  await withFarm(t, { nodes: 2, web: [server, server], start }, async (farm) => {
    const { client } = farm;
    if (DATAPATH !== 'packet') {
      await refuses(
        t,
        farm.balancer,
        ['balancer', '-c', farm.balancerConfig],
        /eth0: an MTU of 9000 is too large for AF_XDP.*datapath packet/,
      );
      return;
    }

    await t.test('a download, an upload and a long head', async (t) => {
      const before = await received(client);
      const long = await curl(client, `${BASE}/one/long.bin`);
      const after = await received(client);
      const size = (after.bytes - before.bytes) / (after.packets - before.packets);
      t.ok(size > MTU / 2, `the frames of the answer have ${Math.round(size)} bytes on average`);
      t.equal(long.status, 200, long.error);
      t.equal(sha256(long.body), sha256(LONG));
      const file = `${farm.directory}/upload.bin`;
      writeFileSync(file, UPLOAD);
      const posted = await curl(client, `${BASE}/post`, ['--data-binary', `@${file}`]);
      t.match(posted, { exit: 0, status: 200 });
      t.equal(sha256(farm.webs[0]!.lastPosted() ?? new Uint8Array(0)), sha256(UPLOAD));
      const cookie = `Cookie: ${'a'.repeat(LONG_HEAD_BYTES)}`;
      const head = await curl(client, `${BASE}/two/a.txt`, ['-H', cookie]);
      t.equal(head.body.toString(), 'from two\n');
    });

    await t.test('moves', async (t) => {
      const places = Array.from({ length: 10 }, (_, index) => (index % 2 === 0 ? 'one' : 'two'));
      const answers = await curlAll(
        client,
        places.map((place) => `${BASE}/${place}/a.txt`),
      );
      t.same(
        answers.map(({ body }) => body.toString()),
        places.map((place) => `from ${place}\n`),
      );
      t.equal(
        answers.reduce((sum, { connects }) => sum + connects, 0),
        1,
      );
    });
  });
});
