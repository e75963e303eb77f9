/** Links between the machines of a simulation: delay, and with it reordering; loss; duplication. */
import type { Clock } from './clock.js';
import type { Random } from './random.js';

export interface LinkQuality {
  /** Probabilities. */
  loss: number;
  duplicate: number;
  /** Of one bit turned over on the way. */
  damage: number;
  /** ms: least, and most beyond that. */
  delay: number;
  jitter: number;
}

export const PERFECT: LinkQuality = { loss: 0, duplicate: 0, damage: 0, delay: 0.1, jitter: 0 };

export class Network {
  readonly counts = { carried: 0, lost: 0, duplicated: 0, damaged: 0 };
  /** Frames on their way. */
  inFlight = 0;

  constructor(
    private readonly clock: Clock,
    private readonly random: Random,
  ) {}

  /** Brings a frame over a link; `arrive` is called as often as the link lets it through. */
  carry(frame: Uint8Array, link: LinkQuality, arrive: (frame: Uint8Array) => void): void {
    const { random, counts } = this;
    if (random.chance(link.loss)) {
      counts.lost++;
      return;
    }
    let copies = 1;
    if (random.chance(link.duplicate)) {
      counts.duplicated++;
      copies = 2;
    }
    for (; copies > 0; copies--) {
      let arriving = frame;
      if (random.chance(link.damage)) {
        counts.damaged++;
        arriving = frame.slice();
        // Behind the MAC addresses: a frame for nobody is a frame lost.
        const at = random.between(12, frame.length - 1);
        arriving[at]! ^= 1 << random.between(0, 7);
      }
      this.inFlight++;
      counts.carried++;
      const received = arriving;
      this.clock.after(link.delay + random.fraction() * link.jitter, () => {
        this.inFlight--;
        arrive(received);
      });
    }
  }
}
