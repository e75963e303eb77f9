/**
 * A compact TCP for both ends of simulated connections: RFC 9293 with retransmission and back-off
 * (RFC 6298), fast retransmit, window scaling, timestamps and PAWS (RFC 7323), SACK blocks as a
 * receiver (RFC 2018), challenge ACKs (RFC 5961). Positions in a stream are plain numbers counted
 * from the SYN (0) and become sequence numbers only at the edge.
 */
import { flagBits, type TcpOptionsSpec } from '../../lab/packet.js';
import type { Timer } from './clock.js';
import type { EndpointHooks, EndpointOptions, EndReason, Segment } from './segment.js';
import { ACK, FIN, RST, resetFor, SYN, synOptions } from './segment.js';
import { Reassembly, SendBuffer } from './streams.js';

const SYN_RTO = 1000;
const RTO = 300;
const MAX_RTO = 20_000;
const DELAYED_ACK = 40;
const CHALLENGE_INTERVAL = 500;

export class Endpoint {
  state: 'closed' | 'syn-sent' | 'open' | 'time-wait' = 'closed';
  readonly send = new SendBuffer();
  readonly received = new Reassembly();
  peerIsn = 0;
  sendUna = 0;
  private sendNext = 0;
  private sendMax = 0;
  private sendWindow = 0;
  private congestion = 0;
  private duplicateAcks = 0;
  private closing = false;
  private peerFin = false;
  peerMss = 536;
  peerScale = 0;
  private scaling = false;
  private sackOk = false;
  private timestampsOk = false;
  private recent = 0;
  private retries = 0;
  private timer: Timer | undefined;
  private ackTimer: Timer | undefined;
  /** Highest position that the window we advertised covers. */
  private advertised = 0;
  private nextChallenge = 0;
  /** The peer closed first: no TIME-WAIT on this side. */
  private passive = false;
  /** Set by the owner, so that nothing is sent or heard any more: the machine is gone. */
  dead = false;

  constructor(readonly options: EndpointOptions) {}

  /** Active open. */
  connect(): void {
    this.state = 'syn-sent';
    this.sendNext = 1;
    this.sendMax = 1;
    this.sendSyn();
  }

  /**
   * Passive open by adoption: the handshake was somebody else's. Positions continue at 1 on both
   * sides.
   */
  adopt(
    peerIsn: number,
    agreed: { mss: number; scale: number | undefined; sack: boolean; recent: number | undefined },
  ): void {
    this.state = 'open';
    this.peerIsn = peerIsn;
    this.received.next = 1;
    this.sendUna = this.sendNext = this.sendMax = 1;
    this.peerMss = Math.max(536, agreed.mss);
    this.scaling = agreed.scale !== undefined;
    this.peerScale = agreed.scale ?? 0;
    this.sackOk = agreed.sack;
    this.timestampsOk = agreed.recent !== undefined;
    this.recent = agreed.recent ?? 0;
    this.congestion = 10 * this.peerMss;
    this.advertised = 1 + this.options.receiveBuffer;
  }

  write(bytes: Uint8Array): void {
    this.send.push(bytes);
    this.pump();
  }

  /** Sends FIN after all that was written. */
  close(): void {
    if (this.closing || this.state === 'closed') return;
    this.closing = true;
    this.pump();
  }

  /** Sends RST and forgets the connection. */
  abort(): void {
    if (this.state === 'closed') return;
    this.hooks.transmit(this.segment(this.sendMax, 'RA'));
    this.end('reset');
  }

  /** The machine lost power: no word, no timers. */
  vanish(): void {
    this.dead = true;
    this.state = 'closed';
    this.options.clock.cancel(this.timer);
    this.options.clock.cancel(this.ackTimer);
  }

  /** All that was written, FIN included, is acknowledged. */
  get flushed(): boolean {
    return this.sendUna === this.endOfData + (this.closing ? 1 : 0);
  }

  /** The next sequence number expected. */
  get receiveNext(): number {
    return (this.peerIsn + this.received.next) >>> 0;
  }

  private get hooks(): EndpointHooks {
    return this.options.hooks;
  }

  timestamp(): number {
    return (Math.floor(this.options.clock.now) + this.options.timestampOffset) >>> 0;
  }

  private wire(position: number): number {
    return (this.options.isn + position) >>> 0;
  }

  /** The stream position near `base` that has this sequence number. */
  private position(sequence: number, isn: number, base: number): number {
    return base + ((sequence - isn - base) | 0);
  }

  private segment(
    position: number,
    flags: string,
    payload: Uint8Array = new Uint8Array(0),
  ): Segment {
    const scale = this.scaling ? (this.options.windowScale ?? 0) : 0;
    const room = Math.min(0xffff, this.options.receiveBuffer >> scale);
    this.advertised = Math.max(this.advertised, this.received.next + (room << scale));
    const options: TcpOptionsSpec = {};
    if (this.timestampsOk) options.timestamps = [this.timestamp(), this.recent];
    if (this.sackOk && this.received.holes) {
      options.sack = this.received.blocks(this.timestampsOk ? 3 : 4).map(([left, right]) => {
        return [(this.peerIsn + left) >>> 0, (this.peerIsn + right) >>> 0] as const;
      });
    }
    return {
      seq: this.wire(position),
      ack: this.receiveNext,
      flags,
      window: room,
      options,
      payload,
    };
  }

  private sendSyn(): void {
    const own = this.options;
    const options = synOptions(own, this.timestamp());
    const window = Math.min(0xffff, own.receiveBuffer);
    this.hooks.transmit({
      seq: own.isn,
      ack: 0,
      flags: 'S',
      window,
      options,
      payload: new Uint8Array(0),
    });
    this.arm(SYN_RTO);
  }

  private get endOfData(): number {
    return 1 + this.send.length;
  }

  /** Sends what the windows allow. */
  private pump(): void {
    if (this.state !== 'open') return;
    const window = Math.max(0, Math.min(this.sendWindow, this.congestion));
    const limit = Math.min(this.endOfData, this.sendUna + window);
    const room = Math.min(this.peerMss, this.options.mss) - (this.timestampsOk ? 12 : 0);
    const pieces: [number, number][] = [];
    while (this.sendNext < limit) {
      let size = Math.min(room, limit - this.sendNext);
      if (this.options.mangle) size = this.options.random.between(1, size);
      let start = this.sendNext;
      if (this.options.mangle && this.options.random.chance(0.3)) {
        start = Math.max(
          this.sendUna,
          start - this.options.random.between(0, Math.max(0, room - size)),
        );
      }
      pieces.push([start, this.sendNext + size]);
      this.sendNext += size;
    }
    const fin = this.closing && this.sendNext === this.endOfData && this.sendUna <= this.endOfData;
    if (this.options.mangle) this.options.random.shuffle(pieces);
    for (const [start, end] of pieces) {
      const last = fin && end === this.endOfData;
      this.transmitData(start, end, last);
    }
    if (fin) {
      if (pieces.length === 0) this.transmitData(this.endOfData, this.endOfData, true);
      this.sendNext = this.endOfData + 1;
    }
    if (this.sendNext > this.sendMax) this.sendMax = this.sendNext;
    if (this.sendUna < this.sendNext || (this.sendUna < this.endOfData && window === 0))
      this.arm(RTO);
  }

  private transmitData(start: number, end: number, fin: boolean): void {
    if (end + (fin ? 1 : 0) > this.sendMax) this.sendMax = end + (fin ? 1 : 0);
    const flags = `${fin ? 'F' : ''}${end > start ? 'P' : ''}A`;
    this.options.clock.cancel(this.ackTimer);
    this.hooks.transmit(this.segment(start, flags, this.send.slice(start - 1, end - 1)));
  }

  private sendAck(): void {
    if (this.state === 'closed') return;
    this.options.clock.cancel(this.ackTimer);
    this.hooks.transmit(this.segment(this.sendMax, 'A'));
  }

  /**
   * An ACK that answers what can not be accepted; those without data are rate limited, so that two
   * ends never echo each other for ever.
   */
  private challenge(segment: Segment): void {
    const { now } = this.options.clock;
    if (segment.payload.length === 0 && !segment.flags.includes('F')) {
      if (now < this.nextChallenge) return;
      this.nextChallenge = now + CHALLENGE_INTERVAL;
    }
    this.sendAck();
  }

  private arm(base: number): void {
    if (this.timer?.run !== undefined) return;
    this.timer = this.options.clock.after(Math.min(MAX_RTO, base * 2 ** this.retries), () =>
      this.retransmit(),
    );
  }

  private retransmit(): void {
    if (this.timer !== undefined) this.timer.run = undefined;
    if (++this.retries > this.options.maxRetries) {
      this.end('timeout');
      return;
    }
    if (this.state === 'syn-sent') {
      this.sendSyn();
      return;
    }
    if (this.state !== 'open') return;
    this.congestion = this.peerMss;
    this.sendNext = this.sendUna;
    if (this.sendWindow === 0 && this.sendUna < this.endOfData) {
      // RFC 9293 section 3.8.6.1: probe a window that stays shut with one byte.
      this.transmitData(this.sendUna, this.sendUna + 1, false);
      this.sendNext = this.sendUna + 1;
      this.arm(RTO);
    } else this.pump();
  }

  private end(reason: EndReason): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.options.clock.cancel(this.timer);
    this.options.clock.cancel(this.ackTimer);
    this.hooks.ended(reason);
  }

  /** A segment of this connection has come in. */
  receive(segment: Segment): void {
    if (this.dead || this.state === 'closed') return;
    const flags = flagBits(segment.flags);
    if (this.state === 'syn-sent') {
      this.receiveSynSent(segment, flags);
      return;
    }

    const start = this.position(segment.seq, this.peerIsn, this.received.next);
    const length = segment.payload.length + (flags & FIN ? 1 : 0);
    const window = this.options.receiveBuffer;
    const acceptable = start <= this.received.next + window && start + length >= this.received.next;
    if (this.timestampsOk && !(flags & (RST | SYN)) && acceptable) {
      if (segment.options.timestamps === undefined) {
        // RFC 7323 section 3.2: a segment without them should be dropped; nobody honest sends one.
        if (this.options.trusting)
          this.hooks.violation(`a segment [${segment.flags}] without the timestamps agreed`);
        return;
      }
      // Section 5.3: an older timestamp means an older segment.
      const [value] = segment.options.timestamps;
      if (((value - this.recent) | 0) < 0) {
        this.challenge(segment);
        return;
      }
      if (start <= this.received.next) this.recent = value;
    }
    if (flags & RST) {
      // RFC 5961 section 3.2: exactly the next byte, or a challenge.
      if (start === this.received.next) {
        this.end('reset');
        return;
      }
      if (acceptable) this.challenge(segment);
      return;
    }
    if (!acceptable || flags & SYN) {
      this.challenge(segment);
      return;
    }
    if (!(flags & ACK)) return;
    const limit = Math.min(this.options.mss, 65_535);
    if (segment.payload.length > limit) {
      this.hooks.violation(
        `${segment.payload.length} bytes in a segment, ${limit} at most were asked for`,
      );
    }
    if (start + segment.payload.length > this.advertised) {
      this.hooks.violation('data beyond the window that was advertised');
      return;
    }
    if (!this.receiveAck(segment)) return;
    // The hooks may have ended the connection.
    if ((this.state as string) === 'closed') return;
    this.receiveData(segment, start, (flags & FIN) !== 0);
  }

  private receiveSynSent(segment: Segment, flags: number): void {
    const ackOk = (flags & ACK) !== 0 && segment.ack === this.wire(1);
    if (flags & RST) {
      if (ackOk) this.end('reset');
      return;
    }
    if (flags & ACK && !ackOk) {
      // RFC 9293 section 3.10.7.3: the other end still has an older connection. That ends it.
      const reset = resetFor(segment);
      if (reset !== undefined) this.hooks.transmit(reset);
      return;
    }
    if (!(flags & SYN) || !ackOk) return;
    const own = this.options;
    const { options } = segment;
    this.peerIsn = segment.seq;
    this.received.next = 1;
    this.sendUna = 1;
    this.sendNext = this.sendMax = 1;
    this.peerMss = options.mss ?? 536;
    if (options.windowScale !== undefined && own.windowScale === undefined)
      this.hooks.violation('window scale not asked for');
    if (options.sackPermitted && !own.sack) this.hooks.violation('SACK not asked for');
    if (options.timestamps !== undefined && !own.timestamps)
      this.hooks.violation('timestamps not asked for');
    this.scaling = options.windowScale !== undefined && own.windowScale !== undefined;
    this.peerScale = this.scaling ? options.windowScale! : 0;
    this.sackOk = own.sack && options.sackPermitted === true;
    this.timestampsOk = own.timestamps && options.timestamps !== undefined;
    if (this.timestampsOk) this.recent = options.timestamps![0];
    this.sendWindow = segment.window;
    this.congestion = 10 * this.peerMss;
    this.retries = 0;
    this.options.clock.cancel(this.timer);
    this.state = 'open';
    this.sendAck();
    this.hooks.established?.();
    this.pump();
  }

  /** False when the acknowledgement rules the whole segment out. */
  private receiveAck(segment: Segment): boolean {
    const ack = this.position(segment.ack, this.options.isn, this.sendUna);
    if (ack > this.sendMax) {
      this.challenge(segment);
      return false;
    }
    if (ack >= this.sendUna) this.sendWindow = segment.window << this.peerScale;
    if (ack > this.sendUna) {
      this.sendUna = ack;
      this.sendNext = Math.max(this.sendNext, ack);
      this.congestion += this.peerMss;
      this.retries = 0;
      this.duplicateAcks = 0;
      this.options.clock.cancel(this.timer);
      if (this.sendUna < this.sendMax) this.arm(RTO);
      this.finishIfDone();
    } else if (
      ack === this.sendUna &&
      segment.payload.length === 0 &&
      this.sendUna < this.sendMax
    ) {
      if (++this.duplicateAcks === 3) {
        const end = Math.min(
          this.endOfData,
          this.sendUna + Math.min(this.peerMss, this.options.mss) - 12,
        );
        this.transmitData(this.sendUna, end, this.closing && end === this.endOfData);
      }
    }
    this.pump();
    return true;
  }

  private receiveData(segment: Segment, start: number, fin: boolean): void {
    if (segment.payload.length === 0 && !fin) return;
    if (this.state === 'time-wait') {
      this.sendAck();
      return;
    }
    const before = this.received.next;
    this.received.add(start, segment.payload, fin);
    const fresh = this.received.take();
    if (fresh.length > 0) this.hooks.receive(fresh);
    if ((this.state as string) === 'closed') return;
    if (this.received.finished && !this.peerFin) {
      this.peerFin = true;
      this.passive = !this.closing;
      this.sendAck();
      this.hooks.remoteClosed();
      this.finishIfDone();
      return;
    }
    if (this.received.next === before || this.received.holes || this.options.random.chance(0.5))
      this.sendAck();
    else if (this.ackTimer?.run === undefined) {
      this.ackTimer = this.options.clock.after(DELAYED_ACK, () => {
        if (this.ackTimer !== undefined) this.ackTimer.run = undefined;
        this.sendAck();
      });
    }
  }

  /** Both FINs are acknowledged: closed, or TIME-WAIT for the side that closed first. */
  private finishIfDone(): void {
    if (!this.closing || this.sendUna <= this.endOfData || !this.peerFin || this.state !== 'open')
      return;
    if (this.passive || this.options.timeWaitMs === 0) {
      this.end('closed');
      return;
    }
    this.state = 'time-wait';
    this.options.clock.cancel(this.timer);
    this.timer = this.options.clock.after(this.options.timeWaitMs, () => this.end('closed'));
  }
}
