/**
 * Named counters in memory that both threads can read. The engine adds with a plain store: one
 * thread writes, the other only shows them, and a double holds every count that can be reached.
 */
import { type CounterInfo, counter } from './counter-info.js';

/** What each counter counts, by name. The order is the index. */
export const COUNTERS = {
  frames: counter(
    'frames',
    "Frames that the engine received. With the XDP program: and those that it took care of in the engine's place; `xdp_...` has them one by one.",
  ),
  forwarded: counter(
    'frames',
    'Client frames forwarded to the node that has the session, with nothing changed but the MAC addresses. This is the main work; `xdp_forwarded` says how much of it the kernel did.',
  ),
  forwarded_bytes: counter(
    'bytes',
    'Bytes of the frames counted by forwarded, with their Ethernet headers.',
  ),
  wrapped: counter(
    'segments',
    'Client segments sent to a node inside IXP, because the node had not confirmed the handoff yet. Many of them mean clients that upload at once, or nodes that confirm late.',
  ),
  sent: counter(
    'frames',
    'Frames that the engine built itself and sent: SYN/ACKs, ACKs, handoffs, resets.',
  ),
  syn: counter(
    'sessions',
    'SYNs that opened a session. Those that the kernel had answered already are among them (syn_answered).',
  ),
  syn_answered: counter(
    'sessions',
    'SYNs that the XDP program had answered before the engine opened their session. They are part of syn.',
  ),
  syn_cookie: counter(
    'SYNs',
    'SYNs answered with a cookie, of which nothing is kept, because too many sessions were half open or the engine was away. Without a flood or a restart, raise limits.halfOpen.',
  ),
  syn_retransmitted: counter(
    'SYNs',
    'SYNs that came again while their session was half open. The SYN/ACK was lost or is slow; many of them mean loss between clients and balancer.',
  ),
  syn_ack_retransmitted: counter(
    'segments',
    'SYN/ACKs sent again because the client had not answered. Many of them mean loss, or SYNs with forged source addresses.',
  ),
  established: counter(
    'sessions',
    'Handshakes that were completed. Compare with syn and cookie_accepted: what is missing never came back.',
  ),
  cookie_accepted: counter(
    'sessions',
    'Sessions that were opened from the cookie in an acknowledged SYN/ACK: their SYN was answered by the kernel alone, in a flood, or before a restart. They are part of established and not of syn.',
  ),
  requests: counter(
    'requests',
    'Request heads that were read whole and are well-formed, one for each connection: later requests of a connection go to its node unread.',
  ),
  handoffs: counter(
    'handoffs',
    'Handoffs begun, to nodes and to local services; a session that moves on to another holder counts again.',
  ),
  handoffs_local: counter(
    'handoffs',
    'Handoffs begun to a local service, which answers with an error. The counters `answer_...` say with which.',
  ),
  handoff_asked: counter(
    'handoffs',
    'Handoffs sent again, with the request to confirm, because a client that was thought near did not acknowledge the answer in time. Slow answers cause it; it does no harm.',
  ),
  handoff_retransmitted: counter(
    'handoffs',
    'Handoffs sent again because the node had not confirmed within timeouts.handoff. Look for loss between balancer and nodes, and for nodes that are overloaded.',
  ),
  handoff_silent: counter(
    'handoffs',
    'Handoffs given up because the node never confirmed. The next holder got the session. Look at the node: its agent, its accept queue, the path to it; `baton stats` shows which node it is.',
  ),
  handoff_refused: counter(
    'handoffs',
    'Handoffs that a node refused. The next holder got the session, at once. WHY of `baton stats` says what the node objects to, usually that nothing listens.',
  ),
  adopted: counter(
    'handoffs',
    "Handoffs that were confirmed, by the node or by the client's acknowledgement of its answer.",
  ),
  unanswered_asked: counter(
    'questions',
    'Questions to nodes that have confirmed a handoff and not answered within timeouts.answer, whether their web server has read the request. Slow requests cause them, and web servers that stand still.',
  ),
  handoff_taken_back: counter(
    'handoffs',
    'Handoffs taken back from a node that had confirmed, because its web server had not read the request. The next holder got the session. Look at the web server of that node: it is stopped, or overloaded.',
  ),
  node_asked: counter(
    'questions',
    'Questions to nodes whether they have a session. It is one whose client has sent FIN and that has been silent since, or one that an earlier run of the balancer was handing over when it ended. Many of them long after a start mean that notices of nodes are lost on the way.',
  ),
  reset_sent: counter(
    'segments',
    'RSTs sent to clients: for segments of no session, and for sessions that could not be served.',
  ),
  icmp_forwarded: counter(
    'packets',
    'ICMP errors passed on to the node that has the session. Path MTU discovery depends on them.',
  ),
  answer_400: counter(
    'sessions',
    'Sessions answered with 400 by the local service, because the request was malformed. Some are always there: scanners, TLS on a plain port. docs/decisions.md says what is refused that other servers take.',
  ),
  answer_404: counter(
    'sessions',
    'Sessions answered with 404 by the local service, because no resource of the config covers host and path. Add a resource, or one for `/`.',
  ),
  answer_408: counter(
    'sessions',
    'Sessions answered with 408 by the local service, because the request head was not complete within timeouts.head. Slow clients, or an attack with slow heads.',
  ),
  answer_431: counter(
    'sessions',
    'Sessions answered with 431 by the local service, because the request head was larger than limits.headBytes. Large cookies are the usual cause.',
  ),
  answer_503: counter(
    'sessions',
    'Sessions answered with 503 by the local service, because no holder of the content could take them. STATE and WHY of `baton stats` say what is wrong with each node.',
  ),
  closed_silent_client: counter(
    'sessions',
    'Connections that never sent a byte within timeouts.head, closed without an answer. Browsers open such connections ahead of need.',
  ),
  closed_fin: counter('sessions', 'Sessions that ended by FIN from both sides: the usual end.'),
  closed_client_reset: counter(
    'sessions',
    'Sessions that ended by an RST of the client, as browsers do when a page is left.',
  ),
  closed_node_reset: counter(
    'sessions',
    'Sessions that ended by an RST of the node: its web server closed with unread bytes, ended, or never had the session.',
  ),
  closed_idle: counter(
    'sessions',
    "Sessions that ended because nothing was heard of them for too long. That is timeouts.idle while neither side has sent FIN; timeouts.closing after the node's FIN; after the client's FIN 3 minutes, or timeouts.closing if that is longer, but never more than timeouts.idle. If long polls end like this, raise timeouts.idle. Many that end after a FIN mean that notices of nodes are lost.",
  ),
  closed_handshake_timeout: counter(
    'sessions',
    'Half-open sessions given up because their client never answered the SYN/ACK, which was sent limits.synAckTries times. Port scans and forged source addresses cause it, and a return path that does not work.',
  ),
  closed_no_node: counter(
    'sessions',
    "Sessions reset because no node took them, and not even the local service. Look whether the shim on the balancer's own interface works: `shim_...`.",
  ),
  closed_replaced: counter(
    'sessions',
    'Sessions that gave way to a new connection of the same client port, or whose client went by another answer.',
  ),
  closed_lost: counter(
    'sessions',
    'Sessions of an earlier run of the balancer that were reset, or forgotten, because bytes of their request head ended with it. A few are normal when a balancer is killed.',
  ),
  taken_over: counter(
    'sessions',
    'Sessions taken over from an earlier run of the balancer at a restart or an upgrade.',
  ),
  evicted_half_open: counter(
    'sessions',
    'Half-open sessions removed to make room in a full session table. Raise limits.sessions, or lower limits.halfOpen.',
  ),
  evicted_head: counter(
    'sessions',
    'Sessions that were reset to make room for the request head of another. Raise limits.heads, or lower timeouts.head under attack.',
  ),
  report: counter(
    'reports',
    'Reports of node agents that verified; each agent sends one a second to each balancer.',
  ),
  drop_truncated: counter(
    'frames',
    'Frames dropped because they are larger than the room for one in the receive ring. A sender or the interface merges segments: see docs/tuning.md, offloads.',
  ),
  drop_malformed_ethernet: counter(
    'frames',
    'Frames dropped because they are too short for Ethernet and IPv4, or not IPv4.',
  ),
  drop_malformed_ipv4: counter(
    'packets',
    'Packets dropped because their IPv4 header has a wrong version or wrong lengths.',
  ),
  drop_ipv4_checksum: counter(
    'packets',
    'Packets dropped because the checksum of their IPv4 header is wrong: damaged on the way, or made by a faulty sender.',
  ),
  drop_ipv4_options: counter(
    'packets',
    'Packets dropped because they have IPv4 options, which no client needs and handoffs do not carry.',
  ),
  drop_ipv4_fragment: counter(
    'packets',
    'IPv4 fragments for a virtual address that were dropped: they have no ports. Look for a path MTU problem at the clients.',
  ),
  drop_malformed_tcp: counter(
    'segments',
    'Segments dropped because their TCP header has wrong lengths, wrong options, or flags that contradict each other. Scanners send such segments.',
  ),
  drop_tcp_checksum: counter(
    'segments',
    'Segments dropped because their TCP checksum is wrong. A client on this host with checksum offload, or a damaging link: see docs/tuning.md.',
  ),
  drop_malformed_icmp: counter(
    'packets',
    'ICMP errors dropped because they are too short, or not about a segment of a session with a node.',
  ),
  drop_malformed_ixcp: counter(
    'notices',
    'Notices of nodes dropped because of wrong lengths, version or type. Nodes of another version of Baton, or a stranger.',
  ),
  drop_ixcp_tag: counter(
    'notices',
    'Notices dropped because their tag did not verify. The node has another key: every node needs the key file of the balancer.',
  ),
  drop_ixcp_stale: counter(
    'notices',
    'Notices dropped because they are about no session, or about one that has moved on. A few are normal after a node was given up.',
  ),
  drop_ixcp_unknown_node: counter(
    'notices',
    'Notices dropped because they come from an address that is no node of the config. Add the node, or stop its agent.',
  ),
  drop_not_ours: counter('frames', 'Frames dropped because they are for no virtual server.'),
  drop_other_worker: counter(
    'segments',
    'Segments dropped because they came to the wrong engine thread. It happens while the interface comes up; the client sends them again.',
  ),
  drop_no_session: counter(
    'segments',
    'Segments of no session. Their senders get an RST, within a rate limit. A few are normal: clients that come back after a long silence.',
  ),
  drop_cookie: counter(
    'segments',
    'Segments that acknowledge a SYN/ACK of ours, of no session, and are not the first after it or echo another timestamp. They get no answer, so that a client whose first segment was lost sends it again.',
  ),
  drop_bad_ack: counter(
    'segments',
    'Segments that acknowledge, in a handshake, what was never sent. They are answered with an RST (RFC 9293 section 3.10.7.4).',
  ),
  drop_out_of_window: counter(
    'segments',
    'Segments outside of the receive window of a session that the balancer answers itself: old repetitions, or forged.',
  ),
  drop_out_of_order_full: counter(
    'segments',
    'Segments of a request head that came with more gaps between them than are kept track of. The client sends them again.',
  ),
  drop_head_room: counter(
    'segments',
    'Segments whose bytes go beyond the room for a request head, and the start of the body behind it. The client sends them again, to the node.',
  ),
  drop_sessions_full: counter(
    'SYNs',
    'SYNs that found the session table full of sessions that are further on. Raise limits.sessions.',
  ),
  drop_unresolved: counter(
    'frames',
    'Frames for a node whose MAC address was not known. STATE unresolved in `baton stats` says which node, and WHY.',
  ),
  drop_reset_limit: counter(
    'segments',
    'RSTs that were not sent to senders of unknown segments, to stay under the rate limit. Many of them are a flood or a scan.',
  ),
  drop_transmit_full: counter(
    'frames',
    'Frames that the engine could not send because the transmit ring was full: the interface takes less than is to be sent.',
  ),
} as const satisfies Readonly<Record<string, CounterInfo>>;

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
  constructor(
    memory = new SharedArrayBuffer(COUNTER_NAMES.length * Float64Array.BYTES_PER_ELEMENT),
  ) {
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
      COUNTER_NAMES.map((name) => [
        name,
        all.reduce((sum, counters) => sum + counters.get(name), 0),
      ]),
    ) as Record<CounterName, number>;
  }

  /** All of them, by name. */
  toObject(): Record<CounterName, number> {
    return Counters.sum([this]);
  }
}
