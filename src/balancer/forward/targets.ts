/**
 * The node that a bucket should have: weighted rendezvous hashing. Each pair of bucket and node has
 * a score, and the best one wins. So a node that comes or goes moves its own share of the buckets
 * and no others. The scores depend on nothing but the seed, the bucket and the nodes' addresses:
 * a balancer that starts with the same config and key chooses the same nodes.
 */
import { NO_NODE } from '../../engine/forward/layout.js';
import { sessionHash } from '../../engine/table/session-record.js';
import { type Address, isAddress6, wordsOf } from '../../wire/address.js';

/** A node that a bucket may go to. */
export interface Target {
  readonly slot: number;
  readonly address: Address;
  /** Above 0. */
  readonly weight: number;
}

/** A number that tells addresses apart. Two with the same number share their buckets by slot. */
function numberOf(address: Address): number {
  if (!isAddress6(address)) return address;
  return wordsOf(address).reduce((sum, word) => sessionHash(sum, word, 0, 0));
}

/** Hashes are whole numbers below this. */
const HASHES = 2 ** 32;

/**
 * Slot of the node for a bucket, or NO_NODE if there is none.
 * @param bucket number of the bucket at its virtual server
 */
export function targetOf(bucket: number, targets: readonly Target[], seed: number): number {
  let best = NO_NODE;
  let bestScore = Number.NEGATIVE_INFINITY;
  for (const { slot, address, weight } of targets) {
    const hash = sessionHash(numberOf(address), bucket, seed, seed);
    // Uniform in (0, 1): the logarithm is finite and not 0.
    const score = -weight / Math.log((hash + 0.5) / HASHES);
    if (score > bestScore) {
      bestScore = score;
      best = slot;
    }
  }
  return best;
}
