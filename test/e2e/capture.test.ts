/**
 * `baton capture` on a farm writes the frames that passed, in files that other programs can read.
 */
import { statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { curl } from '../../lab/clients/curl.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { batonCommand } from '../../lab/farm/baton.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { findCommand, whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { type Program, run } from '../../lab/farm/process.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const resources = [{ path: '/', nodes: ['n1'] }];
const OWNER_ONLY = 0o600;
const CAPTURING = /capturing .*Ctrl-C ends/;

interface Replayed {
  capture: { frames: number };
  sessions: {
    client: string;
    request: string;
    status: number;
    packets: number;
    closed: string | null;
  }[];
}

function fill(farm: Farm): void {
  farm.webs[0]?.put('a.txt', 'here\n');
  farm.webs[0]?.put('b.txt', 'there\n');
}

/** Starts a capture and waits until it has begun. */
async function start(farm: Farm, file: string, ...args: readonly string[]): Promise<Program> {
  const command = batonCommand(['capture', '-c', farm.balancerConfig, '-w', file, ...args]);
  const program = farm.balancer.start('capture', command);
  await program.waitForLog(CAPTURING);
  return program;
}

async function replayed(farm: Farm, file: string): Promise<Replayed> {
  const { stdout } = await farm.baton([
    'replay',
    '-c',
    farm.balancerConfig,
    '--in',
    file,
    '--json',
  ]);
  return JSON.parse(stdout) as Replayed;
}

/** What tcpdump reads in it: a line for each frame. */
async function dumped(file: string): Promise<string[]> {
  const { stdout } = await run('tcpdump', ['-nr', file]);
  return stdout.trimEnd().split('\n');
}

/** README and docs promise that these programs can read it. */
const whyNoReader = (): string | false => !findCommand('tcpdump') && 'needs tcpdump';

t.setTimeout(FILE_TIMEOUT_MS);

t.test('baton capture records frames', { skip: whyNoFarm() || whyNoReader() }, async (t) => {
  await withFarm(t, { resources, fill, nodes: 1, clients: 2 }, async (farm) => {
    const file = (name: string): string => path.join(farm.directory, name);

    await t.test('a captured connection begins with its SYN and can be replayed', async (t) => {
      const to = file('a.pcapng');
      writeFileSync(to, 'of an earlier one', { mode: 0o644 });
      const program = await start(farm, to);
      t.equal((await curl(farm.client, `${BASE}/a.txt`)).body.toString(), 'here\n');
      await farm.waitEmpty();
      program.signal('SIGINT');
      t.same(await program.exited, { code: 0, signal: null });
      t.match(program.log(program.logStart), /\d+ frames captured, 0 lost\n$/);
      t.equal(statSync(to).mode & 0o777, OWNER_ONLY);
      const { sessions, capture } = await replayed(farm, to);
      t.match(sessions, [{ request: 'GET /a.txt', status: 200, closed: 'fin' }]);
      t.equal(sessions.length, 1);
      const lines = await dumped(to);
      t.equal(lines.length, capture.frames, 'tcpdump reads every frame');
      for (const seen of [
        / > 10\.99\.0\.100\.80: Flags \[S\]/,
        /Flags \[S\.\]/,
        /HTTP: GET \/a\.txt/,
        /ip-proto-253/,
      ]) {
        t.ok(
          lines.some((line) => seen.test(line)),
          `${seen}`,
        );
      }
    });

    await t.test('--client selects one client of two, and the output can be a pipe', async (t) => {
      const [wanted, other] = farm.clients;
      const to = file('pipe.pcapng');
      const shell = `"$@" > '${to}'`;
      const command = batonCommand([
        ...['capture', '-c', farm.balancerConfig, '-w', '-'],
        ...['--client', wanted!.address, '--snaplen', '200'],
      ]);
      const program = farm.balancer.start('capture', [
        'sh',
        '-c',
        `exec ${shell}`,
        'sh',
        ...command,
      ]);
      await program.waitForLog(CAPTURING);
      for (const [client, name] of [
        [other!, 'a.txt'],
        [wanted!, 'b.txt'],
      ] as const) {
        await curl(client, `${BASE}/${name}`);
      }
      await farm.waitEmpty();
      program.signal('SIGINT');
      t.same(await program.exited, { code: 0, signal: null });
      const { sessions } = await replayed(farm, to);
      t.strictSame(
        sessions.map(({ request }) => request),
        ['GET /b.txt'],
      );
    });

    await t.test(
      'a capture ends after the given number of frames, and a second one is refused meanwhile',
      async (t) => {
        const to = file('count.pcapng');
        // Reports of agents belong to no client, so they do not count.
        const program = await start(farm, to, '--count', '3', '--client', farm.client.address);
        const again = ['capture', '-c', farm.balancerConfig, '-w', file('second.pcapng')];
        t.match(await farm.baton(again, { allowFailure: true }), {
          code: 1,
          stderr: /another capture is running/,
        });
        await curl(farm.client, `${BASE}/a.txt`);
        t.same(await program.exited, { code: 0, signal: null });
        t.match(program.log(program.logStart), /\n?baton: 3 frames captured, /);
        t.equal((await replayed(farm, to)).capture.frames, 3);
      },
    );

    await t.test(
      'a capture goes on when the balancer is killed, started again, and replaced',
      async (t) => {
        const to = file('killed.pcapng');
        const program = await start(farm, to);
        await farm.balancerProgram?.kill();
        await program.waitForLog(/the balancer has ended/);
        await farm.startBalancer();
        await farm.waitNodesUp();
        await program.waitForLog(/a balancer is running again/);
        // A balancer that leaves does not wait for the capture.
        await farm.startBalancer(['--replace']);
        await farm.waitNodesUp();
        await program.waitForLog(/running again.*running again/s);
        t.equal((await curl(farm.client, `${BASE}/b.txt`)).body.toString(), 'there\n');
        await farm.waitEmpty();
        program.signal('SIGTERM');
        t.same(await program.exited, { code: 0, signal: null });
        t.match((await replayed(farm, to)).sessions, [{ request: 'GET /b.txt', status: 200 }]);
      },
    );

    await t.test(
      '`baton stats` mentions `baton capture` where tcpdump does not see all',
      async (t) => {
        const { stdout } = await farm.baton(['stats', '-c', farm.balancerConfig]);
        t.equal(/tcpdump .* `baton capture`/.test(stdout), DATAPATH !== 'packet');
      },
    );

    await t.test('a capture without a balancer is refused', async (t) => {
      await farm.balancerProgram?.stop();
      const args = ['capture', '-c', farm.balancerConfig, '-w', file('none.pcapng')];
      t.match(await farm.baton(args, { allowFailure: true }), {
        code: 1,
        stderr: /no balancer is running there/,
      });
    });
  });
});
