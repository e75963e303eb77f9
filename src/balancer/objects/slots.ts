/** Gives the objects of a config their slots (farm.ts). */
import { BatonError } from '../../base/errors.js';
import { quoted } from '../../base/text.js';
import type { NodeEntry, VirtualServer } from '../../config/load.js';
import { formatPlace, overlap } from '../../config/virtual-server.js';
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
  const byAddress = new Map(present.nodes.map((node) => [node.address, node]));
  const nodes = assign<NodeSlot, NodeEntry>(
    present.nodes,
    wanted.nodes,
    ({ address }) => byAddress.get(address),
    capacity.nodes,
    'nodes',
  );
  const owners = ownersOf(present.servers, wanted.virtualServers);
  const servers = assign<ServerSlot, VirtualServer>(
    present.servers,
    wanted.virtualServers,
    (server) => owners.get(server),
    capacity.servers,
    'virtual servers',
  );
  const slots = nodes.assigned.map(({ slot, entry }) => ({ ...entry, slot, retired: false }));
  const numbers = slotsOfNodes({ nodes: slots }, wanted.nodes);
  return {
    nodes: inOrder([
      ...slots.map(({ slot, name, address, weight, handoff, via, retired }) => ({
        slot,
        name,
        address,
        weight,
        ...(handoff === undefined ? {} : { handoff }),
        ...(via === undefined ? {} : { via }),
        retired,
      })),
      ...nodes.left.map((node) => ({ ...node, weight: 0, retired: true })),
    ]),
    servers: inOrder([
      ...servers.assigned.map(({ slot, entry }) => ({
        ...entry,
        slot,
        retired: false,
        nodes: entry.nodes?.map((index) => numbers[index]!) ?? [...numbers],
      })),
      ...servers.left.map((server) => ({ ...server, nodes: [], retired: true })),
    ]),
  };
}

/**
 * The slot of each wanted virtual server that has one: at the same address, with its lowest port if
 * there is such a slot, else with any of its ports.
 * @throws BatonError BATON_IN_USE for one that would have to change its mode in place, or has ports
 *   of one that would go on beside it until its sessions end: a port has one virtual server
 */
function ownersOf(
  present: readonly ServerSlot[],
  wanted: readonly VirtualServer[],
): ReadonlyMap<VirtualServer, ServerSlot> {
  const owners = new Map<VirtualServer, ServerSlot>();
  const left = new Set(present);
  const give = (server: VirtualServer, isOwner: (slot: ServerSlot) => boolean): void => {
    if (owners.has(server)) return;
    const owner = [...left].find((slot) => overlap(slot, server) && isOwner(slot));
    if (owner === undefined) return;
    owners.set(server, owner);
    left.delete(owner);
  };
  for (const server of wanted) give(server, ({ port }) => port === server.port);
  for (const server of wanted) give(server, ({ retired }) => !retired);
  for (const server of wanted) give(server, () => true);
  for (const server of wanted) {
    const other = present.find((slot) => slot.mode !== server.mode && overlap(slot, server));
    if (other !== undefined) throw otherMode(server, other);
  }
  for (const server of wanted) {
    const other = [...left].find((slot) => overlap(slot, server));
    if (other !== undefined) throw inTheWay(server, other);
  }
  return owners;
}

/** @param present is retired, or would be: the server has the slot of another one already */
function inTheWay(server: VirtualServer, present: ServerSlot): BatonError {
  const what = `virtual server ${quoted(server.name)} cannot have ${placeOf(present)}`;
  return inUse(
    present,
    present.retired
      ? `${what}, which was removed and still has sessions`
      : `${what} as well: it takes the ports of another one over in the same change`,
  );
}

function otherMode(server: VirtualServer, present: ServerSlot): BatonError {
  const what = `virtual server ${quoted(server.name)} with mode ${server.mode}`;
  const why = `${what} cannot have ${placeOf(present)}, whose mode is ${present.mode}`;
  return inUse(present, present.retired ? `${why} and which still has sessions` : why);
}

function placeOf(present: ServerSlot): string {
  return `${formatPlace(present)} of virtual server ${quoted(present.name)}`;
}

function inUse(present: ServerSlot, why: string): BatonError {
  return new BatonError('BATON_IN_USE', why, {
    hint: present.retired
      ? 'try again when these sessions have ended'
      : `first \`baton remove virtual ${present.name}\`, with --end-sessions if it need not wait for them`,
  });
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
export function slotsOfNodes(
  slots: Pick<FarmSlots, 'nodes'>,
  nodes: readonly NodeEntry[],
): Uint16Array {
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

interface Assigned<Slot, Entry> {
  readonly assigned: readonly { readonly slot: number; readonly entry: Entry }[];
  /** What is no longer wanted. */
  readonly left: readonly Slot[];
}

/** @param ownerOf the present slot of a wanted entry; never the same for two */
function assign<Slot extends { readonly slot: number }, Entry>(
  present: readonly Slot[],
  wanted: readonly Entry[],
  ownerOf: (entry: Entry) => Slot | undefined,
  capacity: number,
  what: string,
): Assigned<Slot, Entry> {
  const left = new Set(present);
  const taken = new Set(present.map(({ slot }) => slot));
  const assigned: { slot: number; entry: Entry }[] = [];
  const fresh: Entry[] = [];
  for (const entry of wanted) {
    const owner = ownerOf(entry);
    if (owner === undefined) fresh.push(entry);
    else {
      assigned.push({ slot: owner.slot, entry });
      left.delete(owner);
    }
  }
  let slot = 0;
  for (const entry of fresh) {
    while (taken.has(slot)) slot += 1;
    if (slot >= capacity) throw noSlot(what, capacity, left.size);
    taken.add(slot);
    assigned.push({ slot, entry });
  }
  return { assigned, left: [...left] };
}

function noSlot(what: string, capacity: number, retired: number): BatonError {
  return new BatonError(
    'BATON_IN_USE',
    `there is no room for more ${what}: of ${capacity}, ${retired} are removed ones that still have sessions`,
    { hint: 'try again when these sessions have ended' },
  );
}
