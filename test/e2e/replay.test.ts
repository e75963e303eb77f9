/**
 * Nodes that take connections by replay of the handshake, alone and beside one that adopts. Other
 * tests run with such nodes as well: BATON_HANDOFF=replay makes it the way of every farm.
 */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { curl, curlAll, sha256 } from '../../lab/clients/curl.js';
import { keptAlive } from '../../lab/clients/kept-alive.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { PYTHON } from '../../lab/farm/process.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const long = randomBytes(50_000_000);
const lossy = randomBytes(20_000_000);
const upload = randomBytes(5_000_000);
/** Together 50 MB. */
const MOVES = 100;
const PART_BYTES = 500_000;
/** An HTTP server whose listener speaks MPTCP, as those of Go do. 262 is IPPROTO_MPTCP. */
const MPTCP_SERVER = `
import http.server, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '11')
        self.end_headers()
        self.wfile.write(b'from MPTCP\\n')
server = http.server.ThreadingHTTPServer(('', 80), Handler, bind_and_activate=False)
server.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
server.allow_reuse_address = True
server.server_bind()
server.server_activate()
server.serve_forever()
`;

const resources = [
  { path: '/one/', nodes: ['n1'] },
  { path: '/two/', nodes: ['n2'] },
  { path: '/post', nodes: ['n1'] },
];

function fill(farm: Farm): void {
  farm.webs[0]?.put('one/a.txt', 'from node 1\n');
  farm.webs[1]?.put('two/a.txt', 'from node 2\n');
  farm.webs[0]?.put('one/long.bin', long);
  farm.webs[0]?.put('one/lossy.bin', lossy);
}

/** Which frames are lost is chance: the median of this many downloads is compared. */
const LOSSY_ROUNDS = 11;

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test('a node that replays, beside one that adopts', { skip: whyNoFarm() }, async (t) => {
  const use = { resources, fill, nodes: 2, handoffs: ['replay', 'adopt'] };
  await withFarm(t, use, async (farm) => {
    const counter = async (name: string): Promise<number> =>
      (await farm.stats()).counters[name] ?? 0;
    const sysctl = (name: string, value: number): Promise<unknown> =>
      farm.client.run('sysctl', ['-qw', `net.ipv4.${name}=${value}`]);

    await t.test('each gets its requests in its own way', async (t) => {
      t.equal((await curl(farm.client, `${BASE}/two/a.txt`)).body.toString(), 'from node 2\n');
      t.equal(await counter('replay_syn'), 0);
      t.equal((await curl(farm.client, `${BASE}/one/a.txt`)).body.toString(), 'from node 1\n');
      t.ok((await counter('replay_syn')) >= 1);
      t.equal(await counter('handoff_refused'), 0);
    });

    await t.test('with any options that a client can have', async (t) => {
      for (const option of ['tcp_timestamps', 'tcp_window_scaling', 'tcp_sack']) {
        await sysctl(option, 0);
        const answer = await curl(farm.client, `${BASE}/one/lossy.bin`);
        await sysctl(option, 1);
        t.match(answer, { exit: 0, status: 200 }, `without ${option}`);
        t.equal(sha256(answer.body), sha256(lossy));
      }
    });

    for (const offloads of [true, false]) {
      await t.test(`50 MB, ${offloads ? 'with' : 'without'} offloads of the node`, async (t) => {
        await farm.nodes[0]!.setOffloads(offloads);
        const answer = await curl(farm.client, `${BASE}/one/long.bin`);
        t.match(answer, { exit: 0, status: 200, connects: 1 });
        t.equal(sha256(answer.body), sha256(long));
        const body = `${farm.directory}/upload.bin`;
        writeFileSync(body, upload);
        const sent = await curl(farm.client, `${BASE}/post`, ['--data-binary', `@${body}`]);
        t.match(sent, { exit: 0, status: 200 });
        t.equal(sha256(farm.webs[0]?.lastPosted() ?? Buffer.alloc(0)), sha256(upload));
      });
    }

    await t.test('many requests of one connection', async (t) => {
      const urls = Array.from({ length: 20 }, () => `${BASE}/one/a.txt`);
      const answers = await curlAll(farm.client, urls);
      t.ok(answers.every(({ status }) => status === 200));
      t.equal(answers.filter(({ connects }) => connects === 1).length, 1);
    });
    await farm.waitEmpty();
  });
});

t.test('a download of 20 MB over a link that loses 2 %', { skip: whyNoFarm() }, async (t) => {
  const use = { resources, fill, nodes: 1, handoffs: ['replay'] };
  await withFarm(t, { ...use, resources: resources.slice(0, 1) }, async (farm) => {
    const node = farm.nodes[0]!;
    // Each frame of the wire is lost by itself.
    await Promise.all([node.setOffloads(false), farm.client.setOffloads(false)]);
    await farm.client.loseFrames();
    const seconds = { direct: [] as number[], replayed: [] as number[] };
    let recoveries = 0;
    for (let round = 0; round < LOSSY_ROUNDS; round++) {
      for (const [way, host] of [
        ['direct', node.address],
        ['replayed', VIRTUAL_ADDRESS],
      ] as const) {
        const before = await node.kernelCounter('TcpExtTCPSackRecovery');
        const answer = await curl(farm.client, `http://${host}/one/lossy.bin`);
        t.match(answer, { exit: 0, status: 200 });
        t.equal(sha256(answer.body), sha256(lossy));
        seconds[way].push(answer.seconds);
        if (way === 'replayed')
          recoveries += (await node.kernelCounter('TcpExtTCPSackRecovery')) - before;
      }
    }
    t.ok(recoveries > 0, `${recoveries} recoveries by SACK through the balancer`);
    const [replayed, direct] = [median(seconds.replayed), median(seconds.direct)];
    t.comment(`${replayed.toFixed(3)} s through the balancer, ${direct.toFixed(3)} s direct`);
  });
});

t.test(
  'a listener that cannot adopt gets its connections by replay',
  { skip: whyNoFarm() },
  async (t) => {
    const start = async (farm: Farm): Promise<void> => {
      farm.configureBalancer([{ path: '/', nodes: ['n1'] }]);
      farm.nodes[0]!.start('mptcp', [PYTHON, '-u', '-c', MPTCP_SERVER]);
      await Promise.all([farm.startBalancer(), farm.startNode(0)]);
      await farm.waitNodesUp();
    };
    await withFarm(t, { nodes: 1, handoffs: ['auto'], start }, async (farm) => {
      for (let request = 0; request < 3; request++) {
        const answer = await curl(farm.client, `${BASE}/any`);
        t.match(answer, { exit: 0, status: 200 });
        t.equal(answer.body.toString(), 'from MPTCP\n');
      }
      const { counters, nodes } = await farm.stats();
      t.equal(counters.replay_fallback, 1, 'the first one alone was refused');
      t.equal(counters.handoff_refused, 1);
      t.match(nodes[0], {
        condition: 'up',
        why: /^takes connections of www \(port 80\) by replay: its kernel cannot adopt: an MPTCP listener/,
      });
    });
  },
);

t.test(
  'a kept-alive connection moves between nodes of both kinds',
  { skip: whyNoFarm() },
  async (t) => {
    const parts = [0, 1].map((node) => Buffer.alloc(PART_BYTES, node));
    const use = {
      resources,
      nodes: 2,
      handoffs: ['replay', 'adopt'],
      fill: (farm: Farm) => {
        farm.webs[0]?.put('one/part.bin', parts[0]!);
        farm.webs[1]?.put('two/part.bin', parts[1]!);
      },
      balancer: {
        virtualServers: [{ name: 'www', address: VIRTUAL_ADDRESS, port: 80, keepAlive: 'migrate' }],
      },
    };
    await withFarm(t, use, async (farm) => {
      await farm.waitFor(
        async () => (await farm.stats()).nodes.every(({ lastReportMs }) => lastReportMs !== null),
        'the balancer knows what each node can do',
      );
      for (const offloads of [true, false]) {
        for (const node of farm.nodes) await node.setOffloads(offloads);
        const before = (await farm.stats()).counters.moved ?? 0;
        const requests = Array.from({ length: MOVES + 1 }, (_, index) => ({
          path: index % 2 === 0 ? '/one/part.bin' : '/two/part.bin',
        }));
        const { connections, answers } = await keptAlive(farm.client, VIRTUAL_ADDRESS, requests);
        t.equal(connections, 1, `${offloads ? 'with' : 'without'} offloads`);
        const hashes = parts.map((part) => sha256(part));
        t.same(
          answers.map(({ status, sha256 }) => [status, sha256]),
          requests.map((_, index) => [200, hashes[index % 2]]),
        );
        t.equal(((await farm.stats()).counters.moved ?? 0) - before, MOVES);
      }
      const { counters } = await farm.stats();
      t.ok((counters.replay_syn ?? 0) >= 1);
    });
  },
);
