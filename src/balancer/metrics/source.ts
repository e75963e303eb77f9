/** Gathers the values of one scrape from engine threads, machine and farm. */
import type { StatsDocument } from '../../api/documents.js';
import { ObjectCounters } from '../../base/object-counters.js';
import { formatAddress, formatNodeAddress } from '../../wire/address.js';
import type { FarmSlots } from '../objects/farm.js';
import type { EnginePool } from '../threads/engine-pool.js';
import type { MetricsInput } from './family.js';

const US_PER_S = 1e6;

export interface MetricsParts {
  stats(): Promise<StatsDocument>;
  engine: Pick<EnginePool, 'counters' | 'objects'>;
  /** The farm that runs now. */
  slots(): FarmSlots;
  sessionLimit: number;
}

/** Rejects when an engine thread does not answer. */
export async function metricsInput(parts: MetricsParts): Promise<MetricsInput> {
  const stats = await parts.stats();
  const { nodes, servers } = parts.slots();
  const { objects } = parts.engine;
  // A slot belongs to an address, so that is what joins the two. A name may change.
  const nodeRows = new Map(stats.nodes.map((row) => [row.address, row]));
  const serverRows = new Map(stats.virtualServers.map((row) => [keyOf(row), row]));
  const { user, system } = process.cpuUsage();
  return {
    stats,
    engine: parts.engine.counters(),
    nodes: nodes.flatMap(({ slot, address, retired }) => {
      const row = nodeRows.get(formatNodeAddress(address));
      if (retired || row === undefined) return [];
      return [{ ...row, counts: ObjectCounters.ofNode(objects, slot) }];
    }),
    servers: servers.flatMap((server) => {
      const { name, predictor, port, transport } = server;
      const row = serverRows.get(
        keyOf({ address: formatAddress(server.address), port, transport }),
      );
      if (server.retired || row === undefined) return [];
      const { address, active, forwarded } = row;
      const counts = ObjectCounters.ofServer(objects, server.slot);
      return [{ name, address, port, predictor, active, forwarded, counts }];
    }),
    sessionLimit: parts.sessionLimit,
    process: {
      cpuSeconds: (user + system) / US_PER_S,
      residentBytes: process.memoryUsage.rss(),
    },
  };
}

/** Two virtual servers may share an address and a port number when their transports differ. */
function keyOf(place: { address: string; port: number; transport?: string }): string {
  return `${place.address}:${place.port} ${place.transport}`;
}
