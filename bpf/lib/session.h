/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the engine and the XDP program share: sessions, the index that finds them, nodes, and what
 * both have to know of this balancer. All of it lies in arrays that user space maps into its
 * memory, so the engine puts a session into the kernel by writing it, and reads what the kernel
 * counted, without a system call. The engine is the authority: the kernel writes only what stands
 * under "kernel" below.
 *
 * Numbers are in host byte order unless their line says otherwise.
 * src/engine/table/session-record.ts and src/datapath/xdp-layout.ts are compared with this file by
 * test/kernel. A change of any layout needs another SHARED_LAYOUT: a balancer takes over sessions
 * of its own layout only.
 */
#ifndef BATON_SESSION_H
#define BATON_SESSION_H

#include "ixp.h"

#define SHARED_LAYOUT 3
#define MAX_WORKERS 8
#define MAX_QUEUES 64
#define MAX_XDP_NODES 1024
#define MAX_INTERFACES 2
#define NEAR_SERVERS 4

/* session_record.state: SessionState of src/engine/table/session-table.ts */
#define SESSION_FREE 0
#define SESSION_SYN_RECEIVED 1
#define SESSION_PASSING 4
#define SESSION_LINGERING 5

/*
 * session_record.flags: SessionFlag of src/engine/table/session-table.ts; the first three are
 * IXP_*_OK
 */
#define SESSION_CLIENT_FIN 0x08
#define SESSION_NODE_FIN 0x10

/*
 * session_record.action: what the kernel does with segments that are neither SYN, FIN nor RST. 0:
 * they go to the engine. RST always do; FIN do unless they join what was seen and the engine can be
 * told; SYN do unless the session has ended.
 */
#define ACTION_FORWARD 0x01    /* to the node, new MAC addresses */
#define ACTION_PAYLOAD_UP 0x02 /* with FORWARD: those with payload go to the engine, which does not ask for it yet */
#define ACTION_WRAP 0x04       /* new payload behind the handoff goes to the node in IXP; all else to the engine */
#define ACTION_ANSWERED 0x08   /* while handed over: who acknowledges the answer has had it from the node, so the node
				* has the session: forwarded as with FORWARD */

/*
 * Element of map `sessions`, of 64 bytes: a cache line. A worker's slots begin at worker *
 * capacity.
 */
struct session_record {
	__u32 client;       /*  0 IPv4 address */
	__u32 port_server;  /*  4 client port << 16 | index of the virtual server */
	__u8 state;         /*  8 SESSION_* */
	__u8 action;        /*  9 ACTION_*: written last when a session is put here, first when it is taken; the kernel
			     *    takes it from a session that has ended and gives way to a new one */
	__u16 node;         /* 10 index in `nodes` */
	__u32 last_seen;    /* 12 ms, CLOCK_MONOTONIC; kernel and engine */
	__u32 packets;      /* 16 of the client, forwarded; kernel and engine */
	__u32 receive_next; /* 20 of the client, the highest seen; kernel and engine */
	__u32 client_ack;   /* 24 the highest seen; kernel and engine */
	__u32 nonce;        /* 28 */
	__u32 client_isn;   /* 32 */
	__u32 server_isn;   /* 36 */
	__u32 handed_to;    /* 40 end of the bytes that the engine keeps and sends itself */
	__u32 ts_offset;    /* 44 our timestamp clock is this + ms */
	__u32 tsval;        /* 48 the client's last */
	__u32 opened_at;    /* 52 ms */
	__u16 mss;          /* 56 the client's */
	__u8 scales;        /* 58 window shifts: high nibble the client's, low nibble ours */
	__u8 flags;         /* 59 SessionFlag; the kernel sets SESSION_*_FIN, and only while no engine runs */
	__u8 service;       /* 60 */
	__u8 tries;         /* 61 */
	__u16 window;       /* 62 the client's, unscaled */
};

/*
 * The index: open addressing with linear probing and backward shift. A word is 0, or the upper 8
 * bits of the session's hash and below them its slot in the worker's part plus 1. Each worker has
 * index_words words; the table that is in use is some power of two of them, as index_state[worker]
 * says, and grows with the sessions (src/engine/table/session-index.ts). Map `session_index` holds
 * 16 words an element. A reader may miss a session while another is taken out. It gives the segment
 * to the engine then, which finds it; or, if it takes it for the beginning of a new session, does
 * with it what is made good when the client repeats it.
 */
#define INDEX_AT_END 1  /* of index_state: the table ends where the worker's words end; else it begins where they begin */
#define INDEX_GROWING 2 /* the table of half its size, at the other side, still has some of the sessions */
#define INDEX_FLAGS 3
#define INDEX_LINE_WORDS 16
#define INDEX_SLOT_MASK 0x00ffffff
#define INDEX_MOST_PROBES 64

struct index_line {
	__u32 word[INDEX_LINE_WORDS];
};

/* The hash of a session's key; src/engine/table/session-record.ts has the same. */
static inline __attribute__((always_inline)) __u32 session_hash(__u32 client, __u32 port_server,
                                                               __u32 client_seed, __u32 port_seed)
{
	__u32 port = port_server ^ port_seed;

	port = (port ^ (port >> 16)) * 0x85ebca6bU;
	port = (port ^ (port >> 13)) * 0xc2b2ae35U;

	__u32 mixed = client ^ client_seed ^ port ^ (port >> 16);

	mixed = (mixed ^ (mixed >> 16)) * 0x7feb352dU;
	mixed = (mixed ^ (mixed >> 15)) * 0x846ca68bU;
	return mixed ^ (mixed >> 16);
}

/* The worker that owns a session: the upper bits of its hash, scaled. */
static inline __attribute__((always_inline)) __u32 session_worker(__u32 hash, __u32 workers)
{
	return (__u32)(((__u64)hash * workers) >> 32);
}

/* Element of map `nodes`. */
struct xdp_node {
	__u8 destination[6]; /*  0 the node's MAC address */
	__u8 source[6];      /*  6 of our interface there */
	__u32 interface;     /* 12 index of that interface; 0: not resolved */
	__be32 address;      /* 16 the node's, so that a later process knows it again */
	__u32 redirect;      /* 20 1: as WAY_REDIRECT, on that interface */
};

/* A virtual server, as map `virtual_servers` has it. */
struct near_server {
	__be32 address; /*  0 */
	__be16 port;    /*  4 */
	__u16 index;    /*  6 in session keys */
};

/* xdp_control.way: how frames leave by the interface that they came in by. */
#define WAY_REDIRECT 0x01 /* by map `ports`: XDP_TX of the interface may be lost */
#define WAY_STACK 0x02    /* XDP is generic: a frame keeps its socket buffer, and what that says of its checksum */

/* The one element of map `control`. */
struct xdp_control {
	__u32 layout;                 /*   0 SHARED_LAYOUT; 0: not set up yet, everything passes to the stack */
	__u32 workers;                /*   4 1 to MAX_WORKERS */
	__u32 capacity;               /*   8 sessions of each worker */
	__u32 index_words;            /*  12 of each worker, a multiple of INDEX_LINE_WORDS */
	__u32 client_seed;            /*  16 of session_hash */
	__u32 port_seed;              /*  20 */
	__be32 own;                   /*  24 the balancer's address */
	__u32 interfaces;             /*  28 of them used below */
	__u8 mac[MAX_INTERFACES][6];  /*  32 our MAC addresses: frames for others are let alone */
	__u16 mss;                    /*  44 offered in SYN/ACKs */
	__u16 window;                 /*  46 of SYN/ACKs */
	__u8 window_shift;            /*  48 offered in SYN/ACKs */
	__u8 way;                     /*  49 main thread, at any time: WAY_* */
	__u8 withheld;                /*  50 main thread, at any time: IXP_*_OK of the options that SYN/ACKs do not offer */
	__u8 tap;                     /*  51 a capture: until when it wants to see frames (tap.h); 0: nobody captures */
	__u32 alive_at;               /*  52 engine: ms, each tick. SYNs are answered for SYN_ALIVE_MS after it */
	__u32 half_open[MAX_WORKERS]; /*  56 engine: 1: no more half-open sessions, answer with cookies */
	__u32 cookie_at;              /*  88 kernel: ms when a SYN was last answered with a cookie; 0: never */
	__u32 servers;                /*  92 virtual servers; those that `near` has no room for are in map `virtual_servers` */
	__u8 key[16];                 /*  96 shared with the nodes, for IXP tags */
	__u8 secret[32];              /* 112 initial sequence numbers (16), cookies (16) */
	struct near_server near[NEAR_SERVERS]; /* 144 the first of them, which need no look-up */
	__u32 index_state[MAX_WORKERS]; /* 176 engine: words of the table in use, INDEX_*; 0: there is none yet */
};

/* After this long without an engine, SYNs get no answer any more. */
#define SYN_ALIVE_MS 60000

/*
 * What the kernel tells the engine, by the ring buffer of its worker: that it has answered a SYN.
 * With other `flags` it means a session by `client`, `port_server`, and the nonce in `server_isn`:
 *
 *     EVENT_FIN              the client's FIN was forwarded
 *     EVENT_NOTICE | type    a notice of this ixcp_type came, its tag right: from the node with the address
 *                           in `ts_offset`, which has acknowledged up to `client_isn`
 */
#define EVENT_FIN 0x80
#define EVENT_NOTICE 0x40
struct kernel_event {
	__u32 client;      /*  0 */
	__u32 port_server; /*  4 */
	__u32 client_isn;  /*  8 */
	__u32 server_isn;  /* 12 of the SYN/ACK that was sent */
	__u32 ts_offset;   /* 16 */
	__u32 tsval;       /* 20 the client's; 0 without timestamps */
	__u16 mss;         /* 24 the client's; 536 when it gave none */
	__u16 window;      /* 26 the client's */
	__u8 scales;       /* 28 as session_record.scales */
	__u8 flags;        /* 29 IXP_*_OK: what both sides offered */
	__u8 mac[6];       /* 30 where the SYN came from */
};

BATON_ASSERT(sizeof(struct session_record) == 64, "session_record");
BATON_ASSERT(sizeof(struct index_line) == 64, "index_line");
BATON_ASSERT(sizeof(struct xdp_node) == 24, "xdp_node");
BATON_ASSERT(sizeof(struct xdp_control) == 208, "xdp_control");
BATON_ASSERT(sizeof(struct kernel_event) == 36, "kernel_event");

#endif
