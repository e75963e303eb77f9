/**
 * The MAC addresses of the nodes, from the kernel's neighbour table. The kernel reports each change
 * of the table. Frames of the balancer bypass it, so nothing else keeps its entries fresh: every
 * second, entries that are missing, stale or failed are resolved again. A node that does not answer
 * may have a new MAC address while the table still has the old one. Then the entry is deleted and
 * resolved again.
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
import { type Address, formatAddress, sameNetwork } from '../../wire/address.js';
import { formatMac } from '../../wire/ethernet.js';

/** States of linux/neighbour.h in which an entry's MAC address must not be used. */
const NUD_INCOMPLETE = 0x01;
const NUD_FAILED = 0x20;
const UNUSABLE = NUD_INCOMPLETE | NUD_FAILED;
/** States of entries that the kernel did not find itself: no ARP needed, permanent. */
const NUD_GIVEN = 0x40 | 0x80;
/** States that need no resolution: reachable, being tested (delay, probe), given. */
const NUD_SETTLED = 0x02 | 0x08 | 0x10 | NUD_GIVEN;

const INTERVAL_MS = 1_000;
/** Looks at the start, ms: sessions need not wait a second for the first answers. */
const FIRST_LOOKS_MS = [20, 60, 150, 400];

/**
 * While the kernel resolves an entry, the last answer stays valid. It ends when the kernel gives
 * up, or after this time, in ms.
 */
const PATIENCE_MS = 2_500;

/** Changes come in bursts. One look after this time, in ms, serves all of them. */
const BURST_MS = 1;

/** Shortest time between two rechecks of a node, ms. */
const RECHECK_INTERVAL_MS = 250;

type NeighbourNative = Pick<
  Native,
  'interfaceInfo' | 'neighbours' | 'resolveNeighbour' | 'forgetNeighbour' | 'openNeighbourEvents'
>;

/** A node was resolved, changed its MAC address, or cannot be reached any more. */
export interface NeighbourChange {
  /** Index of the node. */
  node: number;
  /** Six bytes, or undefined. */
  mac: Uint8Array | undefined;
  /** Why there is no MAC address, in words; else empty. */
  why: string;
}

export interface NeighbourOptions {
  interface: string;
  /** The nodes, by index. */
  nodes: readonly { address: Address }[];
  onChange: (change: NeighbourChange) => void;
  /** For tests. */
  native?: NeighbourNative;
  routeTo?: typeof routeTo;
  now?: () => number;
}

export class NeighbourWatch {
  private readonly options: NeighbourOptions;
  /** By node. */
  private readonly addresses: readonly Address[];
  private readonly native: NeighbourNative;
  /** By node, what was last reported: MAC address or reason, as text. */
  private readonly reported: string[];
  /** Nodes that are on the link by a route of their own, not by an address of the interface. */
  private readonly routed = new Set<number>();
  /** By node, when the table lost its usable entry, ms. */
  private readonly missingSince: (number | undefined)[] = [];
  /** By node, the time of the last recheck, ms. */
  private readonly recheckedAt: (number | undefined)[] = [];
  private readonly now: () => number;
  private readonly timers: NodeJS.Timeout[] = [];
  private interval: NodeJS.Timeout | undefined;
  private burst: NodeJS.Timeout | undefined;
  private events: NeighbourEvents | undefined;

  constructor(options: NeighbourOptions) {
    this.options = options;
    this.addresses = options.nodes.map((node) => node.address);
    this.native = options.native ?? native();
    this.now = options.now ?? (() => performance.now());
    this.reported = options.nodes.map(() => '');
  }

  /**
   * Looks now, at each change of the table, and every second until `stop`; more often at first.
   * Rejects with the system's error when a netlink socket cannot be opened.
   */
  async start(): Promise<void> {
    await this.findRouted();
    this.events = this.native.openNeighbourEvents();
    this.events.start((address) => {
      if (address === undefined || this.addresses.includes(address)) this.lookSoon();
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
   * To be called when a node does not answer although the table has its MAC address. The kernel
   * deletes the entry and resolves it again; the result is reported like any change. Until then, at
   * most for PATIENCE_MS, the last answer stays valid.
   */
  recheck(node: number): void {
    const address = this.addresses[node];
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
      // The entry or the interface has disappeared meanwhile: the next look finds out.
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
   * Looks at the table once: reports what has changed, and has the kernel resolve missing entries.
   */
  look(): void {
    const { addresses } = this;
    let info: InterfaceInfo | undefined;
    try {
      info = this.native.interfaceInfo(this.options.interface);
    } catch {
      // For example, no descriptor was free. This says nothing of the nodes: the last answers stay.
      return;
    }
    if (info === undefined || !info.up) {
      const why = `interface ${this.options.interface} is ${info === undefined ? 'gone' : 'down'}`;
      for (let node = 0; node < addresses.length; node++) this.report(node, undefined, why);
      return;
    }
    let table: Map<Address, Neighbour>;
    try {
      table = new Map(this.native.neighbours(info.index).map((entry) => [entry.address, entry]));
    } catch (error) {
      for (let node = 0; node < addresses.length; node++)
        this.report(node, undefined, reasonOf(error));
      return;
    }
    for (const [node, address] of addresses.entries()) {
      if (!this.routed.has(node) && !isOnLink(info, address)) {
        this.report(
          node,
          undefined,
          `${formatAddress(address)} is not on the link of ${this.options.interface}`,
        );
      } else {
        this.lookAt(node, address, table.get(address), info.index);
      }
    }
  }

  private lookAt(
    node: number,
    address: Address,
    entry: Neighbour | undefined,
    interfaceIndex: number,
  ): void {
    let why = `${formatAddress(address)} does not answer ARP`;
    if (entry === undefined || (entry.state & (NUD_SETTLED | NUD_INCOMPLETE)) === 0) {
      try {
        this.native.resolveNeighbour(interfaceIndex, address);
      } catch (error) {
        why = `cannot resolve ${formatAddress(address)}: ${reasonOf(error)}`;
      }
    }
    // An entry fails when its old MAC address does not answer. That alone is not enough: the node
    // is lost only if no machine on the link answers either.
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

  /** Finds the nodes that are on the link by a route of their own. */
  private async findRouted(): Promise<void> {
    const info = this.native.interfaceInfo(this.options.interface);
    const ask = this.options.routeTo ?? routeTo;
    for (const [node, address] of this.addresses.entries()) {
      if (info === undefined || isOnLink(info, address)) continue;
      const route = await ask(address);
      if (route?.interface === this.options.interface && route.gateway === undefined)
        this.routed.add(node);
    }
  }
}

/** Whether an address is in the subnet of one of the interface's addresses. */
function isOnLink(info: InterfaceInfo, address: Address): boolean {
  return info.addresses.some(({ address: own, prefix }) => sameNetwork(own, address, prefix));
}
