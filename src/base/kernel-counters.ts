/**
 * Counters that the kernel keeps for Baton: those of the packet rings, and those of the BPF
 * programs (`bpf/lib/counters.h`; their order is their index in the map `counters`). `baton stats`
 * shows the counters of the programs as `guard_...`, `shim_...` and `xdp_...`.
 */
import { type CounterInfo, counter } from './counter-info.js';
import { SHIM_COUNTERS } from './shim-counters.js';

type Infos = Readonly<Record<string, CounterInfo>>;

/** Counters of the rings, summed over all engine threads, in the order of `ringTotals`. */
export const RING_COUNTERS = {
  ring_received: counter('frames', "Frames that arrived through the engine's receive rings."),
  ring_lost: counter(
    'frames',
    'Frames lost before the engine took them, because a receive ring was full. The engine was kept from running, or is too slow: give it a CPU of its own, or set more `workers` (docs/tuning.md).',
  ),
  ring_sent: counter('frames', 'Frames given to the interface through a transmit ring.'),
  ring_send_failed: counter(
    'frames',
    'Frames that the interface refused to send. It is down, or the frames are larger than its MTU.',
  ),
  ring_sent_outside: counter(
    'frames',
    "Frames sent through another socket than the transmit ring's, because they are larger than a frame slot of the ring.",
  ),
  ring_starved: counter(
    'times',
    'Times when no memory was free to receive a frame. The engine was kept from running, or is too slow: give it a CPU of its own, or set more `workers` (docs/tuning.md).',
  ),
  ring_drop_full: counter(
    'frames',
    'Frames not sent because the transmit ring was full. The interface sends more slowly than the engine.',
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

/** Counters of `guard.bpf.c`, which runs on a balancer's interfaces. */
export const GUARD_COUNTERS = {
  seen: counter(
    'frames',
    "Frames that the guard's filter passed to the engine, out of all that the interface received.",
  ),
  kept_virtual: counter(
    'frames',
    "TCP frames for a virtual server withheld from this machine's own kernel, which would answer them with RSTs.",
  ),
  kept_notice: counter(
    'notices',
    "IXCP messages of nodes withheld from this machine's own kernel, which does not know the protocol.",
  ),
  drop_ixp: counter(
    'frames',
    'IXP frames dropped because they arrived from the wire. A balancer takes no sessions over, so a stranger is trying, or an agent has this machine as a node.',
  ),
  sent_on: counter(
    'frames',
    'Frames that the XDP program passed to the network stack to send to their node, because their checksum or segmentation is left to hardware.',
  ),
  kept_forward: counter(
    'frames',
    "Frames for a virtual server with mode forward withheld from this machine's own kernel, which would answer them with RSTs and ICMP errors.",
  ),
  drop_echo: counter(
    'frames',
    'ICMP and ICMPv6 echo requests (pings) to virtual addresses dropped because there were more than 1,000 in a second. This machine answers the others.',
  ),
  to_own_stack: counter(
    'frames',
    "Frames of sessions that this machine's own web server has, as the node `local`.",
  ),
} as const satisfies Infos;

/** Counters of `xdp.bpf.c`, which runs on a balancer's interface with `datapath: xdp`. */
export const XDP_COUNTERS = {
  forwarded: counter(
    'segments',
    'Segments that the XDP program forwarded to the node of their session without waking the engine.',
  ),
  forwarded_bytes: counter('bytes', 'Bytes of the frames that the XDP program forwarded.'),
  wrapped: counter(
    'segments',
    'Segments that the XDP program sent to a node inside IXP because the node had not confirmed the handoff yet.',
  ),
  payload_up: counter(
    'segments',
    'Segments with payload that the XDP program gave to the engine before they pass, because the engine watches their session.',
  ),
  to_engine_syn: counter(
    'SYNs',
    'SYNs given to the engine because their session is known, or because they need more than an answer.',
  ),
  to_engine_fin: counter(
    'segments',
    'FINs given to the engine because it serves their session itself, or because they are not in sequence.',
  ),
  to_engine_rst: counter('segments', 'RSTs given to the engine, which ends their sessions.'),
  to_engine_state: counter(
    'segments',
    'Segments given to the engine because it serves their session itself: requests, and segments that arrive before the node has confirmed.',
  ),
  to_engine_unknown: counter(
    'segments',
    'Segments of no session given to the engine: first segments that acknowledge a cookie, and segments of strangers.',
  ),
  to_engine_checksum: counter(
    'segments',
    'Segments given to the engine because their checksum is left to hardware and the stack could not forward them. Many of them cost speed: see docs/tuning.md, offloads.',
  ),
  to_engine_ixcp: counter(
    'notices',
    'IXCP messages of nodes (notices and reports) given to the engine.',
  ),
  to_engine_icmp: counter('packets', 'ICMP errors for a virtual server given to the engine.'),
  to_engine_odd: counter(
    'packets',
    'Fragments, packets with IPv4 options and packets with wrong lengths, given to the engine. The engine counts each by its fault.',
  ),
  engine_absent: counter(
    'frames',
    'Frames for the engine dropped because it had no socket. The balancer is stopped or starting; clients send the frames again.',
  ),
  forwarded_alone: counter(
    'frames',
    'Frames for the engine that the XDP program forwarded to their node instead, because no engine was running.',
  ),
  syn_answered: counter(
    'SYNs',
    'SYNs that the XDP program answered and reported to the engine, which opens the session.',
  ),
  syn_cookie: counter(
    'SYNs',
    'SYNs that the XDP program answered with a cookie and then forgot, because too many sessions were half open or the engine was away.',
  ),
  drop_unresolved: counter(
    'segments',
    "Segments dropped because the MAC address of their session's node was not known. STATE and WHY in `baton stats` say more.",
  ),
  drop_no_port: counter(
    'segments',
    'Segments dropped because their node is behind an interface through which the XDP program cannot send.',
  ),
  drop_not_alive: counter(
    'SYNs',
    'SYNs dropped because no engine had been running for a minute. Start the balancer, or remove it for good with `baton balancer --detach-all`.',
  ),
  index_limit: counter(
    'look-ups',
    'Session look-ups given up because too many sessions are close together in the index. The engine gets the segment and finds the session. Some are normal when the table is nearly full.',
  ),
  absorbed: counter(
    'segments',
    'ACKs that did not need the engine: the last one of a handshake, and one of all of an answer of the balancer itself. The request behind a handshake carries the same acknowledgement.',
  ),
  fin_forwarded: counter(
    'segments',
    'In-sequence FINs of clients that the XDP program forwarded and reported to the engine without waking it.',
  ),
  notice_told: counter(
    'notices',
    'IXCP notices of nodes that the XDP program verified and reported to the engine without waking it.',
  ),
  drop_untold: counter(
    'segments',
    'SYNs that replace a session, and FINs of clients with an answer, dropped because the engine could not be informed. The client sends them again; many of them mean that the engine does not keep up.',
  ),
  forwarded_by_stack: counter(
    'segments',
    'Segments that the network stack sent to their node, because their checksum or segmentation is left to hardware. They are part of `xdp_forwarded`, correct, and slower than with the XDP program alone.',
  ),
  to_engine_uncut: counter(
    'segments',
    'Segments that reached the engine through its packet tap, because they are larger than a frame of AF_XDP.',
  ),
  tap_lost: counter(
    'frames',
    'Frames missing from `baton capture` because it read too slowly. Capture less: one client (--client), or fewer bytes of each frame (--snaplen).',
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
  forward_unfinished: counter(
    'packets',
    'Packets for virtual servers with mode forward dropped because their checksum was left to hardware. The driver leaves no room to ask the network stack to finish it. Switch checksum offload off where they come from (`ethtool -K INTERFACE tx off`).',
  ),
  forward_icmp: counter(
    'messages',
    'ICMP errors about packets of virtual servers with mode forward, sent to the node that sent the packet. Path MTU discovery needs them.',
  ),
  forward_icmp_lost: counter(
    'messages',
    'ICMP errors about packets of virtual servers with mode forward dropped because no node has such a flow.',
  ),
  head_forwarded: counter(
    'requests',
    'Later requests of connections with `keepAlive: migrate` that the kernel forwarded without the engine, because the engine had judged the same request before. They are part of forwarded and, a moment later, of requests.',
  ),
  fin_answered: counter(
    'segments',
    'FINs of clients that have all of an answer of the balancer itself. The XDP program acknowledged them and reported them to the engine without waking it.',
  ),
  head_moved: counter(
    'requests',
    'Later requests with which the kernel brought a session back to a node where it was parked, without the engine. They are part of requests, a moment later.',
  ),
  ended_noted: counter(
    'notices',
    'Notices that all answers of a node have ended, which the kernel checked and noted for the next request of the session.',
  ),
  carried: counter(
    'packets',
    'Packets that the XDP program carried to nodes behind routers (`via`). They are part of forwarded and wrapped.',
  ),
  to_engine_carry: counter(
    'segments',
    'Segments for nodes behind routers that the XDP program gave to the engine: they were too large to be carried whole, or their checksum was left to hardware.',
  ),
} as const satisfies Infos;

export type GuardCounter = keyof typeof GUARD_COUNTERS;
export type ShimCounter = keyof typeof SHIM_COUNTERS;
export type XdpCounter = keyof typeof XDP_COUNTERS;

/**
 * Before the names of the counters of a BPF program or of the access log, wherever counters of all
 * kinds stand together.
 */
export const COUNTER_PREFIX = {
  guard: 'guard_',
  shim: 'shim_',
  xdp: 'xdp_',
  accessLog: 'access_log_',
} as const;

export const RING_NAMES = Object.keys(RING_COUNTERS);
export const GUARD_NAMES = Object.keys(GUARD_COUNTERS) as GuardCounter[];
export const SHIM_NAMES = Object.keys(SHIM_COUNTERS) as ShimCounter[];
export const XDP_NAMES = Object.keys(XDP_COUNTERS) as XdpCounter[];

/**
 * Counters of frames that the XDP program handled completely. Each such frame is in exactly one of
 * them. `frames` in `baton stats` includes their sum.
 */
export const FRAMES_OF_KERNEL = [
  'forwarded',
  'wrapped',
  'syn_answered',
  'syn_cookie',
  'fin_answered',
  'drop_unresolved',
] as const satisfies readonly XdpCounter[];
