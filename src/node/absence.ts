/**
 * Reports that an interface is gone, is down or has lost our address: when that begins, regularly
 * while it lasts, and when it is over. The agent waits for the interface and does not end. The
 * connections of the web server survive an interface that comes back. They would not survive the
 * removal of the virtual addresses, which the agent removes at its end.
 */

import type { PlainLog } from '../base/log.js';
import type { InterfaceInfo } from '../host/native.js';
import { type Address, formatAddress } from '../wire/address.js';

export class Absence {
  private readonly name: string;
  private readonly remindMs: number;
  private readonly log: PlainLog;
  private readonly now: () => number;
  /** The problem, its beginning and the time of the last message; undefined: no problem. */
  private trouble: { what: string; since: number; saidAt: number } | undefined;

  /** @param remindMs time between two messages about the same problem, in ms */
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
   * Checks the present state of the interface.
   * @param own our own addresses there
   */
  look(info: InterfaceInfo | undefined, own: readonly Address[]): void {
    const what = this.troubleOf(info, own);
    const { trouble, log, name } = this;
    const now = this.now();
    if (what === undefined) {
      if (trouble !== undefined) log.info(`interface ${name} is back`);
      this.trouble = undefined;
      return;
    }
    if (trouble?.what !== what) {
      log.warn(`interface ${name} ${what}: no session can be handed over to this node`);
      this.trouble = { what, since: trouble?.since ?? now, saidAt: now };
    } else if (now - trouble.saidAt >= this.remindMs) {
      const seconds = Math.round((now - trouble.since) / 1_000);
      log.warn(
        `interface ${name} ${what}, for ${seconds} s: no session can be handed over to this node`,
      );
      trouble.saidAt = now;
    }
  }

  private troubleOf(info: InterfaceInfo | undefined, own: readonly Address[]): string | undefined {
    if (info === undefined) return 'is gone';
    if (!info.up) return 'is down';
    const lost = own.find((one) => !info.addresses.some(({ address }) => address === one));
    return lost === undefined ? undefined : `has lost the address ${formatAddress(lost)}`;
  }
}
