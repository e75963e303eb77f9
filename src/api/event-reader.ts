/** Reads server-sent events (HTML standard, section 9.2.6) from a stream of bytes. */

export interface ServerEvent {
  /** The last `id` line, in this event or before. */
  id: string;
  data: string;
}

/** A longer event is no event of a balancer. */
const MOST_CHARACTERS = 1024 * 1024;

export class EventReader {
  private readonly decoder = new TextDecoder();
  private readonly listener: (event: ServerEvent) => void;
  private rest = '';
  private id = '';
  private data: string[] = [];

  constructor(listener: (event: ServerEvent) => void) {
    this.listener = listener;
  }

  /** Takes the next bytes, and gives the listener each event that ends in them. */
  take(bytes: Uint8Array): void {
    const lines = (this.rest + this.decoder.decode(bytes, { stream: true })).split('\n');
    this.rest = (lines.pop() ?? '').slice(0, MOST_CHARACTERS);
    for (const line of lines) this.line(line.replace(/\r$/, ''));
  }

  private line(line: string): void {
    if (line === '') {
      if (this.data.length > 0) this.listener({ id: this.id, data: this.data.join('\n') });
      this.data = [];
      return;
    }
    const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/.exec(line) ?? [];
    if (field === 'id') this.id = value;
    else if (field === 'data') this.data.push(value);
  }
}
