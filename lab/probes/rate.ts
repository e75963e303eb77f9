/** Packets that a host receives, counted every 100 ms, to find pauses in its traffic. */
import type { Host } from '../farm/host.js';
import { type Program, PYTHON } from '../farm/process.js';

export interface Interval {
  /** Begin and end, in ms since 1970. */
  from: number;
  to: number;
  packets: number;
}

/** Prints the time (ms) and the count of received packets. Node.js would take longer to start. */
const SAMPLE = `
import time
while True:
    for line in open("/proc/net/dev"):
        name, _, rest = line.strip().partition(":")
        if name == "eth0":
            print(round(time.time() * 1000), rest.split()[1], flush=True)
    time.sleep(0.1)
`;

export class PacketRate {
  private readonly program: Program;

  private constructor(program: Program) {
    this.program = program;
  }

  /** Begins to count the packets that a host receives. */
  static async of(host: Host): Promise<PacketRate> {
    const rate = new PacketRate(host.start(`rate-${host.name}`, [PYTHON, '-c', SAMPLE]));
    await rate.program.waitForLog(/\n/);
    return rate;
  }

  /** Ends it, and returns the intervals between two moments (ms since 1970). */
  async stop(from: number, to: number): Promise<Interval[]> {
    await this.program.stop();
    const samples = this.program
      .log(this.program.logStart)
      .split('\n')
      .filter(Boolean)
      .map((line) => line.split(' ').map(Number));
    return samples.slice(1).flatMap(([at = 0, packets = 0], index) => {
      const [before = 0, earlier = 0] = samples[index] ?? [];
      return before < from || at > to ? [] : [{ from: before, to: at, packets: packets - earlier }];
    });
  }
}

/** The longest time, in ms, in which none of these hosts received a packet. */
export function longestPause(rates: readonly (readonly Interval[])[]): number {
  const all = rates.flat();
  const busy = all.filter(({ packets }) => packets > 0).sort((a, b) => a.from - b.from);
  const end = Math.max(...all.map(({ to }) => to));
  let longest = 0;
  // The moment of a packet within its interval is unknown: only the time between two intervals with
  // packets is a pause for sure.
  let last = Math.min(...all.map(({ from }) => from));
  for (const { from, to } of [...busy, { from: end, to: end }]) {
    longest = Math.max(longest, from - last);
    last = Math.max(last, to);
  }
  return longest;
}
