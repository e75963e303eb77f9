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
	X(DROP_UNCONFIGURED, "frames that came before the program had its configuration")

#define GUARD_COUNTERS(X)                                                                          \
	X(SEEN, "frames that the engine was given")                                                \
	X(TURNED, "frames from the engine turned round to this machine's own kernel")              \
	X(KEPT_VIRTUAL, "TCP frames for a virtual server kept from this machine's kernel")         \
	X(KEPT_NOTICE, "IXCP notices kept from this machine's kernel")                             \
	X(DROP_IXP, "IXP frames that came in from the wire")

#define SHIM_INDEX(name, text) SHIM_##name,
#define GUARD_INDEX(name, text) GUARD_##name,
enum shim_counter { SHIM_COUNTERS(SHIM_INDEX) SHIM_COUNTER_COUNT };
enum guard_counter { GUARD_COUNTERS(GUARD_INDEX) GUARD_COUNTER_COUNT };

#endif
