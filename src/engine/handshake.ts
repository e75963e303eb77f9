/**
 * The balancer's side of the three-way handshake (RFC 9293 sections 3.10.7.2 and 3.10.7.4).
 * Half-open sessions are kept up to a limit; beyond it, nothing is kept of a SYN. The initial
 * sequence number is a cookie (syn-cookie.ts) in both cases, so that an engine can continue the
 * handshakes of an earlier process. The kernel may answer SYNs in both ways as well.
 */
import { elapsed } from '../base/clock.js';
import { Counter } from '../base/counters.js';
import { ServerCounter } from '../base/object-counters.js';
import { IPV6 } from '../wire/ipv6.js';
import { seqAdd, seqAfter, seqDiff } from '../wire/seq.js';
import type { TcpOptions } from '../wire/tcp.js';
import { Acceptance, acceptHalfOpen, acknowledges } from './acceptance.js';
import type { ClientWriter } from './client-writer.js';
import type { Core } from './core.js';
import { InitialNumbers } from './initial-numbers.js';
import { WINDOW_SHIFT } from './syn-ack-options.js';
import { COOKIE_LIFE_MS, cookieFlags, cookieMss, cookieShift, NO_COOKIE } from './syn-cookie.js';
import { eventMacHigh, eventMacLow, KERNEL_EVENT } from './table/kernel-event.js';
import { SessionFlag, SessionState } from './table/session-table.js';

/**
 * Results of `acceptCookie` other than a slot. NO_CONNECTION: the segment acknowledges no SYN/ACK
 * of ours, and gets an RST. TRY_LATER: it may acknowledge one, and is dropped without an answer.
 */
export const NO_CONNECTION = -1;
export const TRY_LATER = -2;

export class Handshake {
  private readonly core: Core;
  private readonly writer: ClientWriter;
  private readonly numbers: InitialNumbers;
  /**
   * Nonce of the next session. Each engine thread counts in steps of the number of threads, so no
   * two use the same nonce.
   */
  private nonce: number;
  private readonly nonceStep: number;
  /**
   * When a SYN was last answered that this engine may not know: ms as `Core.clock`; -1 for never.
   */
  private cookieAt = -1;

  constructor(core: Core, writer: ClientWriter) {
    this.core = core;
    this.writer = writer;
    this.numbers = new InitialNumbers(core);
    const { seeds, shard } = core.options;
    this.nonceStep = shard?.workers ?? 1;
    this.nonce = seqAdd(seeds.nonce, shard?.worker ?? 0);
  }

  /** Whether the limit of half-open sessions is reached: SYNs are answered with cookies. */
  get stateless(): boolean {
    return this.room <= 0;
  }

  /** How many more sessions may be half open. Negative when there are too many. */
  get room(): number {
    return this.core.options.limits.halfOpen - this.core.sessions.halfOpen.size;
  }

  /** A SYN was answered at `clock`, and nothing of it was kept here. */
  cookieSent(clock: number): void {
    if (!this.cookiesOutstanding || seqAfter(clock, this.cookieAt)) this.cookieAt = clock;
  }

  /** Whether a client may still acknowledge a SYN/ACK of which nothing was kept. */
  get cookiesOutstanding(): boolean {
    if (this.cookieAt < 0) return false;
    if (elapsed(this.core.clock, this.cookieAt) < COOKIE_LIFE_MS) return true;
    this.cookieAt = -1;
    return false;
  }

  /** A SYN without a session: opens one, and answers. */
  open(server: number): void {
    const core = this.core;
    const { segment, sessions, counters, options } = core;
    if (!segment.parseOptions()) {
      counters.count(Counter.drop_malformed_tcp);
      return;
    }
    const recorded = options.initialSequence?.(segment.source, segment.sourcePort, server) ?? -1;
    // A client from a capture file does not acknowledge a number that it never saw.
    if (recorded < 0 && this.stateless) {
      this.answerWithCookie();
      return;
    }
    const slot = this.insert(segment.source, ((segment.sourcePort << 16) | server) >>> 0);
    if (slot < 0) return;
    const flags = this.flagsOf(segment.options);
    this.setOptions(slot, flags, segment.options.windowScale, segment.options.mss);
    sessions.setWindow(slot, segment.window);
    sessions.setTsval(slot, segment.options.tsval);
    this.noteClient(slot);
    const isn = recorded >= 0 ? recorded : this.numbers.makeCookie(flags);
    this.setNumbers(slot, segment.sequence, isn, this.numbers.clockOffset());
    counters.count(Counter.syn);
    core.observer.opened?.(slot, core.now);
    this.sendSynAck(slot);
  }

  /**
   * The kernel has answered a SYN, as the kernel event at `at` reports: opens the session that the
   * SYN/ACK promised. If its virtual server has been closed to new sessions meanwhile, the client
   * gets an RST when it goes on.
   */
  synAnswered(words: Uint32Array, at: number): void {
    const core = this.core;
    const { sessions, counters, timers, options, now } = core;
    const client = words[at + KERNEL_EVENT.client]!;
    const portServer = words[at + KERNEL_EVENT.portServer]!;
    // The client has its SYN/ACK, also if its virtual server was removed meanwhile.
    if (!core.servers.isUsed(portServer & 0xffff)) return;
    const known = sessions.find(client, portServer);
    if (known >= 0) {
      const ended = sessions.state(known) === SessionState.lingering;
      // The same SYN was answered twice: the client uses the first answer.
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
    this.setNumbers(
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
   * A segment other than a SYN while half open (RFC 9293 section 3.10.7.4, SYN-RECEIVED). Returns
   * true when it completes the handshake; its data is then still to be taken.
   */
  complete(slot: number): boolean {
    const core = this.core;
    const { segment, sessions, counters } = core;
    const clientFirst = sessions.clientFirst(slot);
    const serverFirst = sessions.serverFirst(slot);
    // The same SYN was answered before with a cookie of which nothing was kept, and the client uses
    // that first answer. A first segment of another SYN is a late copy, because kernel events are
    // read before frames that came earlier.
    if (
      acknowledges(segment.flags) &&
      segment.acknowledgement !== serverFirst &&
      segment.sequence === clientFirst &&
      this.cookiesOutstanding
    ) {
      const bits = this.numbers.checkCookie();
      if (bits >= 0) {
        this.fromCookie(slot, bits);
        this.dateOpening(slot);
        this.establish(slot);
        return true;
      }
    }
    const { flags, sequence, acknowledgement } = segment;
    const window = core.heads.largeBytes;
    switch (acceptHalfOpen(flags, sequence, acknowledgement, clientFirst, serverFirst, window)) {
      case Acceptance.accepted:
        this.dateOpening(slot);
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
   * A segment with ACK, of no session, while cookies may be acknowledged. Returns the slot of the
   * session whose handshake it completes; its data is still to be taken. Otherwise NO_CONNECTION,
   * or TRY_LATER, which is counted.
   */
  acceptCookie(server: number): number {
    const core = this.core;
    const { segment, counters } = core;
    const bits = this.numbers.checkCookie();
    if (bits === NO_COOKIE) return NO_CONNECTION;
    if (bits < 0) {
      counters.count(Counter.drop_cookie);
      return TRY_LATER;
    }
    const slot = this.insert(segment.source, ((segment.sourcePort << 16) | server) >>> 0);
    if (slot < 0) return TRY_LATER;
    this.fromCookie(slot, bits);
    core.observer.opened?.(slot, core.now);
    this.dateOpening(slot);
    this.establish(slot);
    return slot;
  }

  /**
   * Establishes a half-open session if the kernel has seen the ACK of its SYN/ACK. The client's
   * time to send a head has begun then.
   */
  completedByKernel(slot: number): boolean {
    const core = this.core;
    const { sessions } = core;
    if (sessions.clientAck(slot) !== sessions.serverFirst(slot)) return false;
    this.establish(slot);
    const ago = elapsed(core.clock, sessions.openedAt(slot));
    core.timers.set(slot, core.now + core.timeToRead(slot) - ago);
    return true;
  }

  /** The timer of a half-open session: sends the SYN/ACK again, with back-off, or gives up. */
  expired(slot: number): void {
    const core = this.core;
    const { sessions } = core;
    // The kernel has seen the ACK, and the client has sent nothing since.
    if (this.completedByKernel(slot)) return;
    if (sessions.tries(slot) >= core.options.limits.synAckTries) {
      core.remove(slot, 'handshake-timeout');
      return;
    }
    core.counters.count(Counter.syn_ack_retransmitted);
    this.sendSynAck(slot);
  }

  /**
   * A fresh slot, if necessary that of the oldest half-open session. -1, which is counted, when
   * there is none.
   */
  insert(client: number, portServer: number): number {
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

  private sendSynAck(slot: number): void {
    const { sessions, timers, options, now } = this.core;
    const tries = sessions.tries(slot);
    sessions.setTries(slot, tries + 1);
    timers.set(slot, now + options.timeouts.synAck * 2 ** tries);
    this.writer.synAck(slot);
  }

  /**
   * The current segment completes the handshake. If the kernel answered the SYN, the engine did not
   * know when. A client with timestamps tells: it echoes the time of our SYN/ACK (RFC 7323 section
   * 3.2). A session may only become older by this, and only by as much as a handshake can take.
   */
  private dateOpening(slot: number): void {
    const { sessions, segment } = this.core;
    if (!sessions.has(slot, SessionFlag.timestampsOk)) return;
    if (!segment.parseOptions() || !segment.options.hasTimestamps) return;
    const answered = seqAdd(segment.options.tsecr, -sessions.tsOffset(slot));
    const ago = seqDiff(sessions.openedAt(slot), answered);
    if (ago > 0 && ago < COOKIE_LIFE_MS) sessions.setOpenedAt(slot, answered);
  }

  private establish(slot: number): void {
    const core = this.core;
    const { sessions } = core;
    sessions.setClientAck(slot, sessions.serverFirst(slot));
    sessions.setState(slot, SessionState.collecting);
    core.timers.set(slot, core.now + core.timeToRead(slot));
    core.counters.count(Counter.established);
    core.objects.countServer(core.serverOf(slot), ServerCounter.connections);
    core.observer.established?.(slot, core.now);
  }

  /** Answers the current SYN, whose options are parsed, and keeps nothing of it. */
  private answerWithCookie(): void {
    const { segment, counters, clock } = this.core;
    const flags = this.flagsOf(segment.options);
    const cookie = this.numbers.makeCookie(flags);
    if (!this.writer.answerSyn(cookie, flags, seqAdd(this.numbers.clockOffset(), clock))) return;
    this.cookieSent(clock);
    counters.count(Counter.syn_cookie);
  }

  /** Fills in a session from the current segment, whose cookie has been checked. */
  private fromCookie(slot: number, bits: number): void {
    const { segment, sessions, counters } = this.core;
    counters.count(Counter.cookie_accepted);
    this.setOptions(slot, cookieFlags(bits), cookieShift(bits), cookieMss(bits));
    sessions.setWindow(slot, segment.window);
    sessions.setTsval(slot, segment.options.tsval);
    this.noteClient(slot);
    const isn = seqAdd(segment.acknowledgement, -1);
    this.setNumbers(slot, seqAdd(segment.sequence, -1), isn, this.numbers.clockOffset());
  }

  /** Notes the addresses of the client of a new session, the sender of the current segment. */
  private noteClient(slot: number): void {
    const { segment, sessions } = this.core;
    if (segment.isIpv6) sessions.clients.set(slot, segment.view, segment.ip + IPV6.source);
    this.core.noteClientMac(slot);
  }

  /**
   * Sets the options that both sides have. `shift` is the client's, and counts only with
   * SessionFlag.windowScaleOk.
   */
  private setOptions(slot: number, flags: number, shift: number, mss: number): void {
    const { sessions } = this.core;
    sessions.setFlags(slot, flags);
    sessions.setScales(
      slot,
      (flags & SessionFlag.windowScaleOk) !== 0 ? (shift << 4) | WINDOW_SHIFT : 0,
    );
    sessions.setMss(slot, mss);
  }

  /** Sets the initial numbers of both sides, and a nonce. */
  private setNumbers(slot: number, clientIsn: number, serverIsn: number, tsOffset: number): void {
    const { sessions } = this.core;
    sessions.setClientIsn(slot, clientIsn);
    sessions.setReceiveNext(slot, seqAdd(clientIsn, 1));
    sessions.setServerIsn(slot, serverIsn);
    // Not acknowledged yet. The kernel may keep the ACK from us, and then notes it here.
    sessions.setClientAck(slot, serverIsn);
    sessions.setTsOffset(slot, tsOffset);
    sessions.setNonce(slot, this.nonce);
    this.nonce = seqAdd(this.nonce, this.nonceStep);
  }

  /** The options that both the SYN and we offer. */
  private flagsOf(offered: TcpOptions): number {
    const all =
      (offered.windowScale >= 0 ? SessionFlag.windowScaleOk : 0) |
      (offered.sackPermitted ? SessionFlag.sackOk : 0) |
      (offered.hasTimestamps ? SessionFlag.timestampsOk : 0);
    return all & ~this.core.nodes.withheld.current;
  }
}
