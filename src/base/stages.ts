/**
 * Where an engine thread's time goes: each nanosecond of it is in exactly one stage, so the stages
 * of an interval add up to its length. The thread reads the clock a few times a batch, never for a
 * frame, and adds up in memory of its own; `publish` copies that, some times a second, to memory
 * that other threads read.
 */

/** What each stage is, by name. The order is the index, and the order within a batch. */
export const STAGES = {
  waiting: 'asleep until frames or a timer come',
  loop: 'the event loop, and messages of the main thread',
  receive: 'received frames taken from the kernel',
  engine: 'frames looked at, changed and built',
  timers: 'what was due',
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

/** What one thread has done since its start. */
export interface StageTotals {
  nanoseconds: Record<StageName, number>;
  /** Batches that had frames. */
  batches: number;
  frames: number;
}

/** Memory that a `StageClock` publishes to, to be made by whoever reads it. */
export function stageMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(WORDS * Float64Array.BYTES_PER_ELEMENT);
}

/** What the clock of another thread published last. */
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

/** Time in ms, from any beginning; and how much of it the thread's event loop slept. */
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
  /** Stages in ms. That of `loop` has the sleep in it until it is published. */
  private readonly own = new Float64Array(WORDS);
  private last: number;

  /** @param memory of `stageMemory`, when another thread is to read it */
  constructor(memory: SharedArrayBuffer = stageMemory(), source: StageSource = THREAD) {
    this.published = new Float64Array(memory);
    this.source = source;
    this.last = source.now();
  }

  /**
   * The time since the last mark was spent in this stage. Whoever comes back from the event loop
   * marks `loop`.
   */
  mark(stage: number): void {
    const now = this.source.now();
    this.own[stage]! += now - this.last;
    this.last = now;
  }

  /** A batch of so many frames. Empty ones are not counted. */
  batch(frames: number): void {
    if (frames === 0) return;
    this.own[BATCHES]! += 1;
    this.own[FRAMES]! += frames;
  }

  /**
   * Lets others see it. To be called soon after a mark: the sleep up to now is taken out of `loop`.
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
