/**
 * The nodes as the XDP program knows them: its map `nodes`, mapped into our memory. The program
 * reads while we write.
 */
import { NODE, NODE_BYTES, OWN_STACK } from '../../datapath/xdp-layout.js';
import { type Address, addressBytes, LOCAL_NODE, UNSPECIFIED } from '../../wire/address.js';

const WORD_BYTES = Uint32Array.BYTES_PER_ELEMENT;
const MAC_BYTES = 6;

export class XdpNodes {
  private readonly bytes: Uint8Array;
  private readonly words: Uint32Array;
  /** By slot. */
  private readonly addresses = new Map<number, Address>();
  private readonly by: { index: number; mac: Uint8Array };
  private redirects = false;

  private readonly clients: { mac: Uint8Array };

  /**
   * @param memory of the map
   * @param by the interface by which nodes are reached
   * @param clients that of the clients
   */
  constructor(
    memory: ArrayBuffer,
    by: { index: number; mac: Uint8Array },
    clients: { mac: Uint8Array },
  ) {
    this.bytes = new Uint8Array(memory);
    this.words = new Uint32Array(memory);
    this.by = by;
    this.clients = clients;
  }

  /**
   * Makes the map hold these nodes and no others. The MAC address of a slot with another address
   * than before is not known.
   */
  set(nodes: readonly { slot: number; address: Address }[]): void {
    const wanted = new Map(nodes.map(({ slot, address }) => [slot, address]));
    for (const slot of this.addresses.keys()) {
      if (wanted.has(slot)) continue;
      this.writeAddress(slot, UNSPECIFIED);
      this.addresses.delete(slot);
    }
    for (const [slot, address] of wanted) {
      if (this.addresses.get(slot) === address) continue;
      this.writeAddress(slot, address);
      this.addresses.set(slot, address);
    }
  }

  /**
   * Sets the MAC address (six bytes) of the node in a slot; undefined: it is not known any more.
   */
  setMac(slot: number, mac: Uint8Array | undefined): void {
    const { words, clients } = this;
    const own = this.addresses.get(slot) === LOCAL_NODE;
    const by = own ? { index: OWN_STACK, mac: clients.mac } : this.by;
    const at = slot * NODE_BYTES;
    // While this word is 0, the program does not use the other fields.
    Atomics.store(words, (at + NODE.interface) / WORD_BYTES, 0);
    if (mac === undefined || !this.addresses.has(slot)) return;
    this.bytes.set(mac.subarray(0, MAC_BYTES), at + NODE.destination);
    this.bytes.set(by.mac, at + NODE.source);
    this.writeRedirect(slot);
    Atomics.store(words, (at + NODE.interface) / WORD_BYTES, by.index);
  }

  /** Whether frames to nodes leave by the map `ports`, because XDP_TX may lose them. */
  setRedirects(redirects: boolean): void {
    this.redirects = redirects;
    for (const slot of this.addresses.keys()) this.writeRedirect(slot);
  }

  private writeAddress(slot: number, address: Address): void {
    const at = slot * NODE_BYTES;
    Atomics.store(this.words, (at + NODE.interface) / WORD_BYTES, 0);
    this.bytes.set(addressBytes(address), at + NODE.address);
    this.writeRedirect(slot);
  }

  private writeRedirect(slot: number): void {
    this.words[(slot * NODE_BYTES + NODE.redirect) / WORD_BYTES] = this.redirects ? 1 : 0;
  }
}
