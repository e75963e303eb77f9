/**
 * Other protocols with Debian's servers: FTP with its data connections through mode forward, and
 * SMTP, SSH, telnet and Redis through mode forward and by `protocol: tcp`.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { curl, sha256 } from '../../lab/clients/curl.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import type { RunResult } from '../../lab/farm/process.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { Daemons, whyNoDaemons } from '../../lab/servers/daemons.js';
import { addVirtualAddress } from '../../lab/servers/direct-return.js';

const PASSIVE = { from: 30_000, to: 30_099 };
const PORTS = { smtp: 25, ssh: 22, telnet: 23, redis: 6379 };
const NAMES = ['n1', 'n2'];
const file = randomBytes(3_000_000);

t.setTimeout(FILE_TIMEOUT_MS);

const skip = whyNoFarm() || whyNoDaemons();

/** Starts all servers on all nodes. Returns the file with the client's private key. */
async function startServers(farm: Farm): Promise<{ daemons: Daemons[]; key: string }> {
  const key = path.join(farm.directory, 'client-key');
  await farm.client.run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
  const publicKey = readFileSync(`${key}.pub`, 'utf8');
  const daemons = farm.nodes.map((node) => new Daemons(node, farm.directory));
  for (const one of daemons) {
    await one.startFtp(VIRTUAL_ADDRESS, PASSIVE, { 'name.txt': one.host.name, 'file.bin': file });
    await one.startSmtp();
    await one.startSsh(publicKey);
    await one.startTelnet();
    await one.startRedis();
  }
  return { daemons, key };
}

/** What servers answer through the virtual address, each as often as there are nodes. */
async function askAll(
  t: Test,
  farm: Farm,
  { daemons, key }: { daemons: Daemons[]; key: string },
): Promise<void> {
  const { client } = farm;
  const each = async (ask: (index: number) => Promise<string | undefined>): Promise<unknown[]> => {
    const answers: (string | undefined)[] = [];
    for (let i = 0; i < NAMES.length; i++) answers.push(await ask(i));
    return answers.sort();
  };

  await t.test('SMTP: each node takes a mail', async (t) => {
    const before = daemons.map((one) => one.mails().length);
    const answers = await each(async (index) => {
      const mail = path.join(farm.directory, 'mail');
      writeFileSync(mail, `Subject: ${index}\r\n\r\n${'line\r\n'.repeat(5_000)}`);
      const args = ['--mail-from', 'a@example.org', '--mail-rcpt', 'b@example.org', '-T', mail];
      const { exit, headers } = await curl(client, `smtp://${VIRTUAL_ADDRESS}`, args);
      return exit === 0 ? /^220 (n\d)\./m.exec(headers)?.[1] : `exit ${exit}`;
    });
    t.same(answers, NAMES);
    t.same(
      daemons.map((one, index) => one.mails().length - before[index]!),
      NAMES.map(() => 1),
    );
    t.ok(daemons.every((one) => one.mails().every((text) => text.split('line').length === 5_001)));
  });

  await t.test('SSH: a command, and more data than a window', async (t) => {
    const ssh = (command: string): Promise<RunResult> =>
      client.run('ssh', [
        ...['-i', key, '-F', 'none', '-o', 'BatchMode=yes', '-o', 'StrictHostKeyChecking=no'],
        ...['-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR'],
        ...[`root@${VIRTUAL_ADDRESS}`, command],
      ]);
    t.same(await each(async () => (await ssh('echo $NODE')).stdout.trim()), NAMES);
    t.equal((await ssh('head -c 5000000 /dev/zero | tr "\\0" x')).stdout.length, 5_000_000);
  });

  await t.test('telnet: negotiation, a greeting, and a line', async (t) => {
    // The pipe stays open, because telnet ends with its input. The second line ends the server.
    const script = `mkfifo "$1" && exec 3<>"$1" && echo hello >&3 && telnet "$2" <"$1" |
      while read -r line; do echo "$line"; case "$line" in *got*) echo bye >&3;; esac; done; rm "$1"`;
    const answers = await each(async () => {
      const pipe = path.join(farm.directory, 'telnet-pipe');
      const run = ['-c', script, 'sh', pipe, VIRTUAL_ADDRESS];
      const { stdout } = await client.run('sh', run, { allowFailure: true });
      const [, name] = /welcome to (n\d)/.exec(stdout) ?? [];
      return stdout.includes(`${name} got hello`) ? name : stdout;
    });
    t.same(answers, NAMES);
  });

  await t.test('Redis: each node has its own data', async (t) => {
    const redis = (...args: string[]): Promise<RunResult> =>
      client.run('redis-cli', ['-h', VIRTUAL_ADDRESS, ...args]);
    t.same(await each(async () => (await redis('get', 'node')).stdout.trim()), NAMES);
    t.match((await redis('--pipe-timeout', '0', 'ping')).stdout, /PONG/);
  });
}

t.test('handed over without reading (protocol: tcp)', { skip }, async (t) => {
  const virtualServers = Object.entries(PORTS).map(([name, port]) => ({
    ...{ name, address: VIRTUAL_ADDRESS, port, protocol: 'tcp' },
    ...(name === 'redis' ? { firstBytes: '10s' } : {}),
  }));
  await withFarm(t, { nodes: 2, balancer: { virtualServers } }, async (farm) => {
    await askAll(t, farm, await startServers(farm));
  });
});

t.test('forwarded from the first packet (mode: forward)', { skip }, async (t) => {
  const server = (name: string, ports: unknown[], more = {}) => ({
    ...{ name, address: VIRTUAL_ADDRESS, ports, mode: 'forward' },
    ...more,
  });
  const virtualServers = [
    ...Object.entries(PORTS).map(([name, port]) => server(name, [port])),
    server('ftp', [21, `${PASSIVE.from}-${PASSIVE.to}`], { sticky: '1m' }),
  ];
  const start = async (farm: Farm): Promise<void> => {
    for (const node of farm.nodes) await addVirtualAddress(node, VIRTUAL_ADDRESS);
    farm.configureBalancer([], { virtualServers });
    await farm.startBalancer();
    await farm.waitNodesUp();
  };
  await withFarm(t, { nodes: 2, clients: 2, start }, async (farm) => {
    const servers = await startServers(farm);
    await askAll(t, farm, servers);

    await t.test('FTP: data connections go to the node of their client', async (t) => {
      const url = `ftp://${VIRTUAL_ADDRESS}`;
      const names = new Set<string>();
      for (const client of farm.clients) {
        const found = new Set<string>();
        for (let i = 0; i < 6; i++) {
          // Each in passive mode: EPSV names a port alone, PASV an address, too.
          const args = i % 2 === 0 ? [] : ['--disable-epsv'];
          const { body, exit } = await curl(client, `${url}/name.txt`, args);
          t.equal(exit, 0);
          found.add(body.toString());
        }
        t.equal(found.size, 1, `always the same node: ${[...found].join()}`);
        for (const name of found) names.add(name);
        const { body } = await curl(client, `${url}/file.bin`);
        t.equal(sha256(body), sha256(file));
      }
      t.same([...names].sort(), NAMES, 'each client has another node');
    });
  });
});
