/**
 * The virtual servers by slot, and a small table with open addressing that finds the one of an
 * address and port. A change makes another table.
 */
import { BatonError } from '../base/errors.js';
import { MOST_VIRTUAL_SERVERS } from '../datapath/xdp-layout.js';
import { wordsOf } from '../wire/address.js';
import { IPV4_HEADER_BYTES } from '../wire/ipv4.js';
import { IPV6_HEADER_BYTES } from '../wire/ipv6.js';
import { Mode, type NumberOf, onlyIpv4, requireUnused, type ServerAt } from './farm.js';
import { PORT_OF_IPV6 } from './segment.js';

/** Words of an IPv6 address. */
export const ADDRESS_WORDS = 4;

/** Of the virtual server in a slot. */
const Phase = { free: 0, open: 1, retired: 2 } as const;

export class VirtualServerTable {
  /** By slot: numbers of the addresses (`NumberOf`). */
  readonly address: Uint32Array;
  /** By slot: four words of an IPv6 address. */
  readonly words: Uint32Array;
  /** By slot: bytes of an IP header of its family. */
  readonly ipBytes: Uint8Array;
  readonly port: Uint16Array;
  /** By slot: the port, with PORT_OF_IPV6 if the address is IPv6. */
  private readonly placePort: Uint32Array;
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
  /** Whether any virtual server has an IPv6 address. */
  readonly hasIpv6: boolean;

  /**
   * @param numberOf of the engine's key; by default only IPv4 is possible
   * @throws BatonError BATON_CONFIG for a slot that does not exist
   */
  constructor(servers: readonly ServerAt[], numberOf: NumberOf = onlyIpv4) {
    this.address = new Uint32Array(MOST_VIRTUAL_SERVERS);
    this.words = new Uint32Array(MOST_VIRTUAL_SERVERS * ADDRESS_WORDS);
    this.ipBytes = new Uint8Array(MOST_VIRTUAL_SERVERS).fill(IPV4_HEADER_BYTES);
    this.port = new Uint16Array(MOST_VIRTUAL_SERVERS);
    this.placePort = new Uint32Array(MOST_VIRTUAL_SERVERS);
    this.mode = new Uint8Array(MOST_VIRTUAL_SERVERS);
    this.protocol = new Uint8Array(MOST_VIRTUAL_SERVERS);
    this.keepAlive = new Uint8Array(MOST_VIRTUAL_SERVERS);
    this.retry = new Uint8Array(MOST_VIRTUAL_SERVERS);
    this.firstBytes = new Uint32Array(MOST_VIRTUAL_SERVERS);
    this.phase = new Uint8Array(MOST_VIRTUAL_SERVERS);
    this.slots = Uint16Array.from(servers, ({ slot }) => slot);
    this.addresses = new Set(servers.map(({ address }) => numberOf(address)));
    this.hasIpv6 = servers.some(({ address }) => typeof address !== 'number');
    let size = 8;
    while (size < servers.length * 4) size *= 2;
    this.mask = size - 1;
    this.buckets = new Uint16Array(size);
    for (const server of servers) {
      const { slot, port, retired } = server;
      const address = numberOf(server.address);
      if (slot >= MOST_VIRTUAL_SERVERS) {
        const most = MOST_VIRTUAL_SERVERS;
        throw new BatonError('BATON_CONFIG', `there is room for ${most} virtual servers`);
      }
      this.address[slot] = address;
      if (typeof server.address !== 'number') {
        this.words.set(wordsOf(server.address), slot * ADDRESS_WORDS);
        this.ipBytes[slot] = IPV6_HEADER_BYTES;
      }
      this.port[slot] = port;
      this.placePort[slot] = typeof server.address === 'number' ? port : port | PORT_OF_IPV6;
      this.mode[slot] = server.mode ?? 0;
      this.protocol[slot] = server.protocol ?? 0;
      this.keepAlive[slot] = server.keepAlive ?? 0;
      this.retry[slot] = server.retry ?? 0;
      this.firstBytes[slot] = server.firstBytes ?? 0;
      this.phase[slot] = retired ? Phase.retired : Phase.open;
      // ForwardPorts finds those with mode forward.
      if (this.mode[slot] === Mode.forward) continue;
      let at = this.home(address, this.placePort[slot]!);
      while (this.buckets[at] !== 0) at = (at + 1) & this.mask;
      this.buckets[at] = slot + 1;
    }
  }

  /**
   * Slot of the virtual server with mode handoff, or -1.
   * @param address the number of the address (`NumberOf`)
   * @param port with PORT_OF_IPV6 if the address is IPv6
   */
  find(address: number, port: number): number {
    let at = this.home(address, port);
    for (;;) {
      const slot = this.buckets[at]! - 1;
      if (slot < 0) return -1;
      if (this.address[slot] === address && this.placePort[slot] === port) return slot;
      at = (at + 1) & this.mask;
    }
  }

  /** Whether the virtual server in the slot has the IPv6 address at `offset`. */
  isAt(slot: number, view: DataView, offset: number): boolean {
    return (
      this.ipBytes[slot] === IPV6_HEADER_BYTES &&
      hasWords(this.words, slot * ADDRESS_WORDS, view, offset)
    );
  }

  /** Writes the IPv6 address of a virtual server to `offset` of a frame. */
  writeAddress(slot: number, view: DataView, offset: number): void {
    const at = slot * ADDRESS_WORDS;
    for (let word = 0; word < ADDRESS_WORDS; word++)
      view.setUint32(offset + word * 4, this.words[at + word]!);
  }

  /** Whether there is a virtual server in the slot, and it takes new connections. */
  isOpen(slot: number): boolean {
    return this.phase[slot] === Phase.open;
  }

  /** Whether there is a virtual server in the slot, also one that takes no new connections. */
  isUsed(slot: number): boolean {
    return this.phase[slot] !== undefined && this.phase[slot] !== Phase.free;
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
      (slot) =>
        this.address[slot] !== next.address[slot] || this.placePort[slot] !== next.placePort[slot],
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

/** Whether the IPv6 address at `offset` of a frame is words[at, at + 4). */
export function hasWords(words: Uint32Array, at: number, view: DataView, offset: number): boolean {
  return (
    view.getUint32(offset + 12) === words[at + 3]! &&
    view.getUint32(offset + 8) === words[at + 2]! &&
    view.getUint32(offset + 4) === words[at + 1]! &&
    view.getUint32(offset) === words[at]!
  );
}
