/** CPU time of the machine, from /proc/stat. */
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';

/** Unit of /proc/stat: USER_HZ is 100. */
const TICK_MICROSECONDS = 10_000;

/** Totals of all CPUs together, in us. */
export interface CpuTimes {
  /** Elapsed time. */
  wall: number;
  /** Time without work, or spent waiting for disks. */
  idle: number;
  /** Time that the hypervisor gave to other machines. */
  stolen: number;
}

export interface CpuUse {
  /** CPU time of work, in us: elapsed time less idle and stolen time. */
  busy: number;
  /** Share of the time that was stolen, 0 to 1. */
  stolen: number;
}

/**
 * The kernel measures idle time, but only samples user, system and softirq time at its tick. Work
 * that runs in step with the tick, such as the 1 ms timer of a receive ring, is sampled always or
 * never. So only idle and stolen time are used.
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

/** Returns the result of `during`, and the CPU use in that time. */
export async function withCpuUse<T>(during: () => Promise<T>): Promise<{ result: T; use: CpuUse }> {
  const before = cpuTimes();
  const result = await during();
  return { result, use: cpuUse(before, cpuTimes()) };
}
