/**
 * What the engine knows of each node: where its frames go, whether it takes handoffs, and how many
 * sessions it has. Filled by the control side, read by predictors and by every forwarded packet.
 */

/** Silent handoffs in a row after which a node is left alone for a while. */
const FAILURES_TO_SUSPEND = 3;
/** How long, in ms, unless its agent is started anew before. */
const SUSPENSION_MS = 5_000;

/** How long the last report must be past, in ms, before one with an earlier clock is believed. */
const CLOCK_MS = 5_000;

export class NodeTable {
  readonly count: number;
  /** IPv4 addresses. */
  readonly address: Uint32Array;
  /** Upper 16 and lower 32 bits of each MAC address, as they stand on the wire. */
  readonly macHigh: Uint16Array;
  readonly macLow: Uint32Array;
  readonly weight: Uint32Array;
  /** 1: the MAC address is resolved. */
  readonly resolved: Uint8Array;
  /** 0: the node itself has said that it can not adopt, or that it is leaving. 1: it can, or has not said. */
  readonly able: Uint8Array;
  /** Sessions handed over and not yet closed. */
  readonly active: Uint32Array;
  /** Handoffs confirmed, ever. */
  readonly adopted: Float64Array;
  /** When the node's agent reported last, ms on the engine's clock; -1: never. */
  readonly reportedAt: Float64Array;
  /** 1: the agent has said that it is stopping. */
  readonly leaving: Uint8Array;
  /** Start and clock of the agent, from its last report. */
  private readonly agentStart: Uint32Array;
  private readonly agentClock: Uint32Array;
  private readonly failures: Uint32Array;
  private readonly suspendedUntil: Float64Array;

  constructor(nodes: readonly { address: number; weight: number }[]) {
    this.count = nodes.length;
    this.address = Uint32Array.from(nodes, (node) => node.address);
    this.weight = Uint32Array.from(nodes, (node) => node.weight);
    this.macHigh = new Uint16Array(this.count);
    this.macLow = new Uint32Array(this.count);
    this.resolved = new Uint8Array(this.count);
    this.able = new Uint8Array(this.count).fill(1);
    this.active = new Uint32Array(this.count);
    this.adopted = new Float64Array(this.count);
    this.reportedAt = new Float64Array(this.count).fill(-1);
    this.leaving = new Uint8Array(this.count);
    this.agentStart = new Uint32Array(this.count);
    this.agentClock = new Uint32Array(this.count);
    this.failures = new Uint32Array(this.count);
    this.suspendedUntil = new Float64Array(this.count);
  }

  /** Index of the node with this IPv4 address, or -1. */
  find(address: number): number {
    return this.address.indexOf(address);
  }

  /** Sets the MAC address (six bytes), or marks the node unresolved. */
  setMac(node: number, mac: Uint8Array | undefined): void {
    if (mac === undefined) {
      this.resolved[node] = 0;
      return;
    }
    const view = new DataView(mac.buffer, mac.byteOffset, 6);
    this.macHigh[node] = view.getUint16(0);
    this.macLow[node] = view.getUint32(2);
    this.resolved[node] = 1;
  }

  /** Whether a session can be handed to the node at `now`. */
  takesHandoffs(node: number, now: number): boolean {
    return this.resolved[node] === 1 && this.able[node] === 1 && now >= this.suspendedUntil[node]!;
  }

  /** True while the node is left alone because it did not answer. */
  isSuspended(node: number, now: number): boolean {
    return now < this.suspendedUntil[node]!;
  }

  /** The node answered: whatever it was suspended for is over. */
  answered(node: number): void {
    this.failures[node] = 0;
    this.suspendedUntil[node] = 0;
  }

  /**
   * Takes in a report of the node's agent: its start (any number that differs between starts), its
   * clock in s, and what it can do. False for a report that is older than one already taken in.
   */
  reported(
    node: number,
    start: number,
    clock: number,
    canAdopt: boolean,
    leaving: boolean,
    now: number,
  ): boolean {
    const first = this.reportedAt[node]! < 0;
    const anew = start !== this.agentStart[node] && now - this.reportedAt[node]! > CLOCK_MS;
    // A machine's clock may be set back: a new agent counts, once the reports of the old one have stopped.
    if (!first && clock < this.agentClock[node]! && !anew) return false;
    // A new agent means a new shim: what the node was suspended for may be mended.
    if (first || start !== this.agentStart[node]) this.answered(node);
    this.agentStart[node] = start;
    this.agentClock[node] = clock;
    this.reportedAt[node] = now;
    this.leaving[node] = leaving ? 1 : 0;
    this.able[node] = canAdopt && !leaving ? 1 : 0;
    return true;
  }

  /** A handoff ran out of tries at this node. True when that suspends it. */
  stayedSilent(node: number, now: number): boolean {
    const failures = this.failures[node]! + 1;
    this.failures[node] = failures;
    if (failures < FAILURES_TO_SUSPEND) return false;
    this.suspendedUntil[node] = now + SUSPENSION_MS;
    return true;
  }
}
