/** How a balancer ends, and what each of its parts does then. */
import type { BatonError } from '../base/errors.js';
import { runAll } from '../base/run-all.js';
import { onSignals } from '../base/signals.js';

/** SIGHUP does not end a balancer: it reads its config again. */
const STOP_SIGNALS = ['SIGINT', 'SIGTERM'] as const;
/** The signal after which everything stays in place, for the next run to take over. */
const LEAVE_SIGNAL = 'SIGUSR2';

/** How a balancer ends: with everything undone, with everything left in place, or by a failure. */
export type Manner = 'stop' | 'leave' | 'fail';

/** Waits for the first of: a signal, or the loss of something that the balancer needs. */
export class Ending {
  readonly reached: Promise<Manner>;
  /** Ends the balancer with an error. */
  readonly lost: (error: BatonError) => void;
  /** Ends it with everything left in place. */
  readonly leave: () => void;
  private readonly forgetters: (() => void)[];

  constructor() {
    let resolve: (manner: Manner) => void = () => {};
    let reject: (error: BatonError) => void = () => {};
    this.reached = new Promise<Manner>((onEnd, onLoss) => {
      resolve = onEnd;
      reject = onLoss;
    });
    // A loss during the start is handled when the start is complete.
    this.reached.catch(() => {});
    let asked = 0;
    const stop = (): void => {
      asked += 1;
      // A second signal means that the operator does not want to wait: the next start cleans up.
      if (asked > 1) process.exit(1);
      resolve('stop');
    };
    this.leave = () => resolve('leave');
    this.lost = (error) => reject(error);
    this.forgetters = [onSignals(STOP_SIGNALS, stop), onSignals([LEAVE_SIGNAL], this.leave)];
  }

  /** Signals mean again what they did before. */
  forget(): void {
    for (const forget of this.forgetters) forget();
  }
}

/** Ends one part that was started. */
export type EndStep = (manner: Manner) => Promise<void> | void;

/** The steps that end the parts of a balancer. They are taken in the reverse order of the start. */
export class EndSteps {
  private readonly steps: EndStep[] = [];

  add(...steps: EndStep[]): void {
    this.steps.push(...steps);
  }

  /** Takes every step, even if others fail. Returns what the failed steps have thrown. */
  take(manner: Manner): Promise<unknown[]> {
    return runAll(
      this.steps
        .splice(0)
        .reverse()
        .map((step) => () => step(manner)),
    );
  }
}
