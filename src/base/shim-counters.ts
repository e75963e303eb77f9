/**
 * Counters of the shim (`bpf/lib/counters.h`; their order is their index in its map `counters`).
 */
import { type CounterInfo, counter } from './counter-info.js';

/** Counters of `shim.bpf.c`, which runs on each node. */
export const SHIM_COUNTERS = {
  adopted: counter('handoffs', 'Handoffs for which the shim asked the kernel to build a socket.'),
  adopt_repeated: counter(
    'handoffs',
    'Handoffs that arrived again for a session that already has its socket. The balancer had not seen the confirmation.',
  ),
  adopt_cleared: counter(
    'sockets',
    'Older sockets with the addresses and ports of a new session, removed with an RST to make room. Clients that reuse their ports cause this.',
  ),
  adopt_finished: counter(
    'frames',
    'Frames of a session whose socket no longer exists, because the web server has already ended it.',
  ),
  segment: counter(
    'segments',
    'Segments that arrived inside IXP and were passed to the socket of their session.',
  ),
  injected: counter(
    'frames',
    'Always 0. In earlier versions a balancer counted frames for its own kernel here.',
  ),
  notice_adopted: counter(
    'notices',
    'ADOPTED notices sent. They confirm handoffs: the socket was built.',
  ),
  notice_fin: counter(
    'notices',
    'FIN notices sent. The web server has ended its side of a session.',
  ),
  notice_rst: counter(
    'notices',
    'RST notices sent. A session was reset, or is not known on this machine.',
  ),
  refused_no_listener: counter(
    'handoffs',
    "Handoffs refused because nothing listens on the virtual address and port. Start the web server, or set `listen` in the agent's config to the address where it listens.",
  ),
  refused_unable: counter(
    'handoffs',
    "Handoffs refused because the kernel cannot build the socket with the options that client and balancer agreed on. A sysctl is the usual cause: the agent's log names it.",
  ),
  refused_tuple_in_use: counter(
    'handoffs',
    'Handoffs refused because an older socket with the same addresses and ports could not be removed.',
  ),
  drop_truncated: counter(
    'frames',
    'IXP frames dropped because they are shorter than their headers say.',
  ),
  drop_ip_options: counter(
    'packets',
    'IXP packets dropped because they have IPv4 options or a wrong header length.',
  ),
  drop_fragment: counter(
    'packets',
    'Fragments of IXP packets that were dropped. The path between balancer and node has a smaller MTU than their interfaces.',
  ),
  drop_version: counter(
    'frames',
    'IXP frames dropped because they have another protocol version. Balancer and node need the same release.',
  ),
  drop_length: counter('frames', 'IXP frames dropped because their lengths contradict each other.'),
  drop_tcp_header: counter(
    'frames',
    'IXP frames dropped because the TCP header inside has a wrong length.',
  ),
  drop_type: counter(
    'frames',
    'IXP frames dropped because their type is unknown. The balancer runs a later release than the node.',
  ),
  drop_unknown_balancer: counter(
    'frames',
    "IXP frames dropped because their balancer is not listed in `balancers` of the agent's config. Add it there, or find out who sends them.",
  ),
  drop_tag: counter(
    'frames',
    'IXP frames dropped because their tag is invalid. The balancer has another key: copy its key file to the node.',
  ),
  drop_flags: counter(
    'segments',
    'Segments in IXP dropped because of TCP flags with which a session can neither begin nor continue.',
  ),
  drop_no_session: counter(
    'segments',
    'Segments in IXP dropped because their session is not known on this machine, or another session has taken its place.',
  ),
  drop_no_socket: counter(
    'segments',
    'Segments in IXP dropped because the socket of their session is gone.',
  ),
  drop_clone: counter(
    'frames',
    'Notices not sent because a frame could not be copied. The machine is short of memory.',
  ),
  drop_rewrite: counter(
    'frames',
    'Frames dropped because they could not be rewritten. The machine is short of memory.',
  ),
  drop_notice: counter(
    'frames',
    'Copies of frames that were to become notices, dropped because their session no longer exists.',
  ),
  drop_unconfigured: counter(
    'frames',
    'IXP frames dropped because the shim had no configuration yet: the agent was starting.',
  ),
  adopt_cleared_by_syn: counter(
    'sockets',
    'Sockets in TIME-WAIT that an RST did not end and a SYN did. Nodes with net.ipv4.tcp_rfc1337=1 count them.',
  ),
  released: counter(
    'sockets',
    "Sockets removed again at the balancer's request, because their web server had read nothing and answered nothing. Another holder gets the session.",
  ),
  notice_released: counter(
    'notices',
    'RELEASED notices sent. A socket was removed again, and its session is free for another holder.',
  ),
  unfollowed: counter(
    'sessions',
    'Sessions of virtual servers with `keepAlive: migrate` that stay on this node from now on, because the shim cannot tell where their answers end. Answers with neither Content-Length nor chunks cause this, and so do upgraded connections.',
  ),
  left: counter(
    'sessions',
    'Sessions that moved on to another node between two requests. Their socket here was ended in order.',
  ),
  notice_left: counter('notices', 'LEFT notices sent: a session may continue on another node.'),
  refused_unfollowed: counter(
    'questions',
    'Sessions that could not move on because it is not known where their answers end (unfollowed).',
  ),
  refused_unanswered: counter(
    'questions',
    'Sessions that could not move on, or come back, because an answer had not ended yet. The next request stayed where it was.',
  ),
  refused_ending: counter(
    'questions',
    'Sessions that could not move on, or come back, because the web server was closing the connection, as it does after its keep-alive time.',
  ),
  refused_unknown: counter(
    'questions',
    'Sessions that could not move on, or come back, because this shim does not know them: the agent was started later, or `maxSessions` is too small.',
  ),
  left_turned: counter(
    'segments',
    'FINs of sockets whose session moved on, acknowledged by the shim in place of the client. One for each socket is normal.',
  ),
  left_dropped: counter(
    'segments',
    'Other segments of sockets whose session moved on. They are not for the client.',
  ),
  left_reset: counter(
    'sockets',
    'Sockets that still sent something 1 s after their session had moved on, and got an RST.',
  ),
  drop_late: counter('frames', 'IXP frames of a session that arrived after it had moved on.'),
  drop_early: counter(
    'frames',
    'IXP_SEGMENT frames that overtook the one with which their session came back.',
  ),
  replayed: counter(
    'handoffs',
    'SYNs of sessions that the shim gave to the listener. These sessions come by replay of the handshake.',
  ),
  replay_repeated: counter(
    'handoffs',
    'SYNs that arrived again for a session whose SYN the listener already had. The balancer had not seen the answer.',
  ),
  notice_syn_ack: counter(
    'notices',
    'Notices that the listener has answered the SYN of a session. Its SYN/ACK went to nobody else.',
  ),
  parked: counter(
    'times',
    'Times when a session with all its requests answered was parked: its socket here waits, in case the session moves on and comes back.',
  ),
  resumed: counter('times', 'Times when a session came back to its parked socket.'),
  notice_parked: counter('notices', 'PARKED notices sent: a session may continue on another node.'),
  notice_ended: counter(
    'notices',
    'ENDED notices sent: all requests of a session are answered, and it may continue on another node.',
  ),
  held: counter(
    'segments',
    'Segments of parked sockets that their client did not get. Web servers cause them when they close idle connections.',
  ),
  awakened: counter(
    'sessions',
    'Parked sessions whose web server closed the connection, and whose client was told because they had not moved on.',
  ),
  carried: counter('packets', 'Packets that came across routers, for nodes with `via: ixp`.'),
  drop_carried: counter(
    'packets',
    'Packets that came in this way and are of another session or protocol. They may be forged.',
  ),
  notice_owned: counter(
    'notices',
    'OWNED notices sent. A balancer asked about a connection that it did not know, and this machine has its socket.',
  ),
  query_not_ours: counter(
    'frames',
    'Questions of balancers about unknown connections that are none of this machine. Each question goes to all nodes.',
  ),
} as const satisfies Readonly<Record<string, CounterInfo>>;
