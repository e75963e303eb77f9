/**
 * The MAC addresses of the nodes, from the kernel's neighbour table. The kernel reports each change
 * of the table. Frames of the balancer bypass it, so nothing else keeps its entries fresh: every
 * second, entries that are missing, stale or failed are resolved again. A node that does not answer
 * may have a new MAC address while the table still has the old one. Then the entry is deleted and
 * resolved again.
 */
import { reasonOf } from '../../base/errors.js';
import { carryBytes } from '../../engine/farm.js';
import { routeTo } from '../../host/addresses.js';
import {
  type InterfaceInfo,
  type Native,
  type Neighbour,
  type NeighbourEvents,
  native,
} from '../../host/native.js';
import {
  type Address,
  formatAddress,
  isAddress6,
  LOCAL_NODE,
  sameNetwork,
} from '../../wire/address.js';
import { formatMac } from '../../wire/ethernet.js';
import type { NodeSlot } from '../objects/farm.js';

/** States of linux/neighbour.h in which an entry's MAC address must not be used. */
const NUD_INCOMPLETE = 0x01;
const NUD_FAILED = 0x20;
const UNUSABLE = NUD_INCOMPLETE | NUD_FAILED;
/** States of entries that the kernel did not find itself: no ARP needed, permanent. */
const NUD_GIVEN = 0x40 | 0x80;
/** States that need no resolution: reachable, being tested (delay, probe), given. */
const NUD_SETTLED = 0x02 | 0x08 | 0x10 | NUD_GIVEN;

const INTERVAL_MS = 1_000;
/** Looks at new nodes, ms: sessions need not wait a second for the first answers. */
const FIRST_LOOKS_MS = [20, 60, 150, 400];

/**
 * While the kernel resolves an entry, the last answer stays valid. It ends when the kernel gives
 * up, or after this time, in ms.
 */
const PATIENCE_MS = 2_500;

/**
 * Changes come in bursts. One look after this time, in ms, serves all of them. After a look that
 * took long the next one waits longer, so that many nodes that do not answer cost a small share of
 * the thread's time.
 */
const BURST_MS = 1;
const LONGEST_BURST_MS = 1_000;
const REST = 20;

/**
 * Nodes without an answer that are asked again in a second. When more do not answer, they take
 * turns: each question is a broadcast to all machines of the link.
 */
const ASKS_AGAIN = 64;

/** Shortest time between two rechecks of a node, ms. */
const RECHECK_INTERVAL_MS = 250;

type NeighbourNative = Pick<
  Native,
  'interfaceInfo' | 'neighbours' | 'resolveNeighbour' | 'forgetNeighbour' | 'openNeighbourEvents'
>;

/** A node was resolved, changed its MAC address, or cannot be reached any more. */
export interface NeighbourChange {
  /** Slot of the node. */
  node: number;
  /** Six bytes, or undefined. */
  mac: Uint8Array | undefined;
  /** Why there is no MAC address, in words; else empty. */
  why: string;
}

/** A node's slot and address. */
type Place = Pick<NodeSlot, 'slot' | 'address' | 'via'>;

/** What is known of a node. */
interface Entry extends Place {
  /** Its address, or that of the next router on the way there. */
  hop: Address;
  /** What was last reported: MAC address or reason, as text. */
  reported: string;
  /**
   * It is on the link by a route of its own, not by an address of the interface; undefined: not
   * found out yet.
   */
  routed: boolean | undefined;
  /** When the table lost its usable entry, ms. */
  missingSince: number | undefined;
  /** Time of the last recheck, ms. */
  recheckedAt: number;
  /** When the kernel was last asked to resolve it, ms. */
  askedAt: number;
}

export interface NeighbourOptions {
  interface: string;
  /** The MAC address of the balancer itself as a node, six bytes. */
  localMac: Uint8Array;
  nodes: readonly Place[];
  onChange: (change: NeighbourChange) => void;
  /** For tests. */
  native?: NeighbourNative;
  routeTo?: typeof routeTo;
  now?: () => number;
}

const UNKNOWN = {
  reported: '',
  routed: undefined,
  missingSince: undefined,
  recheckedAt: Number.NEGATIVE_INFINITY,
  askedAt: Number.NEGATIVE_INFINITY,
} as const;

export class NeighbourWatch {
  private readonly options: NeighbourOptions;
  private readonly native: NeighbourNative;
  /** By slot. */
  private readonly entries = new Map<number, Entry>();
  private addresses: ReadonlySet<Address> = new Set();
  private readonly now: () => number;
  private readonly timers: NodeJS.Timeout[] = [];
  private interval: NodeJS.Timeout | undefined;
  private burst: NodeJS.Timeout | undefined;
  /** How long the last look took, ms. */
  private lookMs = 0;
  /** When the last look began, ms. */
  private lookedAt = Number.NEGATIVE_INFINITY;
  /** Time between two questions about a node that does not answer, ms. */
  private askEveryMs = 0;
  /** How many of these nodes may be asked again now. */
  private asks = 0;
  private events: NeighbourEvents | undefined;

  constructor(options: NeighbourOptions) {
    this.options = options;
    this.native = options.native ?? native();
    this.now = options.now ?? (() => performance.now());
    this.take(options.nodes);
  }

  /**
   * Looks now, at each change of the table, and every second until `stop`; more often at first.
   * Rejects with the system's error when a netlink socket cannot be opened.
   */
  async start(): Promise<void> {
    await this.findRouted([...this.entries.values()]);
    this.events = this.native.openNeighbourEvents();
    this.events.start((address) => {
      if (address === undefined || this.addresses.has(address)) this.lookSoon();
    });
    this.lookOften();
    this.interval = setInterval(() => this.look(), INTERVAL_MS);
  }

  /**
   * Watches these nodes from now on, and no others. What is known of a node stays as long as its
   * slot and address do. The answers for new nodes are reported like any change.
   */
  setNodes(nodes: readonly NodeSlot[]): void {
    const added = this.take(nodes);
    if (added.length === 0) return;
    // The others need not wait for the routes.
    void this.findRouted(added).then(() => {
      if (this.interval !== undefined) this.lookOften();
    });
  }

  stop(): void {
    clearInterval(this.interval);
    this.interval = undefined;
    clearTimeout(this.burst);
    for (const timer of this.timers) clearTimeout(timer);
    this.events?.close();
  }

  private lookOften(): void {
    for (const timer of this.timers.splice(0)) clearTimeout(timer);
    this.look();
    for (const wait of FIRST_LOOKS_MS) this.timers.push(setTimeout(() => this.look(), wait));
  }

  /** Replaces the nodes. Returns the entries of those that are new. */
  private take(nodes: readonly Place[]): Entry[] {
    const added: Entry[] = [];
    const wanted = new Map(nodes.map((node) => [node.slot, node]));
    for (const [slot, { address, via }] of this.entries) {
      const node = wanted.get(slot);
      if (node?.address !== address || node.via !== via) this.entries.delete(slot);
    }
    for (const { slot, address, via } of wanted.values()) {
      if (this.entries.has(slot)) continue;
      const entry = { slot, address, hop: address, ...(via && { via }), ...UNKNOWN };
      this.entries.set(slot, entry);
      added.push(entry);
    }
    this.noteAddresses();
    return added;
  }

  /**
   * To be called when a node does not answer although the table has its MAC address. The kernel
   * deletes the entry and resolves it again; the result is reported like any change. Until then, at
   * most for PATIENCE_MS, the last answer stays valid.
   */
  recheck(node: number): void {
    const known = this.entries.get(node);
    if (known === undefined || this.now() - known.recheckedAt < RECHECK_INTERVAL_MS) return;
    known.recheckedAt = this.now();
    const address = known.hop;
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
    const wait = Math.min(Math.max(BURST_MS, REST * this.lookMs), LONGEST_BURST_MS);
    this.burst ??= setTimeout(() => {
      this.burst = undefined;
      this.look();
    }, wait);
  }

  /**
   * Looks at the table once: reports what has changed, and has the kernel resolve missing entries.
   */
  look(): void {
    const began = this.now();
    const share = Math.min(1, (began - this.lookedAt) / INTERVAL_MS);
    this.asks = Math.min(ASKS_AGAIN, this.asks + share * ASKS_AGAIN);
    this.lookedAt = began;
    this.lookAtAll();
    this.lookMs = this.now() - began;
    let missing = 0;
    for (const { missingSince } of this.entries.values()) if (missingSince !== undefined) missing++;
    this.askEveryMs = missing < ASKS_AGAIN ? 0 : INTERVAL_MS * Math.ceil(missing / ASKS_AGAIN);
  }

  private lookAtAll(): void {
    for (const node of this.entries.values())
      if (node.address === LOCAL_NODE) this.report(node, this.options.localMac, '');
    const others = [...this.entries.values()].filter(({ address }) => address !== LOCAL_NODE);
    let info: InterfaceInfo | undefined;
    try {
      info = this.native.interfaceInfo(this.options.interface);
    } catch {
      // For example, no descriptor was free. This says nothing of the nodes: the last answers stay.
      return;
    }
    if (info === undefined || !info.up) {
      const why = `interface ${this.options.interface} is ${info === undefined ? 'gone' : 'down'}`;
      for (const node of others) this.report(node, undefined, why);
      return;
    }
    let table: Map<Address, Neighbour>;
    try {
      table = new Map(this.native.neighbours(info.index).map((entry) => [entry.address, entry]));
    } catch (error) {
      for (const node of others) this.report(node, undefined, reasonOf(error));
      return;
    }
    for (const node of others) {
      const { address } = node;
      if (node.routed !== true && !isOnLink(info, address)) {
        if (node.routed === undefined) continue;
        this.report(
          node,
          undefined,
          isCarried(node)
            ? `no route leads to ${formatAddress(address)} by ${this.options.interface}`
            : `${formatAddress(address)} is not on the link of ${this.options.interface}`,
        );
      } else {
        this.lookAt(node, table.get(node.hop), info.index);
      }
    }
  }

  private lookAt(node: Entry, entry: Neighbour | undefined, interfaceIndex: number): void {
    const address = node.hop;
    const question = isAddress6(address) ? 'neighbour solicitations' : 'ARP';
    let why = `${formatAddress(address)} does not answer ${question}`;
    if (
      (entry === undefined || (entry.state & (NUD_SETTLED | NUD_INCOMPLETE)) === 0) &&
      this.mayAsk(node)
    ) {
      try {
        this.native.resolveNeighbour(interfaceIndex, address);
        node.askedAt = this.now();
      } catch (error) {
        why = `cannot resolve ${formatAddress(address)}: ${reasonOf(error)}`;
      }
    }
    // An entry fails when its old MAC address does not answer. That alone is not enough: the node
    // is lost only if no machine on the link answers either.
    const failed =
      entry !== undefined && (entry.state & NUD_FAILED) !== 0 && node.missingSince !== undefined;
    if (entry?.mac !== undefined && (entry.state & UNUSABLE) === 0) {
      node.missingSince = undefined;
      this.report(node, entry.mac, '');
      return;
    }
    const since = node.missingSince ?? this.now();
    node.missingSince = since;
    if (failed || this.now() - since >= PATIENCE_MS) this.report(node, undefined, why);
  }

  private mayAsk({ missingSince, askedAt }: Entry): boolean {
    if (missingSince === undefined || this.askEveryMs === 0) return true;
    if (this.asks < 1 || this.now() - askedAt < this.askEveryMs) return false;
    this.asks -= 1;
    return true;
  }

  private report(node: Entry, mac: Uint8Array | undefined, why: string): void {
    const text = mac === undefined ? why : formatMac(mac);
    if (node.reported === text) return;
    node.reported = text;
    this.options.onChange({ node: node.slot, mac: mac?.slice(), why });
  }

  /** Finds those of the nodes that are on the link by a route of their own. */
  private async findRouted(nodes: readonly Entry[]): Promise<void> {
    const { interface: name, routeTo: ask = routeTo } = this.options;
    let info: InterfaceInfo | undefined;
    try {
      info = this.native.interfaceInfo(name);
    } catch {
      // As when the interface is gone: no route leads there.
    }
    for (const node of nodes) {
      const asks = info !== undefined && !isOnLink(info, node.address);
      const route = asks ? await ask(node.address) : undefined;
      const gateway = isCarried(node) ? route?.gateway : undefined;
      node.routed = route?.interface === name && route.gateway === gateway;
      node.hop = gateway ?? node.address;
    }
    this.noteAddresses();
  }

  /** The addresses of which the kernel's reports count. */
  private noteAddresses(): void {
    this.addresses = new Set(Array.from(this.entries.values(), ({ hop }) => hop));
  }
}

/** Whether packets to the node may pass routers. */
function isCarried({ via }: Place): boolean {
  return carryBytes(via) > 0;
}

/** Whether an address is in the subnet of one of the interface's addresses. */
function isOnLink(info: InterfaceInfo, address: Address): boolean {
  return info.addresses.some(({ address: own, prefix }) => sameNetwork(own, address, prefix));
}
