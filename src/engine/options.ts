/** What an engine needs to know at its start. */
import type { ObjectCounters } from '../base/object-counters.js';
import type { AnswerBook } from '../directory/answers.js';
import type { Address6 } from '../wire/address.js';
import type { ServerAt } from './farm.js';
import type { ForwardMemory } from './forward/tables.js';
import type { HeadMemory } from './moving/judged-heads.js';
import type { SessionMemory } from './table/session-table.js';

export interface EngineOptions {
  /**
   * Time in ms when the engine is made, on the same clock as every later call. Any clock will do.
   */
  now: number;
  /**
   * The balancer's own IPv4 address on the interface of the nodes: they send IXCP to it. 0: none.
   */
  address: number;
  /** Its IPv6 address there, for nodes that have one. */
  address6?: Address6 | undefined;
  /** MAC address of the interface of the clients, six bytes. */
  mac: Uint8Array;
  /**
   * MAC address of the interface of the nodes, if that is another one: frames to nodes then leave
   * by Port.nodes.
   */
  nodeMac?: Uint8Array | undefined;
  /**
   * MTU in bytes, the smaller one of the two interfaces. The MSS offered leaves room for IXP below
   * it.
   */
  mtu: number;
  /** The key shared with the nodes, 16 bytes. */
  key: Uint8Array;
  /**
   * 32 bytes: 16 for timestamp clocks, 16 for SYN cookies. All engines of a balancer have the same.
   */
  secret: Uint8Array;
  /** Unguessable 32-bit numbers: two for the session hash, and the first nonce. */
  seeds: { client: number; port: number; nonce: number };
  /**
   * Which one this is of the engines that share a balancer's clients. By default it is the only
   * one.
   */
  shard?: { worker: number; workers: number };
  /** Where sessions are kept. By default in memory of this process alone. */
  memory?: SessionMemory;
  /** Where the XDP program finds heads that were judged. By default it forwards none by itself. */
  heads?: HeadMemory | undefined;
  virtualServers: readonly ServerAt[];
  /** The bytes of the answers that the engine sends itself. */
  answers: AnswerBook;
  /**
   * Tables of virtual servers with mode forward, and memory of ForwardCounts. By default the engine
   * forwards nothing for them: with the datapath xdp, the XDP program does.
   */
  forward?: { readonly memory: ForwardMemory; readonly counts: SharedArrayBuffer } | undefined;
  /** Counters of each node and virtual server. By default in memory that nobody reads. */
  objects?: ObjectCounters | undefined;
  limits: Limits;
  /** `Engine.commit` replaces them. */
  timeouts: Timeouts;
  /** Gets the events of sessions. Absent in production unless something listens. */
  observer?: Observer;
  /**
   * Overrides RFC 6528 for a connection: its initial sequence number, or -1 to have one made. For
   * captures, whose clients acknowledge numbers of another server.
   */
  initialSequence?: (client: number, clientPort: number, virtualServer: number) => number;
}

export interface Limits {
  /** Sessions at one time. */
  sessions: number;
  /** Half-open sessions at one time. Beyond that SYNs are answered with cookies. */
  halfOpen: number;
  /** Bytes of a request head. */
  headBytes: number;
  /** Sessions at one time whose head is being collected. */
  heads: number;
  /** How often a handoff is sent to one node. */
  handoffTries: number;
  /** How often a SYN/ACK is sent. */
  synAckTries: number;
}

/** All in ms. */
export interface Timeouts {
  /** Until the first retransmission of a SYN/ACK. Doubles each time. */
  synAck: number;
  /** For a head to be complete, from the end of the handshake. */
  head: number;
  /** For a node to confirm a handoff. */
  handoff: number;
  /**
   * For a node that has confirmed a handoff to answer the client, before it is asked whether its
   * server reads.
   */
  answer: number;
  /** Without a packet of the client or a notice of the node. */
  idle: number;
  /** After the node's FIN, without a packet. */
  closing: number;
  /** After the second FIN or an RST, without a packet. */
  linger: number;
}

/** How a session can end. */
export const CLOSE_REASONS = [
  'fin',
  'client-reset',
  'node-reset',
  'idle',
  'handshake-timeout',
  'evicted',
  'evicted-head',
  'replaced',
  'no-node',
  'lost',
  /** Its node is in maintenance. */
  'maintenance',
  /** An operator has ended the sessions of its virtual server by force. */
  'removed',
  /** The balancer has answered, and the client did not close in time. */
  'answered',
] as const;
export type CloseReason = (typeof CLOSE_REASONS)[number];

/**
 * Listens to the engine. It is called from inside the engine and must not call back into it. `slot`
 * is the session's.
 */
export interface Observer {
  opened?(slot: number, now: number): void;
  established?(slot: number, now: number): void;
  /**
   * The request was read, or refused with a status. Method and target are bytes[start, end). The
   * rest of the head follows them, and perhaps the beginning of a body: bytes[start, filled) is
   * what has arrived. A refused head may be incomplete.
   */
  request?(
    slot: number,
    verdict: number,
    bytes: Uint8Array,
    start: number,
    end: number,
    now: number,
    filled: number,
  ): void;
  /** The node gets the path bytes[start, end) instead of that of the request. */
  rewritten?(slot: number, bytes: Uint8Array, start: number, end: number, now: number): void;
  /**
   * A handoff was sent. `attempt` counts from 1 at each node. It is 0 for
   * the first one if the client's acknowledgement is to confirm.
   */
  handoff?(slot: number, node: number, attempt: number, now: number): void;
  /** The balancer answers the client itself. `answer` is a number of the answer book. */
  answered?(slot: number, answer: number, now: number): void;
  adopted?(slot: number, node: number, now: number): void;
  refused?(slot: number, node: number, reason: number, now: number): void;
  /** A handoff was not confirmed in time, and is sent again. */
  unconfirmed?(slot: number, node: number, now: number): void;
  silent?(slot: number, node: number, now: number): void;
  /** The node has given the session back, because its server reads nothing. */
  released?(slot: number, node: number, now: number): void;
  /** The session's record is still as it was when the session ended. */
  closed?(slot: number, reason: CloseReason, now: number): void;
  /** A report from a node's agent. */
  reported?(node: number, flags: number, now: number): void;
  /** A report from a node with another key than ours. */
  badKey?(node: number, now: number): void;
}
