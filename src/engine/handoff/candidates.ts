/** The nodes as candidates for a handoff of one session. */
import type { SessionCandidates } from '../../directory/request-dispatcher.js';
import type { NodeTable } from '../node-table.js';

export class HandoffCandidates implements SessionCandidates {
  private readonly nodes: NodeTable;
  private server = 0;
  private options = 0;
  private now = 0;

  constructor(nodes: NodeTable) {
    this.nodes = nodes;
  }

  setSession(server: number, options: number, now: number): void {
    this.server = server;
    this.options = options;
    this.now = now;
  }

  weight(node: number): number {
    return this.nodes.states.weight[node]!;
  }

  load(node: number): number {
    return this.nodes.states.load(node);
  }

  available(node: number): boolean {
    return this.nodes.takesHandoffs(node, this.server, this.options, this.now);
  }
}
