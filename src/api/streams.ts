/** Responses that have no end: captures and event streams. They end with the server. */
import type { Caller } from './access.js';

export interface OpenStream {
  readonly caller: Caller;
  close(): void;
}

export class OpenStreams {
  private readonly open = new Set<OpenStream>();

  /** @returns forgets the stream, which has ended */
  add(stream: OpenStream): () => void {
    this.open.add(stream);
    return () => this.open.delete(stream);
  }

  /** Closes the streams of these callers. Default: all. */
  close(which: (caller: Caller) => boolean = () => true): void {
    for (const stream of [...this.open]) if (which(stream.caller)) stream.close();
  }
}
