/** The state of an engine thread in numbers, and the sum of all threads. */
import type { RingDatapath } from '../../datapath/ring.js';
import type { NodeStates } from '../../directory/node-states.js';
import type { Engine } from '../../engine/engine.js';
import type { EngineSnapshot } from './engine-messages.js';

export function snapshotOf(
  engine: Engine,
  states: NodeStates,
  datapath: RingDatapath,
): EngineSnapshot {
  return {
    nodes: Array.from({ length: states.count }, (_, node) => ({
      active: states.active[node] ?? 0,
      adopted: states.adopted[node] ?? 0,
    })),
    inState: [...engine.sessions.inState],
    perServer: [...engine.sessions.ofServer],
    ring: ringTotals(datapath),
  };
}

/** In the order of RING_NAMES. */
function ringTotals(datapath: RingDatapath): number[] {
  const { transmitRingFull, transmitTooLong, forwardTruncated } = datapath;
  return [...datapath.stats(), transmitRingFull, transmitTooLong, forwardTruncated];
}

/** The snapshots of all threads together. */
export function addSnapshots(all: readonly EngineSnapshot[]): EngineSnapshot {
  const [first, ...others] = all;
  if (first === undefined) return { nodes: [], inState: [], perServer: [], ring: [] };
  const sum = (of: (snapshot: EngineSnapshot) => number[]): number[] =>
    of(first).map((value, index) =>
      others.reduce((so, other) => so + (of(other)[index] ?? 0), value),
    );
  return {
    nodes: first.nodes.map((node, index) => ({
      active: others.reduce((so, other) => so + (other.nodes[index]?.active ?? 0), node.active),
      adopted: others.reduce((so, other) => so + (other.nodes[index]?.adopted ?? 0), node.adopted),
    })),
    inState: sum((snapshot) => snapshot.inState),
    perServer: sum((snapshot) => snapshot.perServer),
    ring: sum((snapshot) => snapshot.ring),
  };
}
