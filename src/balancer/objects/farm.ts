/**
 * The farm as engine threads, machine and watches take it: nodes and virtual servers in numbered
 * slots, and the directory. A change makes a new farm. Whatever stays keeps its slot, so the
 * numbers in session records stay true:
 *
 *     free --- added ---> in use --- removed ---> retired --- its last session has ended ---> free
 *                            ^                       |
 *                            +--- added again -------+
 *
 * A slot belongs to an address (of a node), or to an address and the ports there (of a virtual
 * server). A virtual server keeps its slot while it keeps a port: so ports can come and go. Mode
 * and transport belong to a slot, too. Names, weights, predictors and others may change in place. A
 * retired slot keeps its sessions and gets no new ones.
 */
import type { BalancerConfig, VirtualServer } from '../../config/load.js';
import type { NodeWay } from '../../config/schema-objects.js';
import type { DirectoryImage } from '../../directory/directory-image.js';
import type { Via } from '../../engine/farm.js';
import type { Timeouts } from '../../engine/options.js';
import type { Address } from '../../wire/address.js';

/** A node in its slot. */
export interface NodeSlot {
  readonly slot: number;
  readonly name: string;
  readonly address: Address;
  /** 0: retired. */
  readonly weight: number;
  readonly retired: boolean;
  /** Absent: the default of the config. */
  readonly handoff?: NodeWay;
  /** Absent: the default of the config. */
  readonly via?: Via;
}

/** A virtual server in its slot. */
export interface ServerSlot extends Omit<VirtualServer, 'nodes'> {
  readonly slot: number;
  readonly retired: boolean;
  /** Slots of the nodes that get its connections, where no resource says which; empty: retired. */
  readonly nodes: readonly number[];
}

/** The slots in use and retired, in ascending order of slot. */
export interface FarmSlots {
  readonly nodes: readonly NodeSlot[];
  readonly servers: readonly ServerSlot[];
}

/** The slots of a start: nodes and virtual servers in the order of the config, none retired. */
export function firstSlots(config: Pick<BalancerConfig, 'nodes' | 'virtualServers'>): FarmSlots {
  return {
    nodes: config.nodes.map((node, slot) => ({ ...node, slot, retired: false })),
    servers: config.virtualServers.map((server, slot) => ({
      ...server,
      slot,
      retired: false,
      nodes: server.nodes ?? [...config.nodes.keys()],
    })),
  };
}

/** Plain data, because it crosses between threads; the arrays of the directory are shared. */
export interface Farm extends FarmSlots {
  /** 1 at the start; one more with each farm. */
  readonly generation: number;
  /** Names nodes by their slots. */
  readonly directory: DirectoryImage;
  readonly timeouts: Timeouts;
}
