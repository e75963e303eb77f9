/** The application on sockets of simulated nodes: a web server. */
import type { Clock } from './clock.js';
import {
  askedTarget,
  bytesOf,
  CLIENT_HEADER,
  digest,
  MessageReader,
  type Resource,
  resourceOf,
  sizeOf,
} from './content.js';
import type { Random } from './random.js';
import { inChunks } from './requests.js';
import type { Endpoint } from './tcp-endpoint.js';

export interface Application {
  /** The socket is ready. The bytes that came with it are already delivered. */
  begin(): void;
  receive(bytes: Uint8Array): void;
  remoteClosed(): void;
  /** The socket is gone. */
  stop(): void;
}

export interface WebServerOptions {
  clock: Clock;
  node: number;
  name: string;
  resources: readonly Resource[];
  /** Longest time until the answer to a request, in ms. */
  serviceMs: number;
  keepAliveMs: number;
  violation(message: string): void;
  /** Whether the client at this address and port may have sent this request. */
  mayAsk(tuple: string, client: string, target: string): boolean;
}

/** Serves GET and POST with persistent connections and pipelining, and checks every byte. */
export class WebServer implements Application {
  private readonly reader = new MessageReader();
  private busy = false;
  private isFirst = true;
  private done = false;
  private closing = false;
  private idleSince: number;

  constructor(
    private readonly options: WebServerOptions,
    private readonly endpoint: Endpoint,
    private readonly tuple: string,
    private readonly random: Random,
  ) {
    this.idleSince = options.clock.now;
  }

  begin(): void {
    this.watchIdle();
  }

  receive(bytes: Uint8Array): void {
    this.reader.feed(bytes);
    this.idleSince = this.options.clock.now;
    this.next();
  }

  remoteClosed(): void {
    this.closing = true;
    this.next();
  }

  stop(): void {
    this.done = true;
  }

  private watchIdle(): void {
    const { clock, keepAliveMs } = this.options;
    clock.after(keepAliveMs, () => {
      if (this.done) return;
      if (!this.busy && clock.now - this.idleSince >= keepAliveMs) this.finish();
      else this.watchIdle();
    });
  }

  private finish(): void {
    this.done = true;
    this.endpoint.close();
  }

  private next(): void {
    if (this.busy || this.done) return;
    const message = this.reader.take();
    if (typeof message === 'string') {
      this.options.violation(`${this.options.name} got ${message} from ${this.tuple}`);
      this.finish();
      return;
    }
    if (message === undefined) {
      if (this.closing) this.finish();
      return;
    }
    const [method = '', got = ''] = message.start.split(' ');
    const asked = askedTarget(this.options.resources, got);
    const target = asked ?? got;
    const client = message.fields.get(CLIENT_HEADER) ?? '';
    // The balancer reads only the first request of a connection.
    if (this.isFirst && asked === undefined && this.isRenamed(got))
      this.options.violation(
        `${this.options.name} got ${got} of ${client}, which has another path`,
      );
    this.isFirst = false;
    if (!this.options.mayAsk(this.tuple, client, target)) {
      this.options.violation(
        `${this.options.name} got ${JSON.stringify(message.start)} of ${client} from ${this.tuple}`,
      );
    }
    this.busy = true;
    // RFC 9110 section 10.1.1.
    if (message.fields.has('expect')) this.say('HTTP/1.1 100 Continue\r\n\r\n');
    this.options.clock.after(this.random.between(0, this.options.serviceMs), () => {
      if (this.done) return;
      this.busy = false;
      this.idleSince = this.options.clock.now;
      const last = message.fields.get('connection') === 'close';
      this.answer(method, target, client, message.body, last);
      if (last) this.finish();
      else this.next();
    });
  }

  private isRenamed(target: string): boolean {
    return resourceOf(this.options.resources, target)?.renamed !== undefined;
  }

  private answer(
    method: string,
    target: string,
    client: string,
    upload: Uint8Array,
    last: boolean,
  ): void {
    const resource = resourceOf(this.options.resources, target);
    const holds = resource?.holders.includes(this.options.node) ?? false;
    const body = holds ? bytesOf(target, sizeOf(target)) : new Uint8Array(0);
    // HTTP/1.1 clients understand both (RFC 9112 section 6).
    const inParts = this.random.chance(0.2);
    const head = [
      holds ? 'HTTP/1.1 200 OK' : 'HTTP/1.1 404 Not Held Here',
      `Server: ${this.options.name}`,
      `X-Client: ${client}`,
      `X-Target: ${target}`,
      `X-Upload: ${digest(upload)}`,
      inParts ? 'Transfer-Encoding: chunked' : `Content-Length: ${body.length}`,
      ...(last ? ['Connection: close'] : []),
    ].join('\r\n');
    this.say(
      `${head}\r\n\r\n`,
      method === 'HEAD' ? undefined : inParts ? inChunks(body, this.random) : body,
    );
  }

  private say(head: string, body: Uint8Array = new Uint8Array(0)): void {
    this.endpoint.write(Buffer.concat([Buffer.from(head, 'latin1'), body]));
  }
}
