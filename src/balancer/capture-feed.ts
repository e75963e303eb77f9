/** The balancer's side of a capture: what the engine threads show of frames, as a stream. */
import { Readable } from 'node:stream';
import { FrameTapReader, lostRecord, type TapWish, tapMemory } from '../datapath/frame-tap.js';
import type { TapStart } from './threads/engine-messages.js';

/** Of each thread. With a look each POLL_MS they hold 200 MB/s. */
const RING_BYTES = 4 * 1024 * 1024;
const POLL_MS = 20;
/**
 * So much may wait for a client that does not read; beyond it the rings fill up, and frames are
 * left out.
 */
const WAITING_BYTES = 4 * 1024 * 1024;

/** Where the frames come from: the engine. */
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
   * Records of wire/tap-record.ts as the engine threads write them, until the stream is destroyed.
   * Undefined while another one is open. The first record, of no frame, comes at once.
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
