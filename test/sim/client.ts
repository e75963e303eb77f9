/**
 * A simulated client: one connection with a plan, and a strict check of every answer. Whatever
 * happens, the client must get the answer to its request, an HTTP error that the plan allows, or a
 * clean failure.
 */
import {
  bytesOf,
  CLIENT_HEADER,
  digest,
  type Message,
  MessageReader,
  type Resource,
  resourceOf,
  sizeOf,
} from './content.js';
import type { Random } from './random.js';
import { type Ask, GET, pins, requestBytes } from './requests.js';
import type { EndpointOptions, EndReason } from './segment.js';
import { Endpoint } from './tcp-endpoint.js';

export type PlanKind =
  | 'ordinary' // requests one after the other
  | 'pipelined' // all requests at once
  | 'slow' // the head in small pieces
  | 'upload' // a body after the head
  | 'kept' // requests of all kinds, in turn or together
  | 'malformed' // expects 400
  | 'missing' // expects 404
  | 'huge' // expects 431
  | 'stalled' // half a head and then nothing: expects 408
  | 'mute' // sends nothing
  | 'resets' // RST in the middle
  | 'vanishes'; // power cut in the middle

export interface Plan {
  kind: PlanKind;
  targets: string[];
  /** What each request is besides its target. */
  asks: Ask[];
  /** The last request asks for the connection to be closed; else the client closes. */
  askClose: boolean;
  /** The client sends FIN right behind its last request, and waits for the answers. */
  halfCloses: boolean;
  /** Time until the RST or the power cut, in ms. */
  breakAfter: number;
  /** Longest pause between requests or pieces, in ms. */
  pauseMs: number;
}

/** How the connection ended. The world decides whether that is allowed. */
export type Outcome = 'answered' | 'refused' | 'failed' | 'gone';

export interface ClientWorld {
  readonly resources: readonly Resource[];
  nodeName(index: number): string;
  violation(message: string): void;
  finished(connection: ClientConnection): void;
  /** In this world only the failures of plans may happen. */
  readonly mild: boolean;
  /** Connections move between requests. */
  readonly migrates: boolean;
}

const EXPECTED: Partial<Record<PlanKind, number>> = {
  malformed: 400,
  missing: 404,
  huge: 431,
  stalled: 408,
};
const PATIENCE_MS = 90_000;

export class ClientConnection {
  readonly endpoint: Endpoint;
  outcome: Outcome | undefined;
  /** Progress and reason of the end, for messages. */
  story = '';
  answers = 0;
  private readonly reader = new MessageReader();
  private sent = 0;
  private dropping: Uint8Array | undefined;
  private remoteClosed = false;
  private readonly startedAt: number;

  constructor(
    readonly id: string,
    readonly address: string,
    readonly port: number,
    readonly plan: Plan,
    private readonly world: ClientWorld,
    private readonly random: Random,
    options: Omit<EndpointOptions, 'hooks' | 'mangle'>,
    transmit: (
      connection: ClientConnection,
      segment: Parameters<EndpointOptions['hooks']['transmit']>[0],
    ) => void,
  ) {
    this.startedAt = options.clock.now;
    this.endpoint = new Endpoint({
      ...options,
      mangle: random.chance(0.4),
      hooks: {
        transmit: (segment) => transmit(this, segment),
        established: () => this.established(),
        receive: (bytes) => this.receive(bytes),
        remoteClosed: () => this.closedByPeer(),
        ended: (reason) => this.ended(reason),
        violation: (message) => this.complain(message),
      },
    });
  }

  get label(): string {
    return `client ${this.id} at ${this.address}:${this.port} (${this.plan.kind} ${this.plan.targets.join(' ')})`;
  }

  start(): void {
    const { clock } = this.endpoint.options;
    this.endpoint.connect();
    clock.after(PATIENCE_MS, () => {
      if (this.outcome === undefined) this.finish('failed', 'out of patience');
      this.endpoint.abort();
    });
    if (this.plan.kind === 'resets' || this.plan.kind === 'vanishes') {
      clock.after(this.plan.breakAfter, () => {
        this.finish('gone', this.plan.kind);
        if (this.plan.kind === 'resets') this.endpoint.abort();
        else this.endpoint.vanish();
      });
    }
  }

  /** Whether this connection sends this request; servers ask it. */
  asks(target: string, client: string): boolean {
    const [id, index] = client.split('.');
    return id === this.id && this.plan.targets[Number(index)] === target;
  }

  private complain(message: string): void {
    this.world.violation(`${this.label}: ${message}`);
  }

  private finish(outcome: Outcome, story: string): void {
    if (this.outcome !== undefined) return;
    this.outcome = outcome;
    const { clock } = this.endpoint.options;
    this.story = `${story} after ${Math.round(clock.now - this.startedAt)} ms, ${this.answers} of ${this.plan.targets.length} answers`;
    this.world.finished(this);
  }

  private request(index: number): Uint8Array {
    const { plan, random } = this;
    const last = index === plan.targets.length - 1;
    const fields: string[] = [];
    if (random.chance(0.2)) fields.push(`X-Filler: ${'f'.repeat(random.between(1, 3000))}`);
    if (last && plan.askClose) fields.push('Connection: close');
    if (plan.kind === 'malformed')
      fields.push(random.pick(['Host : www', 'Host: b', ' folded', 'X: \x01']));
    if (plan.kind === 'huge')
      for (let i = 0; i < 20; i++) fields.push(`X-Huge-${i}: ${'h'.repeat(1000)}`);
    const name = `${this.id}.${index}`;
    const bytes = requestBytes(
      plan.asks[index] ?? GET,
      plan.targets[index] ?? '',
      name,
      fields,
      random,
    );
    return plan.kind === 'stalled' ? bytes.subarray(0, random.between(1, bytes.length - 3)) : bytes;
  }

  /** Sends the next request, and those that are sent together with it. */
  private send(): void {
    const { asks } = this.plan;
    do this.endpoint.write(this.request(this.sent++));
    while (this.sent < this.plan.targets.length && asks[this.sent]?.together === true);
    if (this.plan.halfCloses && this.sent === this.plan.targets.length) this.endpoint.close();
  }

  private established(): void {
    switch (this.plan.kind) {
      case 'mute':
        return;
      case 'slow':
        this.dropping = this.request(this.sent++);
        this.drip();
        return;
      default:
        if (this.plan.kind === 'pipelined') this.send();
        else this.pause(() => this.send());
    }
  }

  /** Acts after a random pause, if the connection still goes on then. */
  private pause(act: () => void): void {
    const { clock } = this.endpoint.options;
    clock.after(this.random.between(0, this.plan.pauseMs), () => {
      if (this.outcome === undefined && this.endpoint.state === 'open' && !this.remoteClosed) act();
    });
  }

  private drip(): void {
    const left = this.dropping!;
    if (left.length === 0) return;
    const size = Math.min(left.length, this.random.between(1, 30));
    this.endpoint.write(left.subarray(0, size));
    this.dropping = left.subarray(size);
    this.pause(() => this.drip());
  }

  private receive(bytes: Uint8Array): void {
    if (this.outcome !== undefined && this.outcome !== 'gone') return;
    this.reader.feed(bytes);
    const { asks } = this.plan;
    for (;;) {
      const message = this.reader.take(asks[this.answers]?.method === 'HEAD');
      if (message === undefined) break;
      if (typeof message === 'string') {
        this.complain(`the answer is not HTTP: ${message}`);
        this.finish('failed', 'no HTTP');
        return;
      }
      // RFC 9110 section 15.2: an interim answer.
      if (message.start.startsWith('HTTP/1.1 100 ')) continue;
      this.judge(message);
      this.answers++;
    }
    this.goOn();
  }

  private judge(message: Message): void {
    const { plan, world } = this;
    const status = Number(message.start.split(' ')[1]);
    const target = plan.targets[this.answers];
    const expected = EXPECTED[plan.kind];
    const { fields, body } = message;
    const stays = status === 404 && fields.has('server') && this.mayStay(this.answers);
    if (expected !== undefined || (status !== 200 && !stays)) {
      const timeoutAllowed = status === 408 && (!world.mild || plan.kind === 'slow');
      const allowed = status === expected || (!world.mild && status === 503) || timeoutAllowed;
      // The holders of a later request may all be down.
      const movedToNone = world.migrates && status === 503;
      if (!allowed || (this.answers > 0 && !movedToNone))
        this.complain(`answered ${message.start}, expected ${expected ?? 200}`);
      if (message.fields.has('server')) this.complain(`a node answered ${message.start}`);
      this.finish(status === expected ? 'answered' : 'refused', message.start);
      return;
    }
    if (target === undefined) {
      this.complain('an answer without a request');
      return;
    }
    const asked = `${this.id}.${this.answers}`;
    if (fields.get(CLIENT_HEADER) !== asked || fields.get('x-target') !== target) {
      this.complain(
        `got the answer to ${fields.get('x-target')} of ${fields.get(CLIENT_HEADER)} instead of ${target}`,
      );
    }
    const ask = plan.asks[this.answers] ?? GET;
    const upload = bytesOf(asked, ask.upload);
    if (fields.get('x-upload') !== String(digest(upload)))
      this.complain(`the upload with ${target} arrived damaged`);
    if (stays) return;
    const holders = resourceOf(world.resources, target)?.holders ?? [];
    if (!holders.some((node) => world.nodeName(node) === fields.get('server'))) {
      this.complain(`${fields.get('server')} answered, which does not hold ${target}`);
    }
    const size = ask.method === 'HEAD' ? 0 : sizeOf(target);
    if (Buffer.compare(body, bytesOf(target, size)) !== 0)
      this.complain(`wrong bytes of ${target}`);
  }

  /**
   * Whether a request may get the 404 of the node that answered the one before. That node keeps a
   * connection that is pinned, or of which requests came before the earlier answers had ended. A
   * chunked body pins when its segments come out of order, and HEAD when its head comes in pieces.
   */
  private mayStay(index: number): boolean {
    const { asks } = this.plan;
    if (!this.world.migrates || index === 0) return false;
    if (!this.world.mild) return true;
    const earlier = asks.slice(0, index);
    // Of what comes with a FIN, only the node of the connection can say where it belongs.
    if (this.plan.halfCloses && index === asks.length - 1) return true;
    return (
      asks.slice(0, index + 2).some(({ together }) => together) ||
      earlier.some((ask) => pins(ask) || ask.body === 'chunked' || ask.method === 'HEAD')
    );
  }

  private goOn(): void {
    const { plan } = this;
    if (this.outcome !== undefined) return;
    if (this.answers === plan.targets.length) {
      this.finish('answered', 'all answered');
      if (!plan.askClose) this.endpoint.close();
      return;
    }
    if (plan.kind !== 'pipelined' && this.sent === this.answers && this.sent > 0) {
      this.pause(() => {
        if (this.sent === this.answers) this.send();
      });
    }
  }

  private closedByPeer(): void {
    this.remoteClosed = true;
    if (this.reader.left > 0)
      this.complain(`closed in the middle of an answer, ${this.reader.left} bytes into it`);
    if (this.outcome === undefined) {
      // A client that sent nothing is closed without an answer.
      if (this.plan.kind === 'mute') this.finish('answered', 'closed, having sent nothing');
      else this.finish('failed', 'closed without an answer');
    }
    this.endpoint.close();
  }

  private ended(reason: EndReason): void {
    if (this.outcome === undefined) this.finish('failed', reason);
  }
}
