/**
 * What an engine thread has forwarded for each virtual server and to each node, by slot: packets,
 * bytes, flows. The thread adds with plain stores to memory of its own, the main thread reads it.
 * With the XDP program the kernel counts, in its map `forward_counts`.
 */
import { MAX_XDP_NODES, MOST_VIRTUAL_SERVERS } from '../../datapath/xdp-layout.js';

export interface ForwardCount {
  packets: number;
  /** With Ethernet headers. */
  bytes: number;
  /** Flows that chose a node; with buckets: SYNs. */
  flows: number;
}

/** Numbers of a row. */
const ROW = 3;
const ROWS = MOST_VIRTUAL_SERVERS + MAX_XDP_NODES;

export function forwardCountMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(ROWS * ROW * Float64Array.BYTES_PER_ELEMENT);
}

/** Row of a node; that of a virtual server is its slot. */
export function nodeRow(node: number): number {
  return MOST_VIRTUAL_SERVERS + node;
}

export class ForwardCounts {
  private readonly values: Float64Array;

  constructor(memory: SharedArrayBuffer = forwardCountMemory()) {
    this.values = new Float64Array(memory);
  }

  packet(server: number, node: number, bytes: number): void {
    const { values } = this;
    values[server * ROW]! += 1;
    values[server * ROW + 1]! += bytes;
    values[nodeRow(node) * ROW]! += 1;
    values[nodeRow(node) * ROW + 1]! += bytes;
  }

  flow(server: number, node: number): void {
    this.values[server * ROW + 2]! += 1;
    this.values[nodeRow(node) * ROW + 2]! += 1;
  }

  row(row: number): ForwardCount {
    const { values } = this;
    const at = row * ROW;
    return { packets: values[at]!, bytes: values[at + 1]!, flows: values[at + 2]! };
  }
}
