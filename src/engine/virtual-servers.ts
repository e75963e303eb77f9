/** Finds the virtual server of an address and port, in a small table with open addressing. */

export class VirtualServerTable {
  readonly count: number;
  readonly address: Uint32Array;
  readonly port: Uint16Array;
  private readonly mask: number;
  /** Index of a virtual server plus one; 0: empty. */
  private readonly buckets: Uint16Array;
  private readonly addresses: Set<number>;

  constructor(servers: readonly { address: number; port: number }[]) {
    this.count = servers.length;
    this.address = Uint32Array.from(servers, (server) => server.address);
    this.port = Uint16Array.from(servers, (server) => server.port);
    this.addresses = new Set(this.address);
    let size = 8;
    while (size < servers.length * 4) size *= 2;
    this.mask = size - 1;
    this.buckets = new Uint16Array(size);
    for (let index = 0; index < servers.length; index++) {
      let at = this.home(this.address[index]!, this.port[index]!);
      while (this.buckets[at] !== 0) at = (at + 1) & this.mask;
      this.buckets[at] = index + 1;
    }
  }

  /** Index of the virtual server, or -1. */
  find(address: number, port: number): number {
    let at = this.home(address, port);
    for (;;) {
      const index = this.buckets[at]! - 1;
      if (index < 0) return -1;
      if (this.address[index] === address && this.port[index] === port) return index;
      at = (at + 1) & this.mask;
    }
  }

  /** Whether any virtual server has this address. For rare packets only. */
  hasAddress(address: number): boolean {
    return this.addresses.has(address);
  }

  private home(address: number, port: number): number {
    const mixed = Math.imul(address ^ (port << 16) ^ port, 0x9e3779b1);
    return (mixed ^ (mixed >>> 15)) & this.mask;
  }
}
