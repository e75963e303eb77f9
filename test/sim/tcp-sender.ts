/**
 * The sending half of a simulated TCP: windows, retransmission with back-off (RFC 6298), fast
 * retransmit (RFC 5681 section 3.2), and probes of a closed window (RFC 9293 section 3.8.6.1).
 */
import type { Timer } from './clock.js';
import type { EndpointOptions } from './segment.js';
import { SendBuffer } from './streams.js';

const RTO = 300;
const MAX_RTO = 20_000;
const TIMESTAMP_BYTES = 12;

/** The connection that a sender belongs to. */
export interface Connection {
  readonly options: EndpointOptions;
  readonly state: 'closed' | 'syn-sent' | 'open' | 'time-wait';
  /** Largest segment that the peer takes. */
  readonly peerMss: number;
  readonly timestampsOk: boolean;
  /** Sends payload at a position of the stream. */
  transmitData(position: number, flags: string, payload: Uint8Array): void;
  /** Sends the SYN again. */
  sendSyn(): void;
  /** More of the stream is acknowledged. */
  acknowledged(): void;
  /** No acknowledgement came after `maxRetries` retransmissions. */
  gaveUp(): void;
}

export class Sender {
  readonly buffer = new SendBuffer();
  /** The oldest position that is not acknowledged (SND.UNA). */
  una = 0;
  /** The highest position that was ever sent. */
  max = 0;
  /** A FIN follows the data. */
  closing = false;
  private next = 0;
  private window = 0;
  private congestion = 0;
  private duplicateAcks = 0;
  private retries = 0;
  private timer: Timer | undefined;

  constructor(private readonly connection: Connection) {}

  get endOfData(): number {
    return 1 + this.buffer.length;
  }

  /** The SYN is sent. */
  synSent(): void {
    this.next = 1;
    this.max = 1;
  }

  /**
   * The handshake is complete: positions continue at 1.
   * @param window the peer's window in bytes; undefined while no segment of the peer was seen
   */
  established(window: number | undefined): void {
    this.una = this.next = this.max = 1;
    if (window !== undefined) this.window = window;
    this.congestion = 10 * this.connection.peerMss;
  }

  /** Forgets retransmissions, for instance of the SYN. */
  restart(): void {
    this.retries = 0;
    this.stop();
  }

  stop(): void {
    this.connection.options.clock.cancel(this.timer);
  }

  /** Sends what the windows allow. */
  pump(): void {
    if (this.connection.state !== 'open') return;
    const window = Math.max(0, Math.min(this.window, this.congestion));
    const limit = Math.min(this.endOfData, this.una + window);
    const room =
      Math.min(this.connection.peerMss, this.connection.options.mss) -
      (this.connection.timestampsOk ? TIMESTAMP_BYTES : 0);
    const pieces: [number, number][] = [];
    while (this.next < limit) {
      let size = Math.min(room, limit - this.next);
      if (this.connection.options.mangle) size = this.connection.options.random.between(1, size);
      let start = this.next;
      if (this.connection.options.mangle && this.connection.options.random.chance(0.3)) {
        start = Math.max(
          this.una,
          start - this.connection.options.random.between(0, Math.max(0, room - size)),
        );
      }
      pieces.push([start, this.next + size]);
      this.next += size;
    }
    const fin = this.closing && this.next === this.endOfData && this.una <= this.endOfData;
    if (this.connection.options.mangle) this.connection.options.random.shuffle(pieces);
    for (const [start, end] of pieces) {
      const last = fin && end === this.endOfData;
      this.transmit(start, end, last);
    }
    if (fin) {
      if (pieces.length === 0) this.transmit(this.endOfData, this.endOfData, true);
      this.next = this.endOfData + 1;
    }
    if (this.next > this.max) this.max = this.next;
    if (this.una < this.next || (this.una < this.endOfData && window === 0)) this.arm(RTO);
  }

  private transmit(start: number, end: number, fin: boolean): void {
    if (end + (fin ? 1 : 0) > this.max) this.max = end + (fin ? 1 : 0);
    const flags = `${fin ? 'F' : ''}${end > start ? 'P' : ''}A`;
    this.connection.transmitData(start, flags, this.buffer.slice(start - 1, end - 1));
  }

  /** Starts the retransmission timer unless it runs. */
  arm(base: number): void {
    if (this.timer?.run !== undefined) return;
    this.timer = this.connection.options.clock.after(
      Math.min(MAX_RTO, base * 2 ** this.retries),
      () => this.retransmit(),
    );
  }

  private retransmit(): void {
    if (this.timer !== undefined) this.timer.run = undefined;
    if (++this.retries > this.connection.options.maxRetries) {
      this.connection.gaveUp();
      return;
    }
    if (this.connection.state === 'syn-sent') {
      this.connection.sendSyn();
      return;
    }
    if (this.connection.state !== 'open') return;
    this.congestion = this.connection.peerMss;
    this.next = this.una;
    if (this.window === 0 && this.una < this.endOfData) {
      // RFC 9293 section 3.8.6.1: probe a window that stays shut with one byte.
      this.transmit(this.una, this.una + 1, false);
      this.next = this.una + 1;
      this.arm(RTO);
    } else this.pump();
  }

  /**
   * Takes an acknowledgement of a position that was sent.
   * @param window the peer's window, in bytes
   * @param bare the segment carries no data
   */
  acknowledge(position: number, window: number, bare: boolean): void {
    if (position >= this.una) this.window = window;
    if (position > this.una) {
      this.una = position;
      this.next = Math.max(this.next, position);
      this.congestion += this.connection.peerMss;
      this.retries = 0;
      this.duplicateAcks = 0;
      this.stop();
      if (this.una < this.max) this.arm(RTO);
      this.connection.acknowledged();
    } else if (position === this.una && bare && this.una < this.max) {
      if (++this.duplicateAcks === 3) {
        const room = Math.min(this.connection.peerMss, this.connection.options.mss);
        const end = Math.min(this.endOfData, this.una + room - TIMESTAMP_BYTES);
        this.transmit(this.una, end, this.closing && end === this.endOfData);
      }
    }
    this.pump();
  }
}
