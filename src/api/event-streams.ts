/** Server-sent events (HTML standard, section 9.2): the events of a balancer, as they happen. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Control, NumberedEvent } from './control.js';
import type { ApiCounters } from './counters.js';
import { RequestError } from './errors.js';
import type { OpenStreams } from './streams.js';

export const MOST_SUBSCRIBERS = 16;
/** Bytes that may wait for a client that does not read. */
const MOST_WAITING_BYTES = 256 * 1024;
/** A comment goes out this often: it shows both sides that the other is there. */
const HEARTBEAT_MS = 15_000;
/** After this time a client that has lost its connection should come back. */
const RETRY_MS = 3_000;

/** How long a client may take to read the end of its stream, ms. */
const END_MS = 1_000;

/** @param heartbeat interval of the comments, ms */
export class EventStreams {
  private subscribers = 0;

  constructor(
    private readonly control: Pick<Control, 'subscribe'>,
    private readonly streams: OpenStreams,
    private readonly counters: ApiCounters,
    private readonly heartbeat = HEARTBEAT_MS,
  ) {}

  /**
   * Answers with a stream of events, which ends when either side closes it.
   * @throws RequestError 503 when too many are open
   */
  open(request: FastifyRequest, reply: FastifyReply): void {
    if (this.subscribers >= MOST_SUBSCRIBERS) {
      this.counters.add('api_event_refused');
      throw new RequestError(503, 'BATON_IN_USE', `${MOST_SUBSCRIBERS} event streams are open`, {
        hint: 'close one of them, or come back later',
      });
    }
    this.subscribers += 1;
    reply.hijack();
    const response = reply.raw;
    const write = (text: string): void => {
      if (response.destroyed || response.writableEnded) return;
      response.write(text);
      if (response.writableLength <= MOST_WAITING_BYTES) return;
      this.counters.add('api_event_slow');
      response.destroy();
    };
    response.writeHead(200, {
      ...headersOf(reply),
      'content-type': 'text/event-stream',
      connection: 'close',
    });
    write(`retry: ${RETRY_MS}\n\n`);
    const after = request.headers['last-event-id'];
    const unsubscribe = this.control.subscribe(
      (event) => write(format(event)),
      typeof after === 'string' ? after : undefined,
    );
    const timer = setInterval(() => write(':\n\n'), this.heartbeat);
    const close = (): void => {
      response.end();
      // The end is behind what waits for a client that does not read.
      setTimeout(() => response.destroy(), END_MS).unref();
    };
    const forget = this.streams.add({ caller: request.caller, close });
    // Nobody listens to errors of a response that the client has left.
    response.on('error', () => {});
    response.once('close', () => {
      clearInterval(timer);
      forget();
      unsubscribe();
      this.subscribers -= 1;
    });
  }
}

/** The header fields that hooks have set: a hijacked reply does not send them by itself. */
function headersOf(reply: FastifyReply): Record<string, string> {
  const fields = Object.entries(reply.getHeaders()).filter(([, value]) => value !== undefined);
  return Object.fromEntries(fields.map(([name, value]) => [name, String(value)]));
}

/** JSON has no line breaks outside of strings, and none inside them. */
function format({ id, event }: NumberedEvent): string {
  return `id: ${id}\nevent: ${event.event}\ndata: ${JSON.stringify(event)}\n\n`;
}
