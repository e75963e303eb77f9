/** The rates of a balancer's counters between two answers of its control socket. */

import type { NodeDocument, StatsDocument } from '../api/documents.js';
import { COUNTER_PREFIX, FRAMES_OF_KERNEL } from '../base/kernel-counters.js';
import { STAGE_NAMES, type StageName } from '../base/stages.js';

/**
 * Numbers without another unit are rates per second. Sessions and nodes are those at the end of the
 * interval.
 */
export interface Interval {
  /** The end of the interval, ISO 8601, by this machine's clock. */
  at: string;
  seconds: number;
  interface: string;
  datapath: string;
  uptimeMs: number;
  packets: {
    /** All packets received. */
    in: number;
    /** Packets that reached the engine. */
    toEngine: number;
    forwardedByEngine: number;
    forwardedByKernel: number;
    /** Packets that the engine has built and sent. */
    sent: number;
    forwardedBytes: number;
  };
  events: {
    newSessions: number;
    requests: number;
    handoffs: number;
    adopted: number;
    localAnswers: number;
  };
  sessions: StatsDocument['sessions'];
  nodes: Pick<
    NodeDocument,
    | 'name'
    | 'state'
    | 'by'
    | 'why'
    | 'since'
    | 'condition'
    | 'sources'
    | 'weight'
    | 'active'
    | 'held'
    | 'adopted'
  >[];
  /** The kinds of drops that have occurred since the start. */
  drops: { name: string; perSecond: number; total: number }[];
  /** One entry for each engine thread. */
  stages: WorkerInterval[];
  /**
   * The XDP program. null without one, and while the sysctl kernel.bpf_stats_enabled is 0.
   */
  kernel: { microseconds: number; runs: number; nanosecondsPerRun: number } | null;
  /** The counters that have grown. */
  counters: Record<string, number>;
}

export interface WorkerInterval {
  worker: number;
  /** Time in us per second: 10,000 is one per cent of a CPU. */
  microseconds: Record<StageName, number>;
  /** null without a frame. */
  nanosecondsPerFrame: Record<StageName, number> | null;
  frames: number;
  batches: number;
  framesPerBatch: number;
}

/** Counters of local answers, of any status. */
const ANSWER = /^answer_\d+$/;
/** Counters of frames that were dropped or lost. */
const DROP = /(?:^|_)(?:drop|lost|starved|failed|absent)(?:_|$)/;
/** Frames that the XDP program has handled itself: those that `frames` includes, and the others. */
const KERNEL_FRAMES = FRAMES_OF_KERNEL.map((name) => COUNTER_PREFIX.xdp + name);
const KERNEL_ALONE = ['xdp_absorbed', 'xdp_notice_told'];

/**
 * The rates between two answers.
 * @param at the time of the later answer, in ms since 1970
 * @returns undefined when they are answers of two balancers, or of the same moment
 */
export function between(
  before: StatsDocument,
  after: StatsDocument,
  at: number,
): Interval | undefined {
  const seconds = (after.uptimeMs - before.uptimeMs) / 1_000;
  if (after.startedAt !== before.startedAt || seconds <= 0) return undefined;
  const rate = (earlier: number | undefined, later: number | undefined): number =>
    Math.max(0, (later ?? 0) - (earlier ?? 0)) / seconds;
  const rates = new Map(
    Object.entries(after.counters).map(([name, value]) => [
      name,
      rate(before.counters[name], value),
    ]),
  );
  const counted = (name: string): number => rates.get(name) ?? 0;
  const sum = (names: readonly string[]): number =>
    names.reduce((so, name) => so + counted(name), 0);
  const localAnswers = [...rates].reduce(
    (sum, [name, value]) => sum + (ANSWER.test(name) ? value : 0),
    0,
  );
  return {
    at: new Date(at).toISOString(),
    seconds,
    interface: after.interface,
    datapath: after.datapath,
    uptimeMs: after.uptimeMs,
    packets: {
      in: counted('frames') + sum(KERNEL_ALONE),
      toEngine: Math.max(0, counted('frames') - sum(KERNEL_FRAMES)),
      forwardedByEngine: Math.max(0, counted('forwarded') - counted('xdp_forwarded')),
      forwardedByKernel: counted('xdp_forwarded'),
      sent: counted('sent'),
      forwardedBytes: counted('forwarded_bytes'),
    },
    events: {
      newSessions: counted('syn') + counted('cookie_accepted'),
      requests: counted('requests'),
      handoffs: counted('handoffs'),
      adopted: counted('adopted'),
      localAnswers,
    },
    sessions: after.sessions,
    nodes: after.nodes.map((node) => ({
      name: node.name,
      state: node.state,
      by: node.by,
      why: node.why,
      since: node.since,
      condition: node.condition,
      sources: node.sources,
      weight: node.weight,
      active: node.active,
      held: node.held,
      adopted: rate(before.nodes.find(({ name }) => name === node.name)?.adopted, node.adopted),
    })),
    drops: Object.entries(after.counters)
      .filter(([name, total]) => total > 0 && DROP.test(name))
      .map(([name, total]) => ({ name, perSecond: counted(name), total })),
    stages: after.stages.map((later) =>
      workerInterval(
        before.stages.find(({ worker }) => worker === later.worker),
        later,
        rate,
      ),
    ),
    kernel: kernelInterval(before.kernel, after.kernel, rate),
    counters: Object.fromEntries([...rates].filter(([, value]) => value > 0)),
  };
}

type WorkerStages = StatsDocument['stages'][number];
type Rate = (earlier: number | undefined, later: number | undefined) => number;

/**
 * A thread publishes several times a second. So its interval is as long as the sum of its stages.
 */
function workerInterval(
  before: WorkerStages | undefined,
  after: WorkerStages,
  rate: Rate,
): WorkerInterval {
  const spent = (name: StageName): number =>
    Math.max(0, after.nanoseconds[name] - (before?.nanoseconds[name] ?? 0));
  const all = STAGE_NAMES.reduce((sum, name) => sum + spent(name), 0);
  const frames = after.frames - (before?.frames ?? 0);
  const batches = after.batches - (before?.batches ?? 0);
  return {
    worker: after.worker,
    microseconds: byStage((name) => (all === 0 ? 0 : (spent(name) / all) * 1e6)),
    nanosecondsPerFrame: frames > 0 ? byStage((name) => spent(name) / frames) : null,
    frames: rate(before?.frames, after.frames),
    batches: rate(before?.batches, after.batches),
    framesPerBatch: batches > 0 ? frames / batches : 0,
  };
}

function byStage(value: (name: StageName) => number): Record<StageName, number> {
  return Object.fromEntries(STAGE_NAMES.map((name) => [name, value(name)])) as Record<
    StageName,
    number
  >;
}

function kernelInterval(
  before: StatsDocument['kernel'],
  after: StatsDocument['kernel'],
  rate: Rate,
): Interval['kernel'] {
  if (before === null || after === null) return null;
  const runs = after.runCount - before.runCount;
  if (runs <= 0) return null;
  return {
    microseconds: rate(before.runNanoseconds, after.runNanoseconds) / 1_000,
    runs: rate(before.runCount, after.runCount),
    nanosecondsPerRun: Math.max(0, after.runNanoseconds - before.runNanoseconds) / runs,
  };
}
