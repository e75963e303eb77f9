/**
 * Measures where an engine thread spends its time. Each nanosecond belongs to exactly one stage, so
 * the stages of an interval add up to its length. The thread reads the clock a few times in a
 * batch, never for each frame, and adds the times up in its own memory. Several times a second,
 * `publish` copies the sums to memory that other threads read.
 */

/**
 * The stages by name, each with its meaning. Their order is their index, and that within a batch.
 */
export const STAGES = {
  waiting: 'asleep until a frame arrives or a timer is due',
  loop: 'the event loop, and messages from the main thread',
  receive: 'received frames taken from the kernel',
  engine: 'frames read, changed and built',
  timers: 'timers that were due',
  flush: 'frames handed to the kernel',
} as const;

export type StageName = keyof typeof STAGES;
export const STAGE_NAMES = Object.keys(STAGES) as StageName[];

/** Index of each stage. */
export const Stage = Object.fromEntries(STAGE_NAMES.map((name, index) => [name, index])) as {
  readonly [Name in StageName]: number;
};

const BATCHES = STAGE_NAMES.length;
const FRAMES = BATCHES + 1;
const WORDS = FRAMES + 1;
const NS_PER_MS = 1e6;

/** The totals of one thread since its start. */
export interface StageTotals {
  nanoseconds: Record<StageName, number>;
  /** Batches with at least one frame. */
  batches: number;
  frames: number;
}

/** Makes the memory that a `StageClock` publishes to. The thread that reads it calls this. */
export function stageMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(WORDS * Float64Array.BYTES_PER_ELEMENT);
}

/** The totals that another thread's `StageClock` published last. */
export function readStages(memory: SharedArrayBuffer): StageTotals {
  const words = new Float64Array(memory);
  return {
    nanoseconds: Object.fromEntries(
      STAGE_NAMES.map((name, index) => [name, words[index] ?? 0]),
    ) as Record<StageName, number>,
    batches: words[BATCHES] ?? 0,
    frames: words[FRAMES] ?? 0,
  };
}

/** Time in ms from any origin; and how long the thread's event loop slept, in ms. */
export interface StageSource {
  now(): number;
  slept(): number;
}

const THREAD: StageSource = {
  now: () => performance.now(),
  slept: () => performance.eventLoopUtilization().idle,
};

export class StageClock {
  private readonly published: Float64Array;
  private readonly source: StageSource;
  /** Stages in ms. `loop` includes the sleep; `publish` separates the two. */
  private readonly own = new Float64Array(WORDS);
  private last: number;

  /** @param memory made by `stageMemory`, if another thread reads it */
  constructor(memory: SharedArrayBuffer = stageMemory(), source: StageSource = THREAD) {
    this.published = new Float64Array(memory);
    this.source = source;
    this.last = source.now();
  }

  /**
   * Adds the time since the last mark to this stage. Code that the event loop calls first marks
   * `loop`.
   */
  mark(stage: number): void {
    const now = this.source.now();
    this.own[stage]! += now - this.last;
    this.last = now;
  }

  /** Counts a batch of `frames` frames. Does not count an empty one. */
  batch(frames: number): void {
    if (frames === 0) return;
    this.own[BATCHES]! += 1;
    this.own[FRAMES]! += frames;
  }

  /**
   * Copies the totals to the memory that other threads read. Call it soon after a mark: it moves
   * the sleep until now from `loop` to `waiting`.
   */
  publish(): void {
    const { own, published } = this;
    const outside = own[Stage.loop]!;
    const waiting = Math.min(outside, this.source.slept());
    for (let stage = 0; stage < BATCHES; stage++) published[stage] = own[stage]! * NS_PER_MS;
    published[Stage.waiting] = waiting * NS_PER_MS;
    published[Stage.loop] = (outside - waiting) * NS_PER_MS;
    published[BATCHES] = own[BATCHES]!;
    published[FRAMES] = own[FRAMES]!;
  }
}
