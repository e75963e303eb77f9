/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Keys and values of the maps that user space fills, byte by byte. Addresses and ports are in
 * network byte order, everything else in host byte order unless its line says otherwise.
 */
#ifndef BATON_CONFIG_H
#define BATON_CONFIG_H

#include "ixp.h"

#define BATON_KEY_BYTES 16

/* shim_config.flags */
#define SHIM_LOCAL 0x1 /* this machine is the balancer: sessions go to its local services */

/* The one entry of map `config`, key u32 0. */
struct shim_config {
	__u8 key[BATON_KEY_BYTES]; /*  0 the shared key as it stands in the key file */
	__be32 own;                /* 16 this machine's address: source of its notices */
	__u32 flags;               /* 20 SHIM_* */
};

/* Value of map `services`, key u32 service number: the listener that takes its sessions. */
struct shim_service {
	__be32 address; /* 0 */
	__be16 port;    /* 4 */
	__u16 pad;      /* 6 always 0 */
};

/* Key of map `sessions`: the four-tuple as the client's segments carry it. */
struct session_key {
	__be32 client;       /*  0 */
	__be32 virtual_addr; /*  4 */
	__be16 client_port;  /*  8 */
	__be16 virtual_port; /* 10 */
};

/* The initial window (RFC 6928): a server sends this much before the client must acknowledge. */
#define INITIAL_WINDOW_BYTES 14600

/*
 * Value of map `sessions`. A notice IXCP_ADOPTED is due while asked differs from answered.
 * Ingress alone writes confirm, asked and released, egress alone writes answered, sent and begun:
 * on two CPUs neither can undo what the other did.
 */
struct session {
	__be32 nonce;      /*  0 ixp_hdr.session */
	__be32 balancer;   /*  4 where its notices go */
	__u32 confirm;     /*  8 the furthest ixp_hdr.confirm, host byte order */
	__u32 asked;       /* 12 how often the balancer has asked for a confirmation */
	__u32 answered;    /* 16 the count of askings that a full confirmation has answered */
	__u8 mac[6];       /* 20 of the balancer */
	__u8 sent;         /* 26 1: the socket of this session has sent a segment */
	__u8 quiet;        /* 27 1: the first asking was with IXP_CLIENT_CONFIRMS */
	__u32 notice_from; /* 28 quiet: segments before this sequence number need no IXCP_ADOPTED */
	__u64 adopted_at;  /* 32 when its socket was built, bpf_ktime_get_ns */
	__u8 begun;        /* 40 1: its socket has sent payload */
	__u8 released;     /* 41 1: its socket was removed unread, by IXP_RELEASE */
	__u8 pad[6];       /* 42 always 0 */
};

/* Key of map `virtual_servers` of the guard. */
struct guard_server {
	__be32 address; /* 0 */
	__be16 port;    /* 4 */
	__u16 pad;      /* 6 always 0 */
};

/* The one entry of map `sharing` of the guard, key u32 0: whose session is whose (session.h). */
struct guard_sharing {
	__u32 client_seed; /*  0 of session_hash */
	__u32 port_seed;   /*  4 */
	__u32 workers;     /*  8 threads of the engine */
};

/*
 * Metadata that the XDP program puts before a frame which it lets pass, so that the guard sends it
 * out: with what the kernel knows about its checksum and its cutting, of which XDP sees nothing.
 */
struct way_out {
	__u32 magic;     /* 0 WAY_OUT_MAGIC; 0 once the guard has seen it */
	__u32 interface; /* 4 index */
};
#define WAY_OUT_MAGIC 0x42544f57 /* "BTOW" */

BATON_ASSERT(sizeof(struct shim_config) == 24, "shim_config");
BATON_ASSERT(sizeof(struct shim_service) == 8, "shim_service");
BATON_ASSERT(sizeof(struct session_key) == 12, "session_key");
BATON_ASSERT(sizeof(struct session) == 48, "session");
BATON_ASSERT(sizeof(struct guard_server) == 8, "guard_server");
BATON_ASSERT(sizeof(struct guard_sharing) == 12, "guard_sharing");
BATON_ASSERT(sizeof(struct way_out) == 8, "way_out");

#endif
