/**
 * The numbers with which our side of a connection begins: the initial sequence number, which is a
 * SYN cookie (syn-cookie.ts), and the offset of its timestamp clock. Both are hashes of the
 * connection under the secret that all engines of a balancer share, so whoever answered its SYN
 * does not matter.
 */
import { seqAdd } from '../wire/seq.js';
import { SipHash } from '../wire/siphash.js';
import type { Core } from './core.js';
import { COOKIE_LIFE_MS, cookieBits, cookieFlags, NOT_FIRST, SynCookies } from './syn-cookie.js';
import { SessionFlag } from './table/session-table.js';

/** Bytes of the secret for timestamps; what follows is for cookies. */
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
   * The initial sequence number for the SYN being worked on, whose options are parsed. `flags` are
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
   * The bits of the cookie that the segment being worked on acknowledges; NO_COOKIE or NOT_FIRST.
   * The segment must be the first after the SYN, for only its number says what the SYN's was; and
   * if timestamps were agreed, it must echo one of the time in which the cookie can have been sent.
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

  /**
   * Where the timestamp clock of the connection being worked on starts (RFC 7323 section 5.4): a
   * hash of it.
   */
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
