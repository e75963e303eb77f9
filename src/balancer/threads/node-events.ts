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

export class NodeEvents implements Observer {
  private readonly report: (event: EngineEvent) => void;
  /** When an event of each kind and node was last reported. */
  private readonly last = new Map<string, number>();
  /** By node, the flags of its last report. */
  private readonly flags = new Map<number, number>();

  constructor(report: (event: EngineEvent) => void) {
    this.report = report;
  }

  badKey(node: number, now: number): void {
    this.rarely(`key ${node}`, now, { event: 'changed', node }, COMPLAINT_INTERVAL_MS);
  }

  unconfirmed(_slot: number, node: number, now: number): void {
    this.rarely(`unconfirmed ${node}`, now, { event: 'unconfirmed', node }, RECHECK_INTERVAL_MS);
  }

  refused(_slot: number, node: number, reason: number, now: number): void {
    this.rarely(`refused ${node} ${reason}`, now, { event: 'refused', node, reason });
  }

  released(_slot: number, node: number, now: number): void {
    this.rarely(`released ${node}`, now, { event: 'changed', node });
  }

  silent(_slot: number, node: number, now: number): void {
    this.rarely(`silent ${node}`, now, { event: 'silent', node });
  }

  reported(node: number, flags: number): void {
    if (this.flags.get(node) === flags) return;
    this.flags.set(node, flags);
    this.report({ event: 'changed', node });
  }

  private rarely(key: string, now: number, event: EngineEvent, interval = EVENT_INTERVAL_MS): void {
    if (now - (this.last.get(key) ?? Number.NEGATIVE_INFINITY) < interval) return;
    this.last.set(key, now);
    this.report(event);
  }
}
