/**
 * Regular clients: many persistent connections, each of which sends a request again and again. The
 * file is a program that runs in the namespace of a farm's client; the class Regulars starts it and
 * returns the outcome.
 */
import { connect, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { VIRTUAL_ADDRESS } from '../farm/addresses.js';
import type { Farm } from '../farm/farm.js';
import type { Program } from '../farm/process.js';
import { PATIENCE_MS } from '../patience.js';

export interface RegularsOptions {
  connections: number;
  /** Each request takes one of these. */
  paths: readonly string[];
  /** What every answer's body must be. */
  body: string;
  /** Default: the first virtual address. */
  address?: string;
  /** Mean pause of a connection between an answer and its next request, in ms. */
  pauseMs: number;
  /** A connection is replaced by a new one after so many requests on average; 0: never. */
  requests?: number;
  /** New connections a second while they open. Default 500. */
  pace?: number;
}

/** A request without its answer, or a connection that ended. */
export interface Failure {
  /** ms since 1970. */
  at: number;
  why: string;
  /** The client's port. */
  port: number;
  /** Answers on this connection before. */
  after: number;
}

/** The outcome. */
export interface Regular {
  connections: number;
  answers: number;
  failures: Failure[];
  /** The longest time from request to answer, in ms. */
  slowestMs: number;
}

export class Regulars {
  private static count = 0;
  private constructor(private readonly program: Program) {}

  /** Opens the connections. Resolves when each has had an answer. */
  static async start(farm: Farm, options: RegularsOptions): Promise<Regulars> {
    const script = fileURLToPath(import.meta.url);
    const name = `regulars${Regulars.count++}`;
    const program = farm.client.start(name, [process.execPath, script, JSON.stringify(options)]);
    await program.waitForLog(/^open$/m, 2 * PATIENCE_MS);
    return new Regulars(program);
  }

  get running(): boolean {
    return this.program.running;
  }

  /** Each connection ends after the answer that it waits for. */
  async stop(): Promise<Regular> {
    this.program.signal('SIGTERM');
    return (await this.program.document()) as Regular;
  }
}

/** A whole answer with `Content-Length`: its status and body, and the bytes behind it. */
function parseAnswer(text: string): { status: number; body: string; length: number } | undefined {
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const head = text.slice(0, end);
  const length = end + 4 + Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? Number.NaN);
  if (text.length < length) return undefined;
  return { status: Number(head.slice(9, 12)), body: text.slice(end + 4, length), length };
}

class Crowd {
  private readonly outcome: Regular = { connections: 0, answers: 0, failures: [], slowestMs: 0 };
  private readonly open = new Set<Socket>();
  private ending = false;
  private waiting = 0;
  private answered = 0;
  private done: () => void = () => {};
  private first: () => void = () => {};

  constructor(private readonly options: RegularsOptions) {}

  /** Resolves with the outcome some time after SIGTERM. */
  async run(): Promise<Regular> {
    const { connections, pace = 500 } = this.options;
    const all = new Promise<void>((resolve) => {
      this.first = resolve;
    });
    const end = new Promise<void>((resolve) => {
      this.done = resolve;
    });
    process.once('SIGTERM', () => this.end());
    for (let begun = 0; begun < connections; begun++) {
      setTimeout(() => this.begin(), (begun * 1_000) / pace);
    }
    await all;
    process.stdout.write('open\n');
    await end;
    return this.outcome;
  }

  private end(): void {
    this.ending = true;
    this.finish();
  }

  private finish(): void {
    if (!this.ending || this.waiting > 0) return;
    for (const socket of this.open) socket.end();
    // The servers close too.
    if (this.open.size === 0) this.done();
  }

  private begin(): void {
    if (this.ending) return;
    const { address = VIRTUAL_ADDRESS, paths, body, pauseMs, requests = 0 } = this.options;
    const { outcome, open } = this;
    const most = requests === 0 ? Number.POSITIVE_INFINITY : 1 + Math.random() * 2 * requests;
    let answers = 0;
    let text = '';
    let askedAt = 0;
    let over = false;
    let next: NodeJS.Timeout | undefined;
    const socket = connect({ host: address, port: 80, noDelay: true });
    open.add(socket);
    outcome.connections += 1;

    const settle = (): void => {
      if (askedAt === 0) return;
      askedAt = 0;
      this.waiting -= 1;
    };
    const leave = (): void => {
      over = true;
      socket.end();
      this.begin();
    };
    const fail = (why: string): void => {
      if (over) return;
      over = true;
      clearTimeout(next);
      const { localPort: port = 0 } = socket;
      const when =
        askedAt === 0 ? 'between requests' : `${Date.now() - askedAt} ms after a request`;
      outcome.failures.push({ at: Date.now(), why: `${why}, ${when}`, port, after: answers });
      settle();
      socket.destroy();
      this.begin();
    };
    const ask = (): void => {
      if (this.ending || over) return;
      const path = paths[Math.floor(Math.random() * paths.length)];
      askedAt = Date.now();
      this.waiting += 1;
      socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
    };
    socket.setTimeout(PATIENCE_MS, () => fail('silence'));
    socket.once('connect', ask);
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      const answer = parseAnswer(text);
      if (answer === undefined) return;
      text = text.slice(answer.length);
      if (answer.status !== 200 || answer.body !== body) {
        fail(`answer ${answer.status} ${JSON.stringify(answer.body.slice(0, 40))}`);
        return;
      }
      outcome.answers += 1;
      outcome.slowestMs = Math.max(outcome.slowestMs, Date.now() - askedAt);
      if (answers === 0 && ++this.answered === this.options.connections) this.first();
      answers += 1;
      settle();
      if (this.ending) this.finish();
      else if (answers >= most) leave();
      else next = setTimeout(ask, Math.random() * 2 * pauseMs);
    });
    socket.once('end', () => {
      if (!this.ending) fail('closed by the server');
    });
    socket.once('error', (error: NodeJS.ErrnoException) => fail(error.code ?? 'error'));
    socket.once('close', () => {
      settle();
      open.delete(socket);
      this.finish();
    });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const outcome = await new Crowd(JSON.parse(process.argv[2] ?? '') as RegularsOptions).run();
  process.stdout.write(`${JSON.stringify(outcome)}\n`, () => process.exit(0));
}
