/**
 * Counters of single nodes and virtual servers, by slot, and a histogram of the time to the first
 * handoff for each virtual server. They lie in memory that an engine thread and the main thread
 * share. Each engine thread has memory of its own and adds with plain stores; the main thread adds
 * up the threads when someone asks.
 *
 *     nodes    [ slot 0: handoffs adopted refused ... | slot 1: ... ]
 *     servers  [ slot 0: connections requests ... | buckets of the histogram | sum in ms | slot 1 ]
 */
import { type CounterInfo, counter } from './counter-info.js';

/** Counters of a node. Their order is their index in its row. */
export const NODE_COUNTERS = {
  handoffs: counter(
    'handoffs',
    'Handoffs begun to the node. A session that comes from another holder counts too.',
  ),
  adopted: counter(
    'handoffs',
    "Handoffs that were confirmed, by the node or by the client's acknowledgement of the node's answer.",
  ),
  refused: counter('handoffs', 'Handoffs that the node refused. The next holder got the session.'),
  silent: counter(
    'handoffs',
    'Handoffs given up because the node never confirmed. The next holder got the session.',
  ),
  taken_back: counter(
    'handoffs',
    'Handoffs taken back after the node had confirmed, because its web server had not read the request. The next holder got the session.',
  ),
} as const satisfies Readonly<Record<string, CounterInfo>>;

/** Counters of a virtual server. Their order is their index in its row. */
export const SERVER_COUNTERS = {
  connections: counter('sessions', 'Handshakes of clients that were completed.'),
  requests: counter(
    'requests',
    'Request heads that were read completely and are well-formed: one for each connection, or all of them with keepAlive: migrate.',
  ),
  handoffs: counter(
    'handoffs',
    'Handoffs begun to nodes. A session that moves on to another holder counts again.',
  ),
  answer_400: counter('sessions', 'Sessions that the balancer itself answered with 400.'),
  answer_404: counter('sessions', 'Sessions that the balancer itself answered with 404.'),
  answer_408: counter('sessions', 'Sessions that the balancer itself answered with 408.'),
  answer_431: counter('sessions', 'Sessions that the balancer itself answered with 431.'),
  answer_503: counter('sessions', 'Sessions that the balancer itself answered with 503.'),
  alerts: counter('sessions', 'TLS connections that the balancer ended with an alert.'),
  closed_silent_client: counter(
    'sessions',
    'Connections closed without an answer because the client sent no byte.',
  ),
} as const satisfies Readonly<Record<string, CounterInfo>>;

export type NodeCounterName = keyof typeof NODE_COUNTERS;
export type ServerCounterName = keyof typeof SERVER_COUNTERS;
const NODE_NAMES = Object.keys(NODE_COUNTERS) as NodeCounterName[];
const SERVER_NAMES = Object.keys(SERVER_COUNTERS) as ServerCounterName[];

function indexes<Name extends string>(names: readonly Name[]): { readonly [N in Name]: number } {
  return Object.fromEntries(names.map((name, index) => [name, index])) as { [N in Name]: number };
}

/** Index of each counter in a row. */
export const NodeCounter = indexes(NODE_NAMES);
export const ServerCounter = indexes(SERVER_NAMES);

/**
 * Upper bounds of the histogram's buckets in ms, inclusive; times above the last are counted in one
 * more bucket. A client in the same building needs 1 ms, one on another continent 300 ms. A head
 * that is not complete within timeouts.head, 10 s by default, gets no handoff to a node.
 */
export const TIME_BOUNDS_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];

const NODE_WORDS = NODE_NAMES.length;
const FIRST_BUCKET = SERVER_NAMES.length;
const SUM = FIRST_BUCKET + TIME_BOUNDS_MS.length + 1;
const SERVER_WORDS = SUM + 1;
const BOUNDS = Float64Array.from(TIME_BOUNDS_MS);

/** The counters of a virtual server, of all threads together. */
export interface ServerCounts extends Record<ServerCounterName, number> {
  timeToHandoff: {
    /** Times in each bucket of TIME_BOUNDS_MS, and those above the last bound. */
    buckets: number[];
    sumMs: number;
  };
}

export class ObjectCounters {
  readonly memory: SharedArrayBuffer;
  private readonly nodes: Float64Array;
  private readonly servers: Float64Array;

  /**
   * @param nodes and servers: the numbers of slots
   * @param memory of another `ObjectCounters` with the same numbers, to read another thread's
   */
  constructor(
    nodes: number,
    servers: number,
    memory = new SharedArrayBuffer(
      (nodes * NODE_WORDS + servers * SERVER_WORDS) * Float64Array.BYTES_PER_ELEMENT,
    ),
  ) {
    this.memory = memory;
    this.nodes = new Float64Array(memory, 0, nodes * NODE_WORDS);
    this.servers = new Float64Array(memory, this.nodes.byteLength, servers * SERVER_WORDS);
  }

  /** Adds one to a counter of a node. @param counter of NodeCounter */
  countNode(node: number, counter: number): void {
    this.nodes[node * NODE_WORDS + counter]! += 1;
  }

  /** Adds to a counter of a virtual server. @param counter of ServerCounter */
  countServer(server: number, counter: number, amount = 1): void {
    this.servers[server * SERVER_WORDS + counter]! += amount;
  }

  /**
   * Records that a session of this virtual server was first handed to a node, `ms` after its SYN.
   */
  handedAfter(server: number, ms: number): void {
    const row = server * SERVER_WORDS;
    let bucket = 0;
    while (bucket < BOUNDS.length && ms > BOUNDS[bucket]!) bucket++;
    this.servers[row + FIRST_BUCKET + bucket]! += 1;
    this.servers[row + SUM]! += ms;
  }

  /** Begins again from 0 for the next node in this slot, of which no session exists any more. */
  clearNode(node: number): void {
    this.nodes.fill(0, node * NODE_WORDS, (node + 1) * NODE_WORDS);
  }

  /** Does the same for a virtual server. */
  clearServer(server: number): void {
    this.servers.fill(0, server * SERVER_WORDS, (server + 1) * SERVER_WORDS);
  }

  /** The counters of a node, added up over several threads. */
  static ofNode(all: readonly ObjectCounters[], node: number): Record<NodeCounterName, number> {
    const at = node * NODE_WORDS;
    return named(NODE_NAMES, (index) => total(all.map(({ nodes }) => nodes[at + index])));
  }

  /** The counters of a virtual server, added up over several threads. */
  static ofServer(all: readonly ObjectCounters[], server: number): ServerCounts {
    const at = server * SERVER_WORDS;
    const word = (index: number): number => total(all.map(({ servers }) => servers[at + index]));
    const buckets = Array.from({ length: SUM - FIRST_BUCKET }, (_, i) => word(FIRST_BUCKET + i));
    return { ...named(SERVER_NAMES, word), timeToHandoff: { buckets, sumMs: word(SUM) } };
  }
}

function total(counts: readonly (number | undefined)[]): number {
  return counts.reduce<number>((sum, count) => sum + (count ?? 0), 0);
}

function named<Name extends string>(
  names: readonly Name[],
  value: (index: number) => number,
): Record<Name, number> {
  return Object.fromEntries(names.map((name, index) => [name, value(index)])) as Record<
    Name,
    number
  >;
}
