/** What the machine's CPUs do, from /proc/stat. */
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';

/** Unit of /proc/stat: USER_HZ is 100. */
const TICK_MICROSECONDS = 10_000;

/** Totals of all CPUs together, in us. */
export interface CpuTimes {
  /** What has passed. */
  wall: number;
  /** Nothing to do, or only disks to wait for. */
  idle: number;
  /** What the hypervisor gave to others. */
  stolen: number;
}

export interface CpuUse {
  /** CPU time spent on something, in us: what has passed, less idle and stolen time. */
  busy: number;
  /** Share of the time that was stolen, 0 to 1. */
  stolen: number;
}

/**
 * The kernel measures idle time; user, system and softirq it only samples at its tick, and what
 * runs in step with the tick (a receive ring's 1 ms timer does) is seen always or never. So nothing
 * is added up here but what the CPUs did not do.
 */
export function cpuTimes(): CpuTimes {
  const fields = (readFileSync('/proc/stat', 'utf8').split('\n')[0] ?? '')
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number);
  const [, , , idle = 0, ioWait = 0, , , steal = 0] = fields;
  return {
    wall: performance.now() * 1_000 * cpus().length,
    idle: (idle + ioWait) * TICK_MICROSECONDS,
    stolen: steal * TICK_MICROSECONDS,
  };
}

export function cpuUse(before: CpuTimes, after: CpuTimes): CpuUse {
  const wall = after.wall - before.wall;
  const stolen = after.stolen - before.stolen;
  return { busy: wall - (after.idle - before.idle) - stolen, stolen: stolen / wall };
}

/** What `during` resolves to, and what the CPUs did meanwhile. */
export async function withCpuUse<T>(during: () => Promise<T>): Promise<{ result: T; use: CpuUse }> {
  const before = cpuTimes();
  const result = await during();
  return { result, use: cpuUse(before, cpuTimes()) };
}
