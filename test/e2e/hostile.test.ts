/**
 * Malformed and forged frames on the real wire are dropped and counted by name, and no other client
 * notices.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { curl, sha256 } from '../../lab/clients/curl.js';
import { Download } from '../../lab/clients/download.js';
import { BALANCER_ADDRESS, VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { build, type PacketSpec } from '../../lab/packet.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { captureFrames, sendFrames } from '../../lab/probes/frames.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const long = randomBytes(30_000_000);
const resources = [{ path: '/', nodes: ['n1', 'n2'] }];
const WRONG_KEY = Buffer.alloc(16, 0x77);
/** An address of no machine: only the capture sees answers to it. */
const STRANGER = '10.99.0.250';

function fill(farm: Farm): void {
  for (const web of farm.webs) {
    web.put('a.txt', 'here\n');
    web.put('long.bin', long);
  }
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test('malformed and forged frames are dropped and counted', { skip: whyNoFarm() }, async (t) => {
  await withFarm(t, { resources, fill, nodes: 2 }, async (farm) => {
    const [node1] = farm.nodes;
    const ethernet = { source: farm.client.mac, destination: farm.balancer.mac };
    const fromStranger = { source: STRANGER, destination: VIRTUAL_ADDRESS };
    const syn = { sourcePort: 5555, destinationPort: 80, seq: 1000, flags: 'S' };
    const toVirtual = (more: PacketSpec): Uint8Array =>
      build({
        ethernet,
        ...more,
        ip: { ...fromStranger, ...more.ip },
        tcp: { ...syn, ...more.tcp },
      });
    const notice = (more: PacketSpec, key = WRONG_KEY): Uint8Array =>
      build(
        {
          ethernet,
          ...more,
          ip: { source: node1!.address, destination: BALANCER_ADDRESS, ...more.ip },
          ixcp: {
            type: 3,
            client: farm.client.address,
            clientPort: 5555,
            virtualPort: 80,
            ...more.ixcp,
          },
        },
        key,
      );
    const counted = async (names: readonly string[]): Promise<number> => {
      const { counters } = await farm.stats();
      return names.reduce((sum, name) => sum + (counters[name] ?? 0), 0);
    };

    const download = new Download(farm, `${BASE}/long.bin`);

    const cases: [string, string[], Uint8Array][] = [
      ['a wrong TCP checksum', ['drop_tcp_checksum'], toVirtual({ tcp: { checksum: 0x1234 } })],
      ['a wrong IPv4 checksum', ['drop_ipv4_checksum'], toVirtual({ ip: { checksum: 0x1234 } })],
      [
        'a TCP header shorter than a TCP header',
        ['drop_malformed_tcp'],
        toVirtual({ tcp: { words: 3 } }),
      ],
      [
        'a TCP header longer than its packet',
        ['drop_malformed_tcp'],
        toVirtual({ tcp: { words: 15 } }),
      ],
      ['SYN and FIN at once', ['drop_malformed_tcp'], toVirtual({ tcp: { flags: 'SF' } })],
      ['an IPv4 fragment', ['drop_ipv4_fragment'], toVirtual({ ip: { moreFragments: true } })],
      // It names no port. The XDP program passes it to the kernel, which drops it because the first
      // fragment is missing.
      ...(DATAPATH === 'xdp'
        ? []
        : ([
            ['a later fragment', ['drop_ipv4_fragment'], toVirtual({ ip: { fragmentOffset: 64 } })],
          ] satisfies [string, string[], Uint8Array][])),
      [
        'an IPv4 packet longer than its frame',
        ['drop_malformed_ipv4'],
        toVirtual({ ip: { totalLength: 1400 } }),
      ],
      [
        'IPv4 options',
        ['drop_ipv4_options'],
        toVirtual({ ip: { options: Uint8Array.of(1, 1, 1, 0) } }),
      ],
      [
        'data of no session',
        ['drop_searching', 'drop_no_session', 'reset_sent'],
        toVirtual({ tcp: { flags: 'A', ack: 7 }, payload: 'x' }),
      ],
      ['a notice with a wrong tag', ['drop_ixcp_tag'], notice({})],
      ['a notice of a stranger', ['drop_ixcp_unknown_node'], notice({ ip: { source: STRANGER } })],
      ['a notice of another version', ['drop_malformed_ixcp'], notice({ ixcp: { version: 9 } })],
      ['a notice of another length', ['drop_malformed_ixcp'], notice({ ixcp: { length: 200 } })],
    ];
    for (const [what, names, frame] of cases) {
      await t.test(`${what}: ${names.join(' or ')}`, async (t) => {
        const before = await counted(names);
        t.equal(
          await sendFrames(
            farm.client,
            Array.from({ length: 5 }, () => frame),
          ),
          5,
        );
        await farm
          .waitFor(async () => (await counted(names)) >= before + 5, `5 more of ${names}`)
          .catch((error) => t.fail(String(error)));
        t.equal((await curl(farm.client, `${BASE}/a.txt`)).status, 200, 'requests go on');
      });
    }

    await t.test('no node answers a forged handoff', async (t) => {
      const handoff = (
        key: Uint8Array,
        balancer: string,
        version = 1,
        path = 'forged.txt',
      ): Uint8Array =>
        build(
          {
            ethernet: { source: farm.balancer.mac, destination: node1!.mac },
            ip: fromStranger,
            ixp: {
              version,
              type: 1,
              session: 99,
              balancer,
              confirm: 1001,
              mss: 1400,
              flags: 7,
              scales: 0x77,
            },
            tcp: { ...syn, flags: 'PA', ack: 5000 },
            payload: `GET /${path} HTTP/1.1\r\nHost: x\r\n\r\n`,
          },
          key,
        );
      const key = Buffer.from(readFileSync(farm.keyFile, 'utf8').trim(), 'hex');
      const frames = [
        handoff(WRONG_KEY, BALANCER_ADDRESS),
        handoff(key, STRANGER),
        handoff(key, BALANCER_ADDRESS, 2),
        handoff(key, BALANCER_ADDRESS).subarray(0, 60),
      ];
      const heard = await captureFrames(node1!, async () => {
        await sendFrames(farm.balancer, frames);
      });
      t.ok(
        frames.every((frame) => heard.some((other) => other.equals(frame))),
        'the capture saw the forged frames',
      );
      const stranger = Buffer.from(STRANGER.split('.').map(Number));
      const toStranger = heard.filter(
        (frame) => frame.length > 34 && frame.subarray(30, 34).equals(stranger),
      );
      t.same(toStranger, [], 'no RST either');
      const asked = (path: string): boolean =>
        farm.webs[0]?.requests().includes(`GET /${path} HTTP/1.1`) ?? false;
      t.notOk(asked('forged.txt'));

      // The same frame with the right key and address is a request. So the forgery was the reason
      // for the refusals above.
      await sendFrames(farm.balancer, [handoff(key, BALANCER_ADDRESS, 1, 'genuine.txt')]);
      await farm.waitFor(() => asked('genuine.txt'), 'the genuine request is served');
      t.notOk(asked('forged.txt'));
    });

    await t.test(
      '10,000 random frames and 10,000 frames with one wrong byte do no harm',
      async (t) => {
        const noise = Array.from({ length: 10_000 }, () =>
          Buffer.concat([
            Buffer.from(farm.balancer.mac.replaceAll(':', ''), 'hex'),
            randomBytes(20 + Math.floor(Math.random() * 200)),
          ]),
        );
        const bases = [
          toVirtual({}),
          toVirtual({ tcp: { flags: 'PA', ack: 9 }, payload: 'GET / HTTP/1.1\r\n' }),
          notice({}),
        ];
        const almost = Array.from({ length: 10_000 }, (_, index) => {
          const frame = Buffer.from(bases[index % bases.length]!);
          const at = 12 + Math.floor(Math.random() * (frame.length - 12));
          frame[at] = Math.floor(Math.random() * 256);
          return frame;
        });
        await sendFrames(farm.client, noise);
        await sendFrames(farm.client, almost);
        await sendFrames(
          farm.nodes[1]!,
          almost.map((frame) =>
            Buffer.concat([Buffer.from(node1!.mac.replaceAll(':', ''), 'hex'), frame.subarray(6)]),
          ),
        );
        for (let index = 0; index < 4; index++) {
          t.equal((await curl(farm.client, `${BASE}/a.txt`)).status, 200);
        }
      },
    );

    await t.test(
      'a request is served after 100,000 SYNs of clients that do not exist',
      async (t) => {
        const flood = Array.from({ length: 20_000 }, (_, index) =>
          toVirtual({
            ip: { source: `10.98.${(index >> 8) & 255}.${index & 255}` },
            tcp: { sourcePort: 1024 + (index % 60_000), seq: index },
          }),
        );
        for (let round = 0; round < 5; round++) {
          await sendFrames(farm.client, flood);
        }
        const answer = await curl(farm.client, `${BASE}/a.txt`);
        t.equal(answer.status, 200);
        t.comment(`served after ${answer.seconds} s`);
        const { sessions } = await farm.stats();
        t.ok((sessions.halfOpen ?? 0) <= 65_536);
      },
    );

    await t.test('a download that went on during all of this arrives intact', async (t) => {
      t.ok(download.running);
      const finished = await download.finish();
      t.equal(finished.error, '');
      t.equal(finished.sha256, sha256(long));
      t.ok(farm.balancerProgram?.running);
      t.ok(farm.agents.every((agent) => agent?.running));
    });
  });
});
