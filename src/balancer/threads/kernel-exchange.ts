/**
 * The exchange between an engine and the XDP program in each batch, besides frames. The program
 * reports kernel events through a ring buffer: what it did with SYNs, FINs and notices. It also
 * writes when it last sent a cookie. The engine writes whether it has room for half-open sessions,
 * and that it is alive.
 */
import { CONTROL, eventRingBytes, eventRingRecords } from '../../datapath/xdp-layout.js';
import type { Engine } from '../../engine/engine.js';
import { KERNEL_EVENT_WORDS } from '../../engine/table/kernel-event.js';
import type { RecordRing } from '../../host/native.js';

const WORD_BYTES = Uint32Array.BYTES_PER_ELEMENT;
/** Events taken from the ring buffer in one call. */
const RECORDS = 256;

/** The part of an engine that takes part in the exchange. */
export type ExchangeEngine = Pick<Engine, 'kernelEvent' | 'cookieSent' | 'halfOpenRoom'>;

export interface ExchangeOptions {
  /** The one element of the program's map `control`. */
  control: Uint32Array;
  /** The ring buffer of this worker. */
  events: Pick<RecordRing, 'drain'>;
  worker: number;
  /** Most half-open sessions of this worker. */
  halfOpen: number;
}

export class KernelExchange {
  private readonly engine: ExchangeEngine;
  private readonly events: Pick<RecordRing, 'drain'>;
  private readonly control: Uint32Array;
  private readonly halfOpen: number;
  private readonly records = new Uint32Array(RECORDS * KERNEL_EVENT_WORDS);
  /** Most events that may be waiting to be read. */
  private readonly waiting: number;
  /** Room for half-open sessions that must be left for SYNs to be answered without cookies. */
  private readonly leastRoom: number;
  private cookieAt = 0;

  constructor(engine: ExchangeEngine, { control, events, worker, halfOpen }: ExchangeOptions) {
    this.engine = engine;
    this.control = control;
    this.events = events;
    this.halfOpen = CONTROL.halfOpen / WORD_BYTES + worker;
    this.waiting = eventRingRecords(eventRingBytes(halfOpen));
    // For the SYNs that the engine does not know yet: those in the ring buffer, and those that the
    // program reports while the engine processes what it took. The ring buffer has a least size. A
    // limit that is too small for it may be exceeded by the events in it; otherwise every client
    // would get a cookie.
    const unknown = this.waiting + RECORDS;
    this.leastRoom = unknown <= (2 * halfOpen) / 3 ? unknown : Math.floor(halfOpen / 3);
  }

  /**
   * To be called when the frames of a batch have been received and none has been processed. By then
   * the ring buffer has the events of all SYNs that came before them.
   */
  exchange(now: number): void {
    const { engine, control, records } = this;
    const cookieAt = control[CONTROL.cookieAt / WORD_BYTES]!;
    if (cookieAt !== this.cookieAt) {
      this.cookieAt = cookieAt;
      engine.cookieSent(cookieAt);
    }
    let count = RECORDS;
    // Not more than may have been waiting: a flood that writes as fast as this reads must not block
    // the engine.
    for (let left = this.waiting + RECORDS; left > 0 && count === RECORDS; left -= RECORDS) {
      count = this.events.drain(records);
      for (let at = 0; at < count * KERNEL_EVENT_WORDS; at += KERNEL_EVENT_WORDS)
        engine.kernelEvent(records, at, now);
      // In each round: a flood fills the buffer as fast as it is emptied.
      control[this.halfOpen] = engine.halfOpenRoom <= this.leastRoom ? 1 : 0;
    }
    control[CONTROL.aliveAt / WORD_BYTES] = now;
  }
}
