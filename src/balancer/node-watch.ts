/**
 * Watches the nodes from the main thread. It logs every change of a node's state, and decides which
 * options SYN/ACKs offer: those that all nodes, and our own kernel, can continue with. It looks
 * when an engine reports a change, and every second, because some states change with time alone.
 */
import { reasonOf } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { TokenBucket } from '../base/token-bucket.js';
import type { NodeStates } from '../directory/node-states.js';
import type { WithheldOptions } from '../engine/withheld-options.js';
import { KERNEL_OPTIONS, kernelFlags, settingName } from '../host/kernel-options.js';
import type { Endpoint } from '../wire/address.js';
import { formatMac } from '../wire/ethernet.js';
import { IxcpFlag, IxcpReason, refusedOptions } from '../wire/ixcp.js';
import { IxpFlag } from '../wire/ixp.js';
import type { NeighbourChange } from './machine/neighbours.js';
import { costOf, type NodeFacts, type NodeStatus, nodeStatus, refusalText } from './node-state.js';
import type { EngineEvent } from './threads/engine-messages.js';

const LOOK_MS = 1_000;
/**
 * Agents report every second. An agent that has not reported this long after the start, in ms, is
 * mentioned in the state.
 */
const SETTLED_MS = 3_500;
/**
 * An option is offered once every node has reported that it supports it. After this time, in ms,
 * nodes that have never reported do not count any more.
 */
const UNKNOWN_MS = 1_500;
/**
 * Limits of log lines about one node: MOST_LINES at once, then one in SECONDS_A_LINE. The last
 * state is always logged in the end.
 */
const MOST_LINES = 12;
const SECONDS_A_LINE = 5;

/** Options that cannot be withdrawn once a client was offered them. */
const WITHHELD = IxpFlag.windowScaleOk | IxpFlag.timestampsOk;

const REMOVED: NodeStatus = {
  state: 'removed',
  why: 'it is no longer in the config; its sessions continue until they end',
};

export interface NodeWatchOptions {
  nodes: readonly { name: string }[];
  /**
   * How many of them, the first ones, are in the config. The others get no handoffs. Default: all.
   */
  configured?: number;
  virtualServers: readonly (Endpoint & { name: string })[];
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
  /** For tests: `kernelFlags`. */
  kernelFlags?: () => number;
}

export class NodeWatch {
  private readonly options: NodeWatchOptions;
  private readonly startedAt: number;
  /** By node, its MAC address; undefined: not known. */
  private readonly macs: (Uint8Array | undefined)[] = [];
  /** By node, why its MAC address is not known. */
  private readonly reasons: string[] = [];
  /** By node, the status that was logged last. */
  private readonly logged: NodeStatus[];
  private readonly lines: TokenBucket[];
  private readonly configured: number;
  private ownFlags = IxcpFlag.canAdopt as number;
  private withheld: number;
  private timer: NodeJS.Timeout | undefined;

  constructor(options: NodeWatchOptions) {
    this.options = options;
    this.configured = options.configured ?? options.nodes.length;
    this.startedAt = options.now();
    this.logged = options.nodes.map(() => ({ state: 'unresolved', why: '' }));
    this.lines = options.nodes.map(() => new TokenBucket(1 / SECONDS_A_LINE, MOST_LINES));
    // Until the nodes have reported, clients are offered only what every node can continue with.
    this.withheld = options.earlier ?? WITHHELD;
    options.withheld.set(this.withheld, 0);
    options.onWithheld(this.withheld);
  }

  start(): void {
    this.look();
    this.timer = setInterval(() => this.look(), LOOK_MS);
  }

  stop(): void {
    clearInterval(this.timer);
  }

  /** A node's MAC address as "02:00:00:00:00:01"; null: not known. */
  mac(node: number): string | null {
    const mac = this.macs[node];
    return mac === undefined ? null : formatMac(mac);
  }

  /** ms since the last report of a node's agent; null: it has never reported. */
  reportAgeMs(node: number): number | null {
    return this.facts(node).reportAgeMs;
  }

  status(node: number): NodeStatus {
    if (node >= this.configured) return REMOVED;
    return nodeStatus(this.facts(node), this.options.virtualServers);
  }

  /**
   * The options that SYN/ACKs do not offer, and because of which machines: a line for each option.
   */
  notOffered(): string[] {
    const { nodes } = this.options;
    return KERNEL_OPTIONS.filter(({ option }) => (this.withheld & option) !== 0).map(
      ({ name, flag, setting }) => {
        const why = nodes
          .slice(0, this.configured)
          .map(({ name }) => name)
          .filter((_, node) => (this.flagsInService(node) & flag) !== 0);
        if ((this.ownFlags & flag) !== 0) why.unshift('this machine');
        if (why.length === 0) return `${name}: not all nodes have reported yet`;
        return `${name}: ${settingName(setting)} is 0 on ${why.join(', ')}`;
      },
    );
  }

  neighbour(change: NeighbourChange): void {
    const { node, mac, why } = change;
    this.macs[node] = mac;
    this.reasons[node] = why;
    if (mac !== undefined) this.options.log.info(`${this.nameOf(node)} is at ${formatMac(mac)}`);
    this.check(node);
  }

  engine(event: EngineEvent): void {
    const { log, nodes } = this.options;
    const name = this.nameOf(event.node);
    if (event.node < nodes.length) this.check(event.node);
    // The log has events about a node as its state. These lines are about one connection, or about
    // the local services.
    else if (event.event === 'silent') log.warn(`${name} did not answer a handoff in time`);
    if (
      event.event === 'refused' &&
      (event.node >= nodes.length || event.reason === IxcpReason.tupleInUse)
    )
      log.warn(`${name} refused a handoff: ${refusalText(event.reason)}`);
  }

  /** Checks one node. */
  private check(node: number): void {
    this.logChange(node);
    this.updateWithheld();
  }

  /** Checks all nodes and our own kernel. */
  look(): void {
    this.checkOwnKernel();
    for (let node = 0; node < this.configured; node++) this.logChange(node);
    this.updateWithheld();
  }

  private facts(node: number): NodeFacts {
    const { states, now } = this.options;
    return {
      ...states.health(node, now()),
      resolved: this.macs[node] !== undefined,
      whyUnresolved: this.reasons[node] ?? 'not looked for yet',
      settled: now() - this.startedAt > SETTLED_MS,
    };
  }

  private logChange(node: number): void {
    const { log, now } = this.options;
    const status = this.status(node);
    const logged = this.logged[node];
    if (logged?.state === status.state && logged.why === status.why) return;
    // Before the first resolution, it is no news that the MAC address is unknown.
    if (status.state === 'unresolved' && this.reasons[node] === undefined) return;
    if (this.lines[node]?.take(now()) !== true) return;
    this.logged[node] = status;
    const { state, why } = status;
    const name = this.nameOf(node);
    if (why === '') log.info(`${name} is ${state}`);
    else if (state === 'leaving') log.info(`${name} is ${state}: ${why}`);
    else log.warn(`${name} is ${state}${state === 'up' ? ', but' : ''}: ${why}`);
  }

  private checkOwnKernel(): void {
    const { log } = this.options;
    let flags: number;
    try {
      flags = (this.options.kernelFlags ?? kernelFlags)();
    } catch (error) {
      log.warn(`cannot read what this machine's kernel can adopt: ${reasonOf(error)}`);
      return;
    }
    for (const { name, option, flag, setting } of KERNEL_OPTIONS) {
      if (((flags ^ this.ownFlags) & flag) === 0) continue;
      if ((flags & flag) === 0) log.info(`${settingName(setting)} is on again on this machine`);
      else log.warn(`${settingName(setting)} is 0 on this machine: ${costOf(name, option)}`);
    }
    this.ownFlags = flags;
  }

  private updateWithheld(): void {
    const { states, now, onWithheld } = this.options;
    const own = refusedOptions(this.ownFlags);
    let refused = own;
    let unknown = false;
    for (let node = 0; node < this.configured; node++) {
      refused |= refusedOptions(this.flagsInService(node));
      unknown ||= states.reportedAt[node] === -1;
    }
    const early = unknown && now() - this.startedAt < UNKNOWN_MS;
    const withheld = (early ? this.withheld | refused : refused) & WITHHELD;
    this.options.withheld.set(withheld, own);
    if (withheld === this.withheld) return;
    this.withheld = withheld;
    onWithheld(withheld);
  }

  /** IxcpFlag bits of the last report of a node that can be handed sessions; 0 of any other. */
  private flagsInService(node: number): number {
    return this.macs[node] === undefined ? 0 : this.options.states.flagsInService(node);
  }

  private nameOf(node: number): string {
    const name = this.options.nodes[node]?.name;
    return name === undefined ? 'the local service' : `node ${name}`;
  }
}
