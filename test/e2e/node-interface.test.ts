/**
 * Nodes that are reached by another interface than clients. They have a network of their own, and
 * answer clients by way of a router: nothing that they say to a client comes by the balancer.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { curl, curlAll, sha256 } from '../../lab/clients/curl.js';
import { Download } from '../../lab/clients/download.js';
import { BALANCER_ADDRESS, NODE_SIDE_ADDRESS, VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { batonCommand } from '../../lab/farm/baton.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { offloadAt } from '../../lab/farm/network.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { captureFrames } from '../../lab/probes/frames.js';
import { type MachineState, machineState } from '../../lab/probes/machine.js';
import { openCapture } from '../../src/wire/capture-file.js';
import { refuses } from '../support/refusal.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const DOWNLOAD_BYTES = 20_000_000;
const UPLOAD_BYTES = 2_000_000;
const long = randomBytes(DOWNLOAD_BYTES);
const resources = [
  { path: '/one/', nodes: ['n1'] },
  { path: '/two/', nodes: ['n2'] },
  { path: '/post', nodes: ['n1'] },
];
/** Acknowledgements of a download that the kernel forwards while there is no process. */
const ALONE_PACKETS = 20;
const timeouts = { linger: '300ms', closing: '2s' };
const ICMP = 1;
const TCP = 6;
const IXP = 253;
const IXCP = 254;

function fill(farm: Farm): void {
  for (const [index, place] of ['one', 'two'].entries()) {
    farm.webs[index]?.put(`${place}/a.txt`, `from n${index + 1}\n`);
    farm.webs[index]?.put(`${place}/long.bin`, long);
  }
}

/** What a balancer leaves on its two interfaces. */
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

/** What grew, and by how much, while something was done. */
async function grown(farm: Farm, during: () => Promise<void>): Promise<(name: string) => number> {
  const before = (await farm.stats()).counters;
  await during();
  const after = (await farm.stats()).counters;
  return (name) => (after[name] ?? 0) - (before[name] ?? 0);
}

/** Frames of a protocol from an address, among those of Ethernet. */
const framesOf = (frames: readonly Buffer[], protocol: number, source: string): Buffer[] =>
  frames.filter(
    (frame) =>
      frame.readUInt16BE(12) === 0x0800 &&
      frame[23] === protocol &&
      frame.subarray(26, 30).equals(Buffer.from(source.split('.').map(Number))),
  );

t.setTimeout(FILE_TIMEOUT_MS);

t.test('nodes behind an interface of their own', { skip: whyNoFarm() }, async (t) => {
  const use = {
    resources,
    fill,
    nodes: 2,
    nodeNetwork: true,
    // XDP in the driver, on both interfaces.
    cards: true,
    balancer: { timeouts },
  };
  await withFarm(t, use, async (farm) => {
    const { client, balancer } = farm;
    const detachAll = () => farm.baton(['balancer', '-c', farm.balancerConfig, '--detach-all']);
    const serves = async (t: Test): Promise<void> => {
      await farm.waitNodesUp();
      t.equal((await curl(client, `${BASE}/two/a.txt`)).body.toString(), 'from n2\n');
    };

    await t.test('a request is answered by the node that holds it', async (t) => {
      for (const [place, node] of [
        ['one', 'n1'],
        ['two', 'n2'],
      ] as const) {
        const answer = await curl(client, `${BASE}/${place}/a.txt`);
        t.match(answer, { exit: 0, status: 200 });
        t.equal(answer.body.toString(), `from ${node}\n`);
      }
      await farm.waitFor(
        () => farm.webs.every((web) => web.requests().length > 0),
        'a line in each log',
      );
      t.same(
        farm.webs.map((web) => web.requests()),
        [['GET /one/a.txt HTTP/1.1'], ['GET /two/a.txt HTTP/1.1']],
      );
      t.equal((await farm.stats()).datapath, DATAPATH === 'xdp' ? 'xdp (native)' : 'packet');
    });

    await t.test('what nobody holds is answered by the balancer itself', async (t) => {
      t.match(await curl(client, `${BASE}/three`), { exit: 0, status: 404 });
      await farm.waitEmpty();
    });

    await t.test('many requests on one connection', async (t) => {
      const urls = Array.from({ length: 20 }, () => `${BASE}/one/a.txt`);
      const answers = await curlAll(client, urls);
      t.same(
        answers.map((answer) => answer.status),
        urls.map(() => 200),
      );
      t.equal(
        answers.reduce((sum, answer) => sum + answer.connects, 0),
        1,
        'one connection',
      );
      await farm.waitEmpty();
    });

    await t.test('a capture shows what goes and comes by both', async (t) => {
      const file = `${farm.directory}/both.pcapng`;
      const args = ['capture', '-c', farm.balancerConfig, '-w', file, '--client', client.address];
      const program = balancer.start('capture', batonCommand(args));
      await program.waitForLog(/capturing .*Ctrl-C ends/, 15_000, program.logStart);
      t.match(await curl(client, `${BASE}/one/a.txt`), { exit: 0, status: 200 });
      await farm.waitEmpty();
      program.signal('SIGINT');
      t.same(await program.exited, { code: 0, signal: null });
      const reader = openCapture(readFileSync(file))!;
      const frames: Buffer[] = [];
      while (reader.next()) {
        const { bytes, offset, capturedLength } = reader;
        frames.push(Buffer.from(bytes.subarray(offset, offset + capturedLength)));
      }
      t.ok(framesOf(frames, IXP, client.address).length > 0, 'the handoff, by eth1');
      t.ok(
        framesOf(frames, IXCP, farm.nodes[0]!.address).length > 0,
        'what the node said, by eth1',
      );
      t.ok(framesOf(frames, TCP, VIRTUAL_ADDRESS).length > 0, 'the SYN/ACK, by eth0');
      const { stdout } = await farm.baton([
        'replay',
        '-c',
        farm.balancerConfig,
        '--in',
        file,
        '--json',
      ]);
      t.match(JSON.parse(stdout), { sessions: [{ request: 'GET /one/a.txt', status: 200 }] });
    });

    await t.test('a download', async (t) => {
      const before = await balancer.traffic('eth1');
      const grew = await grown(farm, async () => {
        const answer = await curl(client, `${BASE}/two/long.bin`);
        t.equal(answer.status, 200, answer.error);
        t.equal(sha256(answer.body), sha256(long));
      });
      const after = await balancer.traffic('eth1');
      // What the kernel did is part of `forwarded`.
      const inKernel = grew('xdp_forwarded');
      const inEngine = grew('forwarded') - inKernel;
      t.ok(
        after.sentPackets - before.sentPackets >= inKernel + inEngine,
        'by the interface of the nodes',
      );
      t.ok(
        after.receivedBytes - before.receivedBytes < DOWNLOAD_BYTES / 10,
        'the answer goes another way',
      );
      t.ok(
        (DATAPATH === 'xdp' ? inKernel : inEngine) > 50,
        `${inKernel} in the kernel, ${inEngine} in the engine`,
      );
      if (DATAPATH === 'xdp') t.ok(inEngine < inKernel / 10, 'the kernel forwards');
      await farm.waitEmpty();
    });

    await t.test('an upload', async (t) => {
      const file = `${farm.directory}/upload.bin`;
      writeFileSync(file, long.subarray(0, UPLOAD_BYTES));
      for (const args of [['-H', 'Expect:'], []]) {
        const grew = await grown(farm, async () => {
          const answer = await curl(client, `${BASE}/post`, [...args, '--data-binary', `@${file}`]);
          t.match(answer, { exit: 0, status: 200 });
          t.equal(answer.body.toString(), 'stored by n1\n');
          t.equal(
            sha256(farm.webs[0]?.lastPosted() ?? new Uint8Array(0)),
            sha256(long.subarray(0, UPLOAD_BYTES)),
          );
        });
        const bytes = grew(DATAPATH === 'xdp' ? 'xdp_forwarded_bytes' : 'forwarded_bytes');
        t.ok(bytes > UPLOAD_BYTES * 0.8, `${bytes} bytes forwarded`);
        t.equal(grew('xdp_drop_no_port'), 0);
      }
      await farm.waitEmpty();
    });

    await t.test(
      'nodes hear and are heard, and the kernel does not answer their notices',
      async (t) => {
        const node = farm.nodes[0];
        if (node === undefined) throw new Error('no node');
        const reports = async (): Promise<number> => (await farm.stats()).counters.report ?? 0;
        const before = await reports();
        const frames = await captureFrames(node, async () => {
          for (let i = 0; i < 5; i++) await curl(client, `${BASE}/one/a.txt`);
          // Both nodes report each second; the first report may be from before the capture.
          await farm.waitFor(async () => (await reports()) >= before + 4, 'reports of both nodes');
        });
        t.ok(framesOf(frames, IXCP, node.address).length >= 5, 'notices and reports of the node');
        t.ok(
          framesOf(frames, IXCP, NODE_SIDE_ADDRESS).length >= 1,
          "the balancer's answers to reports",
        );
        t.same(framesOf(frames, ICMP, NODE_SIDE_ADDRESS), [], 'no ICMP error');
        t.equal((await farm.stats()).counters.drop_ixcp_stale, 0);
        await farm.waitEmpty();
      },
    );

    await t.test('a stop leaves nothing', async (t) => {
      t.match((await left(farm)).nodes.filters, /guard_ingress/, 'while it runs there is a guard');
      t.same(await farm.balancerProgram?.stop(), { code: 0, signal: null });
      await nothing(t, farm);
      await farm.startBalancer();
      await serves(t);
    });

    await t.test('the cable to the nodes is pulled, and put in again', async (t) => {
      await balancer.run('ip', ['link', 'set', 'eth1', 'down']);
      const unresolved = async (): Promise<boolean> => {
        const { nodes } = await farm.stats();
        return nodes.every(
          ({ state, why }) => state === 'unresolved' && why === 'interface eth1 is down',
        );
      };
      await farm.waitFor(unresolved, 'both nodes are out of reach');
      t.match(await curl(client, `${BASE}/one/a.txt`), { exit: 0, status: 503 });
      await balancer.run('ip', ['link', 'set', 'eth1', 'up']);
      await serves(t);
      t.equal((await farm.stats()).counters.drop_ixcp_stale, 0);
      await farm.waitEmpty();
    });

    await t.test('several threads of the engine', async (t) => {
      await farm.balancerProgram?.stop();
      farm.configureBalancer(resources, { timeouts, workers: 2 });
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
        'each had something to do',
      );
      t.equal(counters.drop_ixcp_stale, 0, 'each hears the notices of its sessions');
      await farm.waitEmpty();
      await farm.balancerProgram?.stop();
      farm.configureBalancer(resources, { timeouts });
      await farm.startBalancer();
      await serves(t);
    });

    const onPacket = DATAPATH === 'packet' && 'there is no XDP';
    await t.test(
      'a cable to the nodes whose other end does not poll',
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
        t.equal(sha256((await curl(client, `${BASE}/one/long.bin`)).body), sha256(long));
        t.ok(((await farm.stats()).counters.xdp_forwarded ?? 0) > 50, 'the kernel forwards');
        await farm.waitEmpty();
        await program.kill();
        // The mode of what forwards meanwhile can not be changed.
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
          'then all that it can do is to warn',
        );
        await farm.balancerProgram?.stop();
        await setPolling(true);
        await farm.startBalancer();
        await serves(t);
      },
    );

    const skip = DATAPATH === 'packet' && 'sessions of the packet datapath end with the process';
    await t.test('killed and started again under a download', { skip }, async (t) => {
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
      t.equal(got, sha256(long));
      await serves(t);
      await farm.waitEmpty();
    });

    await t.test('what a killed one left on both interfaces', async (t) => {
      const running = await left(farm);
      await farm.balancerProgram?.kill();
      t.same(await left(farm), running, 'stands');
      const { code, stdout } = await detachAll();
      t.equal(code, 0);
      t.match(stdout, /removed tc filter guard_ingress \(ingress\) on eth1/);
      await nothing(t, farm);

      await farm.startBalancer();
      await farm.balancerProgram?.kill();
      await farm.startBalancer();
      await serves(t);
      t.match((await left(farm)).nodes.filters, /guard_ingress/, 'a restart has it again');
      await farm.balancerProgram?.kill();
      farm.configureBalancer(resources, { timeouts, nodeInterface: undefined });
      await farm.startBalancer();
      t.notMatch(
        (await left(farm)).nodes.filters,
        /guard|clsact/,
        'without a nodeInterface it is gone',
      );
      t.same(await farm.balancerProgram?.stop(), { code: 0, signal: null });
      await nothing(t, farm);

      farm.configureBalancer(resources, { timeouts });
      await farm.startBalancer();
      await farm.balancerProgram?.kill();
      const files = (await left(farm)).nodes.kept.filter((file) => file.startsWith('/run/'));
      await balancer.run('rm', files);
      t.match((await detachAll()).stdout, /guard_ingress \(ingress\) on eth1/, 'known by its name');
      // Whose clsact was, nobody knows any more.
      await nothing(t, farm, /guard|shim/);
    });

    await t.test('interfaces that will not do', async (t) => {
      const refused = (nodeInterface: string, says: string): Promise<void> => {
        farm.configureBalancer(resources, { nodeInterface });
        const place = `${farm.balancerConfig}:2:16: nodeInterface: `;
        const text = `${place}${says}`.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
        return refuses(t, balancer, ['balancer', '-c', farm.balancerConfig], new RegExp(text));
      };
      await refused('eth9', 'eth9: no such interface (this machine has lo, eth0, eth1)');
      await refused('lo', 'lo: the loopback interface');
      await refused('eth0', 'is "eth0", which is the interface already, expected another');
      await balancer.run('ip', ['link', 'add', 'bare', 'type', 'bridge']);
      await balancer.run('ip', ['link', 'set', 'bare', 'up']);
      await refused(
        'bare',
        'bare: has no IPv4 address of its own (`ip address add ADDRESS/PREFIX dev bare`',
      );
      await balancer.run('ip', ['link', 'set', 'eth1', 'down']);
      await refused('eth1', 'eth1: the interface is down');
      await balancer.run('ip', ['link', 'set', 'eth1', 'up']);
    });
  });
});
