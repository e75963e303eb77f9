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
import { converse } from '../../lab/clients/raw-client.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { Farm, type FarmOptions } from '../../lab/farm/farm.js';
import { whyNoApache, whyNoFarm } from '../../lab/farm/needs.js';
import { type Program, PYTHON } from '../../lab/farm/process.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';

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
  let ran = false;
  try {
    await body(moving);
    ran = true;
  } finally {
    if (!ran || !t.passing()) t.comment(moving.log().slice(-4000));
    await moving.farm.stop();
  }
}

const APACHE = {
  server: 'apache' as const,
  extra: 'LogLevel info\nCustomLog logs/access.log common',
};
const Reason = { unanswered: 6, ending: 7 } as const;

/** A request of a client that writes its own. */
const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;

/** Sends its first argument, waits for the server's FIN, and sends the second all the same. */
const HASTY = `
import socket, sys
s = socket.create_connection(('${VIRTUAL_ADDRESS}', 80))
s.sendall(sys.argv[1].encode())
while s.recv(65536): pass
s.sendall(sys.argv[2].encode())
`;

const sha256 = (content: string): string => createHash('sha256').update(content).digest('hex');

t.test(
  'a connection moves 100 times between nginx and Apache',
  { skip: whyNoFarm() || whyNoApache() },
  async (t) => {
    const web = [{ extra: 'error_log logs/error.log info;' }, APACHE];
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

t.test(
  'answers of every kind: HEAD, chunks, no body, after an upload',
  { skip: whyNoFarm() || whyNoApache() },
  async (t) => {
    const extra = `error_log logs/error.log info; gzip on; gzip_types *; gzip_min_length 1;
      location /n1/slow/ { limit_rate 1000; gzip off; }`;
    await withMoving(t, { web: [{ extra }, APACHE] }, async (moving) => {
      const { farm } = moving;
      const content = 'all work and no play '.repeat(5_000);
      const [first, second] = farm.webs;
      first!.put('n1/a.txt', content);
      first!.put('n1/slow/a.txt', content.slice(0, 2_500));
      second!.put('n2/a.txt', content);
      const round: KeptAliveRequest[] = [
        { path: '/n1/a.txt', method: 'HEAD' },
        { path: '/n2/a.txt', method: 'HEAD' },
        { path: '/n2/a.txt', method: 'HEAD' },
        { path: '/n1/a.txt', headers: { 'accept-encoding': 'gzip' } },
        { path: '/n1/a.txt', method: 'HEAD' },
        { path: '/n1/a.txt' },
        { path: '/n2/missing' },
        { path: '/post?/n1/', method: 'POST', body: 300_000 },
        { path: '/n2/a.txt', headers: { 'if-modified-since': new Date().toUTCString() } },
        { path: '/n2/a.txt', headers: { range: 'bytes=5-9' } },
      ];
      const requests = Array.from({ length: 5 }, () => round).flat();
      const { connections, answers } = await keptAlive(farm.client, VIRTUAL_ADDRESS, requests);
      t.equal(connections, 1, 'one connection');
      const statuses = [200, 200, 200, 200, 200, 200, 404, 200, 304, 206];
      t.strictSame(
        answers.map(({ status }) => status),
        Array.from({ length: 5 }, () => statuses).flat(),
      );
      t.equal(answers[5]!.sha256, sha256(content));
      t.ok(answers[3]!.bytes > 0 && answers[3]!.bytes < 2_000, 'compressed, in chunks');
      t.equal(moving.events('left').length, 5 * 6 - 1);
      t.strictSame(moving.events('refused'), []);

      // The next request comes while an answer has stalled, and the client has all of it so far.
      const heard = await converse(farm.client, {
        address: VIRTUAL_ADDRESS,
        port: 80,
        steps: [
          { send: get('/n1/slow/a.txt') },
          { hear: 'all work' },
          { waitMs: 200 },
          { send: get('/n2/a.txt') },
          { hear: '404 Not Found' },
          { hear: '</html>' },
          { send: get('/n2/a.txt') },
          { hear: content },
        ],
        timeoutMs: PATIENCE_MS,
      });
      t.equal(heard.ending, 'open');
      const reasons = moving.events('refused').map(({ reason }) => reason);
      t.strictSame(reasons, [Reason.unanswered], 'the node of the running answer keeps it');
      t.equal(moving.events('left').length, 5 * 6, 'and lets it go when both have ended');
      for (const node of [0, 1]) {
        const usual = /No such file|does not exist|a client request body is buffered/;
        const lines = moving.unusual(node).filter((line) => !usual.test(line));
        t.strictSame(lines, []);
      }
    });
  },
);

t.test(
  'a server closes after its keep-alive time, also when the next request is on its way',
  { skip: whyNoFarm() || whyNoApache() },
  async (t) => {
    const web = [
      { extra: 'error_log logs/error.log info; keepalive_timeout 1s;' },
      { ...APACHE, extra: `${APACHE.extra}\nKeepAliveTimeout 3` },
    ];
    await withMoving(t, { web }, async (moving) => {
      const { farm } = moving;
      for (const node of [1, 2]) farm.webs[node - 1]!.put(`n${node}/a.txt`, `node ${node}`);
      const requests: KeptAliveRequest[] = [1, 2, 1, 2, 1, 2].map((node, index) => ({
        path: `/n${node}/a.txt`,
        ...(index === 2 || index === 3 ? { wait: 4_000 } : {}),
      }));
      const { connections, answers } = await keptAlive(farm.client, VIRTUAL_ADDRESS, requests);
      t.strictSame(
        answers.map(({ sha256 }) => sha256),
        [1, 2, 1, 2, 1, 2].map((node) => sha256(`node ${node}`)),
      );
      t.equal(connections, 3);
      t.equal(moving.events('left').length, 3);
      // A client that sends its next request without a look at the FIN.
      for (const node of [1, 2]) {
        const client = [get(`/n${node}/a.txt`), get(`/n${3 - node}/a.txt`)];
        await farm.client.run(PYTHON, ['-c', HASTY, ...client]);
        await farm.waitFor(() => moving.events('refused').length === node, 'a refusal');
      }
      const reasons = moving.events('refused').map(({ reason }) => reason);
      t.strictSame(reasons, [Reason.ending, Reason.ending], 'it stays, and the client tries again');
      for (const node of [0, 1]) t.strictSame(moving.unusual(node), []);
    });
  },
);
