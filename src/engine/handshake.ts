/**
 * The balancer's side of the three-way handshake (RFC 9293 section 3.10.7.2 and .4). Half-open
 * sessions are kept as long as there are not too many of them; beyond that nothing is kept of a
 * SYN. The initial sequence number is a cookie (syn-cookie.ts) in both cases, so that an engine
 * which starts now can go on with what an earlier one has begun. The kernel may answer SYNs as
 * well, in both ways.
 */
import { elapsed } from '../base/clock.js';
import { Counter } from '../base/counters.js';
import { seqAdd, seqAfter } from '../wire/seq.js';
import { SipHash } from '../wire/siphash.js';
import type { TcpOptions } from '../wire/tcp.js';
import { Acceptance, acceptHalfOpen, acknowledges } from './acceptance.js';
import type { ClientWriter } from './client-writer.js';
import type { Core } from './core.js';
import { WINDOW_SHIFT } from './syn-ack-options.js';
import {
  COOKIE_LIFE_MS,
  cookieBits,
  cookieFlags,
  cookieMss,
  cookieShift,
  NO_COOKIE,
  NOT_FIRST,
  SynCookies,
} from './syn-cookie.js';
import { eventMacHigh, eventMacLow, KERNEL_EVENT } from './table/kernel-event.js';
import { SessionFlag, SessionState } from './table/session-table.js';

/** Bytes of the secret for timestamps; what follows is for cookies. */
const CLOCK_SECRET_BYTES = 16;

/**
 * What `accept` gives for a segment that is no answer to any SYN/ACK of ours, and for one that may
 * be; RST, or silence.
 */
export const STRANGER = -1;
export const NOT_YET = -2;

export class Handshake {
  private readonly core: Core;
  private readonly writer: ClientWriter;
  private readonly clockHash: SipHash;
  private readonly cookies: SynCookies;
  /** The next session's. Each worker counts in steps of their number, so no two give the same. */
  private nonce: number;
  private readonly nonceStep: number;
  /**
   * When a SYN was last answered of which this engine may know nothing: ms as `Core.clock`; -1:
   * never.
   */
  private cookieAt = -1;

  constructor(core: Core, writer: ClientWriter) {
    this.core = core;
    this.writer = writer;
    const { seeds, shard, secret } = core.options;
    this.clockHash = new SipHash(secret.subarray(0, CLOCK_SECRET_BYTES));
    this.cookies = new SynCookies(secret.subarray(CLOCK_SECRET_BYTES));
    this.nonceStep = shard?.workers ?? 1;
    this.nonce = seqAdd(seeds.nonce, shard?.worker ?? 0);
  }

  /** Whether there are as many half-open sessions as may be: SYNs are answered with cookies. */
  get stateless(): boolean {
    return this.room <= 0;
  }

  /** How many more sessions may be half open; negative when there are too many. */
  get room(): number {
    return this.core.options.limits.halfOpen - this.core.sessions.halfOpen.size;
  }

  /** A SYN was answered at `clock`, and nothing was kept of it here. */
  cookieSent(clock: number): void {
    if (!this.cookiesAreOut || seqAfter(clock, this.cookieAt)) this.cookieAt = clock;
  }

  /** Whether a client may be about to answer a SYN/ACK of which nothing was kept. */
  get cookiesAreOut(): boolean {
    if (this.cookieAt < 0) return false;
    if (elapsed(this.core.clock, this.cookieAt) < COOKIE_LIFE_MS) return true;
    this.cookieAt = -1;
    return false;
  }

  /** A SYN for which there is no session: opens one, and answers. */
  open(server: number): void {
    const core = this.core;
    const { segment, sessions, counters, options } = core;
    if (!segment.parseOptions()) {
      counters.count(Counter.drop_malformed_tcp);
      return;
    }
    const recorded = options.initialSequence?.(segment.source, segment.sourcePort, server) ?? -1;
    // A client whose part was recorded does not acknowledge a number that it never saw.
    if (recorded < 0 && this.stateless) {
      this.answerWithCookie();
      return;
    }
    const slot = this.insert(segment.source, ((segment.sourcePort << 16) | server) >>> 0);
    if (slot < 0) return;
    this.agree(
      slot,
      this.flagsOf(segment.options),
      segment.options.windowScale,
      segment.options.mss,
    );
    sessions.setWindow(slot, segment.window);
    sessions.setTsval(slot, segment.options.tsval);
    this.core.noteMac(slot);
    const isn = recorded >= 0 ? recorded : this.makeCookie();
    this.begin(slot, segment.sequence, isn, this.clockOffset());
    counters.count(Counter.syn);
    core.observer.opened?.(slot, core.now);
    this.sendSynAck(slot);
  }

  /**
   * A SYN that the kernel has answered, reported by the kernel event at `at`: opens the
   * session that the SYN/ACK promised.
   */
  answered(words: Uint32Array, at: number): void {
    const core = this.core;
    const { sessions, counters, timers, options, now } = core;
    const client = words[at + KERNEL_EVENT.client]!;
    const portServer = words[at + KERNEL_EVENT.portServer]!;
    const known = sessions.find(client, portServer);
    if (known >= 0) {
      const ended = sessions.state(known) === SessionState.lingering;
      // The same SYN twice: the client goes by the first answer.
      if (!ended || sessions.clientIsn(known) === words[at + KERNEL_EVENT.clientIsn]!) return;
      core.remove(known, 'replaced');
    }
    const slot = this.insert(client, portServer);
    if (slot < 0) return;
    const packed = words[at + KERNEL_EVENT.scalesFlagsAndMac]!;
    const mssAndWindow = words[at + KERNEL_EVENT.mssAndWindow]!;
    sessions.setScales(slot, packed & 0xff);
    sessions.setFlags(slot, (packed >>> 8) & 0xff);
    sessions.setMss(slot, mssAndWindow & 0xffff);
    sessions.setWindow(slot, mssAndWindow >>> 16);
    sessions.setTsval(slot, words[at + KERNEL_EVENT.tsval]!);
    sessions.macHigh[slot] = eventMacHigh(words, at);
    sessions.macLow[slot] = eventMacLow(words, at);
    this.begin(
      slot,
      words[at + KERNEL_EVENT.clientIsn]!,
      words[at + KERNEL_EVENT.serverIsn]!,
      words[at + KERNEL_EVENT.tsOffset]!,
    );
    sessions.setTries(slot, 1);
    timers.set(slot, now + options.timeouts.synAck);
    counters.count(Counter.syn);
    counters.count(Counter.syn_answered);
    core.observer.opened?.(slot, now);
  }

  /** The client's SYN again: our SYN/ACK was lost, or is on its way. */
  repeat(slot: number): void {
    this.core.counters.count(Counter.syn_retransmitted);
    this.writer.synAck(slot);
  }

  /**
   * A segment other than a SYN while half open (RFC 9293 section 3.10.7.4, SYN-RECEIVED). True when
   * it completes the handshake; its text is then still to be taken.
   */
  complete(slot: number): boolean {
    const core = this.core;
    const { segment, sessions, counters } = core;
    const clientFirst = sessions.clientFirst(slot);
    const serverFirst = sessions.serverFirst(slot);
    // The same SYN was answered before, of which nothing was kept, and that is the answer that the
    // client goes by. A first segment of another SYN is a late copy: what the kernel tells of a SYN
    // is read before frames that came earlier.
    if (
      acknowledges(segment.flags) &&
      segment.acknowledgement !== serverFirst &&
      segment.sequence === clientFirst &&
      this.cookiesAreOut
    ) {
      const bits = this.checkCookie();
      if (bits >= 0) {
        this.fromCookie(slot, bits);
        this.establish(slot);
        return true;
      }
    }
    const { flags, sequence, acknowledgement } = segment;
    const window = core.heads.largeBytes;
    switch (acceptHalfOpen(flags, sequence, acknowledgement, clientFirst, serverFirst, window)) {
      case Acceptance.accepted:
        this.establish(slot);
        return true;
      case Acceptance.reset:
        core.remove(slot, 'client-reset');
        return false;
      case Acceptance.outOfWindow:
        counters.count(Counter.drop_out_of_window);
        return false;
      case Acceptance.noAck:
        counters.count(Counter.drop_malformed_tcp);
        return false;
      case Acceptance.badAck:
        counters.count(Counter.drop_bad_ack);
        this.writer.resetAnswer();
        return false;
      default:
        return false;
    }
  }

  /**
   * A segment with ACK, of no session, while cookies are out: the slot of the session that it
   * completes the handshake of, its text still to be taken; or STRANGER, or NOT_YET, which is
   * counted.
   */
  accept(server: number): number {
    const core = this.core;
    const { segment, counters } = core;
    const bits = this.checkCookie();
    if (bits === NO_COOKIE) return STRANGER;
    if (bits < 0) {
      counters.count(Counter.drop_cookie);
      return NOT_YET;
    }
    const slot = this.insert(segment.source, ((segment.sourcePort << 16) | server) >>> 0);
    if (slot < 0) return NOT_YET;
    this.fromCookie(slot, bits);
    core.observer.opened?.(slot, core.now);
    this.establish(slot);
    return slot;
  }

  /** The timer of a half-open session: the SYN/ACK again, with back-off, or the end. */
  expired(slot: number): void {
    const core = this.core;
    const { sessions } = core;
    if (sessions.clientAck(slot) === sessions.serverFirst(slot)) {
      // The kernel has seen the ACK, and the client has not said a word since: its time for that
      // has begun.
      this.establish(slot);
      const ago = elapsed(core.clock, sessions.openedAt(slot));
      core.timers.set(slot, core.now + core.options.timeouts.head - ago);
      return;
    }
    if (sessions.tries(slot) >= core.options.limits.synAckTries) {
      core.remove(slot, 'handshake-timeout');
      return;
    }
    core.counters.count(Counter.syn_ack_retransmitted);
    this.sendSynAck(slot);
  }

  private sendSynAck(slot: number): void {
    const { sessions, timers, options, now } = this.core;
    const tries = sessions.tries(slot);
    sessions.setTries(slot, tries + 1);
    timers.set(slot, now + options.timeouts.synAck * 2 ** tries);
    this.writer.synAck(slot);
  }

  /**
   * A fresh slot, at need that of the oldest half-open session; -1, which is counted, when there is
   * none.
   */
  private insert(client: number, portServer: number): number {
    const core = this.core;
    const { sessions } = core;
    let slot = sessions.insert(client, portServer, core.clock);
    if (slot < 0 && sessions.halfOpen.size > 0) {
      core.remove(sessions.halfOpen.oldest, 'evicted');
      slot = sessions.insert(client, portServer, core.clock);
    }
    if (slot < 0) core.counters.count(Counter.drop_sessions_full);
    return slot;
  }

  private establish(slot: number): void {
    const core = this.core;
    const { sessions } = core;
    sessions.setClientAck(slot, sessions.serverFirst(slot));
    sessions.setState(slot, SessionState.collecting);
    core.timers.set(slot, core.now + core.options.timeouts.head);
    core.counters.count(Counter.established);
    core.observer.established?.(slot, core.now);
  }

  /** Answers the SYN being worked on, whose options are parsed, and keeps nothing. */
  private answerWithCookie(): void {
    const { segment, counters, clock } = this.core;
    const flags = this.flagsOf(segment.options);
    if (!this.writer.answerSyn(this.makeCookie(), flags, seqAdd(this.clockOffset(), clock))) return;
    this.cookieSent(clock);
    counters.count(Counter.syn_cookie);
  }

  /** The initial sequence number for the SYN being worked on, whose options are parsed. */
  private makeCookie(): number {
    const { segment, clock } = this.core;
    const { options } = segment;
    return this.cookies.make(
      segment.source,
      segment.destination,
      portsOf(segment),
      segment.sequence,
      cookieBits(options.mss, options.windowScale, this.flagsOf(options)),
      clock,
    );
  }

  /**
   * The bits of the cookie that the segment being worked on acknowledges; NO_COOKIE or NOT_FIRST.
   * The segment must be the first after the SYN, for only its number says what the SYN's was; and
   * if timestamps were agreed, it must echo one of the time in which the cookie can have been sent.
   */
  private checkCookie(): number {
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

  /** Makes a session of a segment whose cookie has been checked. */
  private fromCookie(slot: number, bits: number): void {
    const { segment, sessions, counters } = this.core;
    counters.count(Counter.cookie_accepted);
    this.agree(slot, cookieFlags(bits), cookieShift(bits), cookieMss(bits));
    sessions.setWindow(slot, segment.window);
    sessions.setTsval(slot, segment.options.tsval);
    this.core.noteMac(slot);
    const isn = seqAdd(segment.acknowledgement, -1);
    this.begin(slot, seqAdd(segment.sequence, -1), isn, this.clockOffset());
  }

  /**
   * Options that both sides have; `shift` is the client's, and counts with
   * SessionFlag.windowScaleOk.
   */
  private agree(slot: number, flags: number, shift: number, mss: number): void {
    const { sessions } = this.core;
    sessions.setFlags(slot, flags);
    sessions.setScales(
      slot,
      (flags & SessionFlag.windowScaleOk) !== 0 ? (shift << 4) | WINDOW_SHIFT : 0,
    );
    sessions.setMss(slot, mss);
  }

  /** Where both sides' numbers begin; and a nonce. */
  private begin(slot: number, clientIsn: number, serverIsn: number, tsOffset: number): void {
    const { sessions } = this.core;
    sessions.setClientIsn(slot, clientIsn);
    sessions.setReceiveNext(slot, seqAdd(clientIsn, 1));
    sessions.setServerIsn(slot, serverIsn);
    // Not acknowledged yet. The kernel, which may keep the ACK from us, notes it here.
    sessions.setClientAck(slot, serverIsn);
    sessions.setTsOffset(slot, tsOffset);
    sessions.setNonce(slot, this.nonce);
    this.nonce = seqAdd(this.nonce, this.nonceStep);
  }

  /** What a SYN offers, and we offer as well. */
  private flagsOf(offered: TcpOptions): number {
    const all =
      (offered.windowScale >= 0 ? SessionFlag.windowScaleOk : 0) |
      (offered.sackPermitted ? SessionFlag.sackOk : 0) |
      (offered.hasTimestamps ? SessionFlag.timestampsOk : 0);
    return all & ~this.core.nodes.withheld.current;
  }

  /**
   * Where the timestamp clock of the connection being worked on starts (RFC 7323 section 5.4): a
   * hash of it.
   */
  private clockOffset(): number {
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
