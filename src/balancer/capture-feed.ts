/** The balancer's side of a capture: the frames that its engine threads copy, as a stream. */
import { Readable } from 'node:stream';
import { FrameTapReader, lostRecord, type TapWish, tapMemory } from '../datapath/frame-tap.js';
import type { TapStart } from './threads/engine-messages.js';

/** Bytes of the ring of each thread. Emptied every POLL_MS, a ring is enough for 200 MB/s. */
const RING_BYTES = 4 * 1024 * 1024;
const POLL_MS = 20;
/**
 * Most bytes that wait for a client that does not read. Beyond it the rings fill up, and the
 * threads leave frames out.
 */
const WAITING_BYTES = 4 * 1024 * 1024;

/** The source of the frames: the engine threads. */
export interface Tappable {
  setTaps(start: () => TapStart | undefined): Promise<void>;
}

export class CaptureFeed {
  private readonly engine: Tappable;
  private running = false;

  constructor(engine: Tappable) {
    this.engine = engine;
  }

  /**
   * Opens a stream of records of wire/tap-record.ts, which ends when it is destroyed. The first
   * record has no frame and comes at once. Returns undefined while another stream is open.
   */
  async open(wish: TapWish): Promise<Readable | undefined> {
    if (this.running) return undefined;
    this.running = true;
    const readers: FrameTapReader[] = [];
    const close = async (): Promise<void> => {
      await this.engine
        .setTaps(() => undefined)
        .finally(() => {
          this.running = false;
        });
    };
    try {
      await this.engine.setTaps(() => {
        const memory = tapMemory(RING_BYTES);
        readers.push(new FrameTapReader(memory));
        return { memory, wish };
      });
    } catch (error) {
      await close();
      throw error;
    }
    return new FeedStream(readers, close);
  }
}

class FeedStream extends Readable {
  private readonly readers: readonly FrameTapReader[];
  private readonly ended: () => Promise<void>;
  private readonly timer: NodeJS.Timeout;
  private wanted = false;

  constructor(readers: readonly FrameTapReader[], ended: () => Promise<void>) {
    super({ highWaterMark: WAITING_BYTES });
    this.readers = readers;
    this.ended = ended;
    this.push(lostRecord(0));
    this.timer = setInterval(() => this.pass(), POLL_MS);
  }

  override _read(): void {
    this.wanted = true;
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearInterval(this.timer);
    this.ended().then(
      () => done(error),
      (why: Error) => done(why),
    );
  }

  private pass(): void {
    for (const reader of this.readers) {
      if (!this.wanted) return;
      const bytes = reader.take();
      if (bytes.length > 0) this.wanted = this.push(bytes);
    }
  }
}
