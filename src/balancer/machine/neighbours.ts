/**
 * The MAC addresses of the nodes, as the kernel's neighbour table has them. Its changes are
 * followed as the kernel makes them. Baton's own frames do not go through that table, so nothing
 * else keeps its entries fresh: every second those that are missing, stale or failed are put to the
 * test. A node that does not answer may have another MAC address while the table still believes in
 * the old one: then the link is asked anew.
 */
import { reasonOf } from '../../base/errors.js';
import { routeTo } from '../../host/addresses.js';
import {
  type InterfaceInfo,
  type Native,
  type Neighbour,
  type NeighbourEvents,
  native,
} from '../../host/native.js';
import { formatMac } from '../../wire/ethernet.js';
import { parseIpv4 } from '../../wire/ipv4.js';

/** States of linux/neighbour.h in which an entry's MAC address is not to be used. */
const NUD_INCOMPLETE = 0x01;
const NUD_FAILED = 0x20;
const UNUSABLE = NUD_INCOMPLETE | NUD_FAILED;
/** States of entries that are not the kernel's own finding: without ARP, permanent. */
const NUD_GIVEN = 0x40 | 0x80;
/** States that need no test: reachable, being tested (delay, probe), given. */
const NUD_SETTLED = 0x02 | 0x08 | 0x10 | NUD_GIVEN;

const INTERVAL_MS = 1_000;
/** At the start, so that sessions need not wait a second for the first answers. */
const FIRST_LOOKS_MS = [20, 60, 150, 400];

/**
 * An entry that is gone or asked for anew says nothing yet: the last answer holds until the kernel
 * has given up, or has been at it for this long.
 */
const PATIENCE_MS = 2_500;

/** Changes come in bursts: one look for all of them. */
const BURST_MS = 1;

/** The link is asked anew about a node at most this often. */
const RECHECK_INTERVAL_MS = 250;

type NeighbourNative = Pick<
  Native,
  'interfaceInfo' | 'neighbours' | 'resolveNeighbour' | 'forgetNeighbour' | 'openNeighbourEvents'
>;

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
  native?: NeighbourNative;
  routeTo?: typeof routeTo;
  now?: () => number;
}

export class NeighbourWatch {
  private readonly options: NeighbourOptions;
  private readonly native: NeighbourNative;
  /** By node, what was last told: MAC address or reason, as one text. */
  private readonly reported: string[];
  /** Nodes that no address of the interface has on its link, though a route may. */
  private readonly routed = new Set<number>();
  /** By node, since when the table has no usable entry, in ms. */
  private readonly missingSince: (number | undefined)[] = [];
  /** By node, when the link was last asked anew, in ms. */
  private readonly recheckedAt: (number | undefined)[] = [];
  private readonly now: () => number;
  private readonly timers: NodeJS.Timeout[] = [];
  private interval: NodeJS.Timeout | undefined;
  private burst: NodeJS.Timeout | undefined;
  private events: NeighbourEvents | undefined;

  constructor(options: NeighbourOptions) {
    this.options = options;
    this.native = options.native ?? native();
    this.now = options.now ?? (() => performance.now());
    this.reported = options.addresses.map(() => '');
  }

  /**
   * Looks now, whenever the table changes, and every second until `stop`. The first looks follow
   * faster upon each other. Rejects with what the system says to a netlink socket.
   */
  async start(): Promise<void> {
    await this.findRouted();
    this.events = this.native.openNeighbourEvents();
    this.events.start((address) => {
      if (address === undefined || this.options.addresses.includes(address)) this.lookSoon();
    });
    this.look();
    for (const wait of FIRST_LOOKS_MS) this.timers.push(setTimeout(() => this.look(), wait));
    this.interval = setInterval(() => this.look(), INTERVAL_MS);
  }

  stop(): void {
    clearInterval(this.interval);
    clearTimeout(this.burst);
    for (const timer of this.timers) clearTimeout(timer);
    this.events?.close();
  }

  /**
   * The node does not answer, though the table has a MAC address. Has the kernel forget that, and
   * ask the link: what it finds is told as any change is. Until then, and when it finds nothing for
   * PATIENCE_MS, the last answer holds.
   */
  recheck(node: number): void {
    const address = this.options.addresses[node];
    const since = this.now() - (this.recheckedAt[node] ?? Number.NEGATIVE_INFINITY);
    if (address === undefined || since < RECHECK_INTERVAL_MS) return;
    this.recheckedAt[node] = this.now();
    try {
      const info = this.native.interfaceInfo(this.options.interface);
      if (info === undefined) return;
      const entry = this.native.neighbours(info.index).find((one) => one.address === address);
      if (entry?.mac === undefined || (entry.state & (NUD_GIVEN | UNUSABLE)) !== 0) return;
      this.native.forgetNeighbour(info.index, address);
      this.native.resolveNeighbour(info.index, address);
    } catch {
      // The entry has gone by itself meanwhile, or the interface has: the next look finds out.
    }
    this.lookSoon();
  }

  private lookSoon(): void {
    this.burst ??= setTimeout(() => {
      this.burst = undefined;
      this.look();
    }, BURST_MS);
  }

  /**
   * One look at the table: tells what has changed, and has the kernel ask for what it does not
   * know.
   */
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
      for (let node = 0; node < addresses.length; node++) this.report(node, undefined, why);
      return;
    }
    let table: Map<string, Neighbour>;
    try {
      table = new Map(this.native.neighbours(info.index).map((entry) => [entry.address, entry]));
    } catch (error) {
      for (let node = 0; node < addresses.length; node++)
        this.report(node, undefined, reasonOf(error));
      return;
    }
    for (const [node, address] of addresses.entries()) {
      if (!this.routed.has(node) && !isOnLink(info, address)) {
        this.report(node, undefined, `${address} is not on the link of ${this.options.interface}`);
      } else {
        this.lookAt(node, address, table.get(address), info.index);
      }
    }
  }

  private lookAt(
    node: number,
    address: string,
    entry: Neighbour | undefined,
    interfaceIndex: number,
  ): void {
    let why = `${address} does not answer ARP`;
    if (entry === undefined || (entry.state & (NUD_SETTLED | NUD_INCOMPLETE)) === 0) {
      try {
        this.native.resolveNeighbour(interfaceIndex, address);
      } catch (error) {
        why = `cannot resolve ${address}: ${reasonOf(error)}`;
      }
    }
    // An entry fails when the MAC address that it had does not answer. What counts is that nobody
    // answers the link.
    const failed =
      entry !== undefined &&
      (entry.state & NUD_FAILED) !== 0 &&
      this.missingSince[node] !== undefined;
    if (entry?.mac !== undefined && (entry.state & UNUSABLE) === 0) {
      this.missingSince[node] = undefined;
      this.report(node, entry.mac, '');
      return;
    }
    const since = this.missingSince[node] ?? this.now();
    this.missingSince[node] = since;
    if (failed || this.now() - since >= PATIENCE_MS) this.report(node, undefined, why);
  }

  private report(node: number, mac: Uint8Array | undefined, why: string): void {
    const text = mac === undefined ? why : formatMac(mac);
    if (this.reported[node] === text) return;
    this.reported[node] = text;
    this.options.onChange({ node, mac: mac?.slice(), why });
  }

  /** Finds the nodes that a route of its own, not an address of the interface, has on the link. */
  private async findRouted(): Promise<void> {
    const info = this.native.interfaceInfo(this.options.interface);
    const ask = this.options.routeTo ?? routeTo;
    for (const [node, address] of this.options.addresses.entries()) {
      if (info === undefined || isOnLink(info, address)) continue;
      const route = await ask(address);
      if (route?.interface === this.options.interface && route.gateway === undefined)
        this.routed.add(node);
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
