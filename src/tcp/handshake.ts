/** The balancer's side of the three-way handshake (RFC 9293 section 3.10.7.2 and .4). */
import { Counter } from '../base/counters.js';
import { ETHERNET } from '../wire/ethernet.js';
import { seqAdd, seqDiff } from '../wire/seq.js';
import { SipHash } from '../wire/siphash.js';
import { TcpFlag } from '../wire/tcp.js';
import { type ClientWriter, WINDOW_SHIFT } from './client-writer.js';
import type { Core } from './core.js';
import { SessionFlag, SessionState } from './session-table.js';

/** RFC 6528 section 3: the clock ticks every 4 us, so 250 times a ms. */
const ISN_TICKS_PER_MS = 250;

export class Handshake {
  private readonly core: Core;
  private readonly writer: ClientWriter;
  private readonly isnHash: SipHash;
  private nonce: number;

  constructor(core: Core, writer: ClientWriter) {
    this.core = core;
    this.writer = writer;
    this.isnHash = new SipHash(core.options.secret.subarray(0, 16));
    const secret = core.options.secret;
    this.nonce = new DataView(secret.buffer, secret.byteOffset, secret.byteLength).getUint32(20);
  }

  /** A SYN for which there is no session: opens one, and answers. */
  open(server: number): void {
    const core = this.core;
    const { segment, sessions, counters, options } = core;
    if (!segment.parseOptions()) {
      counters.count(Counter.drop_malformed_tcp);
      return;
    }
    if (core.halfOpen.size >= options.limits.halfOpen) core.remove(core.halfOpen.oldest, 'evicted');
    const key = ((segment.sourcePort << 16) | server) >>> 0;
    let slot = sessions.insert(segment.source, key, core.clock);
    if (slot < 0 && core.halfOpen.size > 0) {
      core.remove(core.halfOpen.oldest, 'evicted');
      slot = sessions.insert(segment.source, key, core.clock);
    }
    if (slot < 0) {
      counters.count(Counter.drop_sessions_full);
      return;
    }
    core.halfOpen.push(slot);
    this.fill(slot, server);
    counters.count(Counter.syn);
    core.observer.opened?.(slot, core.now);
    this.sendSynAck(slot);
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
    const first = seqAdd(sessions.clientIsn[slot]!, 1);
    const ahead = seqDiff(segment.sequence, first);
    if (ahead < 0 || ahead > core.heads.largeBytes) {
      counters.count(Counter.drop_out_of_window);
      return false;
    }
    if ((segment.flags & TcpFlag.rst) !== 0) {
      // RFC 5961 section 3.2: only an exact sequence number resets.
      if (ahead === 0) core.remove(slot, 'client-reset');
      return false;
    }
    if ((segment.flags & TcpFlag.ack) === 0) {
      counters.count(Counter.drop_malformed_tcp);
      return false;
    }
    // "If the segment acknowledgment is not acceptable, form a reset segment."
    if (segment.acknowledgement !== seqAdd(sessions.serverIsn[slot]!, 1)) {
      counters.count(Counter.drop_bad_ack);
      this.writer.resetAnswer();
      return false;
    }
    core.halfOpen.remove(slot);
    sessions.setState(slot, SessionState.collecting);
    core.timers.set(slot, core.now + core.options.timeouts.head);
    counters.count(Counter.established);
    core.observer.established?.(slot, core.now);
    return true;
  }

  /** The timer of a half-open session: the SYN/ACK again, with back-off, or the end. */
  expired(slot: number): void {
    const core = this.core;
    if (core.sessions.tries[slot]! >= core.options.limits.synAckTries) {
      core.remove(slot, 'handshake-timeout');
      return;
    }
    core.counters.count(Counter.syn_ack_retransmitted);
    this.sendSynAck(slot);
  }

  private sendSynAck(slot: number): void {
    const { sessions, timers, options, now } = this.core;
    const tries = sessions.tries[slot]!;
    sessions.tries[slot] = tries + 1;
    timers.set(slot, now + options.timeouts.synAck * 2 ** tries);
    this.writer.synAck(slot);
  }

  /** Fields of a new session, from its SYN. */
  private fill(slot: number, server: number): void {
    const { segment, sessions, options, clock } = this.core;
    const offered = segment.options;
    let flags = 0;
    if (offered.windowScale >= 0) flags |= SessionFlag.windowScaleOk;
    if (offered.sackPermitted) flags |= SessionFlag.sackOk;
    if (offered.hasTimestamps) flags |= SessionFlag.timestampsOk;
    sessions.flags[slot] = flags;
    sessions.scales[slot] = offered.windowScale >= 0 ? (offered.windowScale << 4) | WINDOW_SHIFT : 0;
    sessions.mss[slot] = offered.mss;
    sessions.window[slot] = segment.window;
    sessions.tsval[slot] = offered.tsval;
    sessions.clientIsn[slot] = segment.sequence;
    sessions.receiveNext[slot] = seqAdd(segment.sequence, 1);
    this.nonce = seqAdd(this.nonce, 1);
    sessions.nonce[slot] = this.nonce;
    const source = segment.offset + ETHERNET.source;
    sessions.macHigh[slot] = segment.view.getUint16(source);
    sessions.macLow[slot] = segment.view.getUint32(source + 2);

    // RFC 6528: ISN = M + F(addresses and ports, secret). F's other half starts the timestamp clock.
    const message = this.isnHash.message;
    message.setUint32(0, segment.source);
    message.setUint32(4, segment.destination);
    message.setUint32(8, (segment.sourcePort << 16) | segment.destinationPort);
    message.setUint32(12, 0);
    this.isnHash.hash(16);
    sessions.tsOffset[slot] = this.isnHash.high;
    const recorded = options.initialSequence?.(segment.source, segment.sourcePort, server) ?? -1;
    sessions.serverIsn[slot] =
      recorded >= 0 ? recorded : seqAdd(this.isnHash.low, Math.imul(clock, ISN_TICKS_PER_MS));
    sessions.clientAck[slot] = seqAdd(sessions.serverIsn[slot]!, 1);
  }
}
