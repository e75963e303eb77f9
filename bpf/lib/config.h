/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Keys and values of the maps of shim and guard, byte by byte. Addresses and ports are in network
 * byte order, everything else in host byte order unless its line says otherwise.
 */
#ifndef BATON_CONFIG_H
#define BATON_CONFIG_H

#include "answers.h"
#include "ixp.h"

#define BATON_KEY_BYTES 16

#define FAMILY_IPV4 0
#define FAMILY_IPV6 6

/* The one entry of map `config`, key u32 0. */
struct shim_config {
	__u8 key[BATON_KEY_BYTES]; /*  0 the shared key, as in the key file */
	__be32 own;                /* 16 this machine's IPv4 address: the source of its notices */
	__u32 alias[4];            /* 20 key of aliases (alias.h) */
	__u32 layout;              /* 36 SESSION_LAYOUT of the program that has this map */
	__u32 local;               /* 40 on the balancer itself: its interface; 0: elsewhere */
	__be32 own6[4];            /* 44 its IPv6 address, for balancers that have one */
};

/*
 * Value of map `balancers`. The key is the balancer's address as ixp_hdr.balancer names it: an IPv4
 * address, or the alias of an IPv6 address.
 */
struct shim_balancer {
	__u32 family;       /* 0 FAMILY_* */
	__be32 address6[4]; /* 4 with FAMILY_IPV6 */
};

/*
 * Changes with struct session: an agent takes the sessions over from a program of its own layout.
 */
#define SESSION_LAYOUT 1

/* Value of map `services`, key u32 ixp_hdr.service: the listener that adopts its sessions. */
struct shim_service {
	__be32 address; /* 0 */
	__be16 port;    /* 4 */
	__u16 pad;      /* 6 always 0 */
};

/*
 * Key of map `sessions`: the four-tuple of the client's segments, with aliases in place of IPv6
 * addresses.
 */
struct session_key {
	__be32 client;       /*  0 */
	__be32 virtual_addr; /*  4 */
	__be16 client_port;  /*  8 */
	__be16 virtual_port; /* 10 */
};

/* The initial window (RFC 6928): a server sends this much before the client must acknowledge. */
#define INITIAL_WINDOW_BYTES 14600

/*
 * What lies between the numbers of a node's socket and those of the stream, which its client and
 * the balancer know. Numbers that are 0 mean that the two are the same.
 */
struct translation {
	__u32 sent;        /*  0 stream minus socket: sequence numbers that the socket sends */
	__u32 received;    /*  4 the same, of the client's sequence numbers */
	__u32 clock;       /*  8 the same, of TSval. Only egress changes it while `has_floor` */
	__u32 clock_floor; /* 12 with `has_floor`: no TSval of the stream is lower */
	__s8 window_out;   /* 16 by how many bits windows of the socket are shifted up, or down */
	__s8 window_in;    /* 17 the same, of windows of the client */
	__u8 has_floor;    /* 18 */
	__u8 on;           /* 19 1: there is something to translate */
	__u32 syn_tsval;   /* 20 with `echo`: TSval of the socket's SYN/ACK */
	__u8 echo;         /* 24 1: the socket has sent nothing else, so it accepts no other echo */
	__u8 pad[3];       /* 25 always 0 */
};

/*
 * Where a session was parked, and which requests its node has got. All numbers are those of the
 * socket. Ingress writes all of it, except for `state`, `received` and `sent` when egress parks.
 */
struct parking {
	__u32 state;       /*  0 PARKED_* */
	__u32 received;    /*  4 the client's next number */
	__u32 sent;        /*  8 the socket's next number */
	__u32 requests;    /* 12 how many requests the node has got since IXP_ADOPT or IXP_RESUME */
	__u32 request_end; /* 16 end of the client's bytes of those requests */
	__u32 unsure;      /* 20 1: it has got bytes of which nobody has said the requests */
	__u32 tell;        /* 24 1: with IXP_TELL, or IXP_PARK */
};

/* parking.state */
#define PARKED_NEVER 0
#define PARKED_BEFORE 1 /* it was, and has come back since, or got more */
#define PARKED 2        /* it is, unless the socket has received more than `received` */

/*
 * Value of map `sessions`. The shim owes the balancer an IXCP_ADOPTED while `asked` differs from
 * `answered`. Only ingress writes `confirm`, `asked`, `released` and `left`; only egress writes
 * `answered`, `sent`, `sent_payload` and `answers`, except for answers.head_request. So neither
 * undoes what the other wrote on another CPU.
 */
struct session {
	__be32 nonce;           /*  0 ixp_hdr.session */
	__be32 balancer;        /*  4 address that its notices go to */
	__u32 confirm;          /*  8 highest ixp_hdr.confirm so far, host byte order */
	__u32 asked;            /* 12 how many confirmations the balancer has asked for */
	__u32 answered;         /* 16 value of `asked` when the last full confirmation was sent */
	__u8 mac[6];            /* 20 of the balancer */
	__u8 sent;              /* 26 1: its socket has sent a segment */
	__u8 client_confirms;   /* 27 1: its first IXP_ADOPT had IXP_CLIENT_CONFIRMS */
	__u32 notice_from;      /* 28 then: earlier sequence numbers need no IXCP_ADOPTED */
	__u64 adopted_at;       /* 32 when its socket was built, bpf_ktime_get_ns */
	__u8 sent_payload;      /* 40 1: its socket has sent payload */
	__u8 released;          /* 41 1: IXP_RELEASE removed its socket, unread */
	__u8 follow;            /* 42 1: its IXP_ADOPT had IXP_FOLLOW */
	__u8 hold_reset;        /* 43 1: its IXP_ADOPT had IXP_HOLD_RESET */
	__u32 left;             /* 44 LEFT_*: whether it has moved on. Only with `follow` */
	__u32 left_at;          /* 48 then: the client's next number, host byte order */
	__u32 left_ms;          /* 52 then: when, ms of bpf_ktime_get_ns */
	struct answers answers; /* 56 those of its server. Only with `follow` */
	struct translation translation; /* 88 */
	__u8 replay;        /* 116 REPLAY_* */
	__u8 options;       /* 117 with `replay`: IXP_*_OK of the handshake */
	__u8 scale;         /* 118 then: the window shift that the client was promised */
	__u8 resumed;       /* 119 1: `began` is that of an IXP_RESUME */
	__u32 stream_next;  /* 120 then: the number of the socket's first byte in the stream */
	__u32 stream_clock; /* 124 then: the stream's clock when the SYN was played */
	__u32 began; /* 128 sequence number of its last IXP_ADOPT or IXP_RESUME, host byte order */
	struct parking parking; /* 132 only with `follow` */
};

/* session.replay */
#define REPLAY_NOT 0
#define REPLAY_SYN 1      /* its SYN was given to the listener */
#define REPLAY_ANSWERED 2 /* the listener has answered; the numbers are translated */

/* session.left */
#define LEFT_NOT 0
#define LEFT_ASKED 1 /* its socket is looked at: nothing may go out meanwhile */
#define LEFT_DONE 2  /* what its old socket sends is not for the client */

/* Key of map `virtual_servers`. */
struct guard_server {
	__be32 address; /* 0 alias of an IPv6 address */
	__be16 port;    /* 4 */
	__u16 family;   /* 6 FAMILY_* */
};

/* The one entry of map `own` of the guard, key u32 0: the addresses to which notices go. */
struct guard_own {
	__be32 address;     /* 0 IPv4; 0: none */
	__be32 address6[4]; /* 4 0: none */
};

/* The one entry of map `sharing` of the guard, key u32 0: which thread owns a session (session.h).
 */
struct guard_sharing {
	__u32 client_seed; /*  0 of session_hash */
	__u32 port_seed;   /*  4 */
	__u32 workers;     /*  8 engine threads */
	__u32 alias[4];    /* 12 key of aliases (alias.h) */
};

/*
 * The one entry of map `local` of the guard, key u32 0: the destination of frames that the engine
 * sends to its own machine, as to a node. No machine has that address.
 */
struct guard_local {
	__u8 mac[6]; /* 0 */
	__u16 on;    /* 6 1: the balancer is a node, too */
};

/*
 * Metadata that the XDP program puts before a frame that it passes to the stack, so that the guard
 * sends the frame out. The stack knows whether checksum and segmentation are still to be done; XDP
 * does not see this.
 */
struct redirect_request {
	__u32 magic;     /* 0 REDIRECT_MAGIC; the guard sets it to 0 */
	__u32 interface; /* 4 index of the interface to send the frame from, or OWN_STACK */
};
#define OWN_STACK 0xffffffff /* the node is this machine */
#define REDIRECT_MAGIC 0x42544f57 /* "BTOW" */

BATON_ASSERT(sizeof(struct shim_config) == 60, "shim_config");
BATON_ASSERT(sizeof(struct shim_balancer) == 20, "shim_balancer");
BATON_ASSERT(sizeof(struct guard_own) == 20, "guard_own");
BATON_ASSERT(sizeof(struct shim_service) == 8, "shim_service");
BATON_ASSERT(sizeof(struct session_key) == 12, "session_key");
BATON_ASSERT(sizeof(struct answers) == 32, "answers");
BATON_ASSERT(sizeof(struct translation) == 28, "translation");
BATON_ASSERT(sizeof(struct parking) == 28, "parking");
BATON_ASSERT(sizeof(struct session) == 160, "session");
BATON_ASSERT(sizeof(struct guard_server) == 8, "guard_server");
BATON_ASSERT(sizeof(struct guard_sharing) == 28, "guard_sharing");
BATON_ASSERT(sizeof(struct guard_local) == 8, "guard_local");
BATON_ASSERT(sizeof(struct redirect_request) == 8, "redirect_request");

#endif
