/**
 * The nodes as the XDP program knows them: its map `nodes`, mapped into our memory. The program
 * reads while we write.
 */
import { FAMILY_IPV6, NODE, NODE_BYTES, OWN_STACK } from '../../datapath/xdp-layout.js';
import { carryBytes, type Via } from '../../engine/farm.js';
import {
  type Address,
  addressBytes,
  isAddress6,
  LOCAL_NODE,
  type OwnAddresses,
  ownTowards,
  toAddress,
  UNSPECIFIED,
} from '../../wire/address.js';
import type { Aliases } from '../../wire/alias.js';

const WORD_BYTES = Uint32Array.BYTES_PER_ELEMENT;
const MAC_BYTES = 6;

/** Where a node is. */
interface Place {
  readonly address: Address;
  readonly via?: Via | undefined;
}

export class XdpNodes {
  private readonly bytes: Uint8Array;
  private readonly words: Uint32Array;
  /** By slot. */
  private readonly known = new Map<number, Place>();
  private readonly by: { index: number; mac: Uint8Array };
  private readonly mtu: number;
  private readonly own: OwnAddresses;
  private readonly aliases: Aliases;
  private redirects = false;

  private readonly clients: { mac: Uint8Array };

  /**
   * @param memory of the map
   * @param by the interface by which nodes are reached
   * @param clients that of the clients
   * @param mtu of these interfaces: the smaller one
   * @param own our own addresses at the nodes
   */
  constructor(
    memory: ArrayBuffer,
    by: { index: number; mac: Uint8Array },
    clients: { mac: Uint8Array },
    mtu: number,
    own: OwnAddresses,
    aliases: Aliases,
  ) {
    this.own = own;
    this.aliases = aliases;
    this.bytes = new Uint8Array(memory);
    this.words = new Uint32Array(memory);
    this.by = by;
    this.clients = clients;
    this.mtu = mtu;
  }

  /**
   * Makes the map hold these nodes and no others. The MAC address of a slot with another address
   * than before, or with another way to it, is not known.
   */
  set(nodes: readonly (Place & { slot: number })[]): void {
    const wanted = new Map(nodes.map(({ slot, address, via }) => [slot, { address, via }]));
    for (const slot of this.known.keys()) {
      if (wanted.has(slot)) continue;
      this.writePlace(slot, { address: UNSPECIFIED });
      this.known.delete(slot);
    }
    for (const [slot, place] of wanted) {
      const before = this.known.get(slot);
      if (before?.address === place.address && before.via === place.via) continue;
      this.writePlace(slot, place);
      this.known.set(slot, place);
    }
  }

  /**
   * Sets the MAC address (six bytes) of the node in a slot; undefined: it is not known any more.
   */
  setMac(slot: number, mac: Uint8Array | undefined): void {
    const { words, clients } = this;
    const own = this.known.get(slot)?.address === LOCAL_NODE;
    const by = own ? { index: OWN_STACK, mac: clients.mac } : this.by;
    const at = slot * NODE_BYTES;
    // While this word is 0, the program does not use the other fields.
    Atomics.store(words, (at + NODE.interface) / WORD_BYTES, 0);
    if (mac === undefined || !this.known.has(slot)) return;
    this.bytes.set(mac.subarray(0, MAC_BYTES), at + NODE.destination);
    this.bytes.set(by.mac, at + NODE.source);
    this.writeRedirect(slot);
    Atomics.store(words, (at + NODE.interface) / WORD_BYTES, by.index);
  }

  /** Whether frames to nodes leave by the map `ports`, because XDP_TX may lose them. */
  setRedirects(redirects: boolean): void {
    this.redirects = redirects;
    for (const slot of this.known.keys()) this.writeRedirect(slot);
  }

  private writePlace(slot: number, { address, via }: Place): void {
    const { words, mtu } = this;
    const at = slot * NODE_BYTES;
    const carry = carryBytes(via);
    const us = ownTowards(this.own, address) ?? UNSPECIFIED;
    const isIpv6 = isAddress6(address);
    Atomics.store(words, (at + NODE.interface) / WORD_BYTES, 0);
    this.bytes.set(this.numberOf(address), at + NODE.address);
    words[(at + NODE.carry) / WORD_BYTES] = carry;
    words[(at + NODE.most) / WORD_BYTES] = mtu - carry;
    this.bytes.set(this.numberOf(us), at + NODE.balancer);
    words[(at + NODE.family) / WORD_BYTES] = isIpv6 ? FAMILY_IPV6 : 0;
    if (isIpv6) this.bytes.set(addressBytes(address), at + NODE.address6);
    this.writeRedirect(slot);
  }

  private numberOf(address: Address): Uint8Array {
    return addressBytes(toAddress(this.aliases.of(address)));
  }

  private writeRedirect(slot: number): void {
    this.words[(slot * NODE_BYTES + NODE.redirect) / WORD_BYTES] = this.redirects ? 1 : 0;
  }
}
