/**
 * The initial numbers of our side of a connection: the initial sequence number, which is a SYN
 * cookie (syn-cookie.ts), and the offset of the timestamp clock. Both are hashes of the connection
 * under a secret that all engines of a balancer share. So it does not matter which of them answered
 * the SYN.
 */
import { seqAdd } from '../wire/seq.js';
import { SipHash } from '../wire/siphash.js';
import type { Core } from './core.js';
import { COOKIE_LIFE_MS, cookieBits, cookieFlags, NOT_FIRST, SynCookies } from './syn-cookie.js';
import { SessionFlag } from './table/session-table.js';

/** Bytes of the secret for timestamps. The bytes behind them are for cookies. */
const CLOCK_SECRET_BYTES = 16;

export class InitialNumbers {
  private readonly core: Core;
  private readonly clockHash: SipHash;
  private readonly cookies: SynCookies;

  constructor(core: Core) {
    this.core = core;
    const { secret } = core.options;
    this.clockHash = new SipHash(secret.subarray(0, CLOCK_SECRET_BYTES));
    this.cookies = new SynCookies(secret.subarray(CLOCK_SECRET_BYTES));
  }

  /**
   * The initial sequence number for the current SYN, whose options are parsed. `flags` are
   * SessionFlag bits: the options that both sides have.
   */
  makeCookie(flags: number): number {
    const { segment, clock } = this.core;
    const { options } = segment;
    return this.cookies.make(
      segment.source,
      segment.destination,
      portsOf(segment),
      segment.sequence,
      cookieBits(options.mss, options.windowScale, flags),
      clock,
    );
  }

  /**
   * The bits of the cookie that the current segment acknowledges; NO_COOKIE or NOT_FIRST. It must
   * be the first segment after the SYN, because only its sequence number gives that of the SYN. If
   * timestamps were agreed, it must echo one from the time in which the cookie can have been sent.
   */
  checkCookie(): number {
    const { segment, clock } = this.core;
    const bits = this.cookies.check(
      segment.source,
      segment.destination,
      portsOf(segment),
      seqAdd(segment.sequence, -1),
      seqAdd(segment.acknowledgement, -1),
      clock,
    );
    if (bits < 0) return bits;
    if (!segment.parseOptions()) return NOT_FIRST;
    if ((cookieFlags(bits) & SessionFlag.timestampsOk) === 0) return bits;
    if (!segment.options.hasTimestamps) return NOT_FIRST;
    const age = (seqAdd(this.clockOffset(), clock) - segment.options.tsecr) >>> 0;
    return age < COOKIE_LIFE_MS ? bits : NOT_FIRST;
  }

  /** The start of the timestamp clock of the current connection (RFC 7323 section 5.4): a hash. */
  clockOffset(): number {
    const { segment } = this.core;
    const { message } = this.clockHash;
    message.setUint32(0, segment.source);
    message.setUint32(4, segment.destination);
    message.setUint32(8, portsOf(segment));
    message.setUint32(12, 0);
    this.clockHash.hash(16);
    return this.clockHash.high;
  }
}

function portsOf(segment: { sourcePort: number; destinationPort: number }): number {
  return ((segment.sourcePort << 16) | segment.destinationPort) >>> 0;
}
