/**
 * Assembles the virtual addresses of a node from its reports. Each report names one address, and
 * all reports of one second carry the same clock (docs/ixp.md). When a report is lost, the list of
 * that second stays incomplete and is not used; the next second brings another.
 */

/** Limit for the addresses of one node in one second. An agent's config has fewer. */
const MOST_ADDRESSES = 1_024;

interface List {
  start: number;
  clock: number;
  addresses: Set<number>;
}

export class NodeAddresses {
  private readonly lists: (List | undefined)[] = [];

  /**
   * Adds the address that a report names.
   *
   * @param start of the agent, from the report
   * @param clock of the agent, from the report
   * @param count number of the node's addresses; 0: it has none, and `address` means nothing
   * @returns all addresses when the list is complete, otherwise undefined; the next call may change
   *   the set
   */
  add(
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
