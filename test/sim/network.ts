/**
 * Links between the machines of a simulation: delay (and so reordering), loss, duplication, damage.
 */
import type { Clock } from './clock.js';
import type { Random } from './random.js';

export interface LinkQuality {
  /** Probabilities. */
  loss: number;
  duplicate: number;
  /** Probability of one flipped bit. */
  damage: number;
  /** Shortest delay, and the largest addition to it, in ms. */
  delay: number;
  jitter: number;
}

export const PERFECT: LinkQuality = { loss: 0, duplicate: 0, damage: 0, delay: 0.1, jitter: 0 };

export class Network {
  readonly counts = { carried: 0, lost: 0, duplicated: 0, damaged: 0 };
  /** Frames in flight. */
  inFlight = 0;

  constructor(
    private readonly clock: Clock,
    private readonly random: Random,
  ) {}

  /** Sends a frame over a link. Calls `arrive` for every copy that gets through. */
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
        // Behind the MAC addresses: a frame to an unknown address would only be lost.
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
