/** Each holder in turn, as often as its weight says. */

import { type HolderSets, holderBit } from '../holders.js';
import type { NodeTable } from '../node-states.js';
import type { Predictor } from './predictor.js';
import { Turns } from './turns.js';

export class RoundRobin implements Predictor {
  pickedBit = 0;
  private readonly sets: HolderSets;
  private readonly nodes: NodeTable;
  /** Index of the virtual server. */
  private readonly server: number;
  private readonly turns: Turns;

  constructor(sets: HolderSets, nodes: NodeTable, server: number) {
    this.sets = sets;
    this.nodes = nodes;
    this.server = server;
    this.turns = new Turns(sets.node.length);
  }

  pick(set: number, tried: number, options: number, now: number): number {
    const { sets, nodes, server, turns } = this;
    const first = sets.start[set]!;
    const end = sets.start[set + 1]!;
    turns.begin();
    for (let holder = first; holder < end; holder++) {
      const node = sets.node[holder]!;
      const weight = nodes.weight[node]!;
      if (
        (tried & holderBit(holder - first)) !== 0 ||
        weight === 0 ||
        !nodes.takesHandoffs(node, server, options, now)
      )
        continue;
      turns.enter(holder, weight);
    }
    const picked = turns.end();
    this.pickedBit = picked < 0 ? 0 : holderBit(picked - first);
    return picked < 0 ? -1 : sets.node[picked]!;
  }
}
