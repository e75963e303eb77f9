/** Gives the objects of a config their slots (farm.ts). */
import { BatonError } from '../../base/errors.js';
import type { NodeEntry, VirtualServer } from '../../config/load.js';
import { formatEndpoint } from '../../wire/address.js';
import type { FarmSlots, NodeSlot, ServerSlot } from './farm.js';

/** Numbers of slots. */
export interface Capacity {
  readonly nodes: number;
  readonly servers: number;
}

/** The part of a config that has slots. */
export interface Wanted {
  readonly nodes: readonly NodeEntry[];
  readonly virtualServers: readonly VirtualServer[];
}

/** Before the first config: no slot is in use. */
export const NO_SLOTS: FarmSlots = { nodes: [], servers: [] };

/**
 * The slots for a wanted config. An object whose address is there already keeps its slot. A new one
 * gets the first free slot. What is no longer wanted is retired.
 * @throws BatonError BATON_IN_USE when retired objects leave too few slots
 */
export function assignSlots(present: FarmSlots, wanted: Wanted, capacity: Capacity): FarmSlots {
  const nodes = assign<NodeEntry>(
    present.nodes,
    wanted.nodes,
    ({ address }) => address,
    capacity.nodes,
    'nodes',
  );
  const servers = assign<VirtualServer>(
    present.servers,
    wanted.virtualServers,
    formatEndpoint,
    capacity.servers,
    'virtual servers',
  );
  return {
    nodes: nodes.map(({ slot, entry, retired }) => ({
      slot,
      name: entry.name,
      address: entry.address,
      weight: retired ? 0 : entry.weight,
      retired,
    })),
    servers: servers.map(({ slot, entry, retired }) => ({
      slot,
      name: entry.name,
      address: entry.address,
      port: entry.port,
      predictor: entry.predictor,
      retired,
    })),
  };
}

/** Slots in which neither a node nor a virtual server is retired and `isFree`. */
export function withoutFree(
  slots: FarmSlots,
  isFree: { node: (slot: number) => boolean; server: (slot: number) => boolean },
): FarmSlots {
  return {
    nodes: slots.nodes.filter(({ slot, retired }) => !retired || !isFree.node(slot)),
    servers: slots.servers.filter(({ slot, retired }) => !retired || !isFree.server(slot)),
  };
}

/** The slots of `before`, and as retired ones those that only `tried` has. */
export function withRetired(before: FarmSlots, tried: FarmSlots): FarmSlots {
  const nodes = added(before.nodes, tried.nodes).map((node) => ({ ...node, weight: 0 }));
  return {
    nodes: inOrder([...before.nodes, ...nodes]),
    servers: inOrder([...before.servers, ...added(before.servers, tried.servers)]),
  };
}

/** The slot of each node of a config, by its index there. */
export function slotsOfNodes(slots: FarmSlots, nodes: readonly NodeEntry[]): Uint16Array {
  const byAddress = new Map(slots.nodes.map((node) => [node.address, node.slot]));
  return Uint16Array.from(nodes, (node) => byAddress.get(node.address) ?? 0);
}

/** The nodes of `next` that have no slot in `present`, or had a retired one there. */
export function addedNodes(present: FarmSlots, next: FarmSlots): NodeSlot[] {
  const known = new Set(
    present.nodes.filter(({ retired }) => !retired).map(({ address }) => address),
  );
  return next.nodes.filter(({ retired, address }) => !retired && !known.has(address));
}

/** Objects in slots that `before` does not have, retired. */
function added<Slot extends NodeSlot | ServerSlot>(
  before: readonly Slot[],
  tried: readonly Slot[],
): Slot[] {
  const known = new Set(before.map(({ slot }) => slot));
  return tried.filter(({ slot }) => !known.has(slot)).map((one) => ({ ...one, retired: true }));
}

function inOrder<Slot extends { readonly slot: number }>(slots: Slot[]): Slot[] {
  return slots.sort((a, b) => a.slot - b.slot);
}

interface Assigned<Entry> {
  slot: number;
  entry: Entry;
  retired: boolean;
}

function assign<Entry>(
  present: readonly (Entry & { readonly slot: number })[],
  wanted: readonly Entry[],
  keyOf: (entry: Entry) => unknown,
  capacity: number,
  what: string,
): Assigned<Entry>[] {
  const left = new Map(present.map((object) => [keyOf(object), object]));
  const taken = new Set(present.map(({ slot }) => slot));
  const assigned: Assigned<Entry>[] = [];
  const fresh: Entry[] = [];
  for (const entry of wanted) {
    const known = left.get(keyOf(entry));
    if (known === undefined) fresh.push(entry);
    else assigned.push({ slot: known.slot, entry, retired: false });
    left.delete(keyOf(entry));
  }
  let slot = 0;
  for (const entry of fresh) {
    while (taken.has(slot)) slot += 1;
    if (slot >= capacity) throw noSlot(what, capacity, left.size);
    taken.add(slot);
    assigned.push({ slot, entry, retired: false });
  }
  for (const object of left.values())
    assigned.push({ slot: object.slot, entry: object, retired: true });
  return inOrder(assigned);
}

function noSlot(what: string, capacity: number, retired: number): BatonError {
  return new BatonError(
    'BATON_IN_USE',
    `there is no room for more ${what}: of ${capacity}, ${retired} are removed ones that still have sessions`,
    { hint: 'try again when these sessions have ended' },
  );
}
