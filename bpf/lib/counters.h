/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the programs count. The order is the index in map `counters` (per-CPU array of u64);
 * the name in lower case is what people are shown. Add at the end only: an agent reads the
 * counters of programs that an older one may have left behind.
 */
#ifndef BATON_COUNTERS_H
#define BATON_COUNTERS_H

#define SHIM_COUNTERS(X)                                                                           \
	X(ADOPTED, "IXP_ADOPT frames from which the kernel was told to build a socket")            \
	X(ADOPT_REPEATED, "IXP_ADOPT frames passed to the socket that their session has")          \
	X(ADOPT_CLEARED, "older sockets of a session's four-tuple that were reset")                \
	X(ADOPT_FINISHED, "frames of a session that had its socket and lost it")                   \
	X(SEGMENT, "IXP_SEGMENT frames passed to the socket of their session")                     \
	X(INJECTED, "plain frames from the balancer's engine to its own kernel")                   \
	X(NOTICE_ADOPTED, "IXCP_ADOPTED notices sent")                                             \
	X(NOTICE_FIN, "IXCP_FIN notices sent")                                                     \
	X(NOTICE_RST, "IXCP_RST notices sent")                                                     \
	X(REFUSED_NO_LISTENER, "sessions refused: nothing listens where they should go")           \
	X(REFUSED_UNABLE, "sessions refused: the kernel can not build the socket")                 \
	X(REFUSED_TUPLE_IN_USE, "sessions refused: an older socket could not be removed")          \
	X(DROP_TRUNCATED, "IXP frames shorter than their headers")                                 \
	X(DROP_IP_OPTIONS, "IXP packets with IPv4 options, or with a wrong header length")         \
	X(DROP_FRAGMENT, "fragments of IXP packets")                                               \
	X(DROP_VERSION, "IXP headers of another version")                                          \
	X(DROP_LENGTH, "IXP headers or packets with a wrong length")                               \
	X(DROP_TCP_HEADER, "TCP headers in IXP with a wrong length")                               \
	X(DROP_TYPE, "IXP headers of an unknown type")                                             \
	X(DROP_UNKNOWN_BALANCER, "IXP frames of a balancer that may not hand over here")           \
	X(DROP_TAG, "IXP frames whose tag did not verify")                                         \
	X(DROP_FLAGS, "segments with TCP flags that a session can not begin or go on with")        \
	X(DROP_NO_SESSION, "IXP_SEGMENT frames of no session, or of another of their tuple")       \
	X(DROP_NO_SOCKET, "IXP_SEGMENT frames of a session whose socket is gone")                  \
	X(DROP_CLONE, "frames that could not be copied")                                           \
	X(DROP_REWRITE, "frames that could not be rewritten")                                      \
	X(DROP_NOTICE, "copies that should have become a notice but had no session")               \
	X(DROP_UNCONFIGURED, "frames that came before the program had its configuration")          \
	X(ADOPT_CLEARED_BY_SYN, "sockets in TIME_WAIT that no RST ended: a SYN did")               \
	X(RELEASED,                                                                                \
	  "sockets removed again because their server read nothing, and answered nobody")          \
	X(NOTICE_RELEASED, "IXCP_RELEASED notices sent")

#define GUARD_COUNTERS(X)                                                                          \
	X(SEEN, "frames that the engine was given")                                                \
	X(TURNED, "frames from the engine turned round to this machine's own kernel")              \
	X(KEPT_VIRTUAL, "TCP frames for a virtual server kept from this machine's kernel")         \
	X(KEPT_NOTICE, "IXCP notices kept from this machine's kernel")                             \
	X(DROP_IXP, "IXP frames that came in from the wire")                                       \
	X(SENT_ON, "frames of sessions that the XDP program had the stack send to their node")

#define XDP_COUNTERS(X)                                                                            \
	X(FORWARDED, "segments forwarded to the node of their session")                            \
	X(FORWARDED_BYTES, "bytes of those frames")                                                \
	X(WRAPPED, "segments sent on in IXP before the node confirmed")                            \
	X(PAYLOAD_UP, "segments with payload that the engine asked to see before they pass")       \
	X(TO_ENGINE_SYN, "SYNs of known sessions, or that need more than an answer")               \
	X(TO_ENGINE_FIN, "FINs given to the engine")                                               \
	X(TO_ENGINE_RST, "RSTs given to the engine")                                               \
	X(TO_ENGINE_STATE, "segments of sessions that the engine serves itself")                   \
	X(TO_ENGINE_UNKNOWN, "segments of no session given to the engine")                         \
	X(TO_ENGINE_CHECKSUM, "unfinished segments that the stack could not be asked to forward")  \
	X(TO_ENGINE_IXCP, "IXCP notices given to the engine")                                      \
	X(TO_ENGINE_ICMP, "ICMP errors for a virtual server given to the engine")                  \
	X(TO_ENGINE_ODD, "fragments, options and wrong lengths given to the engine")               \
	X(ENGINE_ABSENT, "frames for the engine while it had no socket")                           \
	X(FORWARDED_ALONE, "frames for the engine forwarded because it had no socket")             \
	X(SYN_ANSWERED, "SYNs answered with a session begun")                                      \
	X(SYN_COOKIE, "SYNs answered with a cookie and nothing kept")                              \
	X(DROP_UNRESOLVED, "segments for a node whose MAC address is not known")                   \
	X(DROP_NO_PORT, "segments for a node behind an interface that is not used")                \
	X(DROP_NOT_ALIVE, "SYNs that came when no engine had been running for long")               \
	X(INDEX_LIMIT, "look-ups given up because sessions stand too close in the index")          \
	X(ABSORBED, "ACKs that ended a handshake, which the engine hears of with the request")     \
	X(FIN_FORWARDED, "FINs of clients forwarded, and told to the engine")                      \
	X(NOTICE_TOLD, "IXCP notices checked, and told to the engine")                             \
	X(DROP_UNTOLD, "SYNs of ended sessions that the engine could not be told of")              \
	X(FORWARDED_BY_STACK, "of those forwarded, with checksum or cutting left to hardware")     \
	X(TO_ENGINE_UNCUT, "segments larger than the wire's, given to the engine by its tap")      \
	X(TAP_LOST, "frames that a capture did not see because it read too slowly")

#define SHIM_INDEX(name, text) SHIM_##name,
#define GUARD_INDEX(name, text) GUARD_##name,
#define XDP_INDEX(name, text) XDP_##name,
enum shim_counter { SHIM_COUNTERS(SHIM_INDEX) SHIM_COUNTER_COUNT };
enum guard_counter { GUARD_COUNTERS(GUARD_INDEX) GUARD_COUNTER_COUNT };
enum xdp_counter { XDP_COUNTERS(XDP_INDEX) XDP_COUNTER_COUNT };

#endif
