/**
 * Small packets through virtual servers with mode forward, with sessions and with buckets, next to
 * a program that only swaps MAC addresses and to sessions that were handed over. All in one run, in
 * turns; the pairs and the floods are those of bench/farm.
 *
 *     sudo make bench-forward     [BENCH_ROUNDS=9] [BENCH_SECONDS=2]
 */
import { shareOf } from '../farm/figures.js';
import { FLOOD_SESSIONS } from '../farm/flood.js';
import { Pair } from '../farm/pair.js';
import type { ForwarderId } from '../farm/results.js';
import { barePair, type Forwarder, measureSmallPackets } from '../farm/small-packets.js';
import { publish } from '../page.js';
import { setting } from '../settings.js';

const ROUNDS = setting('BENCH_ROUNDS', 9);
const SECONDS = setting('BENCH_SECONDS', 2);
/** Flows of the largest row, and the limit of all balancers. */
const MOST = 1_000_000;
const GOAL = 0.85;

const NAMES: Partial<Record<ForwarderId, string>> = {
  swap: 'an XDP program that only swaps MAC addresses',
  xdp: 'mode handoff: sessions that pass',
  forward: 'mode forward, sessions',
  buckets: 'mode forward, buckets',
};

async function balancer(id: 'xdp' | 'forward' | 'buckets'): Promise<Pair> {
  const pair = await Pair.create(id);
  try {
    const keys = { mode: 'forward', ...(id === 'buckets' ? { buckets: 65_536 } : {}) };
    await pair.startBaton('xdp', MOST, id === 'xdp' ? {} : keys);
    if (id === 'xdp') await pair.open(FLOOD_SESSIONS);
    await pair.pinForwarder();
    return pair;
  } catch (error) {
    await pair.stop();
    throw error;
  }
}

const pairs: Pair[] = [];
try {
  const forwarders: Forwarder[] = [];
  const add = (id: ForwarderId, pair: Pair, sessions: readonly number[]): void => {
    pairs.push(pair);
    forwarders.push({ id, pair, sessions });
  };
  add('swap', await barePair('swap'), [FLOOD_SESSIONS]);
  add('xdp', await balancer('xdp'), [FLOOD_SESSIONS]);
  for (const id of ['forward', 'buckets'] as const)
    add(id, await balancer(id), [FLOOD_SESSIONS, MOST]);
  const { floods, programs } = await measureSmallPackets(forwarders, {
    rounds: ROUNDS,
    seconds: SECONDS,
  });
  const rates = (id: ForwarderId, sessions: number): number[] =>
    floods
      .filter((flood) => flood.forwarder === id && flood.sessions === sessions)
      .map(({ returned, seconds }) => returned / seconds);
  const rows = forwarders.flatMap(({ id, sessions }) =>
    sessions.map((count) => {
      const share = shareOf(rates(id, count), rates('swap', FLOOD_SESSIONS));
      const program = programs.find((one) => one.forwarder === id && one.sessions === count);
      const sorted = rates(id, count).sort((a, b) => a - b);
      const middle = sorted[Math.floor(sorted.length / 2)] ?? 0;
      return [
        NAMES[id] ?? id,
        id === 'swap' ? '' : count.toLocaleString('en-US'),
        Math.round(middle).toLocaleString('en-US'),
        id === 'swap' || share === undefined ? '' : share.toFixed(2),
        program === undefined ? '' : program.nanoseconds.toFixed(0),
      ];
    }),
  );
  const table = {
    title: `Forwarded packets (goal: a share of at least ${GOAL})`,
    headings: ['forwarder', 'flows', 'forwarded/s', 'share', 'ns in the program'],
    rows,
  };
  await publish('forward', {
    length: `${ROUNDS} floods of ${SECONDS} s each, in turns`,
    tables: [table],
  });
} finally {
  await Promise.all(pairs.map((pair) => pair.stop()));
}
