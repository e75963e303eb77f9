/**
 * The virtual servers by slot, and a small table with open addressing that finds the one of an
 * address and port. A change makes another table.
 */
import { BatonError } from '../base/errors.js';
import { MOST_VIRTUAL_SERVERS } from '../datapath/xdp-layout.js';
import { Mode, requireUnused, type ServerAt } from './farm.js';

/** Of the virtual server in a slot. */
const Phase = { free: 0, open: 1, retired: 2 } as const;

export class VirtualServerTable {
  /** By slot. */
  readonly address: Uint32Array;
  readonly port: Uint16Array;
  /** `Mode`, `Protocol`, `KeepAlive` and `Retry` of farm.ts, by slot. */
  readonly mode: Uint8Array;
  readonly protocol: Uint8Array;
  readonly keepAlive: Uint8Array;
  readonly retry: Uint8Array;
  /** In ms, by slot. */
  readonly firstBytes: Uint32Array;
  /** The slots that have a virtual server, in use or retired. */
  readonly slots: Uint16Array;
  private readonly phase: Uint8Array;
  private readonly mask: number;
  /** Slot of a virtual server plus one; 0: empty. */
  private readonly buckets: Uint16Array;
  private readonly addresses: Set<number>;

  /** @throws BatonError BATON_CONFIG for a slot that does not exist */
  constructor(servers: readonly ServerAt[]) {
    this.address = new Uint32Array(MOST_VIRTUAL_SERVERS);
    this.port = new Uint16Array(MOST_VIRTUAL_SERVERS);
    this.mode = new Uint8Array(MOST_VIRTUAL_SERVERS);
    this.protocol = new Uint8Array(MOST_VIRTUAL_SERVERS);
    this.keepAlive = new Uint8Array(MOST_VIRTUAL_SERVERS);
    this.retry = new Uint8Array(MOST_VIRTUAL_SERVERS);
    this.firstBytes = new Uint32Array(MOST_VIRTUAL_SERVERS);
    this.phase = new Uint8Array(MOST_VIRTUAL_SERVERS);
    this.slots = Uint16Array.from(servers, ({ slot }) => slot);
    this.addresses = new Set(servers.map(({ address }) => address));
    let size = 8;
    while (size < servers.length * 4) size *= 2;
    this.mask = size - 1;
    this.buckets = new Uint16Array(size);
    for (const server of servers) {
      const { slot, address, port, retired } = server;
      if (slot >= MOST_VIRTUAL_SERVERS) {
        const most = MOST_VIRTUAL_SERVERS;
        throw new BatonError('BATON_CONFIG', `there is room for ${most} virtual servers`);
      }
      this.address[slot] = address;
      this.port[slot] = port;
      this.mode[slot] = server.mode ?? 0;
      this.protocol[slot] = server.protocol ?? 0;
      this.keepAlive[slot] = server.keepAlive ?? 0;
      this.retry[slot] = server.retry ?? 0;
      this.firstBytes[slot] = server.firstBytes ?? 0;
      this.phase[slot] = retired ? Phase.retired : Phase.open;
      // ForwardPorts finds those with mode forward.
      if (this.mode[slot] === Mode.forward) continue;
      let at = this.home(address, port);
      while (this.buckets[at] !== 0) at = (at + 1) & this.mask;
      this.buckets[at] = slot + 1;
    }
  }

  /** Slot of the virtual server with mode handoff, or -1. */
  find(address: number, port: number): number {
    let at = this.home(address, port);
    for (;;) {
      const slot = this.buckets[at]! - 1;
      if (slot < 0) return -1;
      if (this.address[slot] === address && this.port[slot] === port) return slot;
      at = (at + 1) & this.mask;
    }
  }

  /** Whether there is a virtual server in the slot, and it takes new connections. */
  isOpen(slot: number): boolean {
    return this.phase[slot] === Phase.open;
  }

  /** Whether any virtual server has this address. For rare packets only. */
  hasAddress(address: number): boolean {
    return this.addresses.has(address);
  }

  /**
   * The slots that have another virtual server in `next`, or none. Checks that `next` may take the
   * place of this table: a slot keeps its address and port while sessions have it.
   *
   * @param held sessions of this engine, by slot
   * @throws BatonError BATON_IN_USE
   */
  replaced(next: VirtualServerTable, held: Uint32Array): number[] {
    const slots = [...this.slots].filter(
      (slot) => this.address[slot] !== next.address[slot] || this.port[slot] !== next.port[slot],
    );
    for (const slot of slots)
      requireUnused('virtual server', slot, !this.isOpen(slot), held[slot]!);
    return slots;
  }

  private home(address: number, port: number): number {
    const mixed = Math.imul(address ^ (port << 16) ^ port, 0x9e3779b1);
    return (mixed ^ (mixed >>> 15)) & this.mask;
  }
}
