/**
 * An interface that is gone, or down, or has lost our address: said when it begins, said again as
 * long as it lasts, and said when it is over. The agent waits for it, and does not end: the web
 * server's connections outlive an interface that comes back, but not the virtual addresses, which
 * the agent would take away.
 */

import type { PlainLog } from '../base/log.js';
import type { InterfaceInfo } from '../host/native.js';
import { type Address, formatAddress } from '../wire/address.js';

export class Absence {
  private readonly name: string;
  private readonly remindMs: number;
  private readonly log: PlainLog;
  private readonly now: () => number;
  /** What is wrong, since when, and when that was last said; undefined: nothing is wrong. */
  private trouble: { what: string; since: number; saidAt: number } | undefined;

  /** @param remindMs how often it is said again, in ms */
  constructor(
    name: string,
    remindMs: number,
    log: PlainLog,
    now: () => number = () => performance.now(),
  ) {
    this.name = name;
    this.remindMs = remindMs;
    this.log = log;
    this.now = now;
  }

  /**
   * Takes in what the interface is like now.
   * @param own our own address there
   */
  look(info: InterfaceInfo | undefined, own: Address): void {
    const what = this.troubleOf(info, own);
    const { trouble, log, name } = this;
    const now = this.now();
    if (what === undefined) {
      if (trouble !== undefined) log.info(`interface ${name} is back`);
      this.trouble = undefined;
      return;
    }
    if (trouble?.what !== what) {
      log.warn(`interface ${name} ${what}: no session can be handed over here`);
      this.trouble = { what, since: trouble?.since ?? now, saidAt: now };
    } else if (now - trouble.saidAt >= this.remindMs) {
      const seconds = Math.round((now - trouble.since) / 1_000);
      log.warn(`interface ${name} ${what}, since ${seconds} s: no session can be handed over here`);
      trouble.saidAt = now;
    }
  }

  private troubleOf(info: InterfaceInfo | undefined, own: Address): string | undefined {
    if (info === undefined) return 'is gone';
    if (!info.up) return 'is down';
    const has = info.addresses.some(({ address }) => address === own);
    return has ? undefined : `has lost the address ${formatAddress(own)}`;
  }
}
