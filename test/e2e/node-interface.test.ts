/**
 * Nodes that are reached through another interface than clients: requests, downloads, uploads,
 * captures, notices. Answers to clients pass a router; no answer passes the balancer.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { curl, curlAll, sha256 } from '../../lab/clients/curl.js';
import { NODE_SIDE_ADDRESS, VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { batonCommand } from '../../lab/farm/baton.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { captureFrames } from '../../lab/probes/frames.js';
import { openCapture } from '../../src/wire/capture-file.js';
import { BASE, DOWNLOAD_BYTES, LONG, TWO_INTERFACES } from './two-interfaces.js';

const UPLOAD_BYTES = 2_000_000;
const ICMP = 1;
const TCP = 6;
const IXP = 253;
const IXCP = 254;

/** By how much each counter grew while `during` ran. */
async function grown(farm: Farm, during: () => Promise<void>): Promise<(name: string) => number> {
  const before = (await farm.stats()).counters;
  await during();
  const after = (await farm.stats()).counters;
  return (name) => (after[name] ?? 0) - (before[name] ?? 0);
}

/** IPv4 frames of a protocol from an address. */
const framesOf = (frames: readonly Buffer[], protocol: number, source: string): Buffer[] =>
  frames.filter(
    (frame) =>
      frame.readUInt16BE(12) === 0x0800 &&
      frame[23] === protocol &&
      frame.subarray(26, 30).equals(Buffer.from(source.split('.').map(Number))),
  );

t.setTimeout(FILE_TIMEOUT_MS);

t.test('nodes can have an interface of their own', { skip: whyNoFarm() }, async (t) => {
  await withFarm(t, TWO_INTERFACES, async (farm) => {
    const { client, balancer } = farm;

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
        'each log has a line',
      );
      t.same(
        farm.webs.map((web) => web.requests()),
        [['GET /one/a.txt HTTP/1.1'], ['GET /two/a.txt HTTP/1.1']],
      );
      t.equal((await farm.stats()).datapath, DATAPATH === 'xdp' ? 'xdp (native)' : 'packet');
    });

    await t.test('the balancer itself answers when no node holds the content', async (t) => {
      t.match(await curl(client, `${BASE}/three`), { exit: 0, status: 404 });
      await farm.waitEmpty();
    });

    await t.test('a connection can carry many requests', async (t) => {
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

    await t.test('a capture shows frames of both interfaces', async (t) => {
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
      t.ok(framesOf(frames, IXP, client.address).length > 0, 'the handoff, on eth1');
      t.ok(
        framesOf(frames, IXCP, farm.nodes[0]!.address).length > 0,
        'notices of the node, on eth1',
      );
      t.ok(framesOf(frames, TCP, VIRTUAL_ADDRESS).length > 0, 'the SYN/ACK, on eth0');
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

    await t.test(
      'a download arrives, and its ACKs leave through the interface of the nodes',
      async (t) => {
        const before = await balancer.traffic('eth1');
        const grew = await grown(farm, async () => {
          const answer = await curl(client, `${BASE}/two/long.bin`);
          t.equal(answer.status, 200, answer.error);
          t.equal(sha256(answer.body), sha256(LONG));
        });
        const after = await balancer.traffic('eth1');
        // `forwarded` includes what the kernel forwarded.
        const inKernel = grew('xdp_forwarded');
        const inEngine = grew('forwarded') - inKernel;
        t.ok(
          after.sentPackets - before.sentPackets >= inKernel + inEngine,
          'ACKs leave through the interface of the nodes',
        );
        t.ok(
          after.receivedBytes - before.receivedBytes < DOWNLOAD_BYTES / 10,
          'the answer does not pass the balancer',
        );
        t.ok(
          (DATAPATH === 'xdp' ? inKernel : inEngine) > 50,
          `forwarded: ${inKernel} by the kernel, ${inEngine} by the engine`,
        );
        if (DATAPATH === 'xdp') t.ok(inEngine < inKernel / 10, 'the kernel forwards');
        await farm.waitEmpty();
      },
    );

    await t.test('an upload arrives through the interface of the nodes', async (t) => {
      const file = `${farm.directory}/upload.bin`;
      writeFileSync(file, LONG.subarray(0, UPLOAD_BYTES));
      for (const args of [['-H', 'Expect:'], []]) {
        const grew = await grown(farm, async () => {
          const answer = await curl(client, `${BASE}/post`, [...args, '--data-binary', `@${file}`]);
          t.match(answer, { exit: 0, status: 200 });
          t.equal(answer.body.toString(), 'stored by n1\n');
          t.equal(
            sha256(farm.webs[0]?.lastPosted() ?? new Uint8Array(0)),
            sha256(LONG.subarray(0, UPLOAD_BYTES)),
          );
        });
        const bytes = grew(DATAPATH === 'xdp' ? 'xdp_forwarded_bytes' : 'forwarded_bytes');
        t.ok(bytes > UPLOAD_BYTES * 0.8, `${bytes} bytes forwarded`);
        t.equal(grew('xdp_drop_no_port'), 0);
      }
      await farm.waitEmpty();
    });

    await t.test(
      'notices and reports pass both ways, and the kernel does not answer them',
      async (t) => {
        const node = farm.nodes[0];
        if (node === undefined) throw new Error('no node');
        const reports = async (): Promise<number> => (await farm.stats()).counters.report ?? 0;
        const before = await reports();
        const frames = await captureFrames(node, async () => {
          for (let i = 0; i < 5; i++) await curl(client, `${BASE}/one/a.txt`);
          // Both nodes report every second. The first report may come from before the capture.
          await farm.waitFor(
            async () => (await reports()) >= before + 4,
            'both nodes have reported',
          );
        });
        t.ok(
          framesOf(frames, IXCP, node.address).length >= 5,
          'the node sends notices and reports',
        );
        t.ok(
          framesOf(frames, IXCP, NODE_SIDE_ADDRESS).length >= 1,
          "the balancer's answers to reports",
        );
        t.same(framesOf(frames, ICMP, NODE_SIDE_ADDRESS), [], 'no ICMP error');
        t.equal((await farm.stats()).counters.drop_ixcp_stale, 0);
        await farm.waitEmpty();
      },
    );
  });
});
