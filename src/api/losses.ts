/**
 * Frames that were lost on this machine, on their way between the interface and the engine. Clients
 * only see that something is slow, so each kind of loss is a warning in the log and a line of
 * `baton stats`, with what helps.
 */
import type { Log } from '../base/log.js';

interface Kind {
  /** As `baton stats` has it. */
  counter: string;
  /** What happened so often, after a number. */
  what: string;
  remedy: string;
}

const FASTER =
  'the engine was kept from running, or is too slow: give it a CPU of its own, or set more `workers` (docs/tuning.md)';
const KINDS: readonly Kind[] = [
  { counter: 'ring_lost', what: 'frames lost before the engine took them', remedy: FASTER },
  {
    counter: 'ring_starved',
    what: 'times that no memory was free to receive a frame into',
    remedy: FASTER,
  },
  {
    counter: 'ring_send_failed',
    what: 'frames that the interface did not take',
    remedy: 'see `ip -s link` whether it is up, and what it drops',
  },
  {
    counter: 'ring_drop_full',
    what: 'frames not sent because the transmit ring was full',
    remedy:
      'the interface sends more slowly than frames come: see `ethtool -S` what it drops, and `ethtool -l` for its queues',
  },
  {
    counter: 'ring_drop_too_long',
    what: 'frames not sent because they are longer than the MTU',
    remedy: 'give the interfaces of clients, balancer and nodes one MTU',
  },
  {
    counter: 'ring_drop_truncated',
    what: 'frames not forwarded because they are larger than 64 KiB',
    remedy:
      'switch BIG TCP off: `ip link set dev INTERFACE gso_ipv4_max_size 65536 gro_ipv4_max_size 65536`',
  },
  {
    counter: 'xdp_engine_absent',
    what: 'frames for the engine that came by a receive queue without a socket',
    remedy:
      'the interface has more receive queues than at the start (`ethtool -l`): start again with `--replace`',
  },
  {
    counter: 'xdp_drop_no_port',
    what: 'segments for a node behind an interface that XDP does not know',
    remedy: '`nodeInterface` was replaced: start again with `--replace`',
  },
];

/** In ms: a kind that goes on is told no more often. */
export const QUIET_MS = 60_000;

/** What was lost since the start. */
export interface Loss {
  counter: string;
  total: number;
  /** Since it was seen to grow last, in ms. */
  agoMs: number;
  what: string;
  remedy: string;
}

/** What a counter of lost frames counts; undefined for any other counter. */
export function lossText(counter: string): string | undefined {
  return KINDS.find((kind) => kind.counter === counter)?.what;
}

interface Seen {
  total: number;
  /** When it grew last, and when that was told last; in ms. */
  grewAt: number;
  toldAt: number;
  /** How much of the total is told. */
  told: number;
}

export class LossWatch {
  private readonly log: Log;
  private readonly seen = new Map<string, Seen>();

  constructor(log: Log) {
    this.log = log;
  }

  /**
   * Looks at counters, and warns of what has grown: at once, and then of each kind once in
   * QUIET_MS.
   * @param now in ms, on any clock that does not jump
   */
  look(counters: Readonly<Record<string, number>>, now: number): void {
    for (const { counter, what, remedy } of KINDS) {
      const total = counters[counter] ?? 0;
      const seen = this.seen.get(counter) ?? {
        total: 0,
        grewAt: 0,
        toldAt: Number.NEGATIVE_INFINITY,
        told: 0,
      };
      if (total > seen.total) {
        seen.total = total;
        seen.grewAt = now;
        this.seen.set(counter, seen);
      }
      if (seen.total <= seen.told || now - seen.toldAt < QUIET_MS) continue;
      this.log.warn(`${seen.total - seen.told} ${what}: ${remedy}`, { counter, total: seen.total });
      seen.told = seen.total;
      seen.toldAt = now;
    }
  }

  /** Every kind of which anything was lost, in the order of KINDS. */
  losses(now: number): Loss[] {
    return KINDS.flatMap(({ counter, what, remedy }) => {
      const seen = this.seen.get(counter);
      return seen === undefined
        ? []
        : [{ counter, total: seen.total, agoMs: Math.round(now - seen.grewAt), what, remedy }];
    });
  }
}
