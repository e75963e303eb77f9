/**
 * A compact TCP for both ends of simulated connections: RFC 9293 with retransmission and back-off
 * (RFC 6298), fast retransmit, window scaling, timestamps and PAWS (RFC 7323), SACK blocks as a
 * receiver (RFC 2018), challenge ACKs (RFC 5961). Positions in a stream are plain numbers, counted
 * from the SYN (0); only segments have sequence numbers.
 */
import { flagBits, type TcpOptionsSpec } from '../../lab/packet.js';
import type { Timer } from './clock.js';
import type { EndpointHooks, EndpointOptions, EndReason, Segment } from './segment.js';
import { ACK, FIN, RST, resetFor, SYN, synOptions } from './segment.js';
import { Reassembly, type SendBuffer } from './streams.js';
import { type Connection, Sender } from './tcp-sender.js';

const SYN_RTO = 1000;
const DELAYED_ACK = 40;
const CHALLENGE_INTERVAL = 500;

export class Endpoint implements Connection {
  state: 'closed' | 'syn-sent' | 'open' | 'time-wait' = 'closed';
  readonly received = new Reassembly();
  private readonly sender = new Sender(this);
  peerIsn = 0;
  private peerFin = false;
  peerMss = 536;
  peerScale = 0;
  private scaling = false;
  private sackOk = false;
  timestampsOk = false;
  private recent = 0;
  private timeWaitTimer: Timer | undefined;
  private ackTimer: Timer | undefined;
  /** The highest position in the window that we advertised. */
  private advertised = 0;
  private nextChallenge = 0;
  /** The peer closed first: no TIME-WAIT on this side. */
  private passive = false;
  /** The machine is gone: nothing is sent or received. */
  dead = false;

  constructor(readonly options: EndpointOptions) {}

  /** Active open. */
  connect(): void {
    this.state = 'syn-sent';
    this.sender.synSent();
    this.sendSyn();
  }

  /**
   * Passive open by adoption: another machine did the handshake. Positions continue at 1 on both
   * sides.
   */
  adopt(
    peerIsn: number,
    agreed: { mss: number; scale: number | undefined; sack: boolean; recent: number | undefined },
  ): void {
    this.state = 'open';
    this.peerIsn = peerIsn;
    this.received.next = 1;
    this.peerMss = Math.max(536, agreed.mss);
    this.scaling = agreed.scale !== undefined;
    this.peerScale = agreed.scale ?? 0;
    this.sackOk = agreed.sack;
    this.timestampsOk = agreed.recent !== undefined;
    this.recent = agreed.recent ?? 0;
    this.sender.established(undefined);
    this.advertised = 1 + this.options.receiveBuffer;
  }

  write(bytes: Uint8Array): void {
    this.sender.buffer.push(bytes);
    this.sender.pump();
  }

  /** Sends FIN after the data written so far. */
  close(): void {
    if (this.sender.closing || this.state === 'closed') return;
    this.sender.closing = true;
    this.sender.pump();
  }

  /** Sends RST and forgets the connection. */
  abort(): void {
    if (this.state === 'closed') return;
    this.hooks.transmit(this.segment(this.sender.max, 'RA'));
    this.end('reset');
  }

  /** The machine lost power: nothing is sent, and no timer runs. */
  vanish(): void {
    this.dead = true;
    this.state = 'closed';
    this.cancelTimers();
  }

  /** Everything that was written so far. */
  get sent(): SendBuffer {
    return this.sender.buffer;
  }

  /** The next sequence number expected. */
  get receiveNext(): number {
    return (this.peerIsn + this.received.next) >>> 0;
  }

  /** The sequence number behind everything that was written. */
  get writeNext(): number {
    return this.wire(this.sender.endOfData);
  }

  /** Both sides may still send. */
  get established(): boolean {
    return this.state === 'open' && !this.peerFin && !this.sender.closing;
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

  sendSyn(): void {
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
    this.sender.arm(SYN_RTO);
  }

  transmitData(position: number, flags: string, payload: Uint8Array): void {
    this.options.clock.cancel(this.ackTimer);
    this.hooks.transmit(this.segment(position, flags, payload));
  }

  /** The sender gives up. */
  gaveUp(): void {
    this.end('timeout');
  }

  private sendAck(): void {
    if (this.state === 'closed') return;
    this.options.clock.cancel(this.ackTimer);
    this.hooks.transmit(this.segment(this.sender.max, 'A'));
  }

  /**
   * Answers an unacceptable segment with an ACK. Answers to segments without data are rate limited,
   * so that two ends never answer each other for ever.
   */
  private challenge(segment: Segment): void {
    const { now } = this.options.clock;
    if (segment.payload.length === 0 && !segment.flags.includes('F')) {
      if (now < this.nextChallenge) return;
      this.nextChallenge = now + CHALLENGE_INTERVAL;
    }
    this.sendAck();
  }

  private end(reason: EndReason): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.cancelTimers();
    this.hooks.ended(reason);
  }

  /** Receives a segment of this connection. */
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
    if (this.timestampsOk && segment.bare !== true && !(flags & (RST | SYN)) && acceptable) {
      if (segment.options.timestamps === undefined) {
        // RFC 7323 section 3.2: a segment without timestamps should be dropped; an honest peer
        // sends none.
        if (this.options.trusting)
          this.hooks.violation(`a segment [${segment.flags}] without the timestamps agreed`);
        return;
      }
      // Section 5.3: an older timestamp means an old segment.
      const [value] = segment.options.timestamps;
      if (((value - this.recent) | 0) < 0) {
        this.challenge(segment);
        return;
      }
      if (start <= this.received.next) this.recent = value;
    }
    if (flags & RST) {
      // RFC 5961 section 3.2: an RST must be exact, or it gets a challenge ACK.
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
    const acknowledged = this.position(segment.ack, this.options.isn, this.sender.una);
    if (acknowledged > this.sender.max) {
      this.challenge(segment);
      return;
    }
    const bare = segment.payload.length === 0;
    this.sender.acknowledge(acknowledged, segment.window << this.peerScale, bare);
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
      // RFC 9293 section 3.10.7.3: the other end still has an older connection. The RST ends it.
      const reset = resetFor(segment);
      if (reset !== undefined) this.hooks.transmit(reset);
      return;
    }
    if (!(flags & SYN) || !ackOk) return;
    const own = this.options;
    const { options } = segment;
    this.peerIsn = segment.seq;
    this.received.next = 1;
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
    this.sender.established(segment.window);
    this.sender.restart();
    this.state = 'open';
    this.sendAck();
    this.hooks.established?.();
    this.sender.pump();
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
      this.passive = !this.sender.closing;
      this.sendAck();
      this.hooks.remoteClosed();
      this.acknowledged();
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

  /** When both FINs are acknowledged: closed, or TIME-WAIT for the side that closed first. */
  acknowledged(): void {
    const { closing, una, endOfData } = this.sender;
    if (!closing || una <= endOfData || !this.peerFin || this.state !== 'open') return;
    if (this.passive || this.options.timeWaitMs === 0) {
      this.end('closed');
      return;
    }
    this.state = 'time-wait';
    this.sender.stop();
    this.timeWaitTimer = this.options.clock.after(this.options.timeWaitMs, () =>
      this.end('closed'),
    );
  }

  private cancelTimers(): void {
    this.sender.stop();
    this.options.clock.cancel(this.timeWaitTimer);
    this.options.clock.cancel(this.ackTimer);
  }
}
