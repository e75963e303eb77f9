/**
 * Reports events about nodes to the main thread. Each kind of event about a node is reported at
 * most once in its interval, because a node may refuse thousands of handoffs a second.
 */
import type { Observer } from '../../engine/options.js';
import type { EngineEvent } from './engine-messages.js';

/** Interval of most kinds, ms. */
const EVENT_INTERVAL_MS = 1_000;
/** For unconfirmed handoffs, ms: the node's MAC address is then checked again, which is quick. */
const RECHECK_INTERVAL_MS = 250;
/** For events that a stranger can cause, ms. */
const COMPLAINT_INTERVAL_MS = 60_000;

/** Refusals for this reason and higher ones count as one kind. Notices have lower ones. */
const MOST_REASON = 7;
/** Kinds of events, each with an interval of its own. Refusals: one kind for each reason. */
const Kind = { key: 0, unconfirmed: 1, released: 2, silent: 3, refused: 4 } as const;
const KINDS = Kind.refused + MOST_REASON + 1;

/** What was reported about a node. */
interface Reported {
  /** By kind: when an event was last reported. */
  readonly last: Float64Array;
  /** The flags of its agent's last report; -1: there was none. */
  flags: number;
}

export class NodeEvents implements Observer {
  private readonly report: (event: EngineEvent) => void;
  /** By slot. */
  private readonly nodes = new Map<number, Reported>();

  constructor(report: (event: EngineEvent) => void) {
    this.report = report;
  }

  badKey(node: number, now: number): void {
    this.rarely(Kind.key, now, { event: 'changed', node }, COMPLAINT_INTERVAL_MS);
  }

  unconfirmed(_slot: number, node: number, now: number): void {
    this.rarely(Kind.unconfirmed, now, { event: 'unconfirmed', node }, RECHECK_INTERVAL_MS);
  }

  refused(_slot: number, node: number, reason: number, now: number): void {
    const kind = Kind.refused + Math.min(reason, MOST_REASON);
    this.rarely(kind, now, { event: 'refused', node, reason });
  }

  released(_slot: number, node: number, now: number): void {
    this.rarely(Kind.released, now, { event: 'changed', node });
  }

  silent(_slot: number, node: number, now: number): void {
    this.rarely(Kind.silent, now, { event: 'silent', node });
  }

  reported(node: number, flags: number): void {
    const known = this.of(node);
    if (known.flags === flags) return;
    known.flags = flags;
    this.report({ event: 'changed', node });
  }

  /** To be called when another node gets this slot, or none: everything about it is news. */
  forget(node: number): void {
    this.nodes.delete(node);
  }

  private rarely(
    kind: number,
    now: number,
    event: EngineEvent,
    interval = EVENT_INTERVAL_MS,
  ): void {
    const { last } = this.of(event.node);
    if (now - last[kind]! < interval) return;
    last[kind] = now;
    this.report(event);
  }

  private of(node: number): Reported {
    const known = this.nodes.get(node);
    if (known !== undefined) return known;
    const reported = { last: new Float64Array(KINDS).fill(Number.NEGATIVE_INFINITY), flags: -1 };
    this.nodes.set(node, reported);
    return reported;
  }
}
