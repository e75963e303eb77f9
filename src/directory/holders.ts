/**
 * The holder sets that predictors pick from: the nodes that hold a resource. Resources with the
 * same nodes share one holder set, and so one turn. A hundred thousand pages on the same three
 * nodes, each requested rarely, are spread like one busy page.
 *
 *     set      0         1
 *     start  [ 0         3      5 ]
 *     node   [ 0  1  2   1  4 ]
 *
 * The arrays may be memory that threads share.
 */
import { type ArrayMaker, ownArrays } from '../base/arrays.js';

export interface HolderSets {
  /** Set s is node[start[s], start[s + 1]), in ascending order of node slot. */
  readonly start: Uint32Array;
  readonly node: Uint16Array;
  /** The holder set of each resource. */
  readonly setOf: Uint32Array;
  readonly count: number;
  /** Holders of the largest set. */
  readonly largest: number;
}

/** The sets of `resources`, whose indexes are the places in the list. */
export function holderSets(
  resources: readonly { readonly nodes: readonly number[] }[],
  make: ArrayMaker = ownArrays,
): HolderSets {
  const sets = new Map<string, number>();
  const starts = [0];
  const nodes: number[] = [];
  let largest = 0;
  const setOf = make.uint32(resources.length);
  for (const [index, resource] of resources.entries()) {
    const holders = [...new Set(resource.nodes)].sort((a, b) => a - b);
    const key = holders.join();
    let set = sets.get(key);
    if (set === undefined) {
      set = sets.size;
      sets.set(key, set);
      for (const holder of holders) nodes.push(holder);
      starts.push(nodes.length);
      largest = Math.max(largest, holders.length);
    }
    setOf[index] = set;
  }
  const start = make.uint32(starts.length);
  start.set(starts);
  const node = make.uint16(nodes.length);
  node.set(nodes);
  return { start, node, setOf, count: sets.size, largest };
}

/**
 * The bit in `tried` of the holder at this position of its set. From the 33rd holder on, a holder
 * shares its bit with the holder 32 positions before. So every holder gets its share of first
 * tries, a retry may skip holders that were not tried, and no session is tried at more than 32
 * nodes.
 */
export function holderBit(position: number): number {
  return (1 << (position & 31)) >>> 0;
}
