/**
 * What an earlier run knew of flows, clients and buckets, so that the next one goes on with it.
 * Each run numbers nodes and virtual servers in its own way; addresses and ports say which are
 * which.
 */
import { FlowKind, FORWARD_SERVER, NO_NODE, ServerFlag } from '../../engine/forward/layout.js';
import { type ForwardTables, NO_FLOW, ownerOf, ticksSince } from '../../engine/forward/tables.js';
import type { Address } from '../../wire/address.js';
import type { NodeSlot, ServerSlot } from '../objects/farm.js';

/** Where clients reach a virtual server: its lowest port. */
export type ForwardEndpoint = Pick<ServerSlot, 'address' | 'transport' | 'port'>;

/** A record of a flow or of a client. */
export interface EarlierFlow {
  readonly client: number;
  readonly ports: number;
  readonly node: Address;
  readonly kind: number;
  /** FlowState bits. */
  readonly state: number;
  readonly seen: number;
}

export interface EarlierBucket {
  readonly node: Address;
  readonly seen: number;
}

/** A virtual server of the earlier run. */
export interface EarlierServer {
  readonly at: ForwardEndpoint;
  readonly flows: readonly EarlierFlow[];
  /** By number, undefined: nobody had it. Empty: it had no buckets. */
  readonly buckets: readonly (EarlierBucket | undefined)[];
}

/**
 * Reads what the tables of a run say about its virtual servers.
 * @param servers by slot
 * @param nodes address by slot
 */
export function readTables(
  tables: ForwardTables,
  servers: ReadonlyMap<number, ForwardEndpoint>,
  nodes: ReadonlyMap<number, Address>,
): EarlierServer[] {
  const flows = new Map<number, EarlierFlow[]>();
  for (let flow = 0; flow < tables.capacity; flow++) {
    const kind = tables.kind(flow);
    const node = nodes.get(tables.node(flow));
    // Fragments of one datagram do not outlive a run.
    if ((kind !== FlowKind.flow && kind !== FlowKind.sticky) || node === undefined) continue;
    const list = flows.get(tables.server(flow)) ?? [];
    flows.set(tables.server(flow), list);
    list.push({
      client: tables.client(flow),
      ports: tables.ports(flow),
      node,
      kind,
      state: tables.state(flow),
      seen: tables.seen(flow),
    });
  }
  return [...servers].flatMap(([slot, at]) => {
    if ((tables.serverWord(slot, FORWARD_SERVER.flags) & ServerFlag.inUse) === 0) return [];
    const first = tables.serverWord(slot, FORWARD_SERVER.firstBucket);
    const count = tables.serverWord(slot, FORWARD_SERVER.buckets);
    const buckets = Array.from({ length: count }, (_, index): EarlierBucket | undefined => {
      const node = nodes.get(tables.bucketNode(first + index));
      return node === undefined ? undefined : { node, seen: tables.bucketSeen(first + index) };
    });
    return [{ at, flows: flows.get(slot) ?? [], buckets }];
  });
}

/** Where a run continues: its tables, and its virtual servers with their parts. */
export interface Successor {
  readonly tables: ForwardTables;
  readonly nodes: readonly NodeSlot[];
  /** The virtual server of this endpoint; undefined: there is none. */
  find(at: ForwardEndpoint): { slot: number; firstBucket: number; buckets: number } | undefined;
}

/**
 * Writes what an earlier run knew into the tables, unless they know something newer. May be called
 * again, when the earlier program has done more meanwhile. Returns how many flows there are.
 */
export function takeOver(
  { tables, nodes, find }: Successor,
  earlier: readonly EarlierServer[],
  tick: number,
): number {
  const slots = new Map(nodes.map(({ slot, address }) => [address, slot]));
  const age = (seen: number): number => ticksSince(tick, seen);
  let taken = 0;
  for (const { at, flows, buckets } of earlier) {
    const server = find(at);
    if (server === undefined) continue;
    for (const { client, ports, node: address, kind, state, seen } of flows) {
      const node = slots.get(address);
      if (node === undefined) continue;
      const owner = ownerOf(server.slot, kind);
      const hash = tables.flowHash(client, ports, owner);
      let flow = tables.find(client, ports, owner, hash);
      if (kind === FlowKind.flow) taken += 1;
      if (flow !== NO_FLOW && age(tables.seen(flow)) < age(seen)) continue;
      if (flow === NO_FLOW) {
        tables.add(client, ports, owner, hash, node, seen);
        flow = tables.find(client, ports, owner, hash);
      } else tables.renew(flow, owner, node, seen);
      tables.raise(flow, state);
    }
    // With another number of buckets the hash means other buckets.
    if (buckets.length !== server.buckets) continue;
    for (const [index, bucket] of buckets.entries()) {
      const node = bucket === undefined ? NO_NODE : (slots.get(bucket.node) ?? NO_NODE);
      const place = server.firstBucket + index;
      if (bucket === undefined || node === NO_NODE) continue;
      const known = tables.bucketSeen(place);
      // A packet that came before this found no node.
      const isOurs = known !== 0 && tables.bucketNode(place) !== NO_NODE;
      if (isOurs && age(known) < age(bucket.seen)) continue;
      tables.setBucketNode(place, node);
      tables.setBucketSeen(place, bucket.seen);
    }
  }
  return taken;
}
