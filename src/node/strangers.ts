/**
 * Handoffs that the shim drops because the config does not know their balancer, or has another key:
 * told once a minute.
 */

import type { ShimCounter } from '../base/kernel-counters.js';
import type { PlainLog } from '../base/log.js';
import { type Address, formatAddress } from '../wire/address.js';

const AGAIN_MS = 60_000;

const TROUBLES = [
  ['drop_unknown_balancer', 'from a balancer that is not in `balancers`'],
  ['drop_tag', 'under another key: balancer and nodes need key files with the same content'],
] as const satisfies readonly (readonly [ShimCounter, string])[];

export class Strangers {
  private readonly balancers: string;
  private readonly log: PlainLog;
  private readonly now: () => number;
  /** By TROUBLES: what was counted when it was told last, and when that was. */
  private readonly told = TROUBLES.map(() => ({ count: 0, at: Number.NEGATIVE_INFINITY }));

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
      const told = this.told[index];
      const count = counters[name];
      if (told === undefined || count === told.count || this.now() - told.at < AGAIN_MS) continue;
      const frames = count - told.count;
      this.log.warn(`${frames} handoff frames were dropped, ${what} (known: ${this.balancers})`);
      told.count = count;
      told.at = this.now();
    }
  }
}
