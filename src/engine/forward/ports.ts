/**
 * Finds the virtual server with mode forward of an address, a transport protocol and a port. A
 * change makes another table.
 */
import { Protocol } from '../../wire/ipv4.js';
import { Mode, type NumberOf, onlyIpv4, type ServerAt } from '../farm.js';

const NONE = -1;

export class ForwardPorts {
  /** 0: there are none. */
  readonly count: number;
  /** By address and transport: its ranges in ascending order, each as from, to, slot. */
  private readonly ranges = new Map<number, Uint32Array>();

  /** @param numberOf of the engine's key; by default only IPv4 is possible */
  constructor(servers: readonly ServerAt[], numberOf: NumberOf = onlyIpv4) {
    const lists = new Map<number, { from: number; to: number; slot: number }[]>();
    const forwarding = servers.filter(({ mode }) => mode === Mode.forward);
    this.count = forwarding.length;
    for (const { slot, address, transport = Protocol.tcp, ports = [] } of forwarding) {
      const key = keyOf(numberOf(address), transport);
      const list = lists.get(key) ?? [];
      list.push(...ports.map(({ from, to }) => ({ from, to, slot })));
      lists.set(key, list);
    }
    for (const [key, list] of lists) {
      list.sort((a, b) => a.from - b.from);
      this.ranges.set(
        key,
        Uint32Array.from(list.flatMap(({ from, to, slot }) => [from, to, slot])),
      );
    }
  }

  /** Slot of the virtual server, or -1. */
  find(address: number, protocol: number, port: number): number {
    const ranges = this.ranges.get(keyOf(address, protocol));
    if (ranges === undefined) return NONE;
    let low = 0;
    let high = ranges.length / 3;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (port < ranges[middle * 3]!) high = middle;
      else if (port > ranges[middle * 3 + 1]!) low = middle + 1;
      else return ranges[middle * 3 + 2]!;
    }
    return NONE;
  }

  /** Slot of the first virtual server with this address and protocol, or -1. */
  first(address: number, protocol: number): number {
    return this.ranges.get(keyOf(address, protocol))?.[2] ?? NONE;
  }
}

/** A double holds it exactly. */
function keyOf(address: number, protocol: number): number {
  return address * 256 + protocol;
}
