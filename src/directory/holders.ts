/**
 * Which nodes hold a resource, as the predictors see it. Resources with the same nodes share one
 * holder set, and so one turn: a hundred thousand rarely asked pages on the same three nodes are
 * spread like one busy page.
 *
 *     set      0         1
 *     start  [ 0         3      5 ]
 *     node   [ 0  1  2   1  4 ]
 */
export class HolderSets {
  /** Set s is node[start[s], start[s + 1]), in ascending order of node index. */
  readonly start: Uint32Array;
  readonly node: Uint16Array;
  /** By resource. */
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
 * The bit of a holder in `tried`. From the 33rd holder on a bit is shared with those 32 places
 * before: all holders get their share of first tries, a retry may pass over some that were not
 * tried, and no session is ever tried at more than 32 nodes.
 */
export function holderBit(position: number): number {
  return (1 << (position & 31)) >>> 0;
}
