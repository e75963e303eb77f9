/**
 * What an engine and the XDP program exchange, batch by batch, besides frames: the program reports
 * by a ring buffer what it has done with SYNs, FINs and notices, and when it last sent a cookie;
 * the engine says whether there is room for half-open sessions, and that it is alive.
 */
import { CONTROL, eventRingBytes, eventRingRecords } from '../../datapath/xdp-layout.js';
import type { Engine } from '../../engine/engine.js';
import { KERNEL_EVENT_WORDS } from '../../engine/table/kernel-event.js';
import type { RecordRing } from '../../host/native.js';

const WORD_BYTES = Uint32Array.BYTES_PER_ELEMENT;
/** Records taken from the kernel in one call. */
const RECORDS = 256;

/** What of an engine takes part. */
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
  /** Records that may be waiting to be read. */
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
    // Left for the SYNs that the engine does not know of yet. The ring buffer has a least size: it
    // may hold more records than the limit allows sessions. Then the limit may be exceeded by what
    // it holds: else every client would get a cookie.
    this.leastRoom = Math.min(this.waiting + RECORDS, Math.floor(halfOpen / 3));
  }

  /**
   * To be called when the frames of a batch have been received and none has been processed: the
   * records of the SYNs that came before them are in the ring buffer by then.
   */
  exchange(now: number): void {
    const { engine, control, records } = this;
    const cookieAt = control[CONTROL.cookieAt / WORD_BYTES]!;
    if (cookieAt !== this.cookieAt) {
      this.cookieAt = cookieAt;
      engine.cookieSent(cookieAt);
    }
    let count = RECORDS;
    // No more than were waiting: a flood that writes as fast as this reads must not keep the engine
    // here.
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
