/**
 * The main thread's eye on the nodes: it tells every change of a node's state in the log, and has
 * SYN/ACKs offer just the options that all nodes, and our own kernel, go on with. It looks when an
 * engine says that something has changed, and each second for what changes by the passing of time.
 */
import { reasonOf } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { TokenBucket } from '../base/token-bucket.js';
import type { NodeStates } from '../directory/node-states.js';
import type { WithheldOptions } from '../engine/withheld-options.js';
import { KERNEL_OPTIONS, kernelFlags, settingName } from '../host/kernel-options.js';
import { formatMac } from '../wire/ethernet.js';
import { IxcpFlag, IxcpReason, refusedOptions } from '../wire/ixcp.js';
import { IxpFlag } from '../wire/ixp.js';
import type { NeighbourChange } from './machine/neighbours.js';
import { costOf, type NodeFacts, type NodeStatus, nodeStatus, refusalText } from './node-state.js';
import type { EngineEvent } from './threads/engine-messages.js';

const LOOK_MS = 1_000;
/**
 * Agents report each second: after so long, in ms, one that has not been heard of is worth a word.
 */
const SETTLED_MS = 3_500;
/**
 * Options are offered that every node has agreed to, or when so long, in ms, has passed since the
 * start.
 */
const UNKNOWN_MS = 1_500;
/**
 * Changes of one node's state in the log: so many at once, and one more in so many seconds. What it
 * is in the end is always told.
 */
const MOST_LINES = 12;
const SECONDS_A_LINE = 5;

/** What cannot be undone once a client was offered it. */
const WITHHELD = IxpFlag.windowScaleOk | IxpFlag.timestampsOk;

const REMOVED: NodeStatus = {
  state: 'removed',
  why: 'it is no longer in the config; its sessions continue until they end',
};

export interface NodeWatchOptions {
  nodes: readonly { name: string }[];
  /**
   * How many of them are in the config, the first; those behind them take no handoffs. By default
   * all.
   */
  configured?: number;
  virtualServers: readonly { name: string; address: string; port: number }[];
  /** In memory shared with the engines. */
  states: NodeStates;
  withheld: WithheldOptions;
  log: Log;
  /** Engine time, ms. */
  now(): number;
  /** Called with the IxpFlag bits that SYN/ACKs do not offer any more, each time they change. */
  onWithheld(options: number): void;
  /** What an earlier run did not offer; undefined: there was none. */
  earlier: number | undefined;
  /** For tests: `kernelFlags`. */
  kernelFlags?: () => number;
}

export class NodeWatch {
  private readonly options: NodeWatchOptions;
  private readonly startedAt: number;
  /** By node: its MAC address, undefined while it is not known, and why it is not. */
  private readonly macs: (Uint8Array | undefined)[] = [];
  private readonly reasons: string[] = [];
  /** By node: what the log has said last. */
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
    // Until the nodes have spoken, clients are offered only what any node goes on with.
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

  /** "02:00:00:00:00:01", or null while it is not known. */
  mac(node: number): string | null {
    const mac = this.macs[node];
    return mac === undefined ? null : formatMac(mac);
  }

  /** ms since its agent's last report; null: never. */
  reportAgeMs(node: number): number | null {
    return this.facts(node).reportAgeMs;
  }

  status(node: number): NodeStatus {
    if (node >= this.configured) return REMOVED;
    return nodeStatus(this.facts(node), this.options.virtualServers);
  }

  /**
   * What SYN/ACKs do not offer, and because of whom; a line each, empty when they offer everything.
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
    // What it says of the node is told as its state; this is of one connection, or of the local
    // services.
    else if (event.event === 'silent') log.warn(`${name} did not answer a handoff in time`);
    if (
      event.event === 'refused' &&
      (event.node >= nodes.length || event.reason === IxcpReason.tupleInUse)
    )
      log.warn(`${name} refused a handoff: ${refusalText(event.reason)}`);
  }

  /** Takes in what has changed of one node. */
  private check(node: number): void {
    this.logChange(node);
    this.updateWithheld();
  }

  /** Takes in whatever has changed. */
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
    // Before the first look at it, there is no news in its not being known.
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
