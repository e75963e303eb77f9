/**
 * Warns of handoffs that the shim drops because their balancer is not in the config, or has another
 * key. At most one warning per minute and reason.
 */

import type { ShimCounter } from '../base/kernel-counters.js';
import type { PlainLog } from '../base/log.js';
import { type Address, formatAddress } from '../wire/address.js';

const AGAIN_MS = 60_000;

const TROUBLES = [
  ['drop_unknown_balancer', 'from a balancer that is not in `balancers`'],
  [
    'drop_tag',
    'since their key is another one: balancer and nodes need key files with the same content',
  ],
] as const satisfies readonly (readonly [ShimCounter, string])[];

export class Strangers {
  private readonly balancers: string;
  private readonly log: PlainLog;
  private readonly now: () => number;
  /** By index of TROUBLES: count and time of the last warning. */
  private readonly warned = TROUBLES.map(() => ({ count: 0, at: Number.NEGATIVE_INFINITY }));

  constructor(
    balancers: readonly Address[],
    log: PlainLog,
    now: () => number = () => performance.now(),
  ) {
    this.balancers = balancers.map(formatAddress).join(', ');
    this.log = log;
    this.now = now;
  }

  /** @param counters of the shim, since it was loaded */
  look(counters: Readonly<Record<ShimCounter, number>>): void {
    for (const [index, [name, what]] of TROUBLES.entries()) {
      const last = this.warned[index];
      const count = counters[name];
      if (last === undefined || count === last.count || this.now() - last.at < AGAIN_MS) continue;
      const frames = count - last.count;
      this.log.warn(
        `${frames} handoff frames were dropped, ${what} (balancers in the config: ${this.balancers})`,
      );
      last.count = count;
      last.at = this.now();
    }
  }
}
