/**
 * The life of a balancer with `nodeInterface`: a stop, a kill, a restart, a link that goes down,
 * engine threads, modes of XDP, and interfaces that cannot be used.
 */
import t, { type Test } from 'tap';
import { curl, sha256 } from '../../lab/clients/curl.js';
import { Download } from '../../lab/clients/download.js';
import { BALANCER_ADDRESS, NODE_SIDE_ADDRESS } from '../../lab/farm/addresses.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { offloadAt } from '../../lab/farm/network.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { type MachineState, machineState } from '../../lab/probes/machine.js';
import { refuses } from '../support/refusal.js';
import { BASE, LONG, RESOURCES, TIMEOUTS, TWO_INTERFACES } from './two-interfaces.js';

/** Acknowledgements of a download that the kernel forwards while there is no process. */
const ALONE_PACKETS = 20;

/** The balancer's machine, seen from each of its two interfaces. */
interface Left {
  clients: MachineState;
  nodes: MachineState;
}
const left = async (farm: Farm): Promise<Left> => ({
  clients: await machineState(farm.balancer),
  nodes: await machineState(farm.balancer, 'eth1'),
});
async function nothing(t: Test, farm: Farm, ours = /guard|shim|clsact/): Promise<void> {
  const { clients, nodes } = await left(farm);
  const local = '127.0.0.1/8';
  t.same(clients.addresses, [`${BALANCER_ADDRESS}/24`, local].sort());
  t.same(nodes.addresses, [`${NODE_SIDE_ADDRESS}/24`, local].sort());
  for (const { xdp, kept } of [clients, nodes]) t.same({ xdp, kept }, { xdp: '', kept: [] });
  t.notMatch(clients.filters, ours, 'eth0');
  t.notMatch(nodes.filters, ours, 'eth1');
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test('a balancer with two interfaces', { skip: whyNoFarm() }, async (t) => {
  await withFarm(t, TWO_INTERFACES, async (farm) => {
    const { client, balancer } = farm;
    const detachAll = () => farm.baton(['balancer', '-c', farm.balancerConfig, '--detach-all']);
    const serves = async (t: Test): Promise<void> => {
      await farm.waitNodesUp();
      t.equal((await curl(client, `${BASE}/two/a.txt`)).body.toString(), 'from n2\n');
    };

    await t.test('a stop leaves nothing', async (t) => {
      t.match(
        (await left(farm)).nodes.filters,
        /guard_ingress/,
        'the guard is there while the balancer runs',
      );
      t.same(await farm.balancerProgram?.stop(), { code: 0, signal: null });
      await nothing(t, farm);
      await farm.startBalancer();
      await serves(t);
    });

    await t.test('a link to the nodes may go down and come up again', async (t) => {
      await balancer.run('ip', ['link', 'set', 'eth1', 'down']);
      const unresolved = async (): Promise<boolean> => {
        const { nodes } = await farm.stats();
        return nodes.every(
          ({ condition, why }) => condition === 'unresolved' && why === 'interface eth1 is down',
        );
      };
      await farm.waitFor(unresolved, 'both nodes are unresolved');
      t.match(await curl(client, `${BASE}/one/a.txt`), { exit: 0, status: 503 });
      await balancer.run('ip', ['link', 'set', 'eth1', 'up']);
      await serves(t);
      t.equal((await farm.stats()).counters.drop_ixcp_stale, 0);
      await farm.waitEmpty();
    });

    await t.test('several engine threads share the interface of the nodes', async (t) => {
      await farm.balancerProgram?.stop();
      farm.configureBalancer(RESOURCES, { timeouts: TIMEOUTS, workers: 2 });
      await farm.startBalancer();
      await farm.waitNodesUp();
      const urls = Array.from(
        { length: 16 },
        (_, i) => `${BASE}/${i % 2 === 0 ? 'one' : 'two'}/a.txt`,
      );
      const answers = await Promise.all(urls.map((url) => curl(client, url)));
      t.same(
        answers.map((answer) => answer.status),
        urls.map(() => 200),
      );
      const { stages, counters } = await farm.stats();
      t.ok(
        stages.every(({ frames }) => frames > 0),
        'each thread received frames',
      );
      t.equal(counters.drop_ixcp_stale, 0, 'each thread gets the notices of its sessions');
      await farm.waitEmpty();
      await farm.balancerProgram?.stop();
      farm.configureBalancer(RESOURCES, { timeouts: TIMEOUTS });
      await farm.startBalancer();
      await serves(t);
    });

    const onPacket = DATAPATH === 'packet' && 'there is no XDP';
    await t.test(
      'XDP is generic on both interfaces when a veth to the nodes does not poll',
      { skip: onPacket },
      async (t) => {
        const setPolling = (on: boolean) =>
          offloadAt(`${farm.tag}-switch`, 'balancer-1', 'gro', on);
        await farm.balancerProgram?.stop();
        await setPolling(false);
        const program = await farm.startBalancer();
        t.match(
          program.log(program.logStart),
          /datapath xdp \(generic\): eth1 \(driver veth\) loses/,
        );
        await serves(t);
        t.equal(sha256((await curl(client, `${BASE}/one/long.bin`)).body), sha256(LONG));
        t.ok(((await farm.stats()).counters.xdp_forwarded ?? 0) > 50, 'the kernel forwards');
        await farm.waitEmpty();
        await program.kill();
        // The mode of a program that forwards meanwhile cannot be changed.
        await setPolling(true);
        await farm.startBalancer();
        t.equal((await farm.stats()).datapath, 'xdp (generic)');
        await farm.balancerProgram?.stop();
        await farm.startBalancer();
        await setPolling(false);
        await farm.balancerProgram?.kill();
        const again = await farm.startBalancer();
        t.match(
          again.log(again.logStart),
          /eth1 .*loses .*--detach-all/,
          'a warning names --detach-all',
        );
        await farm.balancerProgram?.stop();
        await setPolling(true);
        await farm.startBalancer();
        await serves(t);
      },
    );

    const skip = DATAPATH === 'packet' && 'sessions of the packet datapath end with the process';
    await t.test(
      'a download goes on when the balancer is killed and started again',
      { skip },
      async (t) => {
        await farm.waitEmpty();
        const download = new Download(farm, `${BASE}/one/long.bin`);
        const passing = async (): Promise<boolean> => (await farm.stats()).sessions.passing === 1;
        await farm.waitFor(passing, 'the download has begun');
        await farm.balancerProgram?.kill();
        const before = await balancer.traffic('eth1');
        const forwarded = async (): Promise<boolean> =>
          (await balancer.traffic('eth1')).sentPackets - before.sentPackets >= ALONE_PACKETS;
        await farm.waitFor(forwarded, 'the kernel forwards without the process');
        await farm.startBalancer();
        t.ok(download.running, 'it is still under way');
        t.equal((await farm.stats()).counters.taken_over, 1);
        const { sha256: got, error } = await download.finish();
        t.equal(error, '');
        t.equal(got, sha256(LONG));
        await serves(t);
        await farm.waitEmpty();
      },
    );

    await t.test(
      'a kill leaves both interfaces as they were, and the next start or --detach-all finds all',
      async (t) => {
        const running = await left(farm);
        await farm.balancerProgram?.kill();
        t.same(await left(farm), running, 'the kill changes nothing');
        const { code, stdout } = await detachAll();
        t.equal(code, 0);
        t.match(stdout, /removed tc filter guard_ingress \(ingress\) on eth1/);
        await nothing(t, farm);

        await farm.startBalancer();
        await farm.balancerProgram?.kill();
        await farm.startBalancer();
        await serves(t);
        t.match((await left(farm)).nodes.filters, /guard_ingress/, 'a restart has the guard again');
        await farm.balancerProgram?.kill();
        farm.configureBalancer(RESOURCES, { timeouts: TIMEOUTS, nodeInterface: undefined });
        await farm.startBalancer();
        t.notMatch(
          (await left(farm)).nodes.filters,
          /guard|clsact/,
          'a start without nodeInterface removes the guard',
        );
        t.same(await farm.balancerProgram?.stop(), { code: 0, signal: null });
        await nothing(t, farm);

        farm.configureBalancer(RESOURCES, { timeouts: TIMEOUTS });
        await farm.startBalancer();
        await farm.balancerProgram?.kill();
        const files = (await left(farm)).nodes.kept.filter((file) => file.startsWith('/run/'));
        await balancer.run('rm', files);
        t.match(
          (await detachAll()).stdout,
          /guard_ingress \(ingress\) on eth1/,
          'the filter is known by its name',
        );
        // The journal is gone, so clsact stays: another program may have made it.
        await nothing(t, farm, /guard|shim/);
      },
    );

    await t.test('a nodeInterface that cannot be used is refused', async (t) => {
      const refused = (nodeInterface: string, says: string): Promise<void> => {
        farm.configureBalancer(RESOURCES, { nodeInterface });
        const place = `${farm.balancerConfig}:2:16: nodeInterface: `;
        const text = `${place}${says}`.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
        return refuses(t, balancer, ['balancer', '-c', farm.balancerConfig], new RegExp(text));
      };
      await refused('eth9', 'eth9: no such interface (this machine has lo, eth0, eth1)');
      await refused('lo', 'lo: is the loopback interface');
      await refused('eth0', 'is "eth0", the same as interface, expected another interface');
      await balancer.run('ip', ['link', 'add', 'bare', 'type', 'bridge']);
      await balancer.run('ip', ['link', 'set', 'bare', 'up']);
      await refused(
        'bare',
        'bare: has no IPv4 address of its own, which 10.98.0.3 needs (`ip address add ADDRESS/PREFIX dev bare`',
      );
      await balancer.run('ip', ['link', 'set', 'eth1', 'down']);
      await refused('eth1', 'eth1: the interface is down');
      await balancer.run('ip', ['link', 'set', 'eth1', 'up']);
    });
  });
});
