/** The states of a balancer's nodes: a place for every slot, in memory that its threads share. */
import type { ObjectCounters } from '../../base/object-counters.js';
import { NODE_DEFAULTS } from '../../config/schema-objects.js';
import { MAX_XDP_NODES, MOST_VIRTUAL_SERVERS } from '../../datapath/xdp-layout.js';
import { nodeMemory, Way } from '../../directory/node-memory.js';
import { NodeStates } from '../../directory/node-states.js';
import { formatEndpoint } from '../../wire/address.js';
import type { FarmSlots } from './farm.js';

/** Memory for the states of all slots. */
export function farmMemory(workers: number): SharedArrayBuffer {
  return nodeMemory(MAX_XDP_NODES, workers, MOST_VIRTUAL_SERVERS);
}

/**
 * The states in `memory` of `farmMemory`, as one engine thread sees them. The main thread may take
 * the place of any: it counts no sessions.
 */
export function farmStates(memory: SharedArrayBuffer, workers: number, worker = 0): NodeStates {
  return new NodeStates({
    memory,
    nodes: MAX_XDP_NODES,
    worker,
    workers,
    servers: MOST_VIRTUAL_SERVERS,
  });
}

/**
 * Writes what a farm says about its slots. Sets weights and ways. Forgets what is known of the
 * earlier owner of a slot that has another address now, and of virtual servers in free slots.
 *
 * @param states of `farmStates`
 * @param before the farm that `states` knows; undefined: none
 */
export function writeFarm(
  states: NodeStates,
  farm: FarmSlots,
  before: FarmSlots = { nodes: [], servers: [] },
): void {
  const changed = changedSlots(farm, before);
  for (const slot of changed.nodes) states.clearSlot(slot);
  for (const { slot, weight, retired, handoff } of farm.nodes) {
    states.setWeight(slot, retired ? 0 : weight);
    states.setWay(slot, Way[handoff ?? NODE_DEFAULTS.handoff]);
  }
  for (const slot of changed.servers) states.clearServer(slot);
}

/** Begins the counters of slots with another owner again from 0. Parameters as in `writeFarm`. */
export function clearReused(objects: ObjectCounters, farm: FarmSlots, before: FarmSlots): void {
  const changed = changedSlots(farm, before);
  for (const slot of changed.nodes) objects.clearNode(slot);
  for (const slot of changed.servers) objects.clearServer(slot);
}

/** Slots of nodes that have another owner now, or none; slots of virtual servers with another. */
function changedSlots(farm: FarmSlots, before: FarmSlots): { nodes: number[]; servers: number[] } {
  const addresses = new Map(before.nodes.map(({ slot, address }) => [slot, address]));
  const nodes: number[] = [];
  for (const { slot, address } of farm.nodes) {
    if (addresses.get(slot) !== address) nodes.push(slot);
    addresses.delete(slot);
  }
  const endpoints = new Map(before.servers.map((server) => [server.slot, formatEndpoint(server)]));
  const servers = farm.servers
    .filter((server) => endpoints.get(server.slot) !== formatEndpoint(server))
    .map(({ slot }) => slot);
  return { nodes: [...nodes, ...addresses.keys()], servers };
}
