/**
 * Named counters in memory that the engine thread and the main thread share. The engine thread adds
 * with a plain store: it is the only writer, and the main thread only reads. A double holds every
 * count that can be reached.
 */
import { type CounterInfo, counter } from './counter-info.js';
import { IPV6_COUNTERS } from './ipv6-counters.js';
import { MOVE_COUNTERS } from './move-counters.js';
import { SEARCH_COUNTERS } from './search-counters.js';

/** The engine's counters by name. Their order is their index in `Counters.values`. */
export const COUNTERS = {
  frames: counter(
    'frames',
    'Frames that the engine received. With the XDP program, this includes frames that the program handled without the engine; the `xdp_...` counters list these by kind.',
  ),
  forwarded: counter(
    'frames',
    'Client frames forwarded to the node of their session with only the MAC addresses changed. This is the main work of a balancer; `xdp_forwarded` is the part that the kernel did.',
  ),
  forwarded_bytes: counter(
    'bytes',
    'Bytes of the client frames forwarded to nodes, Ethernet headers included. The frames themselves are counted by forwarded.',
  ),
  wrapped: counter(
    'segments',
    'Client segments sent to a node inside IXP because the node had not confirmed the handoff yet. Many of them mean that clients upload at once, or that nodes confirm late.',
  ),
  sent: counter(
    'frames',
    'Frames that the engine built and sent itself: SYN/ACKs, ACKs, handoffs, answers and resets.',
  ),
  syn: counter(
    'sessions',
    'SYNs that opened a session. SYNs that the kernel had already answered are included (syn_answered).',
  ),
  syn_answered: counter(
    'sessions',
    'SYNs that the XDP program had answered before the engine opened their session. They are part of syn.',
  ),
  syn_cookie: counter(
    'SYNs',
    'SYNs answered with a cookie and then forgotten, because too many sessions were half open or the engine was away. If there is no flood and no restart, raise limits.halfOpen.',
  ),
  syn_retransmitted: counter(
    'SYNs',
    'SYNs that arrived again while their session was half open. The SYN/ACK was lost or is slow; many of them mean loss between clients and balancer.',
  ),
  syn_ack_retransmitted: counter(
    'segments',
    'SYN/ACKs sent again because the client had not answered. Many of them mean loss, or SYNs with forged source addresses.',
  ),
  established: counter(
    'sessions',
    'Handshakes that were completed. Compare with syn and cookie_accepted: the difference is clients that never completed the handshake.',
  ),
  cookie_accepted: counter(
    'sessions',
    'Sessions opened from the cookie in an acknowledged SYN/ACK. The kernel alone had answered their SYN, during a flood or before a restart. They are part of established and not of syn.',
  ),
  requests: counter(
    'requests',
    'Request heads that were read completely and are well-formed: one for each connection, or all of them with keepAlive: migrate. Other later requests go to their node unread.',
  ),
  handed_without_bytes: counter(
    'sessions',
    'Sessions handed over without a byte of the client, because it had sent none within firstBytes of a virtual server with `protocol: tcp`. The server speaks first, or the client is slow.',
  ),
  handoffs: counter(
    'handoffs',
    'Handoffs begun to nodes. A session that moves on to another holder counts again.',
  ),
  answers: counter(
    'sessions',
    'Sessions that the balancer itself answered with an error, or closed without an answer. The counters `answer_...` and closed_silent_client show which.',
  ),
  handoff_asked: counter(
    'handoffs',
    'Handoffs sent again with a request to confirm, because a client that was thought to be near did not acknowledge the answer in time. Slow answers cause this; it is harmless.',
  ),
  handoff_retransmitted: counter(
    'handoffs',
    'Handoffs sent again because the node had not confirmed within timeouts.handoff. Look for loss between balancer and nodes, and for overloaded nodes.',
  ),
  handoff_silent: counter(
    'handoffs',
    "Handoffs given up because the node never confirmed. The next holder got the session. Check the node's agent, its accept queue and the path to it; `baton stats` shows which node it is.",
  ),
  handoff_refused: counter(
    'handoffs',
    'Handoffs that a node refused. The next holder got the session at once. WHY in `baton stats` says why the node refuses; usually nothing listens there.',
  ),
  replay_syn: counter(
    'handoffs',
    'SYNs of clients played to nodes that take sessions by replay. Each handoff to such a node begins with one, and so does each repetition.',
  ),
  replay_fallback: counter(
    'handoffs',
    'Nodes with `handoff: auto` whose kernel refused to adopt a session. The sessions of that virtual server go to the node by replay from then on. WHY in `baton stats` names it.',
  ),
  rewritten: counter(
    'handoffs',
    'Requests that were given another path for the node, because their resource has the key rewrite.',
  ),
  rewrite_no_room: counter(
    'handoffs',
    'Requests that got the answer 503 because no room was left for their new path (key rewrite). Head and path are too long together, or too many long heads are kept at one time; raise limits.heads.',
  ),
  adopted: counter(
    'handoffs',
    "Handoffs that were confirmed, by the node or by the client's acknowledgement of the node's answer.",
  ),
  unanswered_asked: counter(
    'questions',
    'Questions to nodes that confirmed a handoff and then sent no answer within timeouts.answer. The question is whether their web server has read the request. Slow requests and web servers that stand still cause them.',
  ),
  handoff_taken_back: counter(
    'handoffs',
    'Handoffs taken back from a node that had confirmed, because its web server had not read the request. The next holder got the session. Check the web server of that node: it is stopped or overloaded.',
  ),
  fenced: counter(
    'sessions',
    'Sessions whose client was told to take nothing more from a node that had confirmed, because the node does not answer or is in maintenance. The client needs TCP timestamps.',
  ),
  retried_after_fence: counter(
    'handoffs',
    'Handoffs that another holder got after the client was fenced off from its node. Each is a request that would have been lost with its node.',
  ),
  retried_after_reset: counter(
    'handoffs',
    'Handoffs that another holder got because the node closed or reset the connection before any byte of an answer. Check the web server of that node: it may have ended.',
  ),
  evicted_kept_head: counter(
    'heads',
    'Request heads that were kept until the answer began, and gave way to the heads of other sessions. Such a request is lost if its node ends before it answers. Raise limits.heads.',
  ),
  ...MOVE_COUNTERS,
  node_asked: counter(
    'questions',
    'Questions to nodes whether they still have a session. A node is asked when the client has sent FIN and the session has been silent since, or when an earlier run of the balancer ended during the handoff. Many of them long after a start mean that notices of nodes are lost on the way.',
  ),
  reset_sent: counter(
    'segments',
    'RSTs sent to clients, for segments of no session and for sessions that could not be served.',
  ),
  icmp_forwarded: counter(
    'packets',
    'ICMP errors forwarded to the node of their session. Path MTU discovery depends on them.',
  ),
  answer_400: counter(
    'sessions',
    'Sessions that the balancer itself answered with 400 because the request was malformed. A few are normal: scanners, or TLS on a plain port. docs/decisions.md lists requests that other servers accept and Baton refuses.',
  ),
  answer_404: counter(
    'sessions',
    'Sessions that the balancer itself answered with 404 because no resource of the config covers the host and path. Add a resource for them, or one for `/`.',
  ),
  answer_408: counter(
    'sessions',
    'Sessions that the balancer itself answered with 408 because the request head was not complete within timeouts.head. Slow clients cause this, and attacks with slow heads.',
  ),
  answer_431: counter(
    'sessions',
    'Sessions that the balancer itself answered with 431 because the request head was larger than limits.headBytes. Large cookies are the usual cause.',
  ),
  answer_503: counter(
    'sessions',
    'Sessions that the balancer itself answered with 503 because no holder of the content could take them. STATE and WHY in `baton stats` say what is wrong with each node.',
  ),
  answers_retransmitted: counter(
    'segments',
    'Answers of the balancer sent again, because the client had not acknowledged them. Many of them mean loss between balancer and clients.',
  ),
  answers_unacknowledged: counter(
    'sessions',
    'Sessions whose answer was given up, because the client acknowledged nothing of it, however often it was sent. They are counted as closed_idle too.',
  ),
  discarded_bytes: counter(
    'bytes',
    'Bytes that clients sent behind a request that the balancer answered itself. They are acknowledged and thrown away, so that the client can read the answer.',
  ),
  alert_unrecognized_name: counter(
    'sessions',
    'TLS connections that got an alert because no resource of the config covers the name of their server. Add a resource for it, with the path `/`.',
  ),
  alert_no_name: counter(
    'sessions',
    'TLS connections that got an alert because the client named no server. No resource without `host` covers `/`. Clients that only know an address name none.',
  ),
  alert_no_protocol: counter(
    'sessions',
    "TLS connections that got an alert because the resources for their server have other protocols in `alpn` than the client's.",
  ),
  alert_malformed: counter(
    'sessions',
    'TLS connections that got another alert, because what the client sent is no valid ClientHello. A few are normal: scanners, or HTTP in clear on this port.',
  ),
  alert_no_holder: counter(
    'sessions',
    'TLS connections that got an alert because no holder of the resource could take them. STATE and WHY in `baton stats` say what is wrong with each node.',
  ),
  alert_timeout: counter(
    'sessions',
    'TLS connections that got an alert because the ClientHello was not complete within timeouts.head.',
  ),
  closed_silent_client: counter(
    'sessions',
    'Connections closed without an answer because the client sent no byte within timeouts.head, or closed without sending one. Browsers open such connections in advance.',
  ),
  closed_fin: counter('sessions', 'Sessions that ended normally, by FIN from both sides.'),
  closed_client_reset: counter(
    'sessions',
    'Sessions that the client ended with an RST, as browsers do when the user leaves a page.',
  ),
  closed_node_reset: counter(
    'sessions',
    'Sessions that the node ended with an RST. Its web server closed the connection with unread bytes, exited, or never had the session.',
  ),
  closed_idle: counter(
    'sessions',
    "Sessions that ended because no packet or notice arrived for too long. The limit is timeouts.idle while neither side has sent FIN, and timeouts.closing after the node's FIN. After the client's FIN it is 3 minutes, or timeouts.closing if that is longer, but never more than timeouts.idle. If long polls end like this, raise timeouts.idle. Many sessions that end like this after a FIN mean that notices of nodes are lost.",
  ),
  closed_handshake_timeout: counter(
    'sessions',
    'Half-open sessions given up because the client never answered the SYN/ACK, which was sent limits.synAckTries times. Port scans, forged source addresses and a broken return path cause this.',
  ),
  closed_no_node: counter(
    'sessions',
    'Sessions reset because no node could continue them. A node took only the beginning of the head, or the session was moved and the node that answered is unknown.',
  ),
  closed_replaced: counter(
    'sessions',
    'Sessions replaced by a new connection from the same client port, or whose client continued with the answer to another SYN.',
  ),
  closed_lost: counter(
    'sessions',
    'Sessions of an earlier run of the balancer that were reset or forgotten, because that run ended with bytes of their request head. A few are normal after a balancer was killed.',
  ),
  closed_maintenance: counter(
    'sessions',
    'Sessions that were reset because an operator put their node into maintenance. Drain a node first, and its sessions end by themselves.',
  ),
  closed_removed: counter(
    'sessions',
    'Sessions that were reset because an operator removed their virtual server and ended its sessions by force.',
  ),
  closed_answered: counter(
    'sessions',
    'Sessions that the balancer answered itself, and whose client has the answer but did not close the connection in time.',
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
    'Sessions reset to make room for the request head of another session. Raise limits.heads; under attack, lower timeouts.head.',
  ),
  report: counter(
    'reports',
    'Reports of node agents whose tag was valid. Each agent sends each balancer one report a second for each of its virtual addresses.',
  ),
  drop_truncated: counter(
    'frames',
    'Frames dropped because they are larger than a frame slot of the receive ring. A sender or the interface merges segments: see docs/tuning.md, offloads.',
  ),
  drop_malformed_ethernet: counter(
    'frames',
    'Frames dropped because they are too short for Ethernet and IPv4, or are not IPv4.',
  ),
  drop_malformed_ipv4: counter(
    'packets',
    'Packets dropped because their IPv4 header has a wrong version or wrong lengths.',
  ),
  drop_ipv4_checksum: counter(
    'packets',
    'Packets dropped because the checksum of their IPv4 header is wrong. They were damaged on the way, or the sender is faulty.',
  ),
  drop_ipv4_options: counter(
    'packets',
    'Packets dropped because they have IPv4 options. Clients do not need options, and handoffs do not carry them.',
  ),
  drop_ipv4_fragment: counter(
    'packets',
    'IPv4 fragments for a virtual address, dropped because fragments have no ports. Look for a path MTU problem at the clients.',
  ),
  ...IPV6_COUNTERS,
  ...SEARCH_COUNTERS,
  drop_malformed_tcp: counter(
    'segments',
    'Segments dropped because their TCP header has wrong lengths, wrong options, or contradictory flags. Scanners send such segments.',
  ),
  drop_tcp_checksum: counter(
    'segments',
    'Segments dropped because their TCP checksum is wrong. The cause is a client on this host with checksum offload, or a link that damages frames: see docs/tuning.md.',
  ),
  drop_malformed_icmp: counter(
    'packets',
    'ICMP errors dropped because they are too short, or do not quote a segment of a session with a node.',
  ),
  drop_malformed_ixcp: counter(
    'notices',
    'IXCP messages of nodes dropped because of a wrong length, version or type. The node runs another version of Baton, or the sender is a stranger.',
  ),
  drop_ixcp_tag: counter(
    'notices',
    'IXCP messages dropped because their tag is invalid. The node has another key: every node needs the key file of the balancer.',
  ),
  drop_ixcp_stale: counter(
    'notices',
    'IXCP notices dropped because their session does not exist or has moved on. A few are normal after a node was given up.',
  ),
  drop_ixcp_unknown_node: counter(
    'notices',
    'IXCP messages dropped because their source address is not a node of the config. Add the node, or stop its agent.',
  ),
  drop_not_ours: counter('frames', 'Frames dropped because they are not for a virtual server.'),
  drop_other_worker: counter(
    'segments',
    'Segments dropped because they reached the wrong engine thread. This happens while the interface comes up; the client sends them again.',
  ),
  drop_no_session: counter(
    'segments',
    'Segments dropped because they belong to no session. The sender gets an RST, within a rate limit. A few are normal: clients that come back after a long silence.',
  ),
  drop_cookie: counter(
    'segments',
    'Segments without a session that acknowledge a SYN/ACK of Baton, but are not the first segment after it or echo another timestamp. They get no answer, so a client whose first segment was lost sends it again.',
  ),
  drop_bad_ack: counter(
    'segments',
    'Segments before the handoff that acknowledge a number that was never sent. During the handshake the sender gets an RST (RFC 9293 section 3.10.7.4), later an ACK.',
  ),
  drop_out_of_window: counter(
    'segments',
    'Segments outside the receive window of a session that the balancer itself answers, or with a timestamp older than one before (RFC 7323, PAWS). They are old repetitions, or forged.',
  ),
  drop_out_of_order_full: counter(
    'segments',
    'Segments of a request head dropped because there are more gaps between its segments than Baton tracks. The client sends them again.',
  ),
  drop_head_room: counter(
    'segments',
    'Segments dropped because their bytes exceed the room for a request head and the start of the body behind it. The client sends them again, to the node.',
  ),
  drop_sessions_full: counter(
    'SYNs',
    'SYNs dropped because the session table is full of sessions that are past the handshake. Raise limits.sessions.',
  ),
  drop_unresolved: counter(
    'frames',
    'Frames for a node dropped because its MAC address was not known. `unresolved` in the column WHY of `baton stats` shows which node, and the reason.',
  ),
  drop_reset_limit: counter(
    'segments',
    'RSTs not sent to senders of unknown segments because of the rate limit. Many of them mean a flood or a scan.',
  ),
  drop_transmit_full: counter(
    'frames',
    'Frames that the engine could not send because the transmit ring was full. The interface sends more slowly than the engine.',
  ),
  forward_evicted: counter(
    'flows',
    'Flows of virtual servers with mode forward that were forgotten because the table was full. The longest idle one goes first. If there is no flood, raise limits.sessions.',
  ),
  forward_no_node: counter(
    'packets',
    'Packets for virtual servers with mode forward dropped because no node takes them: all are down, draining or in maintenance, or the virtual server is removed.',
  ),
  forward_unknown: counter(
    'flows',
    'Flows of virtual servers with mode forward whose first known packet does not open a TCP connection. A hash chooses the node: the same for every such packet. After a restart these are connections that go on; otherwise stray packets.',
  ),
  forward_fragment_lost: counter(
    'fragments',
    'IPv4 fragments for virtual servers with mode forward dropped because their first fragment, which has the ports, had not come before them.',
  ),
  forward_malformed: counter(
    'packets',
    'Packets for virtual servers with mode forward dropped because of wrong lengths in their IPv4, TCP or UDP header.',
  ),
  forward_icmp: counter(
    'messages',
    'ICMP errors about packets of virtual servers with mode forward, sent to the node that sent the packet. Path MTU discovery needs them.',
  ),
  forward_icmp_lost: counter(
    'messages',
    'ICMP errors about packets of virtual servers with mode forward dropped because no node has such a flow.',
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

  /** @param memory the memory of another `Counters`, to read the counts of another thread */
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

  /** The sums over several threads, by name. */
  static sum(all: readonly Counters[]): Record<CounterName, number> {
    return Object.fromEntries(
      COUNTER_NAMES.map((name) => [
        name,
        all.reduce((sum, counters) => sum + counters.get(name), 0),
      ]),
    ) as Record<CounterName, number>;
  }

  /** All values by name. */
  toObject(): Record<CounterName, number> {
    return Counters.sum([this]);
  }
}
