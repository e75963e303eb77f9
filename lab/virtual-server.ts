/** Virtual servers as values, for tests. */
import type { ServerSlot } from '../src/balancer/objects/farm.js';
import { type VirtualServer, virtualServer } from '../src/config/virtual-server.js';
import { type Address, formatAddress } from '../src/wire/address.js';

/** A virtual server whose entry in the config has only these keys. */
export function httpServer(
  name: string,
  address: Address,
  port: number,
  predictor: VirtualServer['predictor'] = 'round-robin',
): VirtualServer {
  const entry = { name, address: formatAddress(address), port, predictor };
  return virtualServer(entry, new Map());
}

/** The same in a slot. */
export function serverSlot(
  slot: number,
  server: VirtualServer,
  { retired = false, nodes = [] }: Partial<Pick<ServerSlot, 'retired' | 'nodes'>> = {},
): ServerSlot {
  return { ...server, slot, retired, nodes };
}
