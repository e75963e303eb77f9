/**
 * What the kernel counts for Baton: the packet rings, and the BPF programs (bpf/lib/counters.h; the
 * order is the index in their map `counters`). `baton stats` shows those of the programs as
 * `guard_...`, `shim_...` and `xdp_...`.
 */
import { type CounterInfo, counter } from './counter-info.js';

type Infos = Readonly<Record<string, CounterInfo>>;

/**
 * Of the receive and transmit rings of all engine threads together, in the order of `ringTotals`.
 */
export const RING_COUNTERS = {
  ring_received: counter('frames', "Frames that came in by the engine's rings."),
  ring_lost: counter(
    'frames',
    'Frames lost before the engine took them, because a receive ring was full. The engine was kept from running, or is too slow: give it a CPU of its own, or set more `workers` (docs/tuning.md).',
  ),
  ring_sent: counter('frames', 'Frames given to the interface by a transmit ring.'),
  ring_send_failed: counter(
    'frames',
    'Frames that the interface refused to send: it is down, or they are larger than its MTU.',
  ),
  ring_sent_outside: counter(
    'frames',
    "Frames sent by another socket than the ring's: to this machine's own kernel, or larger than a ring's frame.",
  ),
  ring_starved: counter(
    'times',
    'Times that no memory was free to receive a frame into. The engine was kept from running, or is too slow: give it a CPU of its own, or set more `workers` (docs/tuning.md).',
  ),
  ring_drop_full: counter(
    'frames',
    'Frames not sent because no room was free in the transmit ring. The interface takes less than is to be sent.',
  ),
  ring_drop_too_long: counter(
    'frames',
    'Frames not sent because they are longer than the MTU. Give the interfaces of clients, balancer and nodes one MTU.',
  ),
  ring_drop_truncated: counter(
    'frames',
    'Received frames not forwarded because they are larger than 64 KiB. Switch BIG TCP off on the interface (gso_ipv4_max_size and gro_ipv4_max_size of `ip link set`).',
  ),
} as const satisfies Infos;

/** Of guard.bpf.c, on a balancer's interfaces. */
export const GUARD_COUNTERS = {
  seen: counter(
    'frames',
    "Frames that the guard's filter gave to the engine, out of all that the interface received.",
  ),
  turned: counter(
    'frames',
    "Frames of the engine turned round to this machine's own kernel, for a local service to answer.",
  ),
  kept_virtual: counter(
    'frames',
    "TCP frames for a virtual server kept from this machine's own kernel, which would answer them with RSTs.",
  ),
  kept_notice: counter(
    'notices',
    "Notices of nodes kept from this machine's own kernel, which knows nothing of them.",
  ),
  drop_ixp: counter(
    'frames',
    'IXP frames dropped because they came in from the wire: no machine but this one may hand over to its local services. Somebody tries.',
  ),
  sent_on: counter(
    'frames',
    'Frames that the XDP program had the network stack send to their node, since their checksum or their cutting into segments is left to hardware.',
  ),
} as const satisfies Infos;

/** Of shim.bpf.c: on each node, and on a balancer for its local services. */
export const SHIM_COUNTERS = {
  adopted: counter('handoffs', 'Handoffs from which the kernel was told to build a socket.'),
  adopt_repeated: counter(
    'handoffs',
    'Handoffs that came again for a session that has its socket: the balancer had not seen the confirmation.',
  ),
  adopt_cleared: counter(
    'sockets',
    "Older sockets of a session's addresses and ports that were reset to make room. Clients that use their ports again cause it.",
  ),
  adopt_finished: counter(
    'frames',
    'Frames of a session that had its socket and lost it: the web server had ended it already.',
  ),
  segment: counter(
    'segments',
    'Segments that came inside IXP and were passed to the socket of their session.',
  ),
  injected: counter(
    'frames',
    "Frames from the balancer's engine to this machine's own kernel; counted on a balancer only.",
  ),
  notice_adopted: counter(
    'notices',
    'Notices sent that a socket was built: the confirmations of handoffs.',
  ),
  notice_fin: counter(
    'notices',
    'Notices sent that the web server has ended its side of a session.',
  ),
  notice_rst: counter('notices', 'Notices sent that a session was reset, or is not known here.'),
  refused_no_listener: counter(
    'handoffs',
    "Handoffs refused because nothing listens on the virtual address and port. Start the web server, or name where it listens by `listen` in the agent's config.",
  ),
  refused_unable: counter(
    'handoffs',
    "Handoffs refused because the kernel cannot build the socket with what client and balancer agreed on. A sysctl is the usual cause: the agent's log names it.",
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
    'IXP packets dropped because of IPv4 options, or a wrong header length.',
  ),
  drop_fragment: counter(
    'packets',
    'Fragments of IXP packets that were dropped. The MTU between balancer and node is smaller than that of their interfaces.',
  ),
  drop_version: counter(
    'frames',
    'IXP frames dropped because they are of another version. Balancer and node need the same release.',
  ),
  drop_length: counter('frames', 'IXP frames dropped because their lengths contradict each other.'),
  drop_tcp_header: counter(
    'frames',
    'IXP frames dropped because the TCP header inside has a wrong length.',
  ),
  drop_type: counter(
    'frames',
    'IXP frames dropped because their type is unknown. The balancer is of a later release than the node.',
  ),
  drop_unknown_balancer: counter(
    'frames',
    "IXP frames dropped because their balancer is not in `balancers` of the agent's config. Add it there, or find out who sends them.",
  ),
  drop_tag: counter(
    'frames',
    'IXP frames dropped because their tag did not verify. The balancer has another key: copy its key file to the node.',
  ),
  drop_flags: counter(
    'segments',
    'Segments in IXP dropped because of TCP flags that a session cannot begin or go on with.',
  ),
  drop_no_session: counter(
    'segments',
    'Segments in IXP dropped because their session is not known here, or another has its place.',
  ),
  drop_no_socket: counter(
    'segments',
    'Segments in IXP dropped because the socket of their session is gone.',
  ),
  drop_clone: counter(
    'frames',
    'Notices that could not be sent because a frame could not be copied: the machine is short of memory.',
  ),
  drop_rewrite: counter(
    'frames',
    'Frames dropped because they could not be rewritten: the machine is short of memory.',
  ),
  drop_notice: counter(
    'frames',
    'Copies of frames that should have become a notice and belong to no session any more.',
  ),
  drop_unconfigured: counter(
    'frames',
    'IXP frames that came before the shim had its configuration: the agent was just starting.',
  ),
  adopt_cleared_by_syn: counter(
    'sockets',
    'Sockets in TIME-WAIT that no RST ended and a SYN did, as with net.ipv4.tcp_rfc1337=1.',
  ),
  released: counter(
    'sockets',
    "Sockets removed again at the balancer's request, because their web server had read nothing and answered nobody: another holder gets the session.",
  ),
  notice_released: counter(
    'notices',
    'Notices sent that a socket was removed again and its session is free for another holder.',
  ),
} as const satisfies Infos;

/** Of xdp.bpf.c, on a balancer's interface with `datapath: xdp`. */
export const XDP_COUNTERS = {
  forwarded: counter(
    'segments',
    'Segments that the XDP program forwarded to the node of their session: no engine was woken for them.',
  ),
  forwarded_bytes: counter('bytes', 'Bytes of the frames that the XDP program forwarded.'),
  wrapped: counter(
    'segments',
    'Segments that the XDP program sent to a node inside IXP, because the node had not confirmed the handoff yet.',
  ),
  payload_up: counter(
    'segments',
    'Segments with payload of a session that the engine watches, given to it before they pass.',
  ),
  to_engine_syn: counter(
    'SYNs',
    'SYNs given to the engine: those of known sessions, and those that need more than an answer.',
  ),
  to_engine_fin: counter(
    'segments',
    'FINs given to the engine: those of sessions that it serves itself, or that do not join what was seen.',
  ),
  to_engine_rst: counter('segments', 'RSTs given to the engine, which ends their sessions.'),
  to_engine_state: counter(
    'segments',
    'Segments of sessions that the engine serves itself: requests, and what comes before the node has confirmed.',
  ),
  to_engine_unknown: counter(
    'segments',
    'Segments of no session given to the engine: the first ones that answer a cookie, and strangers.',
  ),
  to_engine_checksum: counter(
    'segments',
    'Segments whose sender left the checksum to hardware, and that the stack could not be asked to forward: given to the engine. Many of them cost speed: see docs/tuning.md, offloads.',
  ),
  to_engine_ixcp: counter('notices', 'Notices and reports of nodes given to the engine.'),
  to_engine_icmp: counter('packets', 'ICMP errors for a virtual server given to the engine.'),
  to_engine_odd: counter(
    'packets',
    'Fragments, IPv4 options and wrong lengths, given to the engine, which counts them by what is wrong.',
  ),
  engine_absent: counter(
    'frames',
    'Frames for the engine that were dropped because it had no socket: the balancer is stopped or starting. Clients send them again.',
  ),
  forwarded_alone: counter(
    'frames',
    'Frames that were for the engine and went to their node all the same, because there was no engine.',
  ),
  syn_answered: counter(
    'SYNs',
    'SYNs that the XDP program answered, and of which it told the engine, which opens the session.',
  ),
  syn_cookie: counter(
    'SYNs',
    'SYNs that the XDP program answered with a cookie, of which nothing is kept: too many sessions were half open, or the engine was away.',
  ),
  drop_unresolved: counter(
    'segments',
    "Segments dropped because the MAC address of their session's node was not known. STATE and WHY of `baton stats` say more.",
  ),
  drop_no_port: counter(
    'segments',
    'Segments dropped because their node is behind an interface that the XDP program may not send by.',
  ),
  drop_not_alive: counter(
    'SYNs',
    'SYNs dropped because no engine had been running for a minute. Start the balancer, or take it away for good with `baton balancer --detach-all`.',
  ),
  index_limit: counter(
    'look-ups',
    'Look-ups of a session given up because too many sessions stand close together in the index. The engine gets the segment, and finds it; some are normal when the table is nearly full.',
  ),
  absorbed: counter(
    'segments',
    'ACKs that ended a handshake and needed no engine: the request behind them says the same.',
  ),
  fin_forwarded: counter(
    'segments',
    'FINs of clients that the XDP program forwarded, and told the engine of without waking it.',
  ),
  notice_told: counter(
    'notices',
    'Notices of nodes that the XDP program checked, and told the engine of without waking it.',
  ),
  drop_untold: counter(
    'SYNs',
    'SYNs dropped because the engine could not be told that a session gives way to them. The client sends them again; many mean that the engine does not keep up.',
  ),
  forwarded_by_stack: counter(
    'segments',
    'Segments, among those forwarded, that the network stack sent to their node, since their checksum or their cutting is left to hardware. Slower than the XDP program alone, and right.',
  ),
  to_engine_uncut: counter(
    'segments',
    'Segments larger than a frame of the wire, which came to the engine by its tap, since AF_XDP has no room for them.',
  ),
  tap_lost: counter(
    'frames',
    'Frames that `baton capture` did not see because it read too slowly. Capture less: one client (--client), or fewer bytes of each frame (--snaplen).',
  ),
} as const satisfies Infos;

export type GuardCounter = keyof typeof GUARD_COUNTERS;
export type ShimCounter = keyof typeof SHIM_COUNTERS;
export type XdpCounter = keyof typeof XDP_COUNTERS;

export const RING_NAMES = Object.keys(RING_COUNTERS);
export const GUARD_NAMES = Object.keys(GUARD_COUNTERS) as GuardCounter[];
export const SHIM_NAMES = Object.keys(SHIM_COUNTERS) as ShimCounter[];
export const XDP_NAMES = Object.keys(XDP_COUNTERS) as XdpCounter[];

/**
 * Those of frames that the XDP program took care of and that are no others': `frames` of
 * `baton stats` has them as well.
 */
export const FRAMES_OF_KERNEL = [
  'forwarded',
  'wrapped',
  'syn_answered',
  'syn_cookie',
  'drop_unresolved',
] as const satisfies readonly XdpCounter[];
