/**
 * Which virtual addresses a node has, put together from its reports: each names one of them, and
 * all reports of one second carry the same clock (docs/ixp.md). A list with a gap, since a report
 * was lost, says nothing; the next second brings another.
 */

/** Addresses of one node in one second: an agent's config has fewer. */
const MOST_ADDRESSES = 1_024;

interface List {
  start: number;
  clock: number;
  addresses: Set<number>;
}

export class NodeAddresses {
  private readonly lists: (List | undefined)[] = [];

  /**
   * Takes in one report that names an address.
   *
   * @param start and clock: of the agent, from the report
   * @param count how many addresses the node has; 0 with an address that means nothing
   * @returns all of them when the list is complete, else undefined. It must not be kept.
   */
  named(
    node: number,
    start: number,
    clock: number,
    count: number,
    address: number,
  ): ReadonlySet<number> | undefined {
    let list = this.lists[node];
    if (list === undefined || list.start !== start || list.clock !== clock) {
      list = { start, clock, addresses: new Set() };
      this.lists[node] = list;
    }
    if (count > 0 && list.addresses.size < MOST_ADDRESSES) list.addresses.add(address);
    return list.addresses.size === count ? list.addresses : undefined;
  }
}
