/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Counters of the programs. The position in a list is the index in map `counters` (a per-CPU array
 * of u64); users see the name in lower case. Add counters at the end only: an agent reads the
 * counters of programs that an older agent may have left behind.
 */
#ifndef BATON_COUNTERS_H
#define BATON_COUNTERS_H

#define SHIM_COUNTERS(X)                                                                           \
	X(ADOPTED, "IXP_ADOPT frames from which the kernel built a socket")                        \
	X(ADOPT_REPEATED, "IXP_ADOPT frames passed to the socket of their session")                \
	X(ADOPT_CLEARED, "older sockets of a session's four-tuple that were reset")                \
	X(ADOPT_FINISHED, "frames of a session that had its socket and lost it")                   \
	X(SEGMENT, "IXP_SEGMENT frames passed to the socket of their session")                     \
	X(INJECTED, "always 0: the place of a counter of earlier versions")                        \
	X(NOTICE_ADOPTED, "IXCP_ADOPTED notices sent")                                             \
	X(NOTICE_FIN, "IXCP_FIN notices sent")                                                     \
	X(NOTICE_RST, "IXCP_RST notices sent")                                                     \
	X(REFUSED_NO_LISTENER, "sessions refused: nothing listens on their address and port")      \
	X(REFUSED_UNABLE, "sessions refused: the kernel cannot build the socket")                  \
	X(REFUSED_TUPLE_IN_USE, "sessions refused: an older socket could not be removed")          \
	X(DROP_TRUNCATED, "IXP frames shorter than their headers")                                 \
	X(DROP_IP_OPTIONS, "IXP packets with IPv4 options, or with a wrong header length")         \
	X(DROP_FRAGMENT, "fragments of IXP packets")                                               \
	X(DROP_VERSION, "IXP headers of another version")                                          \
	X(DROP_LENGTH, "IXP headers or packets with a wrong length")                               \
	X(DROP_TCP_HEADER, "TCP headers in IXP with a wrong length")                               \
	X(DROP_TYPE, "IXP headers of an unknown type")                                             \
	X(DROP_UNKNOWN_BALANCER, "IXP frames of a balancer that is not allowed here")              \
	X(DROP_TAG, "IXP frames whose tag did not verify")                                         \
	X(DROP_FLAGS, "segments whose TCP flags cannot begin or continue a session")               \
	X(DROP_NO_SESSION,                                                                         \
	  "IXP_SEGMENT frames of no session, or of another one of their four-tuple")               \
	X(DROP_NO_SOCKET, "IXP_SEGMENT frames of a session whose socket is gone")                  \
	X(DROP_CLONE, "frames that could not be copied")                                           \
	X(DROP_REWRITE, "frames that could not be rewritten")                                      \
	X(DROP_NOTICE, "copies that should have become a notice but had no session")               \
	X(DROP_UNCONFIGURED, "frames that arrived before the program was configured")              \
	X(ADOPT_CLEARED_BY_SYN, "sockets in TIME_WAIT that a SYN ended, because an RST did not")   \
	X(RELEASED, "sockets removed: their server read nothing and answered no other client")     \
	X(NOTICE_RELEASED, "IXCP_RELEASED notices sent")                                           \
	X(UNFOLLOWED, "sessions that may move on, but whose answers cannot be followed any more")  \
	X(LEFT, "sessions that moved on: their socket was ended by a FIN")                         \
	X(NOTICE_LEFT, "IXCP_LEFT notices sent")                                                   \
	X(REFUSED_UNFOLLOWED, "IXP_LEAVE refused: it is not known where the answers end")          \
	X(REFUSED_UNANSWERED, "IXP_LEAVE refused: an answer has not ended")                        \
	X(REFUSED_ENDING, "IXP_LEAVE refused: the socket is closing, or gone")                     \
	X(REFUSED_UNKNOWN, "IXP_LEAVE refused: the session is not known")                          \
	X(LEFT_TURNED, "FINs of sockets that their sessions left, sent back as the ACK")           \
	X(LEFT_DROPPED, "other segments of such sockets, which are not for the client")            \
	X(LEFT_RESET, "such sockets that got an RST, because they still sent after 1 s")           \
	X(DROP_LATE, "IXP frames of a session that arrived after it had moved on")                 \
	X(DROP_EARLY, "IXP_SEGMENT frames that overtook the one with which their session came back") \
	X(REPLAYED, "SYNs of sessions given to the listener")                                      \
	X(REPLAY_REPEATED, "IXP_REPLAY frames of sessions whose SYN the listener had")             \
	X(NOTICE_SYN_ACK, "IXCP_SYN_ACK notices sent")                                             \
	X(PARKED, "sessions whose socket began to wait for them to come back")                     \
	X(RESUMED, "sessions that came back to their parked socket")                               \
	X(NOTICE_PARKED, "IXCP_PARKED notices sent")                                               \
	X(NOTICE_ENDED, "IXCP_ENDED notices sent")                                                 \
	X(HELD, "segments of parked sockets held back from the client")                            \
	X(AWAKENED, "IXP_AWAKE frames that let such segments pass")                                \
	X(CARRIED, "packets taken out of IXP_CARRY")                                               \
	X(DROP_CARRIED, "packets in IXP_CARRY of another session or protocol")                     \
	X(NOTICE_OWNED, "IXCP_OWNED notices sent")                                                 \
	X(QUERY_NOT_OURS, "IXP_QUERY frames about no socket of this machine")

#define GUARD_COUNTERS(X)                                                                          \
	X(SEEN, "frames given to the engine")                                                      \
	X(KEPT_VIRTUAL, "TCP frames for a virtual server kept from this machine's kernel")         \
	X(KEPT_NOTICE, "IXCP notices kept from this machine's kernel")                             \
	X(DROP_IXP, "IXP frames that arrived from the wire")                                       \
	X(SENT_ON, "frames that the stack sent to a node for the XDP program")                     \
	X(KEPT_FORWARD, "frames of mode forward kept from this machine's kernel")                  \
	X(DROP_ECHO, "echo requests to virtual addresses beyond the limit")                        \
	X(TO_OWN_STACK, "frames for this machine's own web server, which is a node")

#define XDP_COUNTERS(X)                                                                            \
	X(FORWARDED, "segments forwarded to the node of their session")                            \
	X(FORWARDED_BYTES, "bytes of those frames")                                                \
	X(WRAPPED, "segments sent in IXP before the node confirmed")                               \
	X(PAYLOAD_UP, "segments with payload that the engine asked to see first")                  \
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
	X(FORWARDED_ALONE, "frames forwarded because the engine had no socket for them")           \
	X(SYN_ANSWERED, "SYNs answered, with a new session")                                       \
	X(SYN_COOKIE, "SYNs answered with a cookie, without a session")                            \
	X(DROP_UNRESOLVED, "segments for a node whose MAC address is not known")                   \
	X(DROP_NO_PORT, "segments for a node on an interface that is not in use")                  \
	X(DROP_NOT_ALIVE, "SYNs that arrived when no engine had run for a minute")                 \
	X(INDEX_LIMIT, "look-ups that stopped after INDEX_MOST_PROBES words of the index")         \
	X(ABSORBED, "ACKs that end a handshake or an answer: the engine sleeps on")                \
	X(FIN_FORWARDED, "FINs of clients forwarded and reported to the engine")                   \
	X(NOTICE_TOLD, "IXCP notices checked and reported to the engine")                          \
	X(DROP_UNTOLD, "SYNs of ended sessions and FINs of answered ones that were not reported")  \
	X(FORWARDED_BY_STACK,                                                                      \
	  "forwarded segments whose checksum or segmentation is left to hardware")                 \
	X(TO_ENGINE_UNCUT, "segments larger than the MTU, given to the engine through its tap")    \
	X(TAP_LOST, "frames that a capture missed because it read too slowly")                     \
	X(FORWARD_EVICTED, "flows of mode forward that gave way to new ones")                      \
	X(FORWARD_NO_NODE, "packets of mode forward without a node")                               \
	X(FORWARD_UNKNOWN, "segments of unknown flows of mode forward")                            \
	X(FORWARD_FRAGMENT_LOST, "fragments of mode forward without their first one")              \
	X(FORWARD_MALFORMED, "packets of mode forward with wrong lengths")                         \
	X(FORWARD_UNFINISHED, "packets of mode forward whose checksum could not be finished")      \
	X(FORWARD_ICMP, "ICMP errors of mode forward sent to the node")                            \
	X(FORWARD_ICMP_LOST, "ICMP errors of mode forward about an unknown flow")                  \
	X(HEAD_FORWARDED, "requests that the engine had judged before, forwarded without it")      \
	X(FIN_ANSWERED, "FINs of clients that have an answer, acknowledged and reported")          \
	X(HEAD_MOVED, "such requests with which the session came back to a parked socket")         \
	X(ENDED_NOTED, "IXCP_ENDED notices checked and noted for the next request")                \
	X(CARRIED, "packets carried to nodes behind routers")                                      \
	X(TO_ENGINE_CARRY, "segments that the engine finishes or cuts before they are carried")

#define SHIM_INDEX(name, text) SHIM_##name,
#define GUARD_INDEX(name, text) GUARD_##name,
#define XDP_INDEX(name, text) XDP_##name,
enum shim_counter { SHIM_COUNTERS(SHIM_INDEX) SHIM_COUNTER_COUNT };
enum guard_counter { GUARD_COUNTERS(GUARD_INDEX) GUARD_COUNTER_COUNT };
enum xdp_counter { XDP_COUNTERS(XDP_INDEX) XDP_COUNTER_COUNT };

#endif
