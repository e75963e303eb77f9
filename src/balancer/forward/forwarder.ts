/**
 * Virtual servers with mode forward, as the main thread has them: their tables, the keeper of the
 * tables, and what was counted. With the datapath xdp the tables are maps of the XDP program; with
 * packet they are memory that the engine threads share.
 */
import { MAX_XDP_NODES, MOST_VIRTUAL_SERVERS } from '../../datapath/xdp-layout.js';
import type { NodeStates } from '../../directory/node-states.js';
import {
  type ForwardCount,
  ForwardCounts,
  forwardCountMemory,
  nodeRow,
} from '../../engine/forward/counts.js';
import {
  type ForwardMemory,
  type ForwardSizes,
  sharedForwardMemory,
} from '../../engine/forward/tables.js';
import type { FarmSlots, NodeSlot } from '../objects/farm.js';
import type { EngineSnapshot, ForwardStart } from '../threads/engine-messages.js';
import type { EarlierServer } from './earlier.js';
import type { WalkLimits } from './flow-walk.js';
import { ForwardKeeper } from './keeper.js';
import type { EarlierRun } from './saved-tables.js';

/** The tables and counters of an XDP program. */
export interface KernelForwarding {
  readonly memory: ForwardMemory;
  /** Packets, bytes and flows of each row of `forward_counts`. */
  counts(): Float64Array;
  /**
   * Calls `take` with what the program of an earlier run knows: now, and again when the new program
   * has taken its place. Without an earlier run, never.
   */
  takeEarlier(take: (earlier: readonly EarlierServer[]) => void): void;
}

export interface ForwarderOptions {
  /** Undefined: the datapath is packet. */
  readonly kernel: KernelForwarding | undefined;
  readonly sizes: ForwardSizes;
  readonly workers: number;
  readonly key: Uint8Array;
  readonly states: Pick<NodeStates, 'admin' | 'weight' | 'load'>;
  readonly limits: WalkLimits;
  /** ms of CLOCK_MONOTONIC. */
  now(): number;
}

const ROWS = MOST_VIRTUAL_SERVERS + MAX_XDP_NODES;
const ROW = 3;

export class Forwarder {
  readonly keeper: ForwardKeeper;
  private readonly kernel: KernelForwarding | undefined;
  private readonly memory: ForwardMemory;
  private readonly threads: SharedArrayBuffer[];
  /**
   * MAC addresses of nodes by slot; undefined: it has none. A node that is missing may have one.
   */
  private readonly neighbours = new Map<number, Uint8Array | undefined>();
  private nodes: readonly NodeSlot[] = [];
  /** What was counted for the owner before in each slot: its address and port as text. */
  private readonly owners = new Map<number, string>();
  private readonly base = new Float64Array(ROWS * ROW);

  constructor(options: ForwarderOptions) {
    const { kernel, sizes, workers } = options;
    this.kernel = kernel;
    this.memory = kernel?.memory ?? sharedForwardMemory(sizes);
    this.threads = Array.from({ length: workers }, forwardCountMemory);
    this.keeper = new ForwardKeeper({
      ...options,
      memory: this.memory,
      isResolved: (slot) =>
        this.neighbours.has(slot) ? this.neighbours.get(slot) !== undefined : undefined,
    });
  }

  /** For the engine threads; undefined: the XDP program forwards. */
  get engineStart(): ForwardStart | undefined {
    if (this.kernel !== undefined) return undefined;
    return { memory: this.memory, counts: this.threads };
  }

  /** Sets the MAC address (six bytes) of a node's slot; undefined: it does not answer. */
  setNeighbour(slot: number, mac: Uint8Array | undefined): void {
    this.neighbours.set(slot, mac);
    this.keeper.look();
  }

  /**
   * Continues with what an earlier run knew. Its nodes are known at once: flows of a node that is
   * not would move. Returns the number of flows.
   * @param neighbours the nodes whose MAC addresses it knew
   * @param saved what it has written, without an XDP program
   */
  takeOver(
    neighbours: readonly { node: number; mac: Uint8Array }[],
    saved: readonly EarlierServer[],
  ): number {
    for (const { node, mac } of neighbours) this.neighbours.set(node, mac);
    this.keeper.look();
    let taken = this.keeper.takeOver(saved);
    this.kernel?.takeEarlier((earlier) => {
      taken = this.keeper.takeOver(earlier);
    });
    return taken;
  }

  /** What the next run needs to continue. */
  leave(): EarlierRun {
    const neighbours = this.nodes.flatMap(({ slot, address }) => {
      const mac = this.neighbours.get(slot);
      return mac === undefined ? [] : [{ address, mac }];
    });
    return { servers: this.keeper.leave(), neighbours };
  }

  /** Takes another farm, which `keeper.require` has accepted. */
  setFarm(farm: FarmSlots): void {
    const owners = new Map<number, string>([
      ...farm.servers.map(({ slot, address, port, transport }): [number, string] => [
        slot,
        `${address}:${port}/${transport}`,
      ]),
      ...farm.nodes.map(({ slot, address }): [number, string] => [nodeRow(slot), `${address}`]),
    ]);
    const others = [...owners].filter(([row, owner]) => this.owners.get(row) !== owner);
    if (others.length > 0 && this.owners.size > 0) {
      const totals = this.totals();
      for (const [row] of others) {
        this.base.set(totals.subarray(row * ROW, (row + 1) * ROW), row * ROW);
        if (row >= MOST_VIRTUAL_SERVERS) this.neighbours.delete(row - MOST_VIRTUAL_SERVERS);
      }
    }
    this.owners.clear();
    for (const [row, owner] of owners) this.owners.set(row, owner);
    this.nodes = farm.nodes;
    this.keeper.setFarm(farm);
  }

  /** What was forwarded, by slot. */
  counts(): { ofServer(slot: number): ForwardCount; ofNode(slot: number): ForwardCount } {
    const totals = this.totals();
    const row = (index: number): ForwardCount => {
      const [packets = 0, bytes = 0, flows = 0] = totals.subarray(index * ROW, (index + 1) * ROW);
      const at = index * ROW;
      return {
        packets: packets - this.base[at]!,
        bytes: bytes - this.base[at + 1]!,
        flows: flows - this.base[at + 2]!,
      };
    };
    return { ofServer: row, ofNode: (slot) => row(nodeRow(slot)) };
  }

  /** The snapshot with flows among the sessions. */
  withFlows(snapshot: EngineSnapshot): EngineSnapshot {
    const { keeper } = this;
    const add = (of: (slot: number) => number) => (count: number, slot: number) => count + of(slot);
    return {
      ...snapshot,
      nodes: snapshot.nodes.map((node, slot) => ({
        ...node,
        active: node.active + keeper.flowsOfNode(slot),
      })),
      perServer: snapshot.perServer.map(add((slot) => keeper.flowsOfServer(slot))),
      heldByServer: snapshot.heldByServer.map(add((slot) => keeper.heldByServer(slot))),
    };
  }

  /** The states with flows among the sessions that name a node. */
  including(states: NodeStates): Pick<NodeStates, 'weight' | 'setAdmin' | 'held'> {
    return {
      weight: states.weight,
      setAdmin: (slot, state) => states.setAdmin(slot, state),
      held: (slot) => states.held(slot) + this.keeper.heldByNode(slot),
    };
  }

  private totals(): Float64Array {
    if (this.kernel !== undefined) return this.kernel.counts();
    const totals = new Float64Array(ROWS * ROW);
    for (const memory of this.threads) {
      const counts = new ForwardCounts(memory);
      for (let row = 0; row < ROWS; row++) {
        const { packets, bytes, flows } = counts.row(row);
        totals[row * ROW]! += packets;
        totals[row * ROW + 1]! += bytes;
        totals[row * ROW + 2]! += flows;
      }
    }
    return totals;
  }
}
