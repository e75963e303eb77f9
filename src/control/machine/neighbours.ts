/**
 * The MAC addresses of the nodes, as the kernel's neighbour table has them. Baton's own frames do not
 * go through that table, so nothing else keeps its entries fresh: every second those that are missing,
 * stale or failed are put to the test.
 */
import { reasonOf } from '../../base/errors.js';
import { routeTo } from '../../base/host/addresses.js';
import { type InterfaceInfo, type Native, type Neighbour, native } from '../../base/native.js';
import { formatMac } from '../../wire/ethernet.js';
import { parseIpv4 } from '../../wire/ipv4.js';

/** States of linux/neighbour.h in which an entry's MAC address is not to be used. */
const NUD_INCOMPLETE = 0x01;
const NUD_FAILED = 0x20;
const UNUSABLE = NUD_INCOMPLETE | NUD_FAILED;
/** States that need no test: reachable, being tested (delay, probe), without ARP, permanent. */
const NUD_SETTLED = 0x02 | 0x08 | 0x10 | 0x40 | 0x80;

const INTERVAL_MS = 1_000;
/** At the start, so that sessions need not wait a second for the first answers. */
const FIRST_LOOKS_MS = [20, 60, 150, 400];

/**
 * An entry that is gone or asked for anew says nothing yet: the last answer holds until the kernel has
 * given up, or has been at it for this long.
 */
const PATIENCE_MS = 2_500;

/** One node was resolved, changed its MAC address, or can no longer be reached. */
export interface NeighbourChange {
  /** Index of the node. */
  node: number;
  /** Six bytes, or undefined. */
  mac: Uint8Array | undefined;
  /** Why there is none, in words; else empty. */
  why: string;
}

export interface NeighbourOptions {
  interface: string;
  /** Addresses of the nodes by index, dotted quads. */
  addresses: readonly string[];
  onChange: (change: NeighbourChange) => void;
  /** For tests. */
  native?: Pick<Native, 'interfaceInfo' | 'neighbours' | 'resolveNeighbour'>;
  routeTo?: typeof routeTo;
  now?: () => number;
}

export class NeighbourWatch {
  private readonly options: NeighbourOptions;
  private readonly native: Pick<Native, 'interfaceInfo' | 'neighbours' | 'resolveNeighbour'>;
  /** By node, what was last told: MAC address or reason, as one text. */
  private readonly told: string[];
  /** Nodes that no address of the interface has on its link, though a route may. */
  private readonly routed = new Set<number>();
  /** By node, since when the table has no usable entry, in ms. */
  private readonly missingSince: (number | undefined)[] = [];
  private readonly now: () => number;
  private readonly timers: NodeJS.Timeout[] = [];
  private interval: NodeJS.Timeout | undefined;

  constructor(options: NeighbourOptions) {
    this.options = options;
    this.native = options.native ?? native();
    this.now = options.now ?? (() => performance.now());
    this.told = options.addresses.map(() => '');
  }

  /** Looks now, and every second until `stop`. The first looks follow faster upon each other. */
  async start(): Promise<void> {
    await this.findRouted();
    this.look();
    for (const wait of FIRST_LOOKS_MS) this.timers.push(setTimeout(() => this.look(), wait));
    this.interval = setInterval(() => this.look(), INTERVAL_MS);
  }

  stop(): void {
    clearInterval(this.interval);
    for (const timer of this.timers) clearTimeout(timer);
  }

  /** One look at the table: tells what has changed, and has the kernel ask for what it does not know. */
  look(): void {
    const { addresses } = this.options;
    let info: InterfaceInfo | undefined;
    try {
      info = this.native.interfaceInfo(this.options.interface);
    } catch {
      // Short of descriptors, say: that tells nothing of the nodes, so what was known holds.
      return;
    }
    if (info === undefined || !info.up) {
      const why = `interface ${this.options.interface} is ${info === undefined ? 'gone' : 'down'}`;
      for (let node = 0; node < addresses.length; node++) this.tell(node, undefined, why);
      return;
    }
    let table: Map<string, Neighbour>;
    try {
      table = new Map(this.native.neighbours(info.index).map((entry) => [entry.address, entry]));
    } catch (error) {
      for (let node = 0; node < addresses.length; node++) this.tell(node, undefined, reasonOf(error));
      return;
    }
    for (const [node, address] of addresses.entries()) {
      if (!this.routed.has(node) && !isOnLink(info, address)) {
        this.tell(node, undefined, `${address} is not on the link of ${this.options.interface}`);
      } else {
        this.lookAt(node, address, table.get(address), info.index);
      }
    }
  }

  private lookAt(node: number, address: string, entry: Neighbour | undefined, interfaceIndex: number): void {
    let why = `${address} does not answer ARP`;
    if (entry === undefined || (entry.state & (NUD_SETTLED | NUD_INCOMPLETE)) === 0) {
      try {
        this.native.resolveNeighbour(interfaceIndex, address);
      } catch (error) {
        why = `${address} can not be asked for: ${reasonOf(error)}`;
      }
    }
    const failed = entry !== undefined && (entry.state & NUD_FAILED) !== 0;
    if (entry?.mac !== undefined && (entry.state & UNUSABLE) === 0) {
      this.missingSince[node] = undefined;
      this.tell(node, entry.mac, '');
      return;
    }
    const since = this.missingSince[node] ?? this.now();
    this.missingSince[node] = since;
    if (failed || this.now() - since >= PATIENCE_MS) this.tell(node, undefined, why);
  }

  private tell(node: number, mac: Uint8Array | undefined, why: string): void {
    const text = mac === undefined ? why : formatMac(mac);
    if (this.told[node] === text) return;
    this.told[node] = text;
    this.options.onChange({ node, mac: mac?.slice(), why });
  }

  /** Finds the nodes that a route of its own, not an address of the interface, has on the link. */
  private async findRouted(): Promise<void> {
    const info = this.native.interfaceInfo(this.options.interface);
    const ask = this.options.routeTo ?? routeTo;
    for (const [node, address] of this.options.addresses.entries()) {
      if (info === undefined || isOnLink(info, address)) continue;
      const route = await ask(address);
      if (route?.interface === this.options.interface && route.gateway === undefined) this.routed.add(node);
    }
  }
}

/** Whether an address is in the network of one of the interface's addresses. */
function isOnLink(info: InterfaceInfo, address: string): boolean {
  const number = parseIpv4(address);
  if (number === undefined) return false;
  return info.addresses.some(({ address: own, prefix }) => {
    // A shift by 32 would be one by 0.
    const mask = prefix === 0 ? 0 : -1 << (32 - prefix);
    return ((number ^ (parseIpv4(own) ?? 0)) & mask) === 0;
  });
}
