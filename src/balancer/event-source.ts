/**
 * What happens in the balancer, as events for those who listen: states of nodes, changes, and rates
 * of traffic. Rates need an answer of every engine thread, so they are computed only while somebody
 * listens.
 */
import type { NumberedEvent } from '../api/control.js';
import type {
  ChangeReport,
  ControlEvent,
  NodeEvent,
  RatesEvent,
  StatsDocument,
} from '../api/documents.js';

/** Interval of the rates, ms. */
const RATES_MS = 1_000;
/** Events that are kept for listeners who come back. Rates are not kept. */
const MOST_KEPT = 256;

/** Counters whose sum is the number of packets that came in, and of sessions that began. */
const PACKETS = ['frames', 'xdp_absorbed', 'xdp_notice_told'];
const CONNECTIONS = ['syn', 'cookie_accepted'];

type Listener = (event: NumberedEvent) => void;

export interface EventSourceOptions {
  stats(): Promise<StatsDocument>;
  /** Interval of the rates, ms. */
  interval?: number;
}

export class EventSource {
  private readonly options: EventSourceOptions;
  /** Different for each start of a balancer: a number alone would mean another event there. */
  private readonly run = Date.now();
  private readonly listeners = new Set<Listener>();
  private readonly kept: { number: number; event: NumberedEvent }[] = [];
  private number = 0;
  private timer: NodeJS.Timeout | undefined;
  /** The last answer, with which the next one is compared. */
  private last: StatsDocument | undefined;
  private asking = false;

  constructor(options: EventSourceOptions) {
    this.options = options;
  }

  /** See `Control.subscribe`. */
  subscribe(listener: Listener, after?: string): () => void {
    for (const event of this.since(after)) listener(event);
    this.listeners.add(listener);
    if (this.timer === undefined) this.startRates();
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) this.stop();
    };
  }

  /** Computes no more rates. */
  stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.last = undefined;
  }

  /** A change is in force. */
  changed({ changed, generation }: ChangeReport, by: string): void {
    this.publish({ event: 'change', at: Date.now(), by, changed, generation });
  }

  /** A node is in another state, or there is another reason for it. */
  node(change: Omit<NodeEvent, 'event' | 'at'>): void {
    this.publish({ event: 'node', at: Date.now(), ...change });
  }

  private publish(event: ControlEvent): void {
    this.number += 1;
    const numbered = { id: `${this.run}-${this.number}`, event };
    if (event.event !== 'rates') {
      this.kept.push({ number: this.number, event: numbered });
      if (this.kept.length > MOST_KEPT) this.kept.shift();
    }
    for (const listener of [...this.listeners]) listener(numbered);
  }

  /** The kept events after the one with this id. All of them, if it is one of another start. */
  private since(id: string | undefined): NumberedEvent[] {
    const [, run, number] = /^(\d{1,16})-(\d{1,16})$/.exec(id ?? '') ?? [];
    if (run === undefined) return [];
    const seen = Number(run) === this.run ? Number(number) : 0;
    return this.kept.filter((each) => each.number > seen).map(({ event }) => event);
  }

  private startRates(): void {
    this.timer = setInterval(() => void this.rates(), this.options.interval ?? RATES_MS);
    void this.rates();
  }

  private async rates(): Promise<void> {
    // A busy machine may answer late. Two questions at once would not help.
    if (this.asking) return;
    this.asking = true;
    const { timer } = this;
    try {
      const stats = await this.options.stats();
      // Everybody may have left meanwhile.
      if (this.timer !== timer || timer === undefined) return;
      const event = this.last === undefined ? undefined : ratesBetween(this.last, stats);
      this.last = stats;
      if (event !== undefined) this.publish(event);
    } catch {
      // The engine is ending: its own error says why.
    } finally {
      this.asking = false;
    }
  }
}

/** Undefined when no time has passed between the two answers. */
export function ratesBetween(before: StatsDocument, after: StatsDocument): RatesEvent | undefined {
  const seconds = (after.uptimeMs - before.uptimeMs) / 1_000;
  if (seconds <= 0) return undefined;
  const count = (stats: StatsDocument, names: readonly string[]): number =>
    names.reduce((sum, name) => sum + (stats.counters[name] ?? 0), 0);
  const rate = (...names: string[]): number =>
    Math.max(0, count(after, names) - count(before, names)) / seconds;
  return {
    event: 'rates',
    at: Date.now(),
    seconds,
    connections: rate(...CONNECTIONS),
    handoffs: rate('adopted'),
    packets: rate(...PACKETS),
    bytes: rate('forwarded_bytes'),
    active: after.sessions.total - after.sessions.closing,
  };
}
