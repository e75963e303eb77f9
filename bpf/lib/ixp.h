/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * IXP and IXCP: the one definition of the two wire headers between balancer and node.
 *
 * IXP carries a client's segment from the balancer to a node. It stands between the
 * client's IPv4 header (addresses untouched, protocol 6 replaced by BATON_IPPROTO_IXP) and
 * the client's TCP header:
 *
 *     Ethernet | IPv4 client -> virtual address, proto 253 | IXP | TCP | payload
 *
 * IXCP is a notice about one session (or a report about a node) from a node to the balancer:
 *
 *     Ethernet | IPv4 node -> balancer, proto 254 | IXCP
 *
 * All fields are in network byte order. Both headers end in a SipHash-2-4 tag under the key
 * that balancer and nodes share; what the tag covers stands at each header. 253 and 254 are
 * the protocol numbers for experiments (RFC 3692 section 2.1). docs/ixp.md tells the rest;
 * src/wire/ixp.ts and src/wire/ixcp.ts are checked against this file by test/wire.
 */
#ifndef BATON_IXP_H
#define BATON_IXP_H

#include <linux/types.h>

#define BATON_IPPROTO_IXP 253
#define BATON_IPPROTO_IXCP 254
#define BATON_VERSION 1

enum ixp_type {
	IXP_ADOPT = 1,   /* build the established socket from this segment, or pass it to the one built */
	IXP_SEGMENT = 2, /* pass to the socket of this session; drop if there is none */
	IXP_RELEASE = 3, /* remove the socket of this session if nobody has read from it, nor answered anybody
	                  * else meanwhile; seq and ack as in its IXP_ADOPT, no payload */
};

/* ixp_hdr.flags: options agreed in the handshake */
#define IXP_WSCALE_OK 0x01
#define IXP_SACK_OK 0x02
#define IXP_TSTAMP_OK 0x04
/*
 * ixp_hdr.flags of the first IXP_ADOPT: the client's acknowledgement of the answer will confirm,
 * and soon. No IXCP_ADOPTED for what a server sends before it has to wait for the client, until the
 * balancer asks again. A node that sends one all the same does no harm.
 */
#define IXP_CLIENT_CONFIRMS 0x08

struct ixp_hdr {
	__u8 version;     /*  0 BATON_VERSION */
	__u8 type;        /*  1 enum ixp_type */
	__u8 length;      /*  2 bytes of this header, tag included */
	__u8 service;     /*  3 0: the node's web server; else a local service of the balancer */
	__be32 session;   /*  4 nonce: tells this session from older ones of the same four-tuple */
	__be32 balancer;  /*  8 IPv4 address to send IXCP notices to */
	__be32 confirm;   /* 12 end of the bytes that the balancer keeps and sends again itself:
			   *    IXCP_ADOPTED is sent until the node's acknowledgement reaches it */
	__be16 mss;       /* 16 the client's MSS, bytes */
	__u8 flags;       /* 18 IXP_*_OK, IXP_CLIENT_CONFIRMS */
	__u8 scales;      /* 19 window shifts: high nibble the client's, low nibble ours */
	__be32 tsval;     /* 20 the client's last TSval */
	__be32 tsecr;     /* 24 the balancer's TSval clock now: the node's clock goes on from it */
	__be64 tag;       /* 28 SipHash-2-4 over IPv4 source, destination (8 bytes), TCP source and
			   *    destination port (4), TCP sequence and acknowledgement number (8),
			   *    and bytes 0 to 27 of this header: 48 bytes */
} __attribute__((packed));

#define IXP_LENGTH 36
#define IXP_TAGGED 28

enum ixcp_type {
	IXCP_ADOPTED = 1, /* the node has the socket, and has acknowledged up to ack */
	IXCP_REFUSED = 2, /* the node can not adopt; reason tells why */
	IXCP_FIN = 3,     /* the node's socket sent FIN */
	IXCP_RST = 4,     /* the node's socket sent RST */
	IXCP_REPORT = 5,  /* node agent: alive; what it can do (flags); session: its start, seq: its clock */
	IXCP_WELCOME = 6, /* balancer's answer to a report */
	IXCP_BAD_KEY = 7, /* balancer's answer to a report whose tag did not verify */
	IXCP_RELEASED = 8, /* in answer to IXP_RELEASE: the socket is gone, unread and unanswered */
};

enum ixcp_reason {
	IXCP_REASON_NONE = 0,
	IXCP_REASON_NO_LISTENER = 1,   /* nothing listens where the session should go */
	IXCP_REASON_UNABLE = 2,        /* the kernel refused: MPTCP listener, options it has switched off */
	IXCP_REASON_TUPLE_IN_USE = 3,  /* an older socket of the same four-tuple could not be removed */
	IXCP_REASON_UNKNOWN_SESSION = 4, /* of an RST: a SYN of a session that has no socket here */
};

/*
 * ixcp_hdr.flags of IXCP_REPORT. An agent that does not know a bit sends it as 0. So a bit that
 * takes something away counts only when it is set, and what an older agent does not say is taken to
 * be there.
 */
#define IXCP_CAN_ADOPT 0x0001
#define IXCP_NAMES_ADDRESSES 0x0002 /* virtual_addr is one of client_port virtual addresses of the node */
#define IXCP_CAN_RELEASE 0x0004     /* it knows IXP_RELEASE */
#define IXCP_NO_WSCALE 0x0010       /* IXP_WSCALE_OK << 4: its kernel goes on with no such session */
#define IXCP_NO_SACK 0x0020         /* IXP_SACK_OK << 4 */
#define IXCP_NO_TSTAMP 0x0040       /* IXP_TSTAMP_OK << 4 */
#define IXCP_NO_COOKIES 0x0080      /* net.ipv4.tcp_syncookies is 0: that is why it cannot adopt */
#define IXCP_LEAVING 0x8000

struct ixcp_hdr {
	__u8 version;        /*  0 BATON_VERSION */
	__u8 type;           /*  1 enum ixcp_type */
	__u8 length;         /*  2 bytes of this header, tag included */
	__u8 reason;         /*  3 enum ixcp_reason */
	__be32 session;      /*  4 the session's nonce, from IXP */
	__be32 client;       /*  8 IPv4 address of the client */
	__be32 virtual_addr; /* 12 the virtual address */
	__be16 hole;         /* 16 where a TCP checksum stood in the packet that this notice was cut
			      *    from: a device may still finish it there. Sent as 0, read by nobody */
	__be16 flags;        /* 18 */
	__be16 client_port;  /* 20 */
	__be16 virtual_port; /* 22 */
	__be32 seq;          /* 24 of the node's segment that caused the notice */
	__be32 ack;          /* 28 its acknowledgement number */
	__be64 tag;          /* 32 SipHash-2-4 over IPv4 source and destination (8 bytes) and bytes
			      *    0 to 31 of this header with hole as 0: 40 bytes */
} __attribute__((packed));

#define IXCP_LENGTH 40
#define IXCP_TAGGED 32

/*
 * skb->mark of frames on their way through the shim; always back to 0 before the stack sees them.
 */
/* The first three in a row: what comes in with one of them was here before. */
#define BATON_MARK_INJECT 0x42540001 /* from the balancer's engine to its own kernel: turn round at egress */
#define BATON_MARK_RETRY 0x42540002  /* an IXP frame that waits behind the RST that clears its four-tuple */
#define BATON_MARK_AGAIN 0x42540003  /* the same, behind the segment that clears it where no RST does */
#define BATON_MARK_NOTICE 0x42540100 /* + enum ixcp_type + (enum ixcp_reason << 4): becomes that notice */

#ifdef __cplusplus
#define BATON_ASSERT static_assert
#else
#define BATON_ASSERT _Static_assert
#endif
BATON_ASSERT(sizeof(struct ixp_hdr) == IXP_LENGTH, "IXP header");
BATON_ASSERT(sizeof(struct ixcp_hdr) == IXCP_LENGTH, "IXCP header");

#endif
