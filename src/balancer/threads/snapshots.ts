/** The state of an engine thread in numbers, and the sum of all threads. */
import type { RingDatapath } from '../../datapath/ring.js';
import type { Engine } from '../../engine/engine.js';
import type { NodeTable } from '../../engine/node-table.js';
import type { EngineSnapshot } from './engine-messages.js';

export function snapshotOf(
  engine: Engine,
  nodes: NodeTable,
  datapath: RingDatapath,
): EngineSnapshot {
  const { sessions } = engine;
  const { states } = nodes;
  const servers = Math.max(-1, ...engine.serverSlots) + 1;
  return {
    nodes: Array.from({ length: nodes.end }, (_, node) => ({
      active: states.active[node] ?? 0,
      adopted: states.adopted[node] ?? 0,
    })),
    inState: [...sessions.inState],
    perServer: [...sessions.ofServer.subarray(0, servers)],
    heldByServer: [...sessions.heldByServer.subarray(0, servers)],
    ring: ringTotals(datapath),
  };
}

/** In the order of RING_NAMES. */
function ringTotals(datapath: RingDatapath): number[] {
  const { transmitRingFull, transmitTooLong, forwardTruncated } = datapath;
  return [...datapath.stats(), transmitRingFull, transmitTooLong, forwardTruncated];
}

/**
 * The snapshots of all threads together. During a change, a thread may know more slots than
 * another.
 */
export function addSnapshots(all: readonly EngineSnapshot[]): EngineSnapshot {
  const sum = (of: (snapshot: EngineSnapshot) => readonly number[]): number[] => {
    const rows = all.map(of);
    const length = Math.max(0, ...rows.map((row) => row.length));
    return Array.from({ length }, (_, index) =>
      rows.reduce((total, row) => total + (row[index] ?? 0), 0),
    );
  };
  const active = sum(({ nodes }) => nodes.map((node) => node.active));
  const adopted = sum(({ nodes }) => nodes.map((node) => node.adopted));
  return {
    nodes: active.map((value, node) => ({ active: value, adopted: adopted[node] ?? 0 })),
    inState: sum((snapshot) => snapshot.inState),
    perServer: sum((snapshot) => snapshot.perServer),
    heldByServer: sum((snapshot) => snapshot.heldByServer),
    ring: sum((snapshot) => snapshot.ring),
  };
}
