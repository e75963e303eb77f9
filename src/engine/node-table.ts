/**
 * The nodes as forwarding needs them: their addresses, and the options that their sessions can
 * have. `states` (directory/node-states.ts) has the load and health of each node.
 */
import type { NodeStates } from '../directory/node-states.js';
import { IxpFlag } from '../wire/ixp.js';
import { WithheldOptions } from './withheld-options.js';

/**
 * The node number in a session record for the balancer's own kernel, where the local services
 * listen. It is not in the table.
 */
export const LOCAL_NODE = 0xffff;

export class NodeTable {
  readonly count: number;
  /** IPv4 addresses. */
  readonly address: Uint32Array;
  /** Upper 16 and lower 32 bits of each MAC address, in network order. */
  readonly macHigh: Uint16Array;
  readonly macLow: Uint32Array;
  /** 1: the MAC address is resolved. */
  readonly resolved: Uint8Array;
  /** When the MAC address last changed from one to another, ms on the engine's clock. */
  readonly movedAt: Float64Array;
  readonly states: NodeStates;
  readonly withheld: WithheldOptions;

  /**
   * @param states of the same nodes
   * @param withheld shared with other engines and the main thread; by default with none
   */
  constructor(
    nodes: readonly { address: number }[],
    states: NodeStates,
    withheld = new WithheldOptions(),
  ) {
    this.count = nodes.length;
    this.address = Uint32Array.from(nodes, (node) => node.address);
    this.macHigh = new Uint16Array(this.count);
    this.macLow = new Uint32Array(this.count);
    this.resolved = new Uint8Array(this.count);
    this.movedAt = new Float64Array(this.count).fill(Number.NEGATIVE_INFINITY);
    this.states = states;
    this.withheld = withheld;
  }

  /** Index of the node with this IPv4 address, or -1. */
  find(address: number): number {
    return this.address.indexOf(address);
  }

  /**
   * Sets the MAC address (six bytes), or marks the node unresolved. `now`: ms on the engine's
   * clock.
   */
  setMac(node: number, mac: Uint8Array | undefined, now = 0): void {
    if (mac === undefined) {
      this.resolved[node] = 0;
      return;
    }
    const view = new DataView(mac.buffer, mac.byteOffset, 6);
    const high = view.getUint16(0);
    const low = view.getUint32(2);
    const known = this.macHigh[node] !== 0 || this.macLow[node] !== 0;
    if (known && (high !== this.macHigh[node] || low !== this.macLow[node]))
      this.movedAt[node] = now;
    this.macHigh[node] = high;
    this.macLow[node] = low;
    this.resolved[node] = 1;
  }

  /**
   * Whether the node takes a handoff of a session of this virtual server at `now`.
   * @param options IxpFlag bits of the session's agreed options; other bits are ignored
   */
  takesHandoffs(node: number, server: number, options: number, now: number): boolean {
    return this.resolved[node] === 1 && this.states.available(node, server, options, now);
  }

  /**
   * IxpFlag bits of the agreed options that IXP headers to this node, or to LOCAL_NODE, leave out:
   * its kernel refuses them, and a session can go on without them.
   */
  omittedOptions(node: number): number {
    const refused =
      node === LOCAL_NODE ? this.withheld.refusedHere : this.states.refusedOptions(node);
    return refused & IxpFlag.sackOk;
  }
}
