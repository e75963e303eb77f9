/**
 * What the sessions of an earlier run need in this one: room, and the nodes that are no longer in
 * the config.
 */
import { MAX_XDP_NODES } from '../../datapath/xdp-layout.js';
import { sessionHash, sessionWorker } from '../../engine/table/session-record.js';
import {
  type Address,
  type Endpoint,
  formatEndpoint,
  formatNodeAddress,
} from '../../wire/address.js';
import type { FarmSlots, NodeSlot, ServerSlot } from '../objects/farm.js';
import type { EarlierRun } from './earlier-run.js';

export interface Census {
  /** Nodes that have sessions and are not in the config, in the lowest slots that are free. */
  departed: NodeSlot[];
  /** Number of sessions that the worker with most of them takes over. */
  mostOfWorker: number;
}

export interface CensusOptions {
  farm: FarmSlots;
  workers: number;
  /** Seeds of the session hash. */
  seeds: { client: number; port: number };
  warn: (message: string) => void;
}

/** Our slot of each virtual server of the earlier run, by its slot there; or -1. */
export function serversOf(
  servers: readonly ServerSlot[],
  earlier: EarlierRun | undefined,
): Int32Array {
  const theirs = earlier?.sessions?.servers ?? new Map<number, Endpoint>();
  const ours = new Map(servers.map((server) => [formatEndpoint(server), server.slot]));
  const count = Math.max(-1, ...theirs.keys()) + 1;
  return Int32Array.from({ length: count }, (_, index) => {
    const server = theirs.get(index);
    return (server && ours.get(formatEndpoint(server))) ?? -1;
  });
}

/**
 * Counts the sessions that can be taken over. Logs a warning about those that cannot.
 * @param servers the result of `serversOf`
 */
export function takeCensus(
  { farm, workers, seeds, warn }: CensusOptions,
  earlier: EarlierRun | undefined,
  servers: Int32Array,
): Census {
  const theirs = earlier?.sessions?.nodes ?? [];
  const known = new Set(farm.nodes.map((node) => node.address));
  const departed = new Set<Address>();
  const ofWorker = new Uint32Array(workers);
  const lost = new Map<string, number>();
  const lose = (why: string): void => void lost.set(why, (lost.get(why) ?? 0) + 1);
  earlier?.visitForwarded((records, slot) => {
    const portServer = records.portServer(slot);
    const server = servers[portServer & 0xffff] ?? -1;
    if (server < 0) {
      const theirServer = earlier.sessions?.servers.get(portServer & 0xffff);
      const name = theirServer === undefined ? 'unknown' : formatEndpoint(theirServer);
      lose(`virtual server ${name}, which is no longer in the config`);
      return;
    }
    const node = theirs[records.node(slot)]?.address;
    if (node === undefined) {
      lose('a node that the earlier run did not know');
      return;
    }
    if (!known.has(node) && !departed.has(node)) {
      if (known.size + departed.size >= MAX_XDP_NODES) {
        lose(`node ${formatNodeAddress(node)}: there is room for ${MAX_XDP_NODES} nodes in all`);
        return;
      }
      departed.add(node);
    }
    const key = ((portServer & 0xffff_0000) | server) >>> 0;
    const hash = sessionHash(records.client(slot), key, seeds.client, seeds.port);
    ofWorker[sessionWorker(hash, workers)]! += 1;
  });
  for (const [why, count] of lost)
    warn(`${count} sessions of the earlier run end: they are of ${why}`);
  return {
    departed: inFreeSlots([...departed], new Set(farm.nodes.map((node) => node.slot))),
    mostOfWorker: Math.max(...ofWorker),
  };
}

/** Retired nodes with these addresses. There are enough slots. */
function inFreeSlots(addresses: readonly Address[], used: ReadonlySet<number>): NodeSlot[] {
  let slot = -1;
  return addresses.map((address) => {
    do slot += 1;
    while (used.has(slot));
    return { slot, name: formatNodeAddress(address), address, weight: 0, retired: true };
  });
}
