/**
 * `baton stats --watch`: asks a running balancer periodically, and shows its activity in between.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ControlClient } from '../api/client.js';
import type { StatsDocument } from '../api/documents.js';
import { BatonError } from '../base/errors.js';
import { untilEndSignal } from '../base/signals.js';
import type { Display, Screen } from './display.js';
import { between } from './interval.js';

export interface WatchOptions {
  /** Length of an interval, in s. */
  seconds: number;
  /** Number of intervals to show. Undefined: until `stop`. */
  count?: number | undefined;
  /** How long the balancer may not answer, in ms. Default: GONE_MS. */
  goneMs?: number;
}

/** Longer than a restart of the balancer takes, in ms. */
const GONE_MS = 10_000;
/** Longest time between two questions to a balancer that does not answer, in ms. */
const AGAIN_MS = 1_000;

type Stats = Pick<ControlClient, 'stats'>;

/**
 * Watches until `count` intervals were shown, or `stop` is aborted.
 * @throws BatonError when no balancer answers at the start, or later for `goneMs`
 */
export async function watch(
  client: Stats,
  { seconds, count = Number.POSITIVE_INFINITY, goneMs = GONE_MS }: WatchOptions,
  display: Display,
  stop: AbortSignal,
): Promise<void> {
  const patient = new Patient(client, goneMs);
  let before = await unlessStopped(client.stats(), stop);
  display.began(seconds);
  const period = seconds * 1_000;
  let wait = period;
  let due = performance.now();
  for (let shown = 0; before !== undefined && shown < count; ) {
    // By the clock, so that slow answers do not add up. Missed intervals are left out.
    due = Math.max(due + wait, performance.now());
    await sleep(Math.max(0, due - performance.now()), undefined, { signal: stop }).catch(() => {});
    const after: StatsDocument | string | undefined = await unlessStopped(patient.stats(), stop);
    if (after === undefined) return;
    wait = typeof after === 'string' ? Math.min(period, AGAIN_MS) : period;
    if (typeof after === 'string') {
      display.silent(after);
      continue;
    }
    const interval = between(before, after, Date.now());
    if (interval === undefined) {
      display.restarted();
    } else {
      display.interval(interval);
      shown++;
    }
    before = after;
  }
}

/** `watch` until a signal, Ctrl-C for instance. */
export function watchUntilSignal(
  client: Stats,
  options: WatchOptions,
  display: Display,
): Promise<void> {
  return untilEndSignal((signal) => watch(client, options, display, signal));
}

/** The standard output of this process. */
export function standardScreen(): Screen {
  const { stdout, stderr, env } = process;
  const terminal = stdout.isTTY && env.TERM !== 'dumb';
  return {
    write: (text) => void stdout.write(text),
    note: (line) => void stderr.write(`baton: ${line}\n`),
    size: () => (terminal ? { columns: stdout.columns, rows: stdout.rows } : undefined),
    dims: (env.NO_COLOR ?? '') === '',
  };
}

/** A client that tolerates a balancer without an answer for some time. */
class Patient {
  private readonly client: Stats;
  private readonly goneMs: number;
  private silentSince: number | undefined;

  constructor(client: Stats, goneMs: number) {
    this.client = client;
    this.goneMs = goneMs;
  }

  /** The answer; or in words why there is none. */
  async stats(): Promise<StatsDocument | string> {
    const askedAt = performance.now();
    try {
      const stats = await this.client.stats();
      this.silentSince = undefined;
      return stats;
    } catch (error) {
      if (!(error instanceof BatonError) || error.code !== 'BATON_CONTROL') throw error;
      this.silentSince ??= askedAt;
      const silentMs = performance.now() - this.silentSince;
      if (silentMs < this.goneMs) return error.message;
      const { where } = error;
      const message = `the balancer has not answered for ${Math.round(silentMs / 1_000)} s: ${error.message}`;
      throw new BatonError('BATON_CONTROL', message, {
        ...(where === undefined ? {} : { where }),
        cause: error,
      });
    }
  }
}

/** The result of the promise; undefined as soon as `stop` is aborted. */
async function unlessStopped<Result>(
  promise: Promise<Result>,
  stop: AbortSignal,
): Promise<Result | undefined> {
  let stopped: () => void = () => {};
  const end = new Promise<undefined>((resolve) => {
    stopped = () => resolve(undefined);
  });
  if (stop.aborted) stopped();
  stop.addEventListener('abort', stopped);
  try {
    return await Promise.race([end, promise]);
  } finally {
    stop.removeEventListener('abort', stopped);
    // After a stop, its result no longer matters.
    promise.catch(() => {});
  }
}
