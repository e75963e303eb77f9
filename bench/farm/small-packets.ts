/**
 * Measures how many small packets a machine forwards per second, compared with a program that only
 * swaps two MAC addresses. The generator has one CPU and the forwarder another. More packets arrive
 * than can be forwarded. The generator's end of the wire counts and drops returned frames, on the
 * forwarder's CPU, for all forwarders alike.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../lab/farm/process.js';
import { attach } from './attach.js';
import { withCpuUse } from './cpu.js';
import { FLOOD, type FloodCount, type FloodTask } from './flood.js';
import { MOST_STOLEN, turned } from './measure.js';
import { Pair } from './pair.js';
import type { FloodSample, ForwarderId, ProgramSample, SmallPacketResult } from './results.js';

export interface Forwarder {
  id: ForwarderId;
  pair: Pair;
  /** Numbers of sessions for which to measure. */
  sessions: readonly number[];
}

export interface FloodLengths {
  rounds: number;
  seconds: number;
}

const BPF_STATS = 'kernel.bpf_stats_enabled';

/** Returns a pair whose balancer has only one of these programs. */
export async function barePair(id: 'swap' | 'redirect'): Promise<Pair> {
  const pair = await Pair.create(id);
  try {
    await attach(pair.balancer, { program: `bounce_${id}` });
    await pair.pinForwarder();
  } catch (error) {
    await pair.stop();
    throw error;
  }
  return pair;
}

/** Floods each forwarder with each of its numbers of sessions, in turns. */
export async function measureSmallPackets(
  forwarders: readonly Forwarder[],
  lengths: FloodLengths,
): Promise<SmallPacketResult> {
  const result: SmallPacketResult = { floods: [], discarded: [], programs: [] };
  const all = forwarders.flatMap(({ id, pair, sessions }) =>
    sessions.map((count) => ({ id, pair, count })),
  );
  for (let round = 0; round < lengths.rounds; round++) {
    for (const { id, pair, count } of turned(all, round)) {
      for (let tries = 0; tries < 3; tries++) {
        const sample = await flooded(id, pair, count, lengths.seconds);
        const stolen = sample.stolen > MOST_STOLEN;
        (stolen ? result.discarded : result.floods).push(sample);
        if (!stolen) break;
      }
    }
  }
  for (const { id, pair, count } of all) {
    const sample = await programTime(id, pair, count);
    if (sample !== undefined) result.programs.push(sample);
  }
  return result;
}

async function flooded(
  forwarder: ForwarderId,
  pair: Pair,
  sessions: number,
  seconds: number,
): Promise<FloodSample> {
  const { result, use } = await withCpuUse(() => flood(forwarder, pair, sessions, seconds));
  return { forwarder, sessions, ...result, stolen: use.stolen };
}

async function flood(
  forwarder: ForwarderId,
  pair: Pair,
  sessions: number,
  seconds: number,
): Promise<FloodCount> {
  const task: FloodTask = {
    seconds,
    sessions,
    balancerMac: pair.balancer.mac,
    virtualAddress: pair.virtualAddress,
    port: pair.port,
    paced: forwarder !== 'packet',
    ...(pair.acknowledges ? { acknowledgementsFile: pair.acknowledgementsFile } : {}),
  };
  const argv = ['-c', '0', process.execPath, FLOOD, JSON.stringify(task)];
  const { stdout } = await pair.generator.run('taskset', argv);
  return JSON.parse(stdout) as FloodCount;
}

interface ShownProgram {
  name: string;
  run_time_ns?: number;
  run_cnt?: number;
}

/**
 * Returns the kernel's measurement of the XDP program on the balancer's eth0, under a flood of one
 * second. Undefined without a program.
 */
async function programTime(
  forwarder: ForwarderId,
  pair: Pair,
  sessions: number,
): Promise<ProgramSample | undefined> {
  const id = await programId(pair);
  if (id === undefined) return undefined;
  const show = async (): Promise<ShownProgram> => {
    const { stdout } = await run('bpftool', ['-j', 'prog', 'show', 'id', String(id)]);
    return JSON.parse(stdout) as ShownProgram;
  };
  const { stdout: setting } = await run('sysctl', ['-n', BPF_STATS]);
  await run('sysctl', ['-q', '-w', `${BPF_STATS}=1`]);
  try {
    const before = await show();
    await flood(forwarder, pair, sessions, 1);
    const after = await show();
    const runs = (after.run_cnt ?? 0) - (before.run_cnt ?? 0);
    const time = (after.run_time_ns ?? 0) - (before.run_time_ns ?? 0);
    return { forwarder, program: after.name, sessions, nanoseconds: time / runs, runs };
  } finally {
    await run('sysctl', ['-q', '-w', `${BPF_STATS}=${setting.trim()}`]);
    await sleep(100);
  }
}

/** Id of the XDP program on the balancer's eth0. */
export async function programId(pair: Pair): Promise<number | undefined> {
  const { stdout } = await run('ip', [
    '-n',
    pair.balancer.namespace,
    '-j',
    'link',
    'show',
    'dev',
    'eth0',
  ]);
  const [link] = JSON.parse(stdout) as { xdp?: { prog?: { id: number } } }[];
  return link?.xdp?.prog?.id;
}
