/** What reaches a host while something happens, in intervals of 100 ms: whether it ever pauses. */
import type { Host } from './host.js';
import type { Program } from './process.js';

export interface Interval {
  /** Of its end, in ms as Date.now() has them. */
  at: number;
  ms: number;
  packets: number;
}

/** Prints time (ms) and the count of received packets, every 100 ms; Node would take longer to start. */
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
    const rate = new PacketRate(host.start(`rate-${host.name}`, ['/usr/bin/python3', '-c', SAMPLE]));
    await rate.program.waitForLog(/\n/, 5000, rate.program.logStart);
    return rate;
  }

  /** Ends it; the intervals that lie between two moments (ms as Date.now() has them). */
  async stop(from: number, to: number): Promise<Interval[]> {
    await this.program.stop();
    const samples = this.program
      .log(this.program.logStart)
      .split('\n')
      .filter(Boolean)
      .map((line) => line.split(' ').map(Number));
    return samples.slice(1).flatMap(([at = 0, packets = 0], index) => {
      const [before = 0, earlier = 0] = samples[index] ?? [];
      return before < from || at > to ? [] : [{ at, ms: at - before, packets: packets - earlier }];
    });
  }
}
