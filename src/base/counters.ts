/**
 * Named counters in memory that both threads can read. The engine adds with a plain store: one
 * thread writes, the other only shows them, and a double holds every count that can be reached.
 */

/** What each counter counts, by name. The order is the index. */
export const COUNTERS = {
  frames: 'frames received by the engine',
  forwarded: 'client frames forwarded to the node that owns the session, MAC addresses changed',
  forwarded_bytes: 'bytes of those frames',
  wrapped: 'client segments sent on in IXP before the node confirmed',
  sent: 'frames built and sent by the engine',
  syn: 'SYNs that opened a session',
  syn_answered: 'those of them that the kernel had answered already',
  syn_cookie: 'SYNs answered with a cookie by the engine: nothing is kept of them',
  syn_retransmitted: 'SYNs of a session that is half open already',
  syn_ack_retransmitted: 'SYN/ACKs sent again',
  established: 'handshakes completed',
  cookie_accepted: 'those of them that a cookie began',
  requests: 'request heads read whole',
  handoffs: 'handoffs begun, to nodes and to local services',
  handoffs_local: 'handoffs begun to a local service',
  handoff_asked: 'handoffs sent again because the client, who was near, did not confirm in time',
  handoff_retransmitted: 'handoffs sent again because the node did not',
  handoff_silent: 'nodes given up for a session because they did not confirm',
  handoff_refused: 'nodes given up for a session because they refused',
  adopted: 'handoffs confirmed',
  unanswered_asked:
    'questions to nodes that have confirmed a handoff, and not answered, whether anybody reads there',
  handoff_taken_back: 'handoffs taken back from a node that had confirmed, because nobody read there',
  node_asked: 'questions to nodes whether they have a session still, whose client has sent FIN',
  reset_sent: 'RSTs sent to clients',
  icmp_forwarded: 'ICMP errors passed on to the node that owns the session',
  answer_400: 'sessions handed to the local service: bad request',
  answer_404: 'sessions handed to the local service: nobody holds the content',
  answer_408: 'sessions handed to the local service: head not complete in time',
  answer_431: 'sessions handed to the local service: head too large',
  answer_503: 'sessions handed to the local service: no node able to take it',
  closed_silent_client: 'connections that never sent a byte, closed by the local service',
  closed_fin: 'sessions ended by FIN both ways',
  closed_client_reset: 'sessions ended by an RST of the client',
  closed_node_reset: 'sessions ended by an RST of the node',
  closed_idle: 'sessions ended by the idle timeout',
  closed_handshake_timeout: 'half-open sessions given up',
  closed_no_node: 'sessions reset because not even the local service took them',
  closed_replaced: 'sessions replaced by a new connection of the same client port',
  closed_lost: 'sessions of an earlier process that could not go on: bytes of their head ended with it',
  taken_over: 'sessions taken over from an earlier process',
  evicted_half_open: 'half-open sessions evicted to make room',
  evicted_head: 'sessions reset to make room for the head of another',
  report: 'reports of node agents',
  drop_truncated: 'frames larger than the room of the receive ring',
  drop_malformed_ethernet: 'frames too short or not IPv4',
  drop_malformed_ipv4: 'IPv4 headers with wrong version or lengths',
  drop_ipv4_checksum: 'IPv4 headers with a wrong checksum',
  drop_ipv4_options: 'IPv4 packets with options',
  drop_ipv4_fragment: 'IPv4 fragments for a virtual address',
  drop_malformed_tcp: 'TCP headers with wrong lengths, options or flags',
  drop_tcp_checksum: 'segments with a wrong TCP checksum',
  drop_malformed_icmp: 'ICMP errors too short or not about a TCP segment of ours',
  drop_malformed_ixcp: 'IXCP notices with wrong lengths or version',
  drop_ixcp_tag: 'IXCP notices whose tag did not verify',
  drop_ixcp_stale: 'IXCP notices of no session, or of an older one',
  drop_ixcp_unknown_node: 'IXCP from an address that is no node',
  drop_not_ours: 'frames for no virtual server',
  drop_other_worker: 'segments that came to the wrong engine thread, while the interface came up',
  drop_no_session: 'segments of no session',
  drop_cookie:
    'segments of a client that has a SYN/ACK of ours, but not its first, or not with the timestamp of that',
  drop_bad_ack: 'handshake ACKs that acknowledge what was never sent',
  drop_out_of_window: 'segments outside the receive window',
  drop_out_of_order_full: 'segments out of order beyond what is kept',
  drop_head_room: 'request bytes beyond the room for a head',
  drop_sessions_full: 'SYNs that found the session table full',
  drop_unresolved: 'frames for a node whose MAC address is not known',
  drop_reset_limit: 'RSTs not sent, to stay under the rate limit',
  drop_transmit_full: 'frames not sent because the transmit ring was full',
} as const;

export type CounterName = keyof typeof COUNTERS;
export const COUNTER_NAMES = Object.keys(COUNTERS) as CounterName[];

/** Index of each counter in `Counters.values`. */
export const Counter = Object.fromEntries(COUNTER_NAMES.map((name, index) => [name, index])) as {
  readonly [Name in CounterName]: number;
};

export class Counters {
  readonly memory: SharedArrayBuffer;
  readonly values: Float64Array;

  /** @param memory of another `Counters`, to read what another thread counts. */
  constructor(memory = new SharedArrayBuffer(COUNTER_NAMES.length * Float64Array.BYTES_PER_ELEMENT)) {
    this.memory = memory;
    this.values = new Float64Array(memory);
  }

  /** Adds one to the counter with this index. */
  count(index: number): void {
    this.values[index]! += 1;
  }

  add(index: number, amount: number): void {
    this.values[index]! += amount;
  }

  get(name: CounterName): number {
    return this.values[Counter[name]]!;
  }

  /** Those of several, added up, by name. */
  static sum(all: readonly Counters[]): Record<CounterName, number> {
    return Object.fromEntries(
      COUNTER_NAMES.map((name) => [name, all.reduce((sum, counters) => sum + counters.get(name), 0)]),
    ) as Record<CounterName, number>;
  }

  /** All of them, by name. */
  toObject(): Record<CounterName, number> {
    return Counters.sum([this]);
  }
}
