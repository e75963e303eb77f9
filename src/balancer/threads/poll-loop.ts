/**
 * Polls a datapath from the event loop: whenever frames are ready, and at each tick for the timers.
 * Messages and timers of the thread get their turn between two polls.
 */

/** Interval between two polls when no packets arrive, ms: the timer wheel's tick. */
const TICK_MS = 8;

export class PollLoop {
  private readonly poll: () => boolean;
  private readonly ticker: NodeJS.Timeout;
  private polls: boolean;
  /** Another run is due at the next turn of the event loop. */
  private again = false;

  /**
   * @param poll returns whether more may be waiting
   * @param onTick called after the poll of each tick
   * @param polls whether frames are taken at once, or wait for `begin`
   */
  constructor(poll: () => boolean, onTick: () => void, polls: boolean) {
    this.poll = poll;
    this.polls = polls;
    this.ticker = setInterval(() => {
      this.run();
      onTick();
    }, TICK_MS);
  }

  /** To be called whenever frames are ready. */
  readonly run = (): void => {
    if (!this.polls || !this.poll() || this.again) return;
    this.again = true;
    setImmediate(() => {
      this.again = false;
      this.run();
    });
  };

  /** From now on frames are taken. */
  begin(): void {
    this.polls = true;
    this.run();
  }

  /** Ends the ticks. */
  stop(): void {
    clearInterval(this.ticker);
  }
}
