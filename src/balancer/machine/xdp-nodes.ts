/**
 * The nodes as the XDP program knows them: its map `nodes`, mapped into our memory. The program
 * reads while we write.
 */
import { NODE, NODE_BYTES } from '../../datapath/xdp-layout.js';
import { type Address, addressBytes } from '../../wire/address.js';

const WORD_BYTES = Uint32Array.BYTES_PER_ELEMENT;
const MAC_BYTES = 6;

export class XdpNodes {
  private readonly bytes: Uint8Array;
  private readonly words: Uint32Array;
  private readonly count: number;
  private readonly by: { index: number; mac: Uint8Array };
  private redirects = false;

  /**
   * @param memory of the map
   * @param addresses of the nodes, by index
   * @param by the interface by which nodes are reached
   */
  constructor(
    memory: ArrayBuffer,
    addresses: readonly Address[],
    by: { index: number; mac: Uint8Array },
  ) {
    this.bytes = new Uint8Array(memory);
    this.words = new Uint32Array(memory);
    this.count = addresses.length;
    this.by = by;
    for (const [node, address] of addresses.entries())
      this.bytes.set(addressBytes(address), node * NODE_BYTES + NODE.address);
  }

  /** Sets a node's MAC address (six bytes); undefined: it is not known any more. */
  setMac(node: number, mac: Uint8Array | undefined): void {
    const { bytes, words, by } = this;
    const at = node * NODE_BYTES;
    // While this word is 0, the program does not use the other fields.
    Atomics.store(words, (at + NODE.interface) / WORD_BYTES, 0);
    if (mac === undefined) return;
    bytes.set(mac.subarray(0, MAC_BYTES), at + NODE.destination);
    bytes.set(by.mac, at + NODE.source);
    this.writeRedirect(node);
    Atomics.store(words, (at + NODE.interface) / WORD_BYTES, by.index);
  }

  /** Whether frames to nodes leave by the map `ports`, because XDP_TX may lose them. */
  setRedirects(redirects: boolean): void {
    this.redirects = redirects;
    for (let node = 0; node < this.count; node++) this.writeRedirect(node);
  }

  private writeRedirect(node: number): void {
    this.words[(node * NODE_BYTES + NODE.redirect) / WORD_BYTES] = this.redirects ? 1 : 0;
  }
}
