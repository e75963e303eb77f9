/** Virtual servers with mode forward: TCP over nodes without an agent. */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { curl, sha256 } from '../../lab/clients/curl.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { addVirtualAddress } from '../../lab/servers/direct-return.js';

const long = randomBytes(4_000_000);

const www = { name: 'www', address: VIRTUAL_ADDRESS, port: 80, mode: 'forward' };

/** Starts web servers on nodes without agents, and the balancer with this virtual server. */
async function startForwarding(farm: Farm, more: Record<string, unknown> = {}): Promise<void> {
  farm.webs.forEach((web, index) => {
    web.put('name.txt', `n${index + 1}`);
    web.put('long.bin', long);
  });
  await farm.startWebs();
  for (const node of farm.nodes) await addVirtualAddress(node, VIRTUAL_ADDRESS);
  farm.configureBalancer([], { virtualServers: [{ ...www, ...more }] });
  await farm.startBalancer();
  await farm.waitNodesUp();
}

/** Names of the nodes that answer `count` connections. */
async function answers(farm: Farm, count: number): Promise<string[]> {
  const names: string[] = [];
  for (let i = 0; i < count; i++) {
    const { body, exit } = await curl(farm.client, `http://${VIRTUAL_ADDRESS}/name.txt`);
    names.push(exit === 0 ? body.toString() : `exit ${exit}`);
  }
  return names;
}

t.test('with sessions', { skip: whyNoFarm() }, async (t) => {
  await withFarm(t, { nodes: 3, start: startForwarding }, async (farm) => {
    t.same(
      (await answers(farm, 9)).sort(),
      [...'111222333'].map((digit) => `n${digit}`),
    );
    const { body } = await curl(farm.client, `http://${VIRTUAL_ADDRESS}/long.bin`);
    t.equal(sha256(body), sha256(long));
  });
});
