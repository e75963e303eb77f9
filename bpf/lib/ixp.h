/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * IXP and IXCP: the one definition of the two wire headers between balancer and node.
 *
 * IXP carries a client's segment from the balancer to a node. It stands between the client's IPv4
 * header (addresses unchanged, protocol 6 replaced by BATON_IPPROTO_IXP) and the client's TCP
 * header:
 *
 *     Ethernet | IPv4 client -> virtual address, proto 253 | IXP | TCP | payload
 *
 * IXCP carries a notice about one session, or a report about a node, from a node to the balancer:
 *
 *     Ethernet | IPv4 node -> balancer, proto 254 | IXCP
 *
 * All fields are in network byte order. Both headers end in a SipHash-2-4 tag with the key that
 * balancer and nodes share; each header says what its tag covers. 253 and 254 are the protocol
 * numbers for experiments (RFC 3692 section 2.1). docs/ixp.md describes the protocol. test/wire
 * compares src/wire/ixp.ts and src/wire/ixcp.ts with this file.
 */
#ifndef BATON_IXP_H
#define BATON_IXP_H

#include <linux/types.h>

#define BATON_IPPROTO_IXP 253
#define BATON_IPPROTO_IXCP 254
#define BATON_VERSION 1

/*
 * ADOPT: the node builds an established socket from this segment, or passes the segment to the
 * session's socket if it has one.
 * SEGMENT: the node passes the segment to the session's socket, or drops it if there is none.
 * RELEASE: the node removes the session's socket if its server has not read from it and has begun
 * no other response since. Sequence and acknowledgement number are those of the ADOPT; there is no
 * payload.
 * LEAVE: the node ends the session's socket in order, because the session moves on to another node.
 * The node does this only if all of the answers have ended. Sequence number: the client's next
 * byte. Acknowledgement number: the end of the answers, which the client has acknowledged. There is
 * no payload.
 * PARK: as LEAVE, but the node keeps the socket, and the session may come back to it.
 * RESUME: the session comes back to its parked socket with this segment. The socket has older
 * numbers than the stream, so from then on the shim translates them.
 * AWAKE: this node is still the node of the session, so its client gets what the shim has held
 * back. The numbers are those of LEAVE; there is no payload.
 * REPLAY: the node gives this SYN to its listener. It is built again from what the handshake agreed
 * on, and takes the number before the session's next byte. Its acknowledgement number, which no
 * listener reads, is the next number to be sent to the client. The node keeps its SYN/ACK from the
 * client and answers IXCP_SYN_ACK; from then on the shim translates the numbers of the node's
 * socket. An IXP_ADOPT of the session, with the same numbers, completes the handshake.
 * QUERY: the balancer asks who has the socket for this segment of an unknown connection. There is
 * no payload. ixp_hdr.session is the number of the question.
 */
enum ixp_type {
	IXP_ADOPT = 1,
	IXP_SEGMENT = 2,
	IXP_RELEASE = 3,
	IXP_LEAVE = 4,
	IXP_PARK = 5,
	IXP_RESUME = 6,
	IXP_AWAKE = 7,
	IXP_REPLAY = 8,
	IXP_CARRY = 9, /* has a header of its own: struct carry_hdr */
	IXP_QUERY = 10,
};

/* ixp_hdr.flags: TCP options that both sides agreed on in the handshake */
#define IXP_WSCALE_OK 0x01
#define IXP_SACK_OK 0x02
#define IXP_TSTAMP_OK 0x04
/*
 * ixp_hdr.flags of the first IXP_ADOPT: the balancer expects the client to acknowledge the response
 * soon, which confirms the handoff. The node then sends no IXCP_ADOPTED for the initial window of
 * the response, until the balancer asks again. An IXCP_ADOPTED that comes all the same is harmless.
 */
#define IXP_CLIENT_CONFIRMS 0x08
/* ixp_hdr.flags of IXP_ADOPT: the session may move on, so the shim follows its answers. */
#define IXP_FOLLOW 0x10
/*
 * ixp_hdr.flags: the segment has bytes of the head of a request whose method is HEAD. Its answer
 * has no body, whatever it says of its length. In IXP_ADOPT this is the first request. In
 * IXP_SEGMENT it is the request of which ixp_hdr.request is the number.
 */
#define IXP_HEAD 0x20
/*
 * ixp_hdr.flags of IXP_ADOPT: the balancer keeps the request, and another node can answer it. As
 * long as the socket has sent no payload, its RST or FIN goes to the balancer alone, as IXCP_RST
 * with IXCP_REASON_HELD_BACK.
 */
#define IXP_HOLD_RESET 0x40
/*
 * ixp_hdr.flags of IXP_ADOPT with IXP_FOLLOW, and of IXP_RESUME: the shim sends IXCP_ENDED when the
 * answer has ended, and parks the session. The bytes up to `confirm` are those of one request. In
 * IXP_SEGMENT: the segment has the head of a request, of which ixp_hdr.request is the number.
 */
#define IXP_TELL 0x80

struct ixp_hdr {
	__u8 version;   /*  0 BATON_VERSION */
	__u8 type;      /*  1 enum ixp_type */
	__u8 length;    /*  2 bytes of this header, tag included */
	__u8 service;   /*  3 always 0: the node's web server. 1 to 6 were in use once */
	__be32 session; /*  4 nonce: distinguishes sessions that use the same four-tuple */
	__be32 balancer; /*  8 IPv4 address that IXCP notices go to */
	__be32 confirm;  /* 12 end of the bytes that the balancer keeps: the node sends
	                  *    IXCP_ADOPTED until its acknowledgement number reaches it */
	__be16 mss;      /* 16 of the client, bytes */
	__u8 flags;      /* 18 IXP_*_OK, IXP_CLIENT_CONFIRMS, IXP_FOLLOW, IXP_HEAD,
	                  *    IXP_HOLD_RESET, IXP_TELL */
	__u8 scales;     /* 19 window shifts: high nibble the client's, low nibble ours */
	union {
		__be32 tsval;   /* 20 of IXP_ADOPT: the client's last TSval */
		__be32 request; /* 20 of IXP_LEAVE and IXP_PARK: how many requests this node has got
		                 *    since its last IXP_ADOPT or IXP_RESUME of the session. Of
		                 *    IXP_SEGMENT with IXP_HEAD or IXP_TELL: the number of this
		                 *    one */
	};
	__be32 tsecr; /* 24 the balancer's TSval clock now: the node's clock continues from it */
	__be64 tag;   /* 28 SipHash-2-4 over 48 bytes: IPv4 source and destination (8 bytes),
	               *    TCP source and destination port (4), TCP sequence and
	               *    acknowledgement number (8), and bytes 0 to 27 of this header */
} __attribute__((packed));

#define IXP_LENGTH 36
#define IXP_TAGGED 28

/*
 * The header of IXP_CARRY, which takes a packet of a client, or one of IXP, across routers:
 *
 *     Ethernet | IPv4 balancer -> node, 253 | carry_hdr | IPv4 client -> virtual address | ...
 *
 * It has no tag. A carried IXP packet has one, and a carried segment comes with a number that only
 * balancer and node know.
 */
struct carry_hdr {
	__u8 version;   /* 0 BATON_VERSION */
	__u8 type;      /* 1 IXP_CARRY */
	__u8 length;    /* 2 bytes of this header */
	__u8 pad;       /* 3 always 0, not read */
	__be32 session; /* 4 ixp_hdr.session of the session that a carried segment belongs to */
} __attribute__((packed));

#define CARRY_LENGTH 8

/* By how much a packet grows. */
#define CARRY_BYTES (20 + CARRY_LENGTH)

enum ixcp_type {
	IXCP_ADOPTED = 1, /* the node has the socket, and has acknowledged up to `ack` */
	IXCP_REFUSED = 2, /* the node cannot adopt, or not leave; `reason` says why */
	IXCP_FIN = 3,     /* the node's socket sent FIN */
	IXCP_RST = 4,     /* the node's socket sent RST */
	IXCP_REPORT =
		5, /* the agent is alive; `flags`: abilities, `session`: start, `seq`: clock */
	IXCP_WELCOME = 6,  /* the balancer's answer to a report */
	IXCP_BAD_KEY = 7,  /* the balancer's answer to a report with a wrong tag */
	IXCP_RELEASED = 8, /* answer to IXP_RELEASE: the socket is gone; the server read nothing */
	IXCP_LEFT = 9,     /* answer to IXP_LEAVE: the socket ends, and the client hears nothing */
	IXCP_PARKED = 10,  /* answer to IXP_PARK: the socket waits, and the client hears nothing */
	IXCP_ENDED = 11,   /* all requests are answered, and the session is parked; `answers` */
	IXCP_SYN_ACK = 12, /* answer to IXP_REPLAY: the node's listener has answered */
	IXCP_OWNED = 13,   /* answer to IXP_QUERY: the node has the socket; `seq` and `ack` are its
	                    * next numbers in the stream, `answers` the lower half of the
	                    * question's number */
};

enum ixcp_reason {
	IXCP_REASON_NONE = 0,
	IXCP_REASON_NO_LISTENER = 1,  /* nothing listens on the session's address and port */
	IXCP_REASON_UNABLE = 2,       /* the kernel refused: MPTCP listener, option switched off */
	IXCP_REASON_TUPLE_IN_USE = 3, /* an older socket of the four-tuple could not be removed */
	IXCP_REASON_UNKNOWN_SESSION = 4, /* of IXCP_RST: a SYN of a session without a socket here */
	/* Of IXCP_REFUSED in answer to IXP_LEAVE and IXP_PARK: the session stays where it is. In
	 * answer to IXP_RESUME: there is no socket that waits. */
	IXCP_REASON_UNFOLLOWED = 5, /* it is not known where the answers end, and never will be */
	IXCP_REASON_UNANSWERED = 6, /* an answer has not ended, or the server has not read all */
	IXCP_REASON_ENDING = 7,     /* the socket is closing, or gone */
	/* Of IXCP_RST: the client has not seen the RST or FIN, and no byte of an answer. */
	IXCP_REASON_HELD_BACK = 8,
	/*
	 * Of IXCP_FIN, IXCP_RST and IXCP_ENDED: the socket of a parked session has sent FIN, RST or
	 * payload of its own accord. The client has not seen it.
	 */
	IXCP_REASON_PARKED = 9,
	/* Of IXCP_OWNED, as is PARKED: the socket has sent FIN. */
	IXCP_REASON_CLOSING = 10,
};

/*
 * ixcp_hdr.flags of IXCP_REPORT. An agent sends 0 for bits that it does not know. A bit that denies
 * an ability therefore counts only when it is set: the balancer assumes that an older agent has the
 * ability.
 *
 * With NAMES_ADDRESSES, `virtual_addr` is one virtual address of the node, and `client_port` is the
 * number of them. The kernel of a node that reports NO_WSCALE, NO_SACK or NO_TSTAMP cannot continue
 * sessions with that option; each bit is IXP_*_OK << 4.
 */
#define IXCP_CAN_ADOPT 0x0001
#define IXCP_NAMES_ADDRESSES 0x0002
#define IXCP_CAN_RELEASE 0x0004 /* knows IXP_RELEASE */
#define IXCP_CAN_LEAVE 0x0008   /* knows IXP_LEAVE and IXP_FOLLOW */
#define IXCP_NO_WSCALE 0x0010
#define IXCP_NO_SACK 0x0020
#define IXCP_NO_TSTAMP 0x0040
#define IXCP_NO_COOKIES 0x0080 /* cannot adopt because net.ipv4.tcp_syncookies is 0 */
#define IXCP_CAN_PARK 0x0100   /* knows IXP_PARK, IXP_RESUME, IXP_AWAKE and IXP_TELL */
#define IXCP_CAN_REPLAY 0x0400 /* knows IXP_REPLAY */
#define IXCP_CAN_OWN 0x0800    /* knows IXP_QUERY */
#define IXCP_LEAVING 0x8000    /* the agent ends */

struct ixcp_hdr {
	__u8 version;        /*  0 BATON_VERSION */
	__u8 type;           /*  1 enum ixcp_type */
	__u8 length;         /*  2 bytes of this header, tag included */
	__u8 reason;         /*  3 enum ixcp_reason */
	__be32 session;      /*  4 ixp_hdr.session */
	__be32 client;       /*  8 IPv4 address of the client */
	__be32 virtual_addr; /* 12 IPv4 address of the virtual server */
	__be16 hole;         /* 16 where the segment that became this notice had its TCP checksum:
	                      *    a device may still write one here. Sent as 0, never read */
	union {
		__be16 flags;   /* 18 of IXCP_REPORT */
		__be16 answers; /* 18 of IXCP_ENDED: how many answers have ended since the last
		                 *    IXP_ADOPT or IXP_RESUME, lower 16 bits. Of IXCP_OWNED:
		                 *    those of the question's number */
	};
	__be16 client_port;  /* 20 */
	__be16 virtual_port; /* 22 */
	__be32 seq;          /* 24 sequence number of the node's segment that caused the notice */
	__be32 ack;          /* 28 acknowledgement number of that segment */
	__be64 tag;          /* 32 SipHash-2-4 over 40 bytes: IPv4 source and destination (8), and
	                      *    bytes 0 to 31 of this header with `hole` as 0 */
} __attribute__((packed));

#define IXCP_LENGTH 40
#define IXCP_TAGGED 32

/*
 * skb->mark of frames inside the shim. It is 0 again before the stack sees the frame.
 *
 *     RETRY     an IXP frame that waits until an RST has removed the old socket of its four-tuple
 *     AGAIN     the same frame, which waits for the SYN that ends TIME_WAIT where no RST does
 *     LOCAL     a frame of the balancer's own engine for the shim of its own machine
 *     NOTICE    + enum ixcp_type + (enum ixcp_reason << 4): the frame becomes that notice
 *
 * The first two are consecutive: a frame that arrives with one of them passed ingress before.
 */
#define BATON_MARK_RETRY 0x42540002
#define BATON_MARK_AGAIN 0x42540003
#define BATON_MARK_LOCAL 0x42540004
#define BATON_MARK_NOTICE 0x42540100

#ifdef __cplusplus
#define BATON_ASSERT static_assert
#else
#define BATON_ASSERT _Static_assert
#endif
BATON_ASSERT(sizeof(struct ixp_hdr) == IXP_LENGTH, "IXP header");
BATON_ASSERT(sizeof(struct carry_hdr) == CARRY_LENGTH, "IXP_CARRY header");
BATON_ASSERT(sizeof(struct ixcp_hdr) == IXCP_LENGTH, "IXCP header");

#endif
