/**
 * The local services. They answer requests for content that no node holds, invalid requests, and
 * requests that no node can take. A session is handed over to them exactly as to a node: the
 * balancer's own shim adopts it to a listener on the loopback interface. Each service has a
 * listener of its own, because the connection does not say why it was handed over.
 *
 * A client may have sent anything. So nothing of it is parsed, except whether it is a HEAD request.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { MOST_EMPTY_BYTES } from '../../request/http/scan.js';
import { LocalService, type LocalServiceNumber } from '../../wire/ixp.js';
import { ANSWERS, type Answer, encodeAnswer } from './answers.js';

/**
 * How long to wait for the first bytes of a request, ms. They decide whether the response has a
 * body.
 */
const FIRST_BYTES_MS = 50;
/**
 * RFC 9112 section 9.6: if a server closes with unread bytes, its kernel sends an RST, which can
 * destroy the response before the client has read it. So the server reads and discards the rest for
 * a limited time.
 */
const LINGER_MS = 2_000;
const LINGER_BYTES = 1024 * 1024;
const BACKLOG = 4_096;
const HEAD_METHOD = Buffer.from('HEAD ');
const CR = 0x0d;
const LF = 0x0a;

export interface ErrorServiceOptions {
  /**
   * Most connections at one time over all services. A new one beyond it ends the oldest. Default:
   * 1024, because descriptors are few on some machines.
   */
  connections?: number;
  /** How long to wait for the first bytes of a request, ms. For tests. */
  firstBytesMs?: number;
  /** How long to read and discard what a client still sends, ms. For tests. */
  lingerMs?: number;
}

type Waits = Required<Pick<ErrorServiceOptions, 'firstBytesMs' | 'lingerMs'>>;

export class ErrorService {
  /**
   * Counts since the start. `answered`: responses written. `dropped`: connections ended early to
   * make room. `failed`: errors of connections.
   */
  readonly counts = { accepted: 0, answered: 0, dropped: 0, failed: 0 };
  private readonly most: number;
  private readonly waits: Waits;
  private readonly servers: Server[] = [];
  /** In the order of their arrival: the first is the oldest. */
  private readonly connections = new Set<Connection>();

  constructor(options: ErrorServiceOptions = {}) {
    this.most = options.connections ?? 1_024;
    this.waits = {
      firstBytesMs: options.firstBytesMs ?? FIRST_BYTES_MS,
      lingerMs: options.lingerMs ?? LINGER_MS,
    };
  }

  /**
   * Listens for each service on 127.0.0.1, on a port that the kernel chooses.
   * @returns the ports by service number
   * @throws the system's error when a listener cannot be opened; none is open then
   */
  async start(): Promise<Map<LocalServiceNumber, number>> {
    const ports = new Map<LocalServiceNumber, number>();
    try {
      for (const service of Object.values(LocalService)) {
        if (service !== LocalService.none) ports.set(service, await this.listen(service));
      }
    } catch (error) {
      await this.stop();
      throw error;
    }
    return ports;
  }

  /** Ends every connection and every listener. */
  async stop(): Promise<void> {
    const closed = this.servers
      .splice(0)
      .map((server) => new Promise<void>((resolve) => server.close(() => resolve())));
    for (const connection of this.connections) connection.destroy();
    await Promise.all(closed);
  }

  private async listen(service: LocalServiceNumber): Promise<number> {
    const answer = ANSWERS.get(service);
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
      this.accept(socket, answer),
    );
    this.servers.push(server);
    server.listen({ host: '127.0.0.1', port: 0, backlog: BACKLOG });
    await once(server, 'listening');
    // Accepting fails if no descriptor is free: this connection is lost, but the service goes on.
    server.on('error', () => this.counts.failed++);
    return (server.address() as AddressInfo).port;
  }

  private accept(socket: Socket, answer: Answer | undefined): void {
    this.counts.accepted++;
    if (this.connections.size >= this.most) {
      const [oldest] = this.connections;
      oldest?.destroy();
      this.counts.dropped++;
    }
    const connection = new Connection(socket, answer, this.waits, {
      answered: () => this.counts.answered++,
      failed: () => this.counts.failed++,
      gone: () => this.connections.delete(connection),
    });
    this.connections.add(connection);
  }
}

interface Events {
  answered(): void;
  failed(): void;
  gone(): void;
}

/** One connection: waits for the first bytes, responds, then lingers. */
class Connection {
  private readonly socket: Socket;
  private readonly answer: Answer | undefined;
  private readonly events: Events;
  private readonly lingerMs: number;
  private timer: NodeJS.Timeout;
  private answered = false;
  /** The first bytes behind any empty lines, as many as HEAD needs. */
  private first: Buffer = Buffer.alloc(0);
  private discarded = 0;

  constructor(socket: Socket, answer: Answer | undefined, waits: Waits, events: Events) {
    this.socket = socket;
    this.answer = answer;
    this.events = events;
    this.lingerMs = waits.lingerMs;
    this.timer = setTimeout(() => this.reply(), waits.firstBytesMs);
    socket.on('data', (chunk) => this.read(chunk));
    socket.on('end', () => this.ended());
    socket.on('error', () => events.failed());
    socket.once('close', () => {
      clearTimeout(this.timer);
      events.gone();
    });
    // There is no response: what arrives is only discarded.
    if (answer === undefined) this.reply();
  }

  destroy(): void {
    clearTimeout(this.timer);
    this.socket.destroy();
    this.events.gone();
  }

  private read(chunk: Buffer): void {
    this.discarded += chunk.length;
    if (this.answered) {
      if (this.discarded > LINGER_BYTES) this.destroy();
      return;
    }
    this.first = skipEmptyLines(
      Buffer.concat([this.first, chunk.subarray(0, HEAD_METHOD.length + MOST_EMPTY_BYTES)]),
    );
    const undecided = this.first.length < HEAD_METHOD.length && startsLikeHead(this.first);
    if (!undecided) this.reply();
  }

  private ended(): void {
    this.reply();
    // Both sides have sent everything: the kernel delivers the rest.
    this.socket.destroySoon();
  }

  /** Sends the response, unless it was sent already, and ends our direction. */
  private reply(): void {
    if (this.answered) return;
    this.answered = true;
    clearTimeout(this.timer);
    if (this.answer === undefined) {
      this.socket.end();
    } else {
      const isHead = this.first.length >= HEAD_METHOD.length && startsLikeHead(this.first);
      this.socket.end(encodeAnswer(this.answer, isHead, Date.now()));
      this.events.answered();
    }
    this.timer = setTimeout(() => this.destroy(), this.lingerMs);
  }
}

/**
 * Whether the bytes begin like a HEAD request. Methods are case-sensitive (RFC 9110 section 9.1).
 */
function startsLikeHead(bytes: Buffer): boolean {
  const length = Math.min(bytes.length, HEAD_METHOD.length);
  return bytes.compare(HEAD_METHOD, 0, length, 0, length) === 0;
}

/** RFC 9112 section 2.2: a server should ignore empty lines before the request line. */
function skipEmptyLines(bytes: Buffer): Buffer {
  let at = 0;
  while (bytes[at] === CR || bytes[at] === LF) at++;
  return bytes.subarray(at);
}
