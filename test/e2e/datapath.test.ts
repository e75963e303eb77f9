/** Which datapath a balancer chooses on which interface, and what it logs about the choice. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import t, { type Test } from 'tap';
import { curl, sha256 } from '../../lab/clients/curl.js';
import { BALANCER_ADDRESS, VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { projectRoot } from '../../lab/farm/baton.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { offloadAt } from '../../lab/farm/network.js';
import { run } from '../../lab/farm/process.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { machineState } from '../../lab/probes/machine.js';
import { native } from '../../src/host/native.js';
import { refuses } from '../support/refusal.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const long = randomBytes(3_000_000);
const resources = [{ path: '/', nodes: ['n1'] }];
/** The state of the machine without Baton. */
const EVERYTHING = { addresses: [`${BALANCER_ADDRESS}/24`, '127.0.0.1/8'], xdp: '', kept: [] };
/** An XDP program that is not Baton's. */
const STRANGER = path.join(projectRoot(), 'build/bpf/bounce.bpf.o');
const STRANGER_NAME = 'pass_all';
const OLD_LAYOUT = 77;

function fill(farm: Farm): void {
  farm.webs[0]?.put('a.txt', 'here\n');
  farm.webs[0]?.put('long.bin', long);
}

interface Expected {
  /** As `baton stats` prints it. */
  datapath: string;
  /** A part of a log line. */
  says: RegExp;
  level?: 'info' | 'warn';
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test(
  'a balancer chooses the best datapath that its interface allows',
  {
    skip:
      whyNoFarm() || (DATAPATH === 'packet' && 'chooses datapaths itself: runs once, as on xdp'),
  },
  async (t) => {
    await withFarm(t, { resources, fill, nodes: 1 }, async (farm) => {
      await farm.balancerProgram?.stop();
      const { balancer, client } = farm;
      const inBalancer = async (...lines: string[]): Promise<void> => {
        await balancer.run('sh', ['-ec', lines.join('\n')]);
      };
      /** Sets whether the other end of the balancer's cable polls for what XDP sends. */
      const setPolling = (on: boolean) => offloadAt(`${farm.tag}-switch`, 'balancer', 'gro', on);
      await setPolling(true);
      const configure = (datapath: string, more: Record<string, unknown> = {}): void =>
        farm.configureBalancer(resources, { datapath, ...more });

      /**
       * Starts with the config as it is. Asserts that the choice is the expected one, that the log
       * says why, and that requests are served.
       */
      const takes = async (
        t: Test,
        { datapath, says, level = 'info' }: Expected,
      ): Promise<void> => {
        const program = await farm.startBalancer();
        const lines = program
          .log(program.logStart)
          .split('\n')
          .filter((line) => line.startsWith('{'))
          .map((line) => JSON.parse(line) as { level: string; message: string });
        const said = lines.filter((line) => says.test(line.message));
        t.equal(said.length, 1, `${says} in:\n${lines.map((line) => line.message).join('\n')}`);
        t.equal(said[0]?.level, level);
        await farm.waitNodesUp();
        t.equal((await farm.stats()).datapath, datapath);
        await serves(t);
      };
      const serves = async (t: Test): Promise<void> => {
        t.equal((await curl(client, `${BASE}/a.txt`)).body.toString(), 'here\n');
        t.equal(sha256((await curl(client, `${BASE}/long.bin`)).body), sha256(long));
      };
      const stops = async (t: Test): Promise<void> => {
        t.same(await farm.balancerProgram?.stop(), { code: 0, signal: null });
        const { addresses, xdp, kept } = await machineState(balancer);
        t.same({ addresses, xdp, kept }, EVERYTHING, 'nothing is left behind');
      };
      const refusesAll = (t: Test, pattern: RegExp, wrapper: string[] = []): Promise<void> =>
        refuses(t, balancer, ['balancer', '-c', farm.balancerConfig], pattern, wrapper);

      await t.test('an interface with all that XDP needs gets XDP in the driver', async (t) => {
        configure('auto');
        await takes(t, { datapath: 'xdp (native)', says: /^datapath xdp \(native\)$/ });
        t.equal((await machineState(balancer)).xdp, 'baton_xdp, native');
        await stops(t);
      });

      await t.test('a veth whose other end does not poll gets XDP in the stack', async (t) => {
        await setPolling(false);
        const says = /^datapath xdp \(generic\): eth0 \(driver veth\) .*peer .*gro on/;
        configure('auto');
        await takes(t, { datapath: 'xdp (generic)', says });
        t.equal((await machineState(balancer)).xdp, 'baton_xdp, generic');
        await stops(t);
        configure('xdp');
        await takes(t, { datapath: 'xdp (generic)', says, level: 'warn' });
        await stops(t);
        await setPolling(true);
      });

      for (const [device, make] of [
        ['br1', 'link add br1 type bridge forward_delay 0 stp_state 0 mcast_snooping 0'],
        ['mv1', 'link add mv1 link eth0 type macvlan mode bridge'],
      ] as const) {
        await t.test(`${device}, whose driver has no XDP, gets XDP in the stack`, async (t) => {
          await inBalancer(
            `ip ${make}`,
            ...(device === 'br1' ? ['ip link set eth0 master br1'] : []),
            `ip addr del ${BALANCER_ADDRESS}/24 dev eth0`,
            `ip addr add ${BALANCER_ADDRESS}/24 dev ${device}`,
            `ip link set ${device} up`,
          );
          configure('auto', { interface: device });
          await takes(t, {
            datapath: 'xdp (generic)',
            says: new RegExp(`^datapath xdp \\(generic\\): ${device} .*native XDP`),
          });
          await farm.balancerProgram?.stop();
          await inBalancer(`ip link del ${device}`, `ip addr add ${BALANCER_ADDRESS}/24 dev eth0`);
        });
      }

      await t.test('an MTU too large for AF_XDP gives packet, or no start', async (t) => {
        const everywhere = async (mtu: number): Promise<void> => {
          const names = ['br0', 'client', 'balancer', 'n1'];
          await run('nsenter', [
            `--net=/run/netns/${farm.tag}-switch`,
            ...['sh', '-ec', names.map((name) => `ip link set ${name} mtu ${mtu}`).join('\n')],
          ]);
          for (const host of [client, balancer, ...farm.nodes]) {
            await host.run('ip', ['link', 'set', 'eth0', 'mtu', String(mtu)]);
          }
        };
        await everywhere(9000);
        configure('auto');
        await takes(t, {
          datapath: 'packet',
          says: /^datapath packet.*eth0.*MTU.*9000/,
          level: 'warn',
        });
        await stops(t);
        configure('xdp');
        await refusesAll(t, /eth0.*MTU.*9000/);
        await everywhere(3000);
        await takes(t, { datapath: 'xdp (native)', says: /^datapath xdp \(native\)/ });
        await stops(t);
        await everywhere(1500);
      });

      await t.test(
        "a stranger's XDP program: packet, or no start; and the stranger stays",
        async (t) => {
          await balancer.run('ip', [
            ...[
              'link',
              'set',
              'dev',
              'eth0',
              'xdpdrv',
              'object',
              STRANGER,
              'program',
              STRANGER_NAME,
            ],
          ]);
          const stranger = `${STRANGER_NAME}, native`;
          configure('xdp');
          await refusesAll(t, new RegExp(`eth0.*${STRANGER_NAME}.*ip link set dev eth0 xdp off`));
          t.equal((await machineState(balancer)).xdp, stranger);
          configure('auto');
          await takes(t, {
            datapath: 'packet',
            says: new RegExp(`^datapath packet.*${STRANGER_NAME}.*xdp off`),
            level: 'warn',
          });
          await farm.balancerProgram?.stop();
          const detached = await farm.baton([
            'balancer',
            '-c',
            farm.balancerConfig,
            '--detach-all',
          ]);
          t.notMatch(detached.stdout, /XDP/);
          t.equal(
            (await machineState(balancer)).xdp,
            stranger,
            'the other program is still attached',
          );
          await balancer.run('ip', ['link', 'set', 'dev', 'eth0', 'xdp', 'off']);
        },
      );

      await t.test('a memory lock limit that is too low gives packet, or no start', async (t) => {
        const poor = [
          ...['prlimit', '--memlock=65536:65536'],
          ...[
            'setpriv',
            '--bounding-set=-ipc_lock,-sys_resource',
            '--inh-caps=-ipc_lock,-sys_resource',
          ],
        ];
        configure('xdp');
        await refusesAll(t, /lock.*(ulimit -l|LimitMEMLOCK)/, poor);
      });

      await t.test(
        'maps of another version with another layout give a warning, and the balancer starts',
        async (t) => {
          configure('xdp');
          await takes(t, { datapath: 'xdp (native)', says: /^datapath xdp/ });
          await farm.balancerProgram?.kill();
          const { kept } = await machineState(balancer);
          const pins = kept.find((name) => name.startsWith('/sys/fs/bpf/'));
          const control = native().openMap({ path: `${pins}/control` });
          new Uint32Array(control.memory())[0] = OLD_LAYOUT;
          control.close();
          await takes(t, {
            datapath: 'xdp (native)',
            says: new RegExp(`cannot be taken over.*layout is ${OLD_LAYOUT}, ours`),
            level: 'warn',
          });
          await stops(t);
        },
      );
    });
  },
);
