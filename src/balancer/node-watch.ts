/**
 * Watches the nodes from the main thread. It finds out the condition of each, and decides which
 * options SYN/ACKs offer: those that all nodes can continue with. It looks when an engine reports a
 * change, and every second, because some conditions change with time alone.
 */
import type { Log } from '../base/log.js';
import type { NodeStates } from '../directory/node-states.js';
import type { WithheldOptions } from '../engine/withheld-options.js';
import { KERNEL_OPTIONS, settingName } from '../host/kernel-options.js';
import type { Address } from '../wire/address.js';
import { formatMac } from '../wire/ethernet.js';
import { IxcpReason, refusedOptions } from '../wire/ixcp.js';
import { IxpFlag } from '../wire/ixp.js';
import type { NeighbourChange } from './machine/neighbours.js';
import { type NodeFacts, type NodeStatus, nodeStatus, refusalText } from './node-state.js';
import type { Farm, FarmSlots, ServerSlot } from './objects/farm.js';
import type { EngineEvent } from './threads/engine-messages.js';

const LOOK_MS = 1_000;
/**
 * Agents report every second. An agent that has not reported this long after we began to watch its
 * node, in ms, is mentioned in the status.
 */
const SETTLED_MS = 3_500;
/**
 * An option is offered once every node has reported that it supports it. After this time, in ms,
 * nodes that have never reported do not count any more.
 */
const UNKNOWN_MS = 1_500;
/** Options that cannot be withdrawn once a client was offered them. */
const WITHHELD = IxpFlag.windowScaleOk | IxpFlag.timestampsOk;

const REMOVED: NodeStatus = {
  condition: 'removed',
  why: 'it is no longer in the config; its sessions continue until they end',
};

/** A farm as the watch needs it. Without the directory, every node may get handoffs. */
export type WatchedFarm = FarmSlots & Partial<Pick<Farm, 'directory'>>;

export interface NodeWatchOptions {
  farm: WatchedFarm;
  /** States of the nodes, in memory shared with the engine threads. */
  states: NodeStates;
  withheld: WithheldOptions;
  log: Log;
  /** Engine time, ms. */
  now(): number;
  /** Called with the IxpFlag bits that SYN/ACKs must not offer, each time they change. */
  onWithheld(options: number): void;
  /** Options that an earlier run did not offer, IxpFlag bits; undefined: there was none. */
  earlier: number | undefined;
}

/** What is known of the node in a slot. */
interface Watched {
  name: string;
  readonly address: Address;
  /** It is not in the config any more, so it gets no handoffs. */
  retired: boolean;
  /** Since when it is watched, ms. */
  readonly since: number;
  /** Undefined: not known. */
  mac: Uint8Array | undefined;
  /** Why its MAC address is not known; undefined: not looked for yet. */
  reason: string | undefined;
}

export class NodeWatch {
  /** Called with the slot of a node whose status may have changed. */
  onLook: ((node: number) => void) | undefined;
  private readonly options: NodeWatchOptions;
  private readonly startedAt: number;
  /** By slot. */
  private readonly nodes = new Map<number, Watched>();
  /** The virtual servers that take sessions. */
  private servers: readonly ServerSlot[] = [];
  /** Those that forward. */
  private forwarding: readonly ServerSlot[] = [];
  /** The nodes that get handoffs, by slot; undefined: all. */
  private handed: ReadonlySet<number> | undefined;
  private withheld: number;
  private timer: NodeJS.Timeout | undefined;

  constructor(options: NodeWatchOptions) {
    this.options = options;
    this.startedAt = options.now();
    this.setFarm(options.farm);
    // Until the nodes have reported, clients are offered only what every node can continue with.
    this.withheld = options.earlier ?? WITHHELD;
    options.withheld.current = this.withheld;
    options.onWithheld(this.withheld);
  }

  start(): void {
    this.look();
    this.timer = setInterval(() => this.look(), LOOK_MS);
  }

  stop(): void {
    clearInterval(this.timer);
  }

  /**
   * Watches these nodes and virtual servers from now on, and no others. What is known of a node
   * stays as long as its slot and address do.
   */
  setFarm({ nodes, servers, directory }: WatchedFarm): void {
    const wanted = new Map(nodes.map((node) => [node.slot, node]));
    for (const [slot, { address }] of this.nodes) {
      if (wanted.get(slot)?.address !== address) this.nodes.delete(slot);
    }
    for (const [slot, { name, address, retired }] of wanted) {
      const known = this.nodes.get(slot);
      if (known === undefined) this.nodes.set(slot, this.watched(name, address, retired));
      else Object.assign(known, { name, retired });
    }
    // No handoff goes to a virtual server with mode forward, so its nodes need no agent.
    this.servers = servers.filter((server) => !server.retired && server.mode === 'handoff');
    this.forwarding = servers.filter((server) => !server.retired && server.mode === 'forward');
    const open = this.servers.filter(({ protocol }) => protocol === 'tcp');
    this.handed =
      directory && new Set([...directory.holders.node, ...open.flatMap((one) => one.nodes)]);
  }

  /** The MAC address of the node in a slot as "02:00:00:00:00:01"; null: not known. */
  mac(node: number): string | null {
    const mac = this.nodes.get(node)?.mac;
    return mac === undefined ? null : formatMac(mac);
  }

  /** ms since the last report of a node's agent; null: it has never reported. */
  reportAgeMs(node: number): number | null {
    return this.facts(node).reportAgeMs;
  }

  /** Whether the node's MAC address was looked for. Before that, no status is news. */
  hasLooked(node: number): boolean {
    return this.nodes.get(node)?.reason !== undefined;
  }

  /** What is known of the node in a slot, in one word and a sentence. */
  status(node: number): NodeStatus {
    const known = this.nodes.get(node);
    if (known === undefined || known.retired) return REMOVED;
    const forwarding = this.forwarding.filter(({ nodes }) => nodes.includes(node));
    return nodeStatus(this.facts(node), this.servers, forwarding);
  }

  /**
   * The options that SYN/ACKs do not offer, and because of which machines: a line for each option.
   */
  notOffered(): string[] {
    return KERNEL_OPTIONS.filter(({ option }) => (this.withheld & option) !== 0).map(
      ({ name, flag, setting }) => {
        const why = this.inConfig()
          .filter(([node]) => (this.flagsInService(node) & flag) !== 0)
          .map(([, { name }]) => name);
        if (why.length === 0) return `${name}: not all nodes have reported yet`;
        return `${name}: ${settingName(setting)} is 0 on ${why.join(', ')}`;
      },
    );
  }

  neighbour(change: NeighbourChange): void {
    const { node, mac, why } = change;
    const known = this.nodes.get(node);
    if (known === undefined) return;
    known.mac = mac;
    known.reason = why;
    if (mac !== undefined) this.options.log.info(`node ${known.name} is at ${formatMac(mac)}`);
    this.check(node);
  }

  engine(event: EngineEvent): void {
    const { node } = event;
    const known = this.nodes.get(node);
    // A node that is gone meanwhile.
    if (known === undefined) return;
    this.check(node);
    // The log has events about a node as its condition. This line is about one connection.
    if (event.event === 'refused' && event.reason === IxcpReason.tupleInUse)
      this.options.log.warn(`node ${known.name} refused a handoff: ${refusalText(event.reason)}`);
  }

  /** Checks one node. */
  private check(node: number): void {
    this.onLook?.(node);
    this.updateWithheld();
  }

  /** Checks all nodes. */
  look(): void {
    for (const [node] of this.inConfig()) this.onLook?.(node);
    this.updateWithheld();
  }

  private watched(name: string, address: Address, retired: boolean): Watched {
    return {
      name,
      address,
      retired,
      since: this.options.now(),
      mac: undefined,
      reason: undefined,
    };
  }

  /** The nodes that are in the config, by slot. */
  private inConfig(): [number, Watched][] {
    return [...this.nodes].filter(([, { retired }]) => !retired);
  }

  private facts(node: number): NodeFacts {
    const { states, now } = this.options;
    const known = this.nodes.get(node);
    return {
      ...states.health(node, now()),
      resolved: known?.mac !== undefined,
      whyUnresolved: known?.reason ?? 'not looked for yet',
      settled: known !== undefined && now() - known.since > SETTLED_MS,
      needsAgent: this.handed?.has(node) ?? true,
    };
  }

  private updateWithheld(): void {
    const { states, now, onWithheld } = this.options;
    let refused = 0;
    let unknown = false;
    for (const [node] of this.inConfig()) {
      refused |= refusedOptions(this.flagsInService(node));
      unknown ||= states.reportedAt[node] === -1;
    }
    const early = unknown && now() - this.startedAt < UNKNOWN_MS;
    const withheld = (early ? this.withheld | refused : refused) & WITHHELD;
    this.options.withheld.current = withheld;
    if (withheld === this.withheld) return;
    this.withheld = withheld;
    onWithheld(withheld);
  }

  /** IxcpFlag bits of the last report of a node that can be handed sessions; 0 of any other. */
  private flagsInService(node: number): number {
    if (this.nodes.get(node)?.mac === undefined) return 0;
    return this.options.states.flagsInService(node, this.servers);
  }
}
