/**
 * Hardened and misconfigured nodes: TCP options are switched off before the first client or while
 * clients come, a node lacks the virtual address, a web server does not listen. The balancer names
 * each cause.
 */
import { writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { type CurlAnswer, curl } from '../../lab/clients/curl.js';
import type { Step } from '../../lab/clients/raw-client.js';
import { converse } from '../../lab/clients/raw-client.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';
import { captureFrames } from '../../lab/probes/frames.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const resources = [
  { path: '/one/', nodes: ['n1'] },
  { path: '/both/', nodes: ['n1', 'n2'] },
];

function fill(farm: Farm): void {
  farm.webs.forEach((web, index) => {
    web.put('one/a.txt', `from node ${index + 1}\n`);
    web.put('both/a.txt', `from node ${index + 1}\n`);
  });
}

/**
 * Kinds of the options in a frame that is a SYN/ACK of the virtual server (RFC 9293 section 3.2);
 * undefined for any other frame.
 */
function offered(frame: Buffer): number[] | undefined {
  const isSynAck =
    frame.readUInt16BE(12) === 0x0800 &&
    frame[23] === 6 &&
    frame.readUInt16BE(34) === 80 &&
    frame[47] === 0x12;
  if (!isSynAck) return undefined;
  const end = 34 + ((frame[46] ?? 0) >>> 4) * 4;
  const kinds: number[] = [];
  for (let at = 54; at < end; at += frame[at] === 1 ? 1 : (frame[at + 1] ?? 1)) {
    if (frame[at] !== 1) kinds.push(frame[at] ?? 0);
  }
  return kinds.sort((one, other) => one - other);
}

const KIND = { mss: 2, windowScale: 3, sack: 4, timestamps: 8 } as const;
const EVERYTHING = [KIND.mss, KIND.windowScale, KIND.sack, KIND.timestamps];

t.setTimeout(FILE_TIMEOUT_MS);

t.test(
  'hardened nodes are served, and misconfigured nodes are explained',
  { skip: whyNoFarm() },
  async (t) => {
    await withFarm(
      t,
      { resources, fill, nodes: 2, balancer: { timeouts: { head: '60s' } } },
      async (farm) => {
        const [n1, n2] = farm.nodes;
        const get = (path: string): Promise<CurlAnswer> => curl(farm.client, BASE + path);
        const set = (setting: string, value: number, host = n1!): Promise<unknown> =>
          host.run('sysctl', ['-qw', `net.ipv4.${setting}=${value}`]);
        const why = async (node = 0): Promise<{ condition: string; why: string }> => {
          const { condition = '', why = '' } = (await farm.stats()).nodes[node] ?? {};
          return { condition, why };
        };
        const says = (text: RegExp, from: number): Promise<void> =>
          farm.waitFor(() => text.test(farm.balancerProgram?.log(from) ?? ''), String(text));
        const logEnd = (): number => farm.balancerProgram?.log().length ?? 0;
        const becomes = (text: RegExp, node = 0): Promise<void> =>
          farm.waitFor(async () => {
            const now = await why(node);
            return text.test(`${now.condition}: ${now.why}`);
          }, String(text));
        /** Handoffs so far that a node refused or did not answer. */
        const failed = async (): Promise<number> => {
          const { counters } = await farm.stats();
          return (counters.handoff_refused ?? 0) + (counters.handoff_silent ?? 0);
        };
        /** Sends a request that must get 200. Returns the option kinds of its SYN/ACK. */
        const offer = async (t: Test, path = '/one/a.txt'): Promise<number[] | undefined> => {
          let answer: CurlAnswer | undefined;
          const before = await failed();
          const frames = await captureFrames(farm.client, async () => {
            answer = await get(path);
          });
          t.equal(answer?.status, 200, answer?.error ?? '');
          t.equal(await failed(), before, 'the first node that was asked adopted the session');
          return frames.map(offered).find((kinds) => kinds !== undefined);
        };
        const everythingOffered = (): Promise<void> =>
          farm.waitFor(
            async () => ((await farm.stats()).notOffered ?? []).length === 0,
            'all TCP options are offered',
          );

        await everythingOffered();
        t.same(await offer(t), EVERYTHING);

        for (const [setting, kind, name] of [
          ['tcp_timestamps', KIND.timestamps, 'timestamps'],
          ['tcp_window_scaling', KIND.windowScale, 'window scaling'],
        ] as const) {
          await t.test(
            `a TCP option is withheld when net.ipv4.${setting}=0 is set while the node runs`,
            async (t) => {
              const from = logEnd();
              await set(setting, 0);
              await becomes(
                new RegExp(
                  `^up: net\\.ipv4\\.${setting} is 0 there: no client is offered ${name}$`,
                ),
              );
              await says(
                new RegExp(`node n1 is up, but: net\\.ipv4\\.${setting} is 0 there`),
                from,
              );
              t.same((await farm.stats()).notOffered, [`${name}: net.ipv4.${setting} is 0 on n1`]);
              t.same(
                await offer(t),
                EVERYTHING.filter((each) => each !== kind),
              );
              t.equal((await get('/none')).status, 404, 'the balancer itself answers');
              await set(setting, 1);
              await everythingOffered();
              t.same(await offer(t), EVERYTHING);
              t.same(await why(), { condition: 'up', why: '' });
            },
          );
        }

        await t.test(
          'an earlier connection goes to a holder that still accepts its options',
          async (t) => {
            const go = `${farm.directory}/go`;
            const ask = {
              send: 'GET /both/a.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
            };
            const steps: Step[] = [{ untilFile: go }, ask, { untilClosed: true }];
            const before = await failed();
            const clients = Array.from({ length: 4 }, () =>
              converse(farm.client, {
                address: VIRTUAL_ADDRESS,
                port: 80,
                steps,
                timeoutMs: PATIENCE_MS,
              }),
            );
            await farm.waitFor(
              async () => (await farm.stats()).sessions.collecting === 4,
              'four connections are open',
            );
            await set('tcp_timestamps', 0);
            await becomes(/^up: net\.ipv4\.tcp_timestamps is 0 there/);
            writeFileSync(go, '');
            for (const heard of await Promise.all(clients))
              t.match(heard.text, /^HTTP\/1\.1 200 .*from node 2/s);
            t.equal(await failed(), before, 'a node that would refuse is not asked');
            await set('tcp_timestamps', 1);
            await everythingOffered();
          },
        );

        await t.test('tcp_sack=0 on one node withholds SACK from that node alone', async (t) => {
          await set('tcp_sack', 0);
          await becomes(
            /^up: net\.ipv4\.tcp_sack is 0 there: its sessions continue without selective acknowledgements$/,
          );
          t.same(await offer(t), EVERYTHING);
          t.equal((await get('/both/a.txt')).status, 200);
          await set('tcp_sack', 1);
          await becomes(/^up: $/);
        });

        await t.test(
          'the agent switches SYN cookies on again after net.ipv4.tcp_syncookies=0',
          async (t) => {
            await set('tcp_syncookies', 0);
            await farm.waitFor(
              async () =>
                (await n1!.run('sysctl', ['-n', 'net.ipv4.tcp_syncookies'])).stdout.trim() === '1',
              'SYN cookies are on again',
            );
            t.match(
              farm.agents[0]?.log(),
              /net\.ipv4\.tcp_syncookies is 0: this kernel cannot adopt sessions; switching it on/,
            );
            await becomes(/^up: $/);
            t.same(await offer(t), EVERYTHING);
          },
        );

        await t.test(
          "the balancer's own TCP settings do not count: it adopts nothing",
          async (t) => {
            for (const setting of ['tcp_sack', 'tcp_timestamps', 'tcp_window_scaling'])
              await set(setting, 0, farm.balancer);
            t.equal((await get('/none')).status, 404);
            t.same((await farm.stats()).notOffered, []);
            for (const setting of ['tcp_timestamps', 'tcp_window_scaling', 'tcp_sack'])
              await set(setting, 1, farm.balancer);
            await everythingOffered();
          },
        );

        await t.test(
          'a farm that was hardened before the start serves its first client',
          async (t) => {
            await farm.agents[0]?.stop();
            await farm.agents[1]?.stop();
            await farm.balancerProgram?.stop();
            for (const host of [n1!, n2!]) {
              await set('tcp_timestamps', 0, host);
              await set('tcp_window_scaling', 0, host);
              await set('tcp_sack', 0, host);
              await set('tcp_syncookies', 0, host);
            }
            await Promise.all([farm.startBalancer(), farm.startNode(0), farm.startNode(1)]);
            await farm.waitNodesUp();
            for (let i = 0; i < 4; i++) t.equal((await get('/both/a.txt')).status, 200);
            t.equal(await failed(), 0);
            t.same(await offer(t, '/both/a.txt'), [KIND.mss, KIND.sack]);
            for (const host of [n1!, n2!]) {
              await set('tcp_timestamps', 1, host);
              await set('tcp_window_scaling', 1, host);
              await set('tcp_sack', 1, host);
            }
            await everythingOffered();
          },
        );

        await t.test('a node whose config lacks the virtual address gets no handoff', async (t) => {
          const from = logEnd();
          await farm.agents[0]?.stop();
          await farm.startNode(0, { virtualAddresses: ['10.99.0.101'] });
          const lacking =
            /unable\)?: it lacks the address 10\.99\.0\.100: add it to virtualAddresses in its config/;
          await becomes(lacking);
          await says(lacking, from);
          const before = await failed();
          t.equal((await get('/one/a.txt')).status, 503);
          for (let i = 0; i < 4; i++) {
            const answer = await get('/both/a.txt');
            t.same([answer.status, answer.body.toString()], [200, 'from node 2\n']);
          }
          t.equal(await failed(), before, 'the node is not asked');
          await farm.agents[0]?.stop();
          await farm.startNode(0);
          await becomes(/^up: $/);
          await says(/node n1 is up\b/, from);
          t.equal((await get('/one/a.txt')).status, 200);
        });

        await t.test('a node whose agent does not know the balancer gets no handoff', async (t) => {
          await farm.agents[0]?.stop();
          await farm.balancerProgram?.stop();
          await farm.startBalancer();
          await farm.startNode(0, { balancers: ['10.99.0.77'] });
          await becomes(
            /^unheard: its agent has never reported: it is not running, or its `balancers` does not list/,
          );
          t.equal((await get('/one/a.txt')).status, 503);
          await farm.waitFor(
            () =>
              /dropped, from a balancer that is not in `balancers`/.test(
                farm.agents[0]?.log() ?? '',
              ),
            'the agent logs it too',
            8_000,
          );
          await farm.agents[0]?.stop();
          await farm.startNode(0);
          await becomes(/^up: $/);
          t.equal((await get('/one/a.txt')).status, 200);
        });

        await t.test('an agent with another key is reported as such, not as stopped', async (t) => {
          const from = logEnd();
          writeFileSync(`${farm.directory}/other.hex`, `${'5'.repeat(32)}\n`, { mode: 0o600 });
          await farm.agents[0]?.stop();
          await becomes(/^leaving: /);
          // A forged report does not change the state of a node that reported a moment ago.
          let failures = 0;
          await farm.waitFor(
            async () => {
              await farm.startNode(0, { keyFile: 'other.hex' }).catch(() => failures++);
              return (await why()).condition === 'unable';
            },
            'the condition is because of the other key',
            20_000,
          );
          t.ok(failures > 0, 'the agent ends with an error');
          t.match(farm.agents[0]?.log(), /balancer 10\.99\.0\.2 has another key/);
          t.match((await why()).why, /^its agent has another key/);
          await says(/node n1 is down \(unable\): its agent has another key/, from);
          await farm.startNode(0);
          await becomes(/^up: $/);
          await says(/another key[\s\S]*node n1 is up\b/, from);
        });

        await t.test(
          'the node state says when nothing listens, and when that is over',
          async (t) => {
            const from = logEnd();
            await farm.webs[0]?.stop();
            t.equal((await get('/one/a.txt')).status, 503);
            const refusing =
              /refusing\)?: refused the last handoff of www \(port 80\): nothing listens there/;
            await becomes(refusing);
            await says(refusing, from);
            await farm.webs[0]?.start();
            t.equal((await get('/one/a.txt')).status, 200);
            await becomes(/^up: $/);
            await says(/is down \(refusing\)[\s\S]*node n1 is up\b/, from);
          },
        );
      },
    );
  },
);
