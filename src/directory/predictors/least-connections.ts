/**
 * The holder with the fewest sessions for its weight. Those that are equal take turns by weight, so
 * that an idle farm is used evenly too.
 */

import { type HolderSets, holderBit } from '../holders.js';
import type { NodeTable } from '../node-states.js';
import type { Predictor } from './predictor.js';
import { Turns } from './turns.js';

/** In place of a load: the holder may not be picked now. */
const CAN_NOT = -1;

export class LeastConnections implements Predictor {
  pickedBit = 0;
  private readonly sets: HolderSets;
  private readonly nodes: NodeTable;
  /** Index of the virtual server. */
  private readonly server: number;
  private readonly turns: Turns;
  /**
   * By holder: its sessions at the beginning of the pick, or CAN_NOT. Other engines go on counting
   * meanwhile.
   */
  private readonly loads: Float64Array;

  constructor(sets: HolderSets, nodes: NodeTable, server: number) {
    this.sets = sets;
    this.nodes = nodes;
    this.server = server;
    this.turns = new Turns(sets.node.length);
    this.loads = new Float64Array(sets.node.length);
  }

  pick(set: number, tried: number, options: number, now: number): number {
    const { sets, nodes, turns, loads } = this;
    const first = sets.start[set]!;
    const end = sets.start[set + 1]!;

    // Loads are compared as fractions, crosswise: exact while sessions times weight stay below
    // 2^53.
    let leastActive = 1;
    let leastWeight = 0;
    for (let holder = first; holder < end; holder++) {
      loads[holder] = CAN_NOT;
      if (!this.mayTake(holder, first, tried, options, now)) continue;
      const node = sets.node[holder]!;
      const active = nodes.load(node);
      loads[holder] = active;
      const weight = nodes.weight[node]!;
      // 1/0 at the beginning is more than any load.
      if (active * leastWeight < leastActive * weight) {
        leastActive = active;
        leastWeight = weight;
      }
    }
    turns.begin();
    for (let holder = first; holder < end; holder++) {
      const active = loads[holder]!;
      if (active === CAN_NOT) continue;
      const weight = nodes.weight[sets.node[holder]!]!;
      if (active * leastWeight === leastActive * weight) turns.enter(holder, weight);
    }
    const picked = turns.end();
    this.pickedBit = picked < 0 ? 0 : holderBit(picked - first);
    return picked < 0 ? -1 : sets.node[picked]!;
  }

  private mayTake(
    holder: number,
    first: number,
    tried: number,
    options: number,
    now: number,
  ): boolean {
    if ((tried & holderBit(holder - first)) !== 0) return false;
    const node = this.sets.node[holder]!;
    return (
      this.nodes.weight[node] !== 0 && this.nodes.takesHandoffs(node, this.server, options, now)
    );
  }
}
