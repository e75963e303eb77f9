/**
 * A walk over the records of flows, in pieces. It removes those that are idle, and counts those
 * that are left: of each virtual server and of each node.
 */
import { MAX_XDP_NODES, MOST_VIRTUAL_SERVERS } from '../../datapath/xdp-layout.js';
import { FlowKind, FlowState, TICK_MS } from '../../engine/forward/layout.js';
import { type ForwardTables, ticksSince } from '../../engine/forward/tables.js';

/** What the walk must know of a virtual server with mode forward. */
export interface WalkedServer {
  readonly isUdp: boolean;
  /** How long a client is remembered, in ms; 0: not at all. */
  readonly sticky: number;
  /** Nodes of its list, by slot. Records of clients name no others. */
  readonly isListed: (node: number) => boolean;
}

export interface WalkLimits {
  /** Idle time of a TCP flow in ms (`timeouts.idle`). */
  readonly idle: number;
  /** After an RST, in ms (`timeouts.linger`). */
  readonly linger: number;
}

/**
 * Idle times in ms. A TCP flow of which only one packet has come has no answer yet (RFC 9293 gives
 * up a SYN after 3 minutes; Linux sends the last one after 63 s). One whose client has sent FIN may
 * still bring data of the server (TCP_RTO_MAX of Linux is 120 s). RFC 4787 section 4.3 wants two
 * minutes for UDP. A datagram's fragments arrive within 30 s (Linux, ipfrag_time).
 */
const OPENING_MS = 75_000;
const HALF_CLOSED_MS = 180_000;
const UDP_MS = 120_000;
const FRAGMENT_MS = 30_000;

/** Records in a piece, at least. */
const PIECE = 65_536;
/** Pieces of a walk, at most. */
const PIECES = 20;

export interface FlowCounts {
  readonly byServer: Uint32Array;
  readonly byNode: Uint32Array;
}

function zeroCounts(): FlowCounts {
  return {
    byServer: new Uint32Array(MOST_VIRTUAL_SERVERS),
    byNode: new Uint32Array(MAX_XDP_NODES),
  };
}

export class FlowWalk {
  /** Of the last complete walk. */
  counts = zeroCounts();
  private counting = zeroCounts();
  private readonly tables: ForwardTables;
  private at = 0;

  constructor(tables: ForwardTables) {
    this.tables = tables;
  }

  /** The next piece begins a new walk. */
  restart(): void {
    this.at = 0;
    this.counting = zeroCounts();
  }

  /** Removes all records of the virtual server in a slot. */
  forget(slot: number): void {
    const { tables, counts } = this;
    for (let flow = 0; flow < tables.capacity; flow++) {
      if (tables.kind(flow) !== FlowKind.none && tables.server(flow) === slot) tables.remove(flow);
    }
    counts.byServer[slot] = 0;
    this.restart();
  }

  /** Walks over a piece. Returns true at the end of a walk. */
  piece(
    servers: readonly (WalkedServer | undefined)[],
    isKnown: (node: number) => boolean,
    limits: WalkLimits,
    tick: number,
  ): boolean {
    const { tables } = this;
    const count = Math.max(PIECE, Math.ceil(tables.capacity / PIECES));
    const end = Math.min(tables.capacity, this.at + count);
    for (let flow = this.at; flow < end; flow++) {
      const kind = tables.kind(flow);
      if (kind === FlowKind.none) continue;
      const server = servers[tables.server(flow)];
      const age = ticksSince(tick, tables.seen(flow)) * TICK_MS;
      if (server === undefined || !this.stays(flow, kind, server, isKnown, limits, age)) {
        tables.remove(flow);
      } else if (kind === FlowKind.flow) {
        this.counting.byServer[tables.server(flow)]! += 1;
        this.counting.byNode[tables.node(flow)]! += 1;
      }
    }
    this.at = end;
    if (end < tables.capacity) return false;
    this.counts = this.counting;
    this.restart();
    return true;
  }

  private stays(
    flow: number,
    kind: number,
    server: WalkedServer,
    isKnown: (node: number) => boolean,
    limits: WalkLimits,
    age: number,
  ): boolean {
    const { tables } = this;
    const node = tables.node(flow);
    // A tick more: the age may be almost one tick less than it seems.
    switch (kind) {
      case FlowKind.flow:
        return isKnown(node) && age <= this.idleOf(flow, server, limits) + TICK_MS;
      case FlowKind.sticky:
        return server.isListed(node) && age <= server.sticky + TICK_MS;
      default:
        return isKnown(node) && age <= FRAGMENT_MS + TICK_MS;
    }
  }

  private idleOf(flow: number, { isUdp }: WalkedServer, { idle, linger }: WalkLimits): number {
    const state = this.tables.state(flow);
    if (isUdp) return Math.min(idle, UDP_MS);
    if ((state & FlowState.rst) !== 0) return linger;
    if ((state & FlowState.fin) !== 0) return Math.min(idle, HALF_CLOSED_MS);
    return (state & FlowState.second) === 0 ? Math.min(idle, OPENING_MS) : idle;
  }
}
