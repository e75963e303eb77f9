/** Nodes, agents and balancers fail while clients send requests. */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { type CurlAnswer, curl, sha256 } from '../../lab/clients/curl.js';
import { Download } from '../../lab/clients/download.js';
import { statusesInARow } from '../../lab/clients/same-port.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { machineState } from '../../lab/probes/machine.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const long = randomBytes(20_000_000);
/** Two tries of 300 ms at each of two nodes, on a busy machine. */
const SOON_S = 5;

const resources = [
  { path: '/one/', nodes: ['n1'] },
  { path: '/both/', nodes: ['n1', 'n2'] },
];

function fill(farm: Farm): void {
  farm.webs.forEach((web, index) => {
    web.put('one/a.txt', `from node ${index + 1}\n`);
    web.put('both/a.txt', `from node ${index + 1}\n`);
    web.put('both/long.bin', long);
    web.put('one/long.bin', long);
  });
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test('clients are served while parts of the farm fail', { skip: whyNoFarm() }, async (t) => {
  await withFarm(t, { resources, fill, nodes: 2 }, async (farm) => {
    const get = (path: string): Promise<CurlAnswer> => curl(farm.client, BASE + path);
    const node1 = farm.nodes[0]!;
    const web1 = farm.webs[0]!;

    /**
     * Six requests for content of both nodes: which nodes answered, the slowest request, and how
     * many nodes were given up.
     */
    const six = async (): Promise<{
      statuses: number[];
      nodes: string[];
      slowest: number;
      refused: number;
      silent: number;
    }> => {
      const answers: CurlAnswer[] = [];
      const { counters: before } = await farm.stats();
      for (let index = 0; index < 6; index++) {
        answers.push(await get('/both/a.txt'));
      }
      const nodes = [...new Set(answers.map((answer) => answer.body.toString().trim()))].sort();
      const { counters } = await farm.stats();
      const grown = (name: string): number => (counters[name] ?? 0) - (before[name] ?? 0);
      return {
        refused: grown('handoff_refused'),
        silent: grown('handoff_silent'),
        statuses: [...new Set(answers.map((answer) => answer.status))],
        nodes,
        slowest: Math.max(...answers.map((answer) => answer.seconds)),
      };
    };

    await t.test('the next holder answers when the web server of a node is stopped', async (t) => {
      await web1.stop();
      const result = await six();
      t.same(result.statuses, [200]);
      t.same(result.nodes, ['from node 2']);
      t.ok(result.refused > 0, `${result.refused} handoffs refused`);
      t.equal(result.silent, 0, `at once, not after a timeout: ${result.slowest} s at most`);
      const none = await get('/one/a.txt');
      t.equal(none.status, 503, 'no other node holds this');
      t.match(none.headers, /Retry-After: \d/);
      t.equal(none.exit, 0);
      await web1.start();
      t.equal((await get('/one/a.txt')).status, 200);
    });

    await t.test(
      'a client port can be used again at once, even where no RST may end TIME_WAIT',
      async (t) => {
        const again = (): Promise<string[]> =>
          statusesInARow(farm.client, VIRTUAL_ADDRESS, '/both/a.txt', 20_123, 8);
        for (const value of ['1', '0']) {
          await Promise.all(
            farm.nodes.map((node) => node.run('sysctl', ['-qw', `net.ipv4.tcp_rfc1337=${value}`])),
          );
          t.same(await again(), ['200'], `net.ipv4.tcp_rfc1337=${value}`);
        }
      },
    );

    await t.test(
      'handoffs and downloads go on when an agent is killed, and it starts again',
      async (t) => {
        const download = new Download(farm, `${BASE}/one/long.bin`);
        await download.begun();
        await farm.agents[0]?.kill();
        t.equal(
          (await get('/one/a.txt')).status,
          200,
          'a new connection works while no agent runs',
        );
        await farm.startNode(0);
        t.equal((await get('/one/a.txt')).status, 200, 'a new connection works after its restart');
        t.ok(download.running, 'the download went on until now');
        const passing = async (): Promise<number> => (await farm.stats()).sessions.passing;
        await farm.waitFor(async () => (await passing()) === 1, 'only the download');
        const { counters: before } = await farm.stats();
        const finished = await download.finish();
        t.equal(finished.error, '');
        t.equal(finished.sha256, sha256(long));
        await farm.waitFor(async () => (await passing()) === 0, 'its end is known');
        const { counters } = await farm.stats();
        // Without the notice the balancer would ask the node, which would answer with a reset.
        t.equal(
          (counters.closed_fin ?? 0) - (before.closed_fin ?? 0),
          1,
          'by the FIN of a session that is older than the agent',
        );
      },
    );

    await t.test('an agent that stops says so, removes everything, and starts again', async (t) => {
      const running = await machineState(node1);
      t.ok(running.addresses.includes(`${VIRTUAL_ADDRESS}/32`));
      const exit = await farm.agents[0]?.stop();
      t.same(exit, { code: 0, signal: null });
      const stopped = await machineState(node1);
      t.notOk(stopped.addresses.includes(`${VIRTUAL_ADDRESS}/32`));
      t.notMatch(stopped.filters, /shim|clsact/);
      await farm.waitFor(
        async () => (await farm.stats()).nodes[0]?.condition === 'leaving',
        'n1 is leaving',
      );
      const result = await six();
      t.same(result.statuses, [200]);
      t.same(result.nodes, ['from node 2']);
      t.same(
        [result.refused, result.silent],
        [0, 0],
        `n1 was not tried: ${result.slowest} s at most`,
      );
      await farm.startNode(0);
      await farm.waitNodesUp();
      t.same((await six()).nodes, ['from node 1', 'from node 2']);
    });

    await t.test(
      'an agent that starts after a kill leaves nothing behind when it stops',
      async (t) => {
        await farm.agents[0]?.kill();
        await farm.startNode(0);
        await farm.agents[0]?.stop();
        const stopped = await machineState(node1);
        t.same(stopped.addresses, ['10.99.0.3/24', '127.0.0.1/8']);
        t.notMatch(stopped.filters, /shim|clsact/);
        await farm.startNode(0);
        await farm.waitNodesUp();
      },
    );

    await t.test(
      'no request fails when the MAC address of a node changes under load',
      async (t) => {
        const original = node1.mac;
        let going = true;
        const statuses = new Map<number, number>();
        let served = 0;
        const client = async (): Promise<void> => {
          while (going) {
            const { status } = await get('/one/a.txt');
            statuses.set(status, (statuses.get(status) ?? 0) + 1);
            served += 1;
          }
        };
        const clients = Array.from({ length: 3 }, client);
        for (const mac of ['02:00:0a:63:77:03', original]) {
          await node1.run('ip', ['link', 'set', 'eth0', 'address', mac]);
          await farm.waitFor(
            async () => (await farm.stats()).nodes[0]?.mac === mac,
            `n1 has ${mac}`,
          );
          const before = served;
          await farm.waitFor(() => served >= before + 20, 'requests are served there');
        }
        going = false;
        await Promise.all(clients);
        t.same([...statuses.keys()], [200], JSON.stringify([...statuses]));
      },
    );

    await t.test('the next holder answers when a node is silent', async (t) => {
      await node1.setLink(false);
      const result = await six();
      t.same(result.statuses, [200]);
      t.same(result.nodes, ['from node 2']);
      t.ok(result.silent > 0, `${result.silent} handoffs without a word`);
      t.ok(result.slowest < SOON_S, `${result.slowest} s at most`);
      t.equal((await get('/one/a.txt')).status, 503, 'no other node holds this');
    });

    await t.test('the answer is 503 when every node is silent', async (t) => {
      await farm.nodes[1]!.setLink(false);
      const answer = await get('/both/a.txt');
      t.equal(answer.status, 503);
      t.ok(answer.seconds < SOON_S, `after ${answer.seconds} s`);
    });

    await t.test('the nodes get handoffs again when they come back', async (t) => {
      await Promise.all(farm.nodes.map((node) => node.setLink(true)));
      await farm.waitNodesUp();
      const result = await six();
      t.same(result.statuses, [200]);
      t.same(result.nodes, ['from node 1', 'from node 2']);
    });

    await t.test('a balancer that starts after a kill takes its address again', async (t) => {
      await farm.balancerProgram?.kill();
      t.ok(
        (await farm.balancer.addresses()).includes(`${VIRTUAL_ADDRESS}/32`),
        'the kill left the address behind',
      );
      const began = Date.now();
      const setting = 'net.ipv4.tcp_rfc1337';
      await farm.balancer.run('sysctl', ['-qw', `${setting}=1`]);
      await farm.startBalancer();
      const { stdout } = await farm.balancer.run('sysctl', ['-n', setting]);
      t.equal(stdout.trim(), '1', 'the balancer changes no setting of TCP');
      t.comment(`ready after ${Date.now() - began} ms`);
      await farm.waitNodesUp();
      const result = await six();
      t.same(result.statuses, [200]);
      t.same(result.nodes, ['from node 1', 'from node 2']);
    });

    await t.test('a balancer that stops gives back its address and leaves nothing', async (t) => {
      const exit = await farm.balancerProgram?.stop();
      t.same(exit, { code: 0, signal: null });
      const state = await machineState(farm.balancer);
      t.same(state.addresses, ['10.99.0.2/24', '127.0.0.1/8']);
      t.notMatch(state.filters, /guard|shim|clsact/);
      t.match(state.sysctls, /tcp_rfc1337 1/, 'the value from before the start');
      const answer = await curl(farm.client, `${BASE}/both/a.txt`, [], 1000);
      t.equal(answer.exit, 28, 'no machine answers');
      await farm.startBalancer();
      await farm.waitNodesUp();
      t.equal((await get('/both/a.txt')).status, 200);
    });
  });
});
