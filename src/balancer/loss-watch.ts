/** Watches the counters of lost frames, and warns in the log when one grows. */
import type { Loss } from '../api/documents.js';
import { LOSS_KINDS } from '../api/losses.js';
import type { Log } from '../base/log.js';

/** The shortest time between two warnings of one kind, in ms. */
export const QUIET_MS = 60_000;

/** One kind of loss; times in ms. */
interface Seen {
  /** Frames lost since the start. */
  total: number;
  /** When `total` was last seen to grow. */
  grewAt: number;
  /** How many of them the log has reported. */
  reported: number;
  /** When the log last reported any. */
  reportedAt: number;
}

export class LossWatch {
  private readonly log: Log;
  private readonly seen = new Map<string, Seen>();

  constructor(log: Log) {
    this.log = log;
  }

  /**
   * Compares the counters with those of the last call. Warns of a kind that has grown: at once the
   * first time, then at most once in QUIET_MS.
   * @param now in ms, on a clock that does not jump
   */
  look(counters: Readonly<Record<string, number>>, now: number): void {
    for (const { counter, what, remedy } of LOSS_KINDS) {
      const total = counters[counter] ?? 0;
      const seen = this.seen.get(counter) ?? {
        total: 0,
        grewAt: 0,
        reported: 0,
        reportedAt: Number.NEGATIVE_INFINITY,
      };
      if (total > seen.total) {
        seen.total = total;
        seen.grewAt = now;
        this.seen.set(counter, seen);
      }
      if (seen.total <= seen.reported || now - seen.reportedAt < QUIET_MS) continue;
      this.log.warn(`${seen.total - seen.reported} ${what}: ${remedy}`, {
        counter,
        total: seen.total,
      });
      seen.reported = seen.total;
      seen.reportedAt = now;
    }
  }

  /** The kinds that have lost anything since the start, in the order of LOSS_KINDS. */
  losses(now: number): Loss[] {
    return LOSS_KINDS.flatMap(({ counter, what, remedy }) => {
      const seen = this.seen.get(counter);
      return seen === undefined
        ? []
        : [{ counter, total: seen.total, agoMs: Math.round(now - seen.grewAt), what, remedy }];
    });
  }
}
