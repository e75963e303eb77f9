/**
 * The holder sets that predictors pick from: the nodes that hold a resource. Resources with the
 * same nodes share one holder set, and so one turn. A hundred thousand pages on the same three
 * nodes, each requested rarely, are spread like one busy page.
 *
 *     set      0         1
 *     start  [ 0         3      5 ]
 *     node   [ 0  1  2   1  4 ]
 */
export class HolderSets {
  /** Set s is node[start[s], start[s + 1]), in ascending order of node index. */
  readonly start: Uint32Array;
  readonly node: Uint16Array;
  /** The holder set of each resource. */
  readonly setOf: Uint32Array;
  readonly count: number;

  constructor(resources: readonly { readonly nodes: readonly number[] }[]) {
    const sets = new Map<string, number>();
    const start = [0];
    const node: number[] = [];
    this.setOf = Uint32Array.from(resources, (resource) => {
      const holders = [...new Set(resource.nodes)].sort((a, b) => a - b);
      const key = holders.join();
      const known = sets.get(key);
      if (known !== undefined) return known;
      const set = sets.size;
      sets.set(key, set);
      for (const holder of holders) node.push(holder);
      start.push(node.length);
      return set;
    });
    this.start = Uint32Array.from(start);
    this.node = Uint16Array.from(node);
    this.count = sets.size;
  }
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
