/**
 * Connections that move between nodes in the middle of the stream: stock web servers, real sockets,
 * agents as they run on nodes, and in place of the balancer one that only moves connections
 * (moving-balancer.ts).
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { type KeptAliveRequest, keptAlive } from '../../lab/clients/kept-alive.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { Farm, type FarmOptions } from '../../lab/farm/farm.js';
import { whyNoApache, whyNoFarm } from '../../lab/farm/needs.js';
import type { Program } from '../../lab/farm/process.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';

const BALANCER = fileURLToPath(new URL('./moving-balancer.js', import.meta.url));

t.setTimeout(FILE_TIMEOUT_MS);

interface Event {
  event: string;
  node: number;
  port: number;
  reason?: number;
}

/** Two nodes and the balancer of this test. */
class MovingFarm {
  private constructor(
    readonly farm: Farm,
    private readonly balancer: Program,
  ) {}

  static async start(options: FarmOptions): Promise<MovingFarm> {
    const farm = await Farm.create({ nodes: 2, ...options });
    const { client } = farm;
    await client.setOffloads(false);
    await client.run('ip', [
      'neighbour',
      'add',
      VIRTUAL_ADDRESS,
      'lladdr',
      farm.balancer.mac,
      'dev',
      'eth0',
    ]);
    const nodes = farm.nodes.map(({ address, mac }) => `${address}/${mac}`).join(',');
    const command = [process.execPath, BALANCER, farm.keyFile, nodes];
    const balancer = farm.balancer.start('moving-balancer', command);
    await balancer.waitForLog(/ready/);
    await farm.startWebs();
    await Promise.all(farm.nodes.map((_, index) => farm.startNode(index)));
    return new MovingFarm(farm, balancer);
  }

  events(name: string): Event[] {
    const lines = this.balancer.log().split('\n');
    const events = lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
    return (events as Event[]).filter(({ event }) => event === name);
  }

  log(): string {
    return this.balancer.log();
  }

  /**
   * Lines of the error log of a node's web server, without those of its start and those about
   * clients that closed in order.
   */
  unusual(node: number): string[] {
    const file = `${this.farm.directory}/web-${this.farm.nodes[node]!.name}/logs/error.log`;
    const usual = /mpm_event:|core:notice|closed keepalive connection$/;
    return readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== '' && !usual.test(line));
  }

  /** Sockets of connections on a node: state and peer. */
  async sockets(node: number): Promise<string[]> {
    const { stdout } = await this.farm.nodes[node]!.run('ss', ['-Htan', 'sport', '=', ':80']);
    return stdout.split('\n').filter((line) => line !== '' && !line.startsWith('LISTEN'));
  }
}

async function withMoving(
  t: Test,
  options: FarmOptions,
  body: (moving: MovingFarm) => Promise<void>,
): Promise<void> {
  const moving = await MovingFarm.start(options);
  try {
    await body(moving);
  } finally {
    if (!t.passing()) t.comment(moving.log().slice(-4000));
    await moving.farm.stop();
  }
}

const sha256 = (content: string): string => createHash('sha256').update(content).digest('hex');

t.test(
  'a connection moves 100 times between nginx and Apache',
  { skip: whyNoFarm() || whyNoApache() },
  async (t) => {
    const web = [
      { extra: 'error_log logs/error.log info;' },
      { server: 'apache' as const, extra: 'LogLevel info\nCustomLog logs/access.log common' },
    ];
    await withMoving(t, { web }, async (moving) => {
      const { farm } = moving;
      const content = (index: number): string =>
        `${index}`.padEnd([10, 2_000, 90_000][index % 3]!, 'x');
      for (let index = 0; index < 101; index++)
        farm.webs[index % 2]!.put(`n${(index % 2) + 1}/f${index}.txt`, content(index));
      const requests: KeptAliveRequest[] = [];
      for (let index = 0; index < 101; index++)
        requests.push({ path: `/n${(index % 2) + 1}/f${index}.txt` });
      const { connections, answers } = await keptAlive(farm.client, VIRTUAL_ADDRESS, requests);
      t.equal(connections, 1, 'one connection');
      t.strictSame(
        answers.map(({ status, sha256 }) => ({ status, sha256 })),
        requests.map((_, index) => ({ status: 200, sha256: sha256(content(index)) })),
      );
      t.equal(moving.events('left').length, 100);
      t.strictSame(moving.events('refused'), []);
      for (const node of [0, 1]) {
        t.strictSame(moving.unusual(node), [], 'nothing unusual in an error log');
        let sockets: string[] = [];
        const none = async (): Promise<boolean> => {
          sockets = await moving.sockets(node);
          return sockets.length === 0;
        };
        await farm.waitFor(none, `no socket on node ${node}: ${sockets}`);
      }
      t.equal(farm.webs[0]!.requests().length, 51);
      t.equal(farm.webs[1]!.requests().length, 50);
    });
  },
);
