/**
 * Clients on the balancer's own host, such as containers and virtual machines. They leave checksums
 * and segmentation to hardware that their frames never reach. With the xdp datapath the kernel
 * forwards these frames, with XDP in the driver and in the stack.
 */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { type CurlAnswer, curl, sha256 } from '../../lab/clients/curl.js';
import { Download } from '../../lab/clients/download.js';
import { converse } from '../../lab/clients/raw-client.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const LONG_BYTES = 10_000_000;
const CONNECTIONS = 8;
const MODES = DATAPATH === 'xdp' ? ['xdp (generic)', 'xdp (native)'] : ['packet'];
const resources = [
  { path: '/one/', nodes: ['n1'] },
  { path: '/post', nodes: ['n1'] },
];
const long = randomBytes(LONG_BYTES);

function fill(farm: Farm): void {
  farm.webs[0]?.put('one/a.txt', 'from node 1\n');
  farm.webs[0]?.put('one/long.bin', long);
}

/**
 * Counts of the client's kernel: segments with a wrong checksum, and retransmissions; and SYN/ACKs
 * of the XDP program.
 */
async function handshakes(
  farm: Farm,
): Promise<{ wrong: number; repeated: number; answered: number }> {
  const [{ counters }, wrong, repeated] = await Promise.all([
    farm.stats(),
    farm.client.kernelCounter('TcpInCsumErrors'),
    farm.client.kernelCounter('TcpExtTCPSynRetrans'),
  ]);
  return { wrong, repeated, answered: counters.xdp_syn_answered ?? 0 };
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test(
  'clients on the same host are served with unfinished checksums',
  { skip: whyNoFarm() },
  async (t) => {
    await withFarm(t, { resources, fill, nodes: 1 }, async (farm) => {
      const body = `${farm.directory}/upload.bin`;
      writeFileSync(body, long);
      const upload = (...args: string[]): Promise<CurlAnswer> =>
        curl(farm.client, `${BASE}/post`, [...args, '--data-binary', `@${body}`]);
      const uploaded = (t: Test, answer: CurlAnswer): void => {
        t.match(
          answer,
          { exit: 0, status: 200 },
          `upload: ${(answer.seconds * 1000).toFixed(0)} ms`,
        );
        t.equal(sha256(farm.webs[0]?.lastPosted() ?? Buffer.alloc(0)), sha256(long));
      };
      const downloaded = (t: Test, answer: CurlAnswer): void => {
        t.match(
          answer,
          { exit: 0, status: 200 },
          `download: ${(answer.seconds * 1000).toFixed(0)} ms`,
        );
        t.equal(sha256(answer.body), sha256(long));
      };

      for (const mode of MODES) {
        if (mode === 'xdp (native)') {
          await farm.balancerProgram?.stop();
          await farm.pollBalancer();
          await farm.startBalancer();
          await farm.waitNodesUp();
        }
        t.equal((await farm.stats()).datapath, mode);

        await t.test(`${mode}: downloads and uploads arrive`, async (t) => {
          downloaded(t, await curl(farm.client, `${BASE}/one/long.bin`));
          uploaded(t, await upload('-H', 'Expect:'));
          uploaded(t, await upload());
        });

        await t.test(`${mode}: long heads are read`, async (t) => {
          for (const bytes of [1_400, 2_000, 7_900]) {
            const cookie = `Cookie: c=${'x'.repeat(bytes)}`;
            const answer = await curl(farm.client, `${BASE}/one/a.txt`, ['-H', cookie]);
            t.equal(
              answer.body.toString(),
              'from node 1\n',
              `${bytes}: ${(answer.seconds * 1000).toFixed(1)} ms`,
            );
          }
        });

        await t.test(
          `${mode}: a SYN/ACK is right through a switch that finishes checksums`,
          async (t) => {
            await farm.leaveChecksums(farm.client, false);
            const before = await handshakes(farm);
            for (let i = 0; i < CONNECTIONS; i++) {
              const answer = await curl(farm.client, `${BASE}/one/a.txt`);
              t.equal(
                answer.body.toString(),
                'from node 1\n',
                `${(answer.seconds * 1000).toFixed(1)} ms`,
              );
            }
            const after = await handshakes(farm);
            await farm.leaveChecksums(farm.client, true);
            t.strictSame(
              { wrong: after.wrong - before.wrong, repeated: after.repeated - before.repeated },
              { wrong: 0, repeated: 0 },
              'each SYN/ACK was right, and the first SYN got it',
            );
            t.equal(
              after.answered - before.answered,
              mode === 'packet' ? 0 : CONNECTIONS,
              'the XDP program sent it',
            );
          },
        );

        await t.test(
          `${mode}: nothing is lost, and the engine gets only the beginning of connections`,
          async (t) => {
            const { counters } = await farm.stats();
            const {
              drop_tcp_checksum,
              ring_lost,
              ring_drop_full,
              xdp_to_engine_checksum = 0,
            } = counters;
            t.strictSame(
              { drop_tcp_checksum, ring_lost, ring_drop_full, xdp_to_engine_checksum },
              { drop_tcp_checksum: 0, ring_lost: 0, ring_drop_full: 0, xdp_to_engine_checksum: 0 },
            );
            if (mode === 'packet') return;
            const [engine = 0, kernel = 0] = [
              counters.ring_received,
              counters.xdp_forwarded_by_stack,
            ];
            t.ok(
              kernel > 100 && engine < kernel,
              `the engine got ${engine} frames, the kernel forwarded ${kernel}`,
            );
          },
        );

        const skip = mode === 'packet' && 'sessions of the packet datapath end with the process';
        await t.test(`${mode}: transfers finish while no balancer runs`, { skip }, async (t) => {
          const go = `${farm.directory}/go-${mode}`;
          const half = 'x'.repeat(LONG_BYTES / 2);
          const head = `POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: ${LONG_BYTES}\r\n\r\n`;
          const up = converse(farm.client, {
            address: VIRTUAL_ADDRESS,
            port: 80,
            steps: [
              { send: head },
              { send: half },
              { untilFile: go },
              { send: half },
              { hear: 'stored by n1' },
            ],
            timeoutMs: PATIENCE_MS,
          });
          const down = new Download(farm, `${BASE}/one/long.bin`);
          await down.begun();
          const passing = async (): Promise<boolean> => (await farm.stats()).sessions.passing === 2;
          await farm.waitFor(passing, 'two sessions pass');
          await farm.balancerProgram?.kill();
          writeFileSync(go, '');
          t.strictSame(await down.finish(), { sha256: sha256(long), error: '' });
          t.match(await up, { text: /stored by n1/, ending: 'open' });
          t.equal(farm.webs[0]?.lastPosted()?.length, LONG_BYTES);
          await farm.startBalancer();
          await farm.waitNodesUp();
        });
      }
    });
  },
);
