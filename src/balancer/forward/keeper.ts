/**
 * Keeps the tables of virtual servers with mode forward, in the main thread: what there is to
 * choose from, which node has which bucket, and which records are idle. The XDP program and the
 * engine threads only follow the tables, so no packet waits for this.
 *
 *     farm, states of nodes, neighbours --> node flags --> picks, buckets
 *     clock ------------------------------> walk over flows, idle buckets
 *
 * A flow or bucket gets another node only when its own is down, in maintenance or gone from the
 * list, or when it is idle. A node that has just been added, as all have at a start, may be down or
 * not: its share of the buckets waits until that is known. Whatever a bucket's first client begins
 * at another node would stay there.
 */
import { createHmac } from 'node:crypto';
import { Admin } from '../../directory/node-memory.js';
import type { NodeStates } from '../../directory/node-states.js';
import {
  FORWARD_SERVER,
  NO_NODE,
  NodeFlag,
  ServerFlag,
  TICK_MS,
} from '../../engine/forward/layout.js';
import {
  type ForwardMemory,
  ForwardTables,
  tickOf,
  ticksSince,
} from '../../engine/forward/tables.js';
import type { FarmSlots, NodeSlot, ServerSlot } from '../objects/farm.js';
import { assignParts, type Part } from './bucket-room.js';
import {
  type EarlierServer,
  type ForwardEndpoint,
  readTables,
  type Successor,
  takeOver,
} from './earlier.js';
import { FlowWalk, type WalkedServer, type WalkLimits } from './flow-walk.js';
import { picksFor } from './picks.js';
import { type Target, targetOf } from './targets.js';

/** Interval of `look` and `work`, ms: how long a new state of a node may take to be obeyed. */
const LOOK_MS = 100;
/** Buckets whose idle time is looked at in one turn. */
const BUCKETS_AT_ONCE = 4_096;
/** Pairs of bucket and node that are compared for them, at most. */
const SCORES_AT_ONCE = 65_536;
/** In place of the slot of a node. */
const UNKNOWN = 0xfffe;
const PURPOSE = 'baton: forwarding';

export interface ForwardKeeperOptions {
  readonly memory: ForwardMemory;
  /** As any thread sees them. */
  readonly states: Pick<NodeStates, 'admin' | 'weight' | 'load'>;
  /** Whether the node in a slot has a MAC address; undefined: it is not known yet. */
  isResolved(slot: number): boolean | undefined;
  /** 16 bytes, shared with the nodes. The hashes of the tables depend on it. */
  readonly key: Uint8Array;
  readonly limits: WalkLimits;
  /** ms on the clock of the tables: CLOCK_MONOTONIC. */
  now(): number;
}

/** What the keeper knows of a virtual server. */
interface Kept extends WalkedServer {
  readonly server: ServerSlot;
  readonly part: Part | undefined;
  /** Where each bucket should be, or UNKNOWN. */
  readonly targets: Uint16Array;
  /** For which nodes and weights `targets` is. */
  candidates: string;
  /** The next bucket whose idle time is looked at. */
  next: number;
  /** It is retired, and nothing waits for its flows and buckets. */
  readonly ended: boolean;
}

export class ForwardKeeper {
  readonly tables: ForwardTables;
  private readonly options: ForwardKeeperOptions;
  private readonly walk: FlowWalk;
  private readonly seeds: Uint32Array;
  private nodes: readonly NodeSlot[] = [];
  /** By slot. */
  private readonly kept: (Kept | undefined)[] = [];
  private parts: ReadonlyMap<number, Part> = new Map();
  private flags = '';
  /** Slots of nodes whose flags are set. */
  private flagged: ReadonlySet<number> = new Set();
  /** Slots of nodes that may have a MAC address, and whether they would take something then. */
  private pending: ReadonlyMap<number, boolean> = new Map();
  /** A complete walk has begun after the last change of the farm. */
  private counted = false;
  private timer: NodeJS.Timeout | undefined;

  constructor(options: ForwardKeeperOptions) {
    this.options = options;
    this.tables = new ForwardTables(options.memory);
    this.walk = new FlowWalk(this.tables);
    this.seeds = forwardSeeds(options.key);
  }

  start(): void {
    this.timer = setInterval(() => {
      this.look();
      this.work();
    }, LOOK_MS);
  }

  stop(): void {
    clearInterval(this.timer);
  }

  /**
   * Checks whether the tables have room for this farm.
   * @throws BatonError BATON_CONFIG
   */
  require({ servers }: FarmSlots): void {
    this.partsFor(servers);
  }

  /** Takes another farm, which `require` has accepted. */
  setFarm({ nodes, servers }: FarmSlots): void {
    const parts = this.partsFor(servers);
    this.nodes = nodes;
    const wanted = new Map(forwarding(servers).map((server) => [server.slot, server]));
    for (const [slot, known] of this.kept.entries()) {
      if (known === undefined || wanted.has(slot)) continue;
      this.tables.setServerWord(slot, FORWARD_SERVER.flags, 0);
      this.kept[slot] = undefined;
    }
    for (const server of wanted.values()) this.take(server, parts.get(server.slot));
    this.parts = parts;
    this.flags = '';
    this.counted = false;
    this.walk.restart();
    this.look();
  }

  /** Forgets the flows and buckets of a retired virtual server. Their packets are dropped. */
  end(slot: number): void {
    const kept = this.kept[slot];
    if (kept?.server.retired !== true) return;
    this.take(kept.server, kept.part, true);
    this.walk.forget(slot);
    this.flags = '';
    this.look();
  }

  /** Obeys at once what has changed about nodes. */
  look(): void {
    const tick = tickOf(this.options.now() >>> 0);
    if (this.writeNodeFlags()) for (const kept of this.inUse()) this.renew(kept, tick);
  }

  /** Does a part of the regular work. */
  work(): void {
    const { tables, options } = this;
    const tick = tickOf(options.now() >>> 0);
    if (this.inUse().length === 0) return;
    const known = new Set(this.nodes.map(({ slot }) => slot));
    const isKnown = (node: number): boolean => known.has(node);
    if (this.walk.piece(this.kept, isKnown, options.limits, tick)) {
      this.counted = true;
      for (const kept of this.inUse()) {
        if (kept.part === undefined && kept.server.predictor !== 'round-robin')
          this.writePicks(kept);
      }
    }
    for (const kept of this.inUse()) {
      if (kept.part === undefined) continue;
      const nodes = this.targetsOf(kept, this.pending);
      const count = Math.min(BUCKETS_AT_ONCE, Math.ceil(SCORES_AT_ONCE / (nodes.length + 1)));
      const end = Math.min(kept.part.count, kept.next + count);
      for (let bucket = kept.next; bucket < end; bucket++)
        if (isIdle(tables, kept, kept.part.first + bucket, tick)) this.move(kept, bucket, nodes);
      kept.next = end === kept.part.count ? 0 : end;
    }
  }

  /** Flows of the virtual server in a slot, or buckets that are in use. */
  heldByServer(slot: number): number {
    const kept = this.kept[slot];
    if (kept === undefined || kept.ended) return 0;
    if (kept.part === undefined) return this.counted ? this.walk.counts.byServer[slot]! : 1;
    return this.busyBuckets(kept);
  }

  /** Flows of the node in a slot. A retired node has no buckets. */
  heldByNode(slot: number): number {
    if (this.inUse().length === 0) return 0;
    return this.counted ? this.walk.counts.byNode[slot]! : 1;
  }

  /** Flows of the node in a slot at the last count. */
  flowsOfNode(slot: number): number {
    return this.walk.counts.byNode[slot] ?? 0;
  }

  /** Flows of the virtual server in a slot at the last count; with buckets, 0. */
  flowsOfServer(slot: number): number {
    return this.walk.counts.byServer[slot] ?? 0;
  }

  /** The parts of the table of buckets, by slot of the virtual server. */
  partOf(slot: number): Part | undefined {
    return this.kept[slot]?.part;
  }

  /**
   * Continues with what an earlier run knew, for the nodes and virtual servers of the farm. Returns
   * the number of flows.
   */
  takeOver(earlier: readonly EarlierServer[]): number {
    const find = (at: ForwardEndpoint): ReturnType<Successor['find']> => {
      const kept = this.inUse().find(
        ({ server }) =>
          server.address === at.address &&
          server.transport === at.transport &&
          server.ports.some(({ from, to }) => from <= at.port && at.port <= to),
      );
      if (kept === undefined) return undefined;
      const { first: firstBucket = 0, count: buckets = 0 } = kept.part ?? {};
      return { slot: kept.server.slot, firstBucket, buckets };
    };
    const { tables, nodes } = this;
    return takeOver({ tables, nodes, find }, earlier, tickOf(this.options.now() >>> 0));
  }

  /** What the next run needs to continue. */
  leave(): EarlierServer[] {
    const servers = this.inUse().map(({ server }): [number, ServerSlot] => [server.slot, server]);
    const at = new Map(
      servers.map(([slot, { address, transport, port }]) => [slot, { address, transport, port }]),
    );
    const nodes = new Map(this.nodes.map(({ slot, address }) => [slot, address]));
    return readTables(this.tables, at, nodes);
  }

  private partsFor(servers: readonly ServerSlot[]): Map<number, Part> {
    const wishes = forwarding(servers).filter(({ buckets }) => buckets > 0);
    return assignParts(this.parts, wishes, this.tables.bucketCount);
  }

  private inUse(): Kept[] {
    return this.kept.filter((kept) => kept !== undefined);
  }

  private take(server: ServerSlot, part: Part | undefined, end = false): void {
    const { tables, seeds } = this;
    const { slot } = server;
    const before = this.kept[slot];
    const ended = server.retired && (end || before?.ended === true);
    // A retired one has no list. Its flows and buckets stay where they are.
    const listed = new Set(
      server.retired && !ended ? this.nodes.map((node) => node.slot) : server.nodes,
    );
    const retired = new Set(this.nodes.filter((node) => node.retired).map((node) => node.slot));
    this.kept[slot] = {
      server,
      part,
      targets: new Uint16Array(part?.count ?? 0).fill(UNKNOWN),
      candidates: '',
      next: 0,
      ended,
      isUdp: server.transport === 'udp',
      sticky: server.sticky,
      isListed: (node) => listed.has(node) && !retired.has(node),
    };
    const write = (field: number, value: number): void => tables.setServerWord(slot, field, value);
    if (before === undefined) {
      write(FORWARD_SERVER.cursor, 0);
      write(FORWARD_SERVER.pickCount, 0);
    }
    write(FORWARD_SERVER.clientSeed, seeds[0]!);
    write(FORWARD_SERVER.portSeed, seeds[1]!);
    write(FORWARD_SERVER.stickyMask, server.sticky === 0 ? 0 : prefixMask(server.stickyPrefix));
    const isNewPart = part !== undefined && before?.part?.first !== part.first;
    if (part !== undefined && (isNewPart || before?.part?.count !== part.count)) {
      for (let at = part.first; at < part.first + part.count; at++) {
        tables.setBucketNode(at, NO_NODE);
        tables.setBucketSeen(at, 0);
      }
    }
    write(FORWARD_SERVER.firstBucket, part?.first ?? 0);
    write(FORWARD_SERVER.buckets, part?.count ?? 0);
    write(FORWARD_SERVER.flags, ServerFlag.inUse | (server.retired ? ServerFlag.closed : 0));
  }

  /** Writes the flags of all nodes. Returns whether one has changed since the last call. */
  private writeNodeFlags(): boolean {
    const { tables, options } = this;
    const { states } = options;
    const parts: string[] = [];
    const seen = new Set<number>();
    const pending = new Map<number, boolean>();
    for (const { slot, retired } of this.nodes) {
      const admin = states.admin(slot);
      const resolved = options.isResolved(slot);
      const keeps = resolved === true && admin !== Admin.maintenance;
      const mayTake = !retired && admin === Admin.up && states.weight[slot]! > 0;
      const takes = keeps && mayTake;
      const flags = (keeps ? NodeFlag.keeps : 0) | (takes ? NodeFlag.takes : 0);
      tables.setNodeFlags(slot, flags);
      seen.add(slot);
      const isPending = resolved === undefined && admin !== Admin.maintenance;
      if (isPending) pending.set(slot, mayTake);
      parts.push(`${slot}:${flags}:${states.weight[slot]}:${pending.get(slot)}`);
    }
    for (const slot of this.flagged) if (!seen.has(slot)) tables.setNodeFlags(slot, 0);
    this.flagged = seen;
    this.pending = pending;
    const text = parts.join();
    const changed = text !== this.flags;
    this.flags = text;
    return changed;
  }

  private renew(kept: Kept, tick: number): void {
    if (kept.part === undefined) this.writePicks(kept);
    else this.moveFromLost(kept, tick);
  }

  /** The nodes that take something, and with `pending` those that may take something soon. */
  private targetsOf({ isListed }: Kept, pending?: ReadonlyMap<number, boolean>): Target[] {
    const { tables, options } = this;
    return this.nodes.flatMap(({ slot, address }) =>
      isListed(slot) &&
      (pending?.get(slot) === true || (tables.nodeFlags(slot) & NodeFlag.takes) !== 0)
        ? [{ slot, address, weight: options.states.weight[slot]! }]
        : [],
    );
  }

  private writePicks(kept: Kept): void {
    const { tables, options } = this;
    const { slot, predictor } = kept.server;
    const nodes = this.targetsOf(kept).map((target) => ({
      ...target,
      load: options.states.load(target.slot) + this.walk.counts.byNode[target.slot]!,
    }));
    const picks = picksFor(predictor, nodes);
    // Readers must not run into places that no longer count.
    const before = tables.serverWord(slot, FORWARD_SERVER.pickCount);
    if (picks.length < before) tables.setServerWord(slot, FORWARD_SERVER.pickCount, picks.length);
    for (const [index, node] of picks.entries()) tables.setPick(slot, index, node);
    // The turns of round-robin go on; other picks are for the present loads.
    if (predictor !== 'round-robin') tables.setServerWord(slot, FORWARD_SERVER.cursor, 0);
    tables.setServerWord(slot, FORWARD_SERVER.pickCount, picks.length);
  }

  /** Moves the buckets whose node is down, in maintenance, or gone from the list. */
  private moveFromLost(kept: Kept, tick: number): void {
    const { tables } = this;
    const { part } = kept;
    if (part === undefined) return;
    const nodes = this.targetsOf(kept, this.pending);
    const candidates = nodes.map(({ slot, weight }) => `${slot}:${weight}`).join();
    if (candidates !== kept.candidates) kept.targets.fill(UNKNOWN);
    kept.candidates = candidates;
    for (let bucket = 0; bucket < part.count; bucket++) {
      const at = part.first + bucket;
      const stays = this.keeps(kept, tables.bucketNode(at)) && !isIdle(tables, kept, at, tick);
      if (!stays) this.move(kept, bucket, nodes);
    }
  }

  /** Whether a node keeps what it has of a virtual server, or may keep it. */
  private keeps({ isListed }: Kept, node: number): boolean {
    return (
      node !== NO_NODE &&
      isListed(node) &&
      (this.pending.has(node) || (this.tables.nodeFlags(node) & NodeFlag.keeps) !== 0)
    );
  }

  /** @param nodes that the bucket may go to */
  private move(kept: Kept, bucket: number, nodes: readonly Target[]): void {
    const { part, targets } = kept;
    let target = targets[bucket]!;
    if (target === UNKNOWN) {
      target = targetOf(bucket, nodes, this.seeds[2]!);
      targets[bucket] = target;
    }
    const at = part!.first + bucket;
    const node = this.tables.bucketNode(at);
    if (this.pending.has(target)) {
      // It may be down.
      if (this.keeps(kept, node)) return;
      target = NO_NODE;
    }
    if (target !== node) this.tables.setBucketNode(at, target);
  }

  private busyBuckets(kept: Kept): number {
    const tick = tickOf(this.options.now() >>> 0);
    let busy = 0;
    for (let bucket = 0; bucket < kept.part!.count; bucket++)
      if (!isIdle(this.tables, kept, kept.part!.first + bucket, tick)) busy += 1;
    return busy;
  }
}

/** Whether a bucket has had no packet for its idle time. */
function isIdle(tables: ForwardTables, { server }: Kept, bucket: number, tick: number): boolean {
  const seen = tables.bucketSeen(bucket);
  return seen === 0 || (ticksSince(tick, seen) - 1) * TICK_MS > server.bucketIdle;
}

function forwarding(servers: readonly ServerSlot[]): ServerSlot[] {
  return servers.filter(({ mode }) => mode === 'forward');
}

function prefixMask(bits: number): number {
  return bits === 0 ? 0 : (0xffffffff << (32 - bits)) >>> 0;
}

/** Three seeds, the same for every balancer with this key: a restart finds the same buckets. */
function forwardSeeds(key: Uint8Array): Uint32Array {
  const digest = createHmac('sha256', key).update(PURPOSE).digest();
  return Uint32Array.from([0, 4, 8], (at) => digest.readUInt32LE(at));
}
