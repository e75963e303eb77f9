/** The states of a balancer's nodes: a place for every slot, in memory that its threads share. */
import { MAX_XDP_NODES, MOST_VIRTUAL_SERVERS } from '../../datapath/xdp-layout.js';
import { nodeMemory } from '../../directory/node-memory.js';
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
 * Writes what a farm says about its slots. Sets the weights. Forgets what is known of the earlier
 * owner of a slot that has another address now, and of virtual servers in free slots.
 *
 * @param states of `farmStates`
 * @param before the farm that `states` knows; undefined: none
 */
export function writeFarm(
  states: NodeStates,
  farm: FarmSlots,
  before: FarmSlots = { nodes: [], servers: [] },
): void {
  const addresses = new Map(before.nodes.map(({ slot, address }) => [slot, address]));
  for (const { slot, address, weight, retired } of farm.nodes) {
    if (addresses.get(slot) !== address) states.clearSlot(slot);
    states.setWeight(slot, retired ? 0 : weight);
    addresses.delete(slot);
  }
  for (const slot of addresses.keys()) states.clearSlot(slot);
  const endpoints = new Map(before.servers.map((server) => [server.slot, formatEndpoint(server)]));
  for (const server of farm.servers) {
    if (endpoints.get(server.slot) !== formatEndpoint(server)) states.clearServer(server.slot);
  }
}
