/**
 * Joins the records of a session to one line. Between its request and its end a session waits in a
 * table, which is bounded: when it is full, the session that waits longest loses its request.
 */
import { elapsed } from '../../base/clock.js';
import { STATUS_OF_ANSWER } from '../../directory/request-answers.js';
import { NO_NODE } from '../../engine/node-table.js';
import type { Address } from '../../wire/address.js';
import { REASON_OF_EVENT, type Reason, reasonOfAnswer } from './reasons.js';
import { RecordKind } from './records.js';
import {
  MOST_LINE_BYTES,
  NO_TEXT,
  type RequestText,
  readRequestText,
  setLine,
} from './request-text.js';
import type { ClosedSession, RecordPlace, RecordSink } from './ring-reader.js';

/** Bounds of the table. */
export interface JoinLimits {
  sessions: number;
  bytes: number;
}
const USUAL_LIMITS: JoinLimits = { sessions: 262_144, bytes: 64 * 1024 * 1024 };

/** What a session takes in the table besides its texts, in bytes. */
const SESSION_OVERHEAD_BYTES = 256;
/** Nodes of a session that are kept by name. */
const MOST_TRIED = 8;
/** Slots of an engine thread are below 2^24. */
const SLOTS = 2 ** 24;

/** Everything that a line of the log may say. */
export interface SessionLine {
  /** Time of the SYN, in ms since 1970. */
  openedAt: number;
  client: Address;
  clientPort: number;
  /** Name of the virtual server. */
  server: string;
  text: RequestText;
  /** The target that the node got, if it is not that of the request. */
  rewritten: string | undefined;
  /** Name of the node that had the session last. */
  node: string | undefined;
  /** Names of the nodes that were given up before. */
  tried: readonly string[];
  /** Status of the balancer's own answer. */
  status: number | undefined;
  /** From the SYN to the handoff to that node, or to the balancer's own answer, in ms. */
  timeToHandoff: number | undefined;
  /** From the SYN to the end, in ms. */
  duration: number;
  packets: number;
  bytes: number;
  closed: string;
  reasons: readonly Reason[];
  worker: number;
}

/** Names by slot. */
export interface SlotNames {
  nodes: ReadonlyMap<number, string>;
  servers: ReadonlyMap<number, string>;
}

/** A session between its request and its end. */
interface Waiting {
  readonly nonce: number;
  readonly text: RequestText;
  /** The path that nodes get, if it is another one. */
  rewritten: string | undefined;
  /** When it was handed to its present node, ms on the engine's clock; undefined: not known. */
  handedAt: number | undefined;
  /** Its node was given up, and the next handoff has not come yet. */
  moving: boolean;
  readonly reasons: Reason[];
  readonly tried: string[];
  bytes: number;
}

export class Joiner {
  names: SlotNames = { nodes: new Map(), servers: new Map() };
  /** Sessions whose request the table has given up for that of another one. */
  lost = 0;
  private readonly waiting = new Map<number, Waiting>();
  private readonly limits: JoinLimits;
  private readonly write: (line: SessionLine) => void;
  private bytes = 0;
  private wall = 0;
  private clock = 0;

  constructor(write: (line: SessionLine) => void, limits = USUAL_LIMITS) {
    this.write = write;
    this.limits = limits;
  }

  /** Number of sessions in the table. */
  get size(): number {
    return this.waiting.size;
  }

  /**
   * Takes the present time. To be called before records are read.
   * @param wall ms since 1970
   * @param clock ms on the engine's clock
   */
  setTime(wall: number, clock: number): void {
    this.wall = wall;
    this.clock = clock >>> 0;
  }

  /** The sink for records of this engine thread. */
  sink(worker: number): RecordSink {
    const key = (place: RecordPlace): number => worker * SLOTS + place.slot;
    return {
      request: (place, head, cut) =>
        void this.add(key(place), place.nonce, readRequestText(head, cut), place.clock),
      rewritten: (place, path) => {
        const session = this.find(key(place), place.nonce);
        if (session !== undefined) this.rewrite(session, path.slice(0, MOST_LINE_BYTES));
      },
      event: (place, kind, node) => this.event(key(place), place, kind, node),
      closed: (session) => this.closed(key(session), session, worker),
    };
  }

  private rewrite(session: Waiting, path: string): void {
    const more = path.length - (session.rewritten?.length ?? 0);
    session.rewritten = path;
    session.bytes += more;
    this.bytes += more;
  }

  private event(key: number, { nonce, clock }: RecordPlace, kind: number, node: number): void {
    // Without a request: it was not complete, or an earlier run has read it.
    const session = this.find(key, nonce) ?? this.add(key, nonce, NO_TEXT, undefined);
    if (kind === RecordKind.handoff) {
      if (session.moving || session.handedAt === undefined) session.handedAt = clock;
      session.moving = false;
      return;
    }
    const reason = REASON_OF_EVENT.get(kind);
    if (reason !== undefined && !session.reasons.includes(reason)) session.reasons.push(reason);
    if (kind === RecordKind.unconfirmed) return;
    session.moving = true;
    const name = this.nodeName(node);
    if (name !== undefined && !session.tried.includes(name) && session.tried.length < MOST_TRIED)
      session.tried.push(name);
  }

  private closed(key: number, session: ClosedSession, worker: number): void {
    const found = this.find(key, session.nonce);
    if (found !== undefined) this.remove(key, found);
    const { openedAt, answer } = session;
    const node = this.nodeName(session.node);
    const left = session.node !== NO_NODE || answer !== 0;
    const handedAt = left ? found?.handedAt : undefined;
    const hasText = found !== undefined && found.text !== NO_TEXT;
    const text = hasText ? found.text : shortText(session);
    this.write({
      openedAt: this.wall - elapsed(this.clock, openedAt),
      client: session.client,
      clientPort: session.clientPort,
      server: this.names.servers.get(session.server) ?? `#${session.server}`,
      text,
      rewritten: targetOf(text, found?.rewritten),
      node,
      tried: (found?.tried ?? []).filter((name) => name !== node),
      status: STATUS_OF_ANSWER.get(answer),
      timeToHandoff: handedAt === undefined ? undefined : elapsed(handedAt, openedAt),
      duration: elapsed(session.clock, openedAt),
      packets: session.packets,
      bytes: session.bytes,
      closed: session.reason,
      reasons: [
        ...listed(reasonOfAnswer(answer)),
        ...(found?.reasons ?? []),
        ...listed(hasText ? undefined : whyNoText(session)),
        ...listed<Reason>(text.cut ? 'text-cut' : undefined),
      ],
      worker,
    });
  }

  /** undefined if it is no node. */
  private nodeName(slot: number): string | undefined {
    return slot === NO_NODE ? undefined : (this.names.nodes.get(slot) ?? `#${slot}`);
  }

  private find(key: number, nonce: number): Waiting | undefined {
    const session = this.waiting.get(key);
    return session?.nonce === nonce ? session : undefined;
  }

  private add(
    key: number,
    nonce: number,
    text: RequestText,
    handedAt: number | undefined,
  ): Waiting {
    // The end of an earlier session with this slot may be among lost records.
    const earlier = this.waiting.get(key);
    if (earlier !== undefined) this.remove(key, earlier);
    const bytes = SESSION_OVERHEAD_BYTES + bytesOf(text);
    while (
      this.waiting.size >= this.limits.sessions ||
      (this.bytes + bytes > this.limits.bytes && this.waiting.size > 0)
    )
      this.giveUpOldest();
    const session: Waiting = {
      nonce,
      text,
      rewritten: undefined,
      handedAt,
      moving: false,
      reasons: [],
      tried: [],
      bytes,
    };
    this.waiting.set(key, session);
    this.bytes += bytes;
    return session;
  }

  private giveUpOldest(): void {
    for (const [key, session] of this.waiting) {
      this.remove(key, session);
      this.lost += 1;
      return;
    }
  }

  private remove(key: number, session: Waiting): void {
    this.waiting.delete(key);
    this.bytes -= session.bytes;
  }
}

function bytesOf({ line, host, referer, userAgent }: RequestText): number {
  return [line, host, referer, userAgent].reduce((sum, text) => sum + (text?.length ?? 0), 0);
}

function listed<Value>(value: Value | undefined): Value[] {
  return value === undefined ? [] : [value];
}

/** The target that the node got: its path, and the query of the request. */
function targetOf({ line }: RequestText, path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  const target = line.split(' ')[1] ?? '';
  const query = target.indexOf('?');
  return query < 0 ? path : `${path}${target.slice(query)}`.slice(0, MOST_LINE_BYTES);
}

/** The text that the end of a session knows by itself. */
function shortText({ request, requestCut }: ClosedSession): RequestText {
  const text = { ...NO_TEXT };
  setLine(text, request);
  return { ...text, cut: requestCut };
}

function whyNoText({ request, node }: ClosedSession): Reason | undefined {
  if (request !== '') return 'request-lost';
  return node === NO_NODE ? undefined : 'earlier-run';
}
