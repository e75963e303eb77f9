/** What an engine needs to know at its start. Addresses are IPv4 as unsigned 32-bit numbers. */
import type { SessionMemory } from './table/session-table.js';

export interface EngineOptions {
  /** ms on its clock when it is made: any clock, of which every later call gets the time. */
  now: number;
  /**
   * The balancer's own address on the interface that nodes are reached by: where they send IXCP.
   */
  address: number;
  /** Of the interface that clients are reached by, six bytes. */
  mac: Uint8Array;
  /**
   * Of the interface that nodes are reached by, where that is another one: frames to them leave by
   * Port.nodes.
   */
  nodeMac?: Uint8Array | undefined;
  /** The smaller one of the interfaces', bytes: the MSS offered leaves room for IXP below it. */
  mtu: number;
  /** Shared with the nodes, 16 bytes. */
  key: Uint8Array;
  /**
   * 32 bytes: initial sequence numbers (16), SYN cookies (16). All engines of a balancer have the
   * same.
   */
  secret: Uint8Array;
  /** Any 32-bit numbers that nobody can guess: of the session hash two, and the first nonce. */
  seeds: { client: number; port: number; nonce: number };
  /** Which of the engines this is that share a balancer's clients; by default the only one. */
  shard?: { worker: number; workers: number };
  /** Where sessions are kept; by default in memory of this process alone. */
  memory?: SessionMemory;
  virtualServers: readonly { address: number; port: number }[];
  limits: Limits;
  timeouts: Timeouts;
  /** Tells of the life of sessions; absent in production unless someone listens. */
  observer?: Observer;
  /**
   * Overrides RFC 6528 for a connection: its initial sequence number, or -1 to have one made. For
   * captures, whose clients acknowledge a server that is long gone.
   */
  initialSequence?: (client: number, clientPort: number, virtualServer: number) => number;
}

export interface Limits {
  /** Sessions at one time. */
  sessions: number;
  /** Sessions whose handshake is not complete: beyond that SYNs are answered with cookies. */
  halfOpen: number;
  /** Bytes of a request head. */
  headBytes: number;
  /** Sessions at one time whose request is being collected. */
  heads: number;
  /** Times a handoff is sent to one node. */
  handoffTries: number;
  /** Times a SYN/ACK is sent. */
  synAckTries: number;
}

/** All in ms. */
export interface Timeouts {
  /** First retransmission of a SYN/ACK; doubles each time. */
  synAck: number;
  /** For a request head to be complete, from the end of the handshake. */
  head: number;
  /** For a node to confirm a handoff. */
  handoff: number;
  /**
   * For a node that has confirmed a handoff to answer, before it is asked whether anybody reads
   * there.
   */
  answer: number;
  /** Without a packet of the client or a notice of the node. */
  idle: number;
  /** After the node's FIN, without a packet. */
  closing: number;
  /** After the second FIN or an RST, without a packet. */
  linger: number;
}

export type CloseReason =
  | 'fin'
  | 'client-reset'
  | 'node-reset'
  | 'idle'
  | 'handshake-timeout'
  | 'evicted'
  | 'evicted-head'
  | 'replaced'
  | 'no-node'
  | 'lost';

/**
 * Calls come from inside the engine: an observer must not call back into it. `slot` is the
 * session's.
 */
export interface Observer {
  opened?(slot: number, now: number): void;
  established?(slot: number, now: number): void;
  /**
   * The request was read, or refused with a status; method and target stand in bytes[start, end).
   */
  request?(
    slot: number,
    verdict: number,
    bytes: Uint8Array,
    start: number,
    end: number,
    now: number,
  ): void;
  /**
   * A handoff was sent. `node` may be LOCAL_NODE. `attempt` counts from 1 at each node; 0 is the
   * one before, when the client's acknowledgement will do.
   */
  handoff?(slot: number, node: number, service: number, attempt: number, now: number): void;
  adopted?(slot: number, node: number, now: number): void;
  refused?(slot: number, node: number, reason: number, now: number): void;
  /** A handoff has waited for its confirmation as long as one may, and is sent again. */
  unconfirmed?(slot: number, node: number, now: number): void;
  silent?(slot: number, node: number, now: number): void;
  /** The node has given the session back: its server reads nothing. */
  released?(slot: number, node: number, now: number): void;
  closed?(slot: number, reason: CloseReason, now: number): void;
  /** A report from a node's agent. */
  reported?(node: number, flags: number, now: number): void;
  /** A report from a node whose key is not ours. */
  badKey?(node: number, now: number): void;
}
