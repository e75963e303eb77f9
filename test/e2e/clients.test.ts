/**
 * Clients of all kinds on connections that move: each request of a connection goes to the node that
 * holds what it asks for. The nodes run nginx, Apache, Node.js and Python. Python's http.server
 * closes its connection after each answer, as HTTP/1.0 wants it, so clients open another one.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { wrk } from '../../lab/clients/wrk.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { findCommand, whyNoApache, whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { PYTHON } from '../../lab/farm/process.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';

const SERVERS = ['nginx', 'apache', 'node', 'python'] as const;
/** Servers that keep connections alive. */
const KEEPING = SERVERS.filter((server) => server !== 'python');
const BASE = `http://${VIRTUAL_ADDRESS}`;
const ROUNDS = 10;
/** A few segments, so that an answer takes some round trips. */
const bodyOf = (server: string): string => `${server} `.repeat(2_000);
const urlOf = (server: string): string => `${BASE}/${server}/a.txt`;
/** Each server in turn, so that every request goes to another node. */
const turns = (servers: readonly string[]): string[] =>
  Array.from({ length: ROUNDS }, () => servers).flat();

/** Prints the bodies of the URLs in its arguments, all over one connection while servers allow. */
const PYTHON_CLIENT = `
import http.client, sys
c = http.client.HTTPConnection("${VIRTUAL_ADDRESS}", 80, timeout=${PATIENCE_MS / 1000})
for url in sys.argv[1:]:
    c.request("GET", url)
    sys.stdout.write(c.getresponse().read().decode())
`;
/** The same with Node.js' fetch, which is undici. */
const FETCH_CLIENT = `
for (const url of process.argv.slice(1)) {
  const answer = await fetch(url);
  process.stdout.write(await answer.text());
}
`;

interface Client {
  name: string;
  command: string;
  args(urls: readonly string[]): string[];
}

const PROGRAMS: readonly Client[] = [
  { name: 'curl', command: 'curl', args: (urls) => ['-sS', '-m', '30', ...urls] },
  {
    name: 'wget',
    command: 'wget',
    args: (urls) => ['-q', '-T', '30', '-t', '3', '-O', '-', ...urls],
  },
  {
    name: 'Python',
    command: PYTHON,
    args: (urls) => ['-c', PYTHON_CLIENT, ...urls.map((url) => url.slice(BASE.length))],
  },
  {
    name: 'undici',
    command: process.execPath,
    args: (urls) => ['--input-type=module', '-e', FETCH_CLIENT, '--', ...urls],
  },
];

/** What each counter has counted more than `before`. */
const since = (
  before: Readonly<Record<string, number>>,
  now: Readonly<Record<string, number>>,
): Record<string, number> =>
  Object.fromEntries(
    Object.entries(now)
      .map(([name, value]) => [name, value - (before[name] ?? 0)] as const)
      .filter(([, value]) => value !== 0),
  );

t.setTimeout(FILE_TIMEOUT_MS);

t.test(
  'each request of a connection goes to the node that has the content',
  { skip: whyNoFarm() || whyNoApache() },
  async (t) => {
    const use = {
      resources: SERVERS.map((server, index) => ({
        path: `/${server}/`,
        nodes: [`n${index + 1}`],
      })),
      fill: (farm: Farm): void =>
        farm.webs.forEach((web, index) => {
          const server = SERVERS[index] ?? '';
          web.put(`${server}/a.txt`, bodyOf(server));
        }),
      nodes: SERVERS.length,
      web: SERVERS.map((server) => ({ server })),
      balancer: {
        virtualServers: [{ name: 'www', address: VIRTUAL_ADDRESS, port: 80, keepAlive: 'migrate' }],
      },
    };
    await withFarm(t, use, async (farm) => {
      const moved = async (t: Test, least: number, work: () => Promise<void>): Promise<void> => {
        const before = await farm.stats();
        await work();
        const counted = since(before.counters, (await farm.stats()).counters);
        const moves = counted.moved ?? 0;
        t.ok(moves >= least, `${moves} moves, at least ${least}`, counted);
      };

      for (const { name, command, args } of PROGRAMS) {
        await t.test(name, { skip: !findCommand(command) && `needs ${command}` }, async (t) => {
          for (const servers of [KEEPING, SERVERS]) {
            const asked = turns(servers);
            const least = servers === KEEPING ? asked.length / 2 : 1;
            await moved(t, least, async () => {
              const { stdout } = await farm.client.run(command, args(asked.map(urlOf)), {
                timeoutMs: PATIENCE_MS,
              });
              t.ok(stdout === asked.map(bodyOf).join(''), `${servers.join(', ')} in turn`);
            });
          }
        });
      }

      await t.test('wrk, many connections', async (t) => {
        const script = path.join(farm.directory, 'turns.lua');
        const list = KEEPING.map((server) => `"/${server}/a.txt"`).join(', ');
        writeFileSync(
          script,
          `local paths, n = {${list}}, 0
request = function()
  n = n % #paths + 1
  return wrk.format("GET", paths[n])
end
response = function(status, headers, body)
  if status ~= 200 or #body < 8000 then print("wrong answer: " .. status) end
end
`,
        );
        await moved(t, 1, async () => {
          const result = await wrk(farm.client, `${BASE}/`, {
            connections: 20,
            seconds: 2,
            script,
          });
          t.equal(result.failed, 0, `${result.requests} requests`);
        });
      });

      await t.test(
        'h2load with HTTP/1.1',
        { skip: !findCommand('h2load') && 'needs h2load' },
        async (t) => {
          const file = path.join(farm.directory, 'urls.txt');
          writeFileSync(file, KEEPING.map((server) => `${urlOf(server)}\n`).join(''));
          await moved(t, 1, async () => {
            const args = ['--h1', '-n', '600', '-c', '6', '-i', file];
            const { stdout } = await farm.client.run('h2load', args, { timeoutMs: PATIENCE_MS });
            t.match(stdout, /600 done, 600 succeeded, 0 failed, 0 errored, 0 timeout/);
          });
        },
      );

      await t.test('no server has anything to complain about', async (t) => {
        for (const [index, web] of farm.webs.entries())
          t.same(web.complaints(), [], `the error log of ${SERVERS[index]}`);
      });
    });
  },
);
