/** `baton capture` on a farm: what it writes is what passed, and other programs can read it. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { whyNoFarm, withFarm } from '../support/farm/needs.js';
import type { Program } from '../support/farm/process.js';
import { curl } from '../support/farm/requests.js';
import { batonCommand, type Farm, VIRTUAL_ADDRESS } from '../support/farm.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const resources = [{ path: '/', nodes: ['n1'] }];
const OWNER_ONLY = 0o600;
const CAPTURING = /capturing .*Ctrl-C ends/;

interface Replayed {
  capture: { frames: number };
  sessions: { client: string; request: string; status: number; packets: number; closed: string | null }[];
}

function fill(farm: Farm): void {
  farm.webs[0]?.put('a.txt', 'here\n');
  farm.webs[0]?.put('b.txt', 'there\n');
}

/** Starts a capture, which has begun then. */
async function start(farm: Farm, file: string, ...args: readonly string[]): Promise<Program> {
  const command = batonCommand(['capture', '-c', farm.balancerConfig, '-w', file, ...args]);
  const program = farm.balancer.start('capture', command);
  await program.waitForLog(CAPTURING, 15_000, program.logStart);
  return program;
}

async function replayed(farm: Farm, file: string): Promise<Replayed> {
  const { stdout } = await farm.baton(['replay', '-c', farm.balancerConfig, '--in', file, '--json']);
  return JSON.parse(stdout) as Replayed;
}

t.setTimeout(200_000);

t.test('captures', { skip: whyNoFarm() }, async (t) => {
  await withFarm(t, { resources, fill, nodes: 1 }, async (farm) => {
    const file = (name: string): string => path.join(farm.directory, name);

    await t.test('a connection from its SYN on, which replays', async (t) => {
      const to = file('a.pcapng');
      writeFileSync(to, 'of an earlier one', { mode: 0o644 });
      const program = await start(farm, to);
      t.equal((await curl(farm.client, `${BASE}/a.txt`, [], 10_000)).body.toString(), 'here\n');
      await farm.waitEmpty(20_000);
      program.signal('SIGINT');
      t.same(await program.exited, { code: 0, signal: null });
      t.match(program.log(program.logStart), /\d+ frames captured, 0 lost\n$/);
      t.equal(statSync(to).mode & 0o777, OWNER_ONLY);
      if (process.env.KEEP) writeFileSync(process.env.KEEP, readFileSync(to));
      const { sessions } = await replayed(farm, to);
      t.match(sessions, [{ request: 'GET /a.txt', status: 200, closed: 'fin' }]);
      t.equal(sessions.length, 1);
    });
  });
});
