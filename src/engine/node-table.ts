/**
 * The nodes by slot, as forwarding needs them: their addresses, and the options that their sessions
 * can have. `states` (directory/node-states.ts) has the load and health of each node.
 */
import { BatonError } from '../base/errors.js';
import type { NodeStates } from '../directory/node-states.js';
import type { NodeObstacle } from '../directory/obstacle.js';
import { LOCAL_NODE } from '../wire/address.js';
import { IxpFlag } from '../wire/ixp.js';
import { carryBytes, type NodeAt, type NumberOf, onlyIpv4, requireUnused } from './farm.js';
import { WithheldOptions } from './withheld-options.js';

/** The node number in the record of a session that no node has: the balancer answers it itself. */
export const NO_NODE = 0xffff;
const NOT_FOUND = -1;

/** Other nodes for the slots of a table. */
export interface NodeChange {
  /** By slot: number of the address, 0 for a free slot. */
  readonly address: Uint32Array;
  /** By slot. 1: the address is one of IPv6. */
  readonly isIpv6: Uint8Array;
  /** By slot. 1: the node is retired. */
  readonly retired: Uint8Array;
  /** By slot. Bytes by which packets to the node grow; 0: the node is on the link. */
  readonly carried: Uint8Array;
  /** The slots whose address changes. */
  readonly changed: readonly number[];
}

export class NodeTable {
  /** Number of slots. */
  readonly count: number;
  /** Numbers of the addresses (`NumberOf`), 0 in free slots. */
  address: Uint32Array;
  /** By slot. 1: the address is one of IPv6. */
  isIpv6: Uint8Array;
  /** Upper 16 and lower 32 bits of each MAC address, in network order. */
  readonly macHigh: Uint16Array;
  readonly macLow: Uint32Array;
  /** 1: the MAC address is resolved. */
  readonly resolved: Uint8Array;
  /** When the MAC address last changed from one to another, ms on the engine's clock. */
  readonly movedAt: Float64Array;
  readonly states: NodeStates;
  readonly withheld: WithheldOptions;
  /** By slot. Bytes by which packets to the node grow; 0: the node is on the link. */
  carried: Uint8Array;
  /** The largest of these numbers. */
  carryBytes = 0;
  private retired: Uint8Array;
  /** The slot of the balancer itself, which is a node, too; -1: it is none. */
  local = NOT_FOUND;
  /** The addresses of the slots below the highest one in use: all that a search looks at. */
  private searched: Uint32Array;
  private readonly numberOf: NumberOf;

  /**
   * @param states with a place for each slot
   * @param withheld shared with other engines and the main thread; by default with none
   * @param numberOf of the engine's key; by default only IPv4 nodes are possible
   */
  constructor(
    nodes: readonly NodeAt[],
    states: NodeStates,
    withheld = new WithheldOptions(),
    numberOf: NumberOf = onlyIpv4,
  ) {
    this.numberOf = numberOf;
    this.count = states.count;
    this.address = new Uint32Array(this.count);
    this.isIpv6 = new Uint8Array(this.count);
    this.retired = new Uint8Array(this.count);
    this.carried = this.retired;
    this.searched = this.address;
    this.macHigh = new Uint16Array(this.count);
    this.macLow = new Uint32Array(this.count);
    this.resolved = new Uint8Array(this.count);
    this.movedAt = new Float64Array(this.count).fill(Number.NEGATIVE_INFINITY);
    this.states = states;
    this.withheld = withheld;
    this.commit(this.prepare(nodes));
  }

  /**
   * Prepares the table for other nodes, and changes nothing yet. A node keeps its slot while it has
   * sessions.
   *
   * @throws BatonError BATON_CONFIG for a slot that does not exist; BATON_IN_USE when a slot would
   *   get another address, or none, and its present node is not retired or has sessions
   */
  prepare(nodes: readonly NodeAt[]): NodeChange {
    const address = new Uint32Array(this.count);
    const isIpv6 = new Uint8Array(this.count);
    const retired = new Uint8Array(this.count);
    const carried = new Uint8Array(this.count);
    const slots = new Map<number, number>();
    for (const node of nodes) {
      if (node.slot >= this.count)
        throw new BatonError('BATON_CONFIG', `there is room for ${this.count} nodes`);
      const number = this.numberOf(node.address);
      const other = slots.get(number);
      if (other !== undefined) {
        // Of two IPv6 nodes, one chance in 2^32; the key of aliases decides.
        throw new BatonError(
          'BATON_CONFIG',
          `the nodes in slots ${other} and ${node.slot} have the same number of an address: with another key in keyFile they have different ones`,
        );
      }
      slots.set(number, node.slot);
      address[node.slot] = number;
      isIpv6[node.slot] = typeof node.address === 'number' ? 0 : 1;
      retired[node.slot] = node.retired ? 1 : 0;
      carried[node.slot] = carryBytes(node.via);
    }
    const changed: number[] = [];
    for (let slot = 0; slot < this.count; slot++) {
      if (address[slot] === this.address[slot] && isIpv6[slot] === this.isIpv6[slot]) continue;
      changed.push(slot);
      if (this.address[slot] !== 0)
        requireUnused('node', slot, this.retired[slot] === 1, this.states.heldHere[slot]!);
    }
    return { address, isIpv6, retired, carried, changed };
  }

  /** Puts the prepared nodes in place. The MAC address of a slot with another node is unknown. */
  commit({ address, isIpv6, retired, carried, changed }: NodeChange): void {
    this.carried = carried;
    this.carryBytes = Math.max(0, ...carried);
    this.address = address;
    this.isIpv6 = isIpv6;
    this.retired = retired;
    let end = address.length;
    while (end > 0 && address[end - 1] === 0) end -= 1;
    this.searched = address.subarray(0, end);
    this.local = this.find(LOCAL_NODE);
    for (const slot of changed) {
      this.macHigh[slot] = 0;
      this.macLow[slot] = 0;
      this.resolved[slot] = 0;
      this.movedAt[slot] = Number.NEGATIVE_INFINITY;
      this.states.adopted[slot] = 0;
    }
  }

  /** The slots up to here may have nodes; all slots behind are free. */
  get end(): number {
    return this.searched.length;
  }

  /** Slot of the node whose address has this number, in use or retired; -1: there is none. */
  find(address: number): number {
    return address === 0 ? NOT_FOUND : this.searched.indexOf(address);
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

  /** Why `takesHandoffs` is false, or the node is never picked; undefined: there is no reason. */
  obstacle(node: number, server: number, options: number, now: number): NodeObstacle | undefined {
    if (this.states.weight[node] === 0) return { obstacle: 'weight', forMs: null };
    if (this.resolved[node] !== 1) return { obstacle: 'unresolved', forMs: null };
    return this.states.obstacle(node, server, options, now);
  }

  /**
   * IxpFlag bits of the agreed options that IXP headers to this node leave out: its kernel refuses
   * them, and a session can go on without them.
   */
  omittedOptions(node: number): number {
    return this.states.refusedOptions(node) & IxpFlag.sackOk;
  }
}
