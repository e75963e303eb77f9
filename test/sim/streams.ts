/** The two buffers of a simulated TCP: data to send, and received data. */

/** Bytes written so far; byte 0 is the first of the stream. */
export class SendBuffer {
  private bytes = new Uint8Array(1024);
  length = 0;

  push(more: Uint8Array): void {
    if (this.length + more.length > this.bytes.length) {
      const grown = new Uint8Array(Math.max(2 * this.bytes.length, this.length + more.length));
      grown.set(this.bytes.subarray(0, this.length));
      this.bytes = grown;
    }
    this.bytes.set(more, this.length);
    this.length += more.length;
  }

  slice(start: number, end: number): Uint8Array {
    return this.bytes.slice(start, Math.min(end, this.length));
  }
}

/** Puts segments in order. Positions count from the peer's SYN; data begins at 1. */
export class Reassembly {
  /** The next position expected. */
  next = 0;
  /** Everything up to the FIN has arrived. */
  finished = false;
  private readonly parts: { start: number; bytes: Uint8Array }[] = [];
  private finAt: number | undefined;
  private ready: Uint8Array[] = [];

  /** Data has arrived that cannot be delivered yet. */
  get holes(): boolean {
    return this.parts.length > 0;
  }

  /**
   * Up to `count` blocks [left, right) beyond the next position, lowest first, with gaps between
   * them.
   */
  blocks(count: number): [number, number][] {
    const blocks: [number, number][] = [];
    for (const { start, bytes } of [...this.parts].sort((a, b) => a.start - b.start)) {
      const last = blocks[blocks.length - 1];
      if (last !== undefined && start <= last[1]) last[1] = Math.max(last[1], start + bytes.length);
      else blocks.push([start, start + bytes.length]);
    }
    return blocks.slice(0, count);
  }

  add(start: number, bytes: Uint8Array, fin: boolean): void {
    if (fin) this.finAt = start + bytes.length;
    if (bytes.length > 0 && start + bytes.length > this.next) this.parts.push({ start, bytes });
    for (let moved = true; moved; ) {
      moved = false;
      for (let i = 0; i < this.parts.length; i++) {
        const part = this.parts[i]!;
        if (part.start > this.next) continue;
        this.parts.splice(i, 1);
        const fresh = part.bytes.subarray(this.next - part.start);
        if (fresh.length > 0) {
          this.ready.push(fresh);
          this.next += fresh.length;
        }
        moved = true;
        break;
      }
    }
    if (this.finAt !== undefined && !this.finished && this.next === this.finAt) {
      this.finished = true;
      this.next++;
    }
  }

  /** Data that came into order since the last call. */
  take(): Uint8Array {
    const ready = this.ready;
    if (ready.length === 0) return new Uint8Array(0);
    this.ready = [];
    return ready.length === 1 ? ready[0]! : Uint8Array.from(Buffer.concat(ready));
  }
}
