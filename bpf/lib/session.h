/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Data that the engine and the XDP program share: sessions, the index that finds them, nodes, and
 * the settings of this balancer. All of it lies in BPF arrays that user space maps into its memory.
 * The engine therefore puts a session into the kernel with a store, and reads what the kernel wrote
 * without a system call.
 *
 * The engine is the authority. The kernel writes only the fields whose lines name it.
 *
 * Numbers are in host byte order unless their line says otherwise. test/kernel compares
 * src/engine/table/session-record.ts, src/engine/table/kernel-event.ts and
 * src/datapath/xdp-layout.ts with this file. A change of any layout needs another SHARED_LAYOUT: a
 * balancer takes over sessions of its own layout only.
 */
#ifndef BATON_SESSION_H
#define BATON_SESSION_H

#include "ixp.h"

#define SHARED_LAYOUT 9
#define MAX_WORKERS 8 /* engine threads */
#define MAX_QUEUES 64 /* receive queues of the interface */
#define MAX_XDP_NODES 1024
#define MAX_INTERFACES 2 /* one for clients, one for nodes */
#define INLINE_SERVERS 4

/*
 * A virtual server as `find_server` names it: its slot, and flags. Session keys have the slot
 * alone.
 *
 *     RETIRED    it takes no new sessions: its SYNs go to the engine, and everything else goes on
 *     ACKS_UP    the engine waits for the ACK that ends a handshake, because the server may be the
 *                one that speaks first
 */
#define SERVER_RETIRED 0x8000
#define SERVER_ACKS_UP 0x4000
#define SERVER_SLOT 0x3fff
#define NO_SERVER 0xffff

/* session_record.state: SessionState of src/engine/table/session-table.ts */
#define SESSION_FREE 0
#define SESSION_SYN_RECEIVED 1
#define SESSION_PASSING 4
#define SESSION_LINGERING 5

/*
 * session_record.flags: SessionFlag of src/engine/table/session-table.ts. Its bits 0x01, 0x02 and
 * 0x04 are IXP_*_OK.
 */
#define SESSION_CLIENT_FIN 0x08
#define SESSION_NODE_FIN 0x10

/*
 * session_record.action: what the kernel does with the client's segments. These bits are about
 * segments without SYN, FIN and RST. With 0, the segments go to the engine.
 *
 *     FORWARD      to the node, with new MAC addresses
 *     PAYLOAD_UP   with FORWARD: segments with payload go to the engine, unless they end at
 *                  `handed_to` or before. Its session may move to another node.
 *     WRAP         new payload behind the bytes of the handoff goes to the node in IXP; everything
 *                  else goes to the engine
 *     ANSWERED     during a handoff: a segment that acknowledges part of the response is forwarded
 *                  as with FORWARD. The client has the response from the node, so the node owns the
 *                  session.
 *     ENDED        the session has ended, and no node has it: everything goes to the engine, except
 *                  for a SYN that opens a new session
 *     HEADS        with PAYLOAD_UP: the head of a request begins at `handed_to`. If it is one that
 *                  the node may get (heads.h), it is forwarded, and `handed_to` becomes its end.
 *     CLOSING      the balancer itself has answered, and `handed_to` is the number behind its FIN:
 *                  the client's ACK of all of it needs nobody, and its FIN is acknowledged and
 *                  reported. Everything else goes to the engine.
 *
 * An RST always goes to the engine. A FIN goes there unless it is in sequence and the kernel can
 * report it. A SYN goes there unless the session has ended.
 */
#define ACTION_FORWARD 0x01
#define ACTION_PAYLOAD_UP 0x02
#define ACTION_WRAP 0x04
#define ACTION_ANSWERED 0x08
#define ACTION_ENDED 0x10
#define ACTION_HEADS 0x20
#define ACTION_CLOSING 0x40

/*
 * Element of map `sessions`, of 64 bytes: one cache line. The slots of a worker begin at
 * worker * xdp_control.capacity. Both engine and kernel write the fields marked "both".
 *
 * The engine writes `action` last when it puts a session into the kernel, and first when it takes
 * the session out. The kernel clears `action` when a session that has ended gives way to a new one.
 */
struct session_record {
	__u32 client;       /*  0 IPv4 address, or alias of an IPv6 address */
	__u32 port_server;  /*  4 client port << 16 | slot of the virtual server */
	__u8 state;         /*  8 SESSION_* */
	__u8 action;        /*  9 ACTION_* */
	__u16 node;         /* 10 slot in `nodes`; 0xffff: the balancer answers itself */
	__u32 last_seen;    /* 12 both: time of the last packet, ms of CLOCK_MONOTONIC */
	__u32 packets;      /* 16 both: packets of the client that were forwarded */
	__u32 receive_next; /* 20 both: highest sequence number seen of the client, plus 1 */
	__u32 client_ack;   /* 24 both: highest acknowledgement number seen of the client */
	__u32 nonce;        /* 28 ixp_hdr.session */
	__u32 client_isn;   /* 32 initial sequence number of the client */
	__u32 server_isn;   /* 36 initial sequence number of the balancer */
	__u32 handed_to;    /* 40 end of the bytes that the engine keeps and sends again itself;
	                     *    with PAYLOAD_UP, of those that need no reading; both: HEADS;
	                     *    with CLOSING, of the answer and its FIN */
	__u32 ts_offset;    /* 44 our timestamp clock (RFC 7323) is this + ms */
	__u32 tsval;        /* 48 the client's last TSval */
	__u32 opened_at;    /* 52 ms */
	__u16 mss;          /* 56 of the client */
	__u8 scales;        /* 58 window shifts: high nibble the client's, low nibble ours */
	__u8 flags;         /* 59 SessionFlag; the kernel sets SESSION_*_FIN while no engine runs */
	__u8 answer;        /* 60 number of the balancer's own answer; 0: none */
	__u8 tries;         /* 61 attempts at the present step */
	__u16 window;       /* 62 of the client, unscaled */
};

/*
 * The index finds a session by the hash of its key: open addressing with linear probing and
 * backward shift. A word is 0, or
 *
 *     | upper 8 bits of the hash | 24 bits: slot in the worker's part of `sessions`, plus 1 |
 *
 * Each worker has xdp_control.index_words words. The table in use covers a power of two of them and
 * grows with the number of sessions (src/engine/table/session-index.ts). index_state[worker] holds
 * its size and these flags:
 *
 *     AT_END     the table ends where the worker's words end; otherwise it begins where they begin
 *     GROWING    some sessions are still in the previous table: half the size, at the other end
 *
 * An element of map `session_index` holds 16 words.
 *
 * A reader may miss a session while the engine removes another one. The kernel then gives the
 * segment to the engine, which finds the session. Or it takes the segment for the start of a new
 * session; the client's retransmission repairs that.
 */
#define INDEX_AT_END 1
#define INDEX_GROWING 2
#define INDEX_FLAGS 3
#define INDEX_LINE_WORDS 16
#define INDEX_SLOT_MASK 0x00ffffff
#define INDEX_MOST_PROBES 64

struct index_line {
	__u32 word[INDEX_LINE_WORDS];
};

/* The hash of a session's key, as in src/engine/table/session-record.ts. */
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

/* The worker that owns a session: the upper bits of its hash, scaled to the number of workers. */
static inline __attribute__((always_inline)) __u32 session_worker(__u32 hash, __u32 workers)
{
	return (__u32)(((__u64)hash * workers) >> 32);
}

/* Element of map `nodes`. */
struct xdp_node {
	__u8 destination[6]; /*  0 MAC address of the node */
	__u8 source[6];      /*  6 MAC address of our interface to the node */
	__u32 interface;     /* 12 index of that interface, or OWN_STACK; 0: not resolved */
	__be32 address;      /* 16 its IPv4 address, or the alias of its IPv6 address */
	__u32 redirect;      /* 20 1: OUTPUT_REDIRECT holds on that interface */
	__u32 carry;         /* 24 bytes before each carried packet; 0: the node is on the link */
	__u32 most;          /* 28 bytes of the largest packet that can be carried there */
	__be32 balancer;     /* 32 ixp_hdr.balancer of what it gets */
	__u32 family;        /* 36 0: IPv4; 6: IPv6 */
	__be32 address6[4];  /* 40 of an IPv6 node: a later process recognizes it by this */
	__u32 pad[2];        /* 56 always 0: a node has a cache line of its own */
};

/*
 * A virtual server inside xdp_control. The main thread writes an entry with one store, and the
 * program reads it with one load, because entries change while the program runs.
 */
struct inline_server {
	__be32 address; /*  0 */
	__be16 port;    /*  4 */
	__u16 server;   /*  6 slot and SERVER_* flags; NO_SERVER: the entry is free */
} __attribute__((aligned(8)));

/*
 * xdp_control.output: how frames leave through the interface that they arrived on.
 *
 *     REDIRECT    through map `ports`, because XDP_TX may lose frames on this interface
 *     GENERIC     XDP is generic: a frame keeps its socket buffer, which knows whether the checksum
 *                 is still to be finished
 */
#define OUTPUT_REDIRECT 0x01
#define OUTPUT_GENERIC 0x02

/*
 * The one element of map `control`. The main thread sets it at start, and may write the fields
 * marked "main" at any time.
 */
struct xdp_control {
	__u32 layout;      /*   0 SHARED_LAYOUT; 0: not set up yet, all frames pass to the stack */
	__u32 workers;     /*   4 1 to MAX_WORKERS */
	__u32 capacity;    /*   8 sessions of each worker */
	__u32 index_words; /*  12 of each worker, a multiple of INDEX_LINE_WORDS */
	__u32 client_seed; /*  16 of session_hash */
	__u32 port_seed;   /*  20 of session_hash */
	__be32 own;        /*  24 the balancer's IPv4 address; 0: none */
	__u32 interfaces;  /*  28 entries of `mac` in use */
	__u8 mac[MAX_INTERFACES][6];  /*  32 our MAC addresses; other frames pass to the stack */
	__u16 mss;                    /*  44 main: of SYN/ACKs */
	__u16 window;                 /*  46 of SYN/ACKs */
	__u8 window_shift;            /*  48 of SYN/ACKs */
	__u8 output;                  /*  49 main: OUTPUT_* */
	__u8 withheld;                /*  50 main: IXP_*_OK of options left out of SYN/ACKs */
	__u8 tap;                     /*  51 a capture: end of its lease (tap.h); 0: none */
	__u32 alive_at;               /*  52 engine: ms of its last tick (SYN_ALIVE_MS) */
	__u32 half_open[MAX_WORKERS]; /*  56 engine: 1: answer SYNs with cookies only */
	__u32 cookie_at;              /*  88 kernel: ms of the last cookie that it sent; 0: never */
	__u32 servers;                /*  92 main: virtual servers in use, also retired ones */
	__u8 key[16];                 /*  96 of IXP and IXCP tags, shared with the nodes */
	__u8 secret[32];              /* 112 initial sequence numbers (16), cookies (16) */
	struct inline_server inline_servers[INLINE_SERVERS]; /* 144 main: need no look-up */
	__u32 index_state[MAX_WORKERS]; /* 176 engine: size in words | INDEX_*; 0: none */
	__u32 forwards;                 /* 208 main: virtual servers with mode forward */
	__u32 forward_sets;             /* 212 elements of map `forward_flows`, a power of two */
	__u32 head_sets;                /* 216 sets of `heads` of each worker: 2^n, or 0 */
	__u32 head_generation;          /* 220 main, engine: other heads are void (heads.h) */
	__u64 head_key[2];              /* 224 of the digests of heads */
	__u32 alias[4];                 /* 240 key of aliases (alias.h) */
	__u32 ipv6;                     /* 256 main: virtual servers with an IPv6 address */
	__u32 most_frame;               /* 260 bytes of the largest frame for an AF_XDP socket */
	__u32 has_own6;                 /* 264 1: the balancer has an IPv6 address */
	__be32 own6[4];                 /* 268 that address */
	__u32 pad;                      /* 284 always 0 */
};

/* SYNs get no answer when the engine's last tick was longer ago than this. */
#define SYN_ALIVE_MS 60000

/*
 * What the kernel reports to the engine, through the ring buffer of the session's worker. `flags`
 * says what happened:
 *
 *     IXP_*_OK               the kernel has answered a SYN. The flags are the options that both
 *                            sides offered.
 *     EVENT_FIN              the kernel has forwarded the client's FIN, or acknowledged it
 *     EVENT_NOTICE | type    a notice of this enum ixcp_type has arrived, and its tag is right
 *
 * A FIN and a notice name the session by `client`, `port_server` and nonce. Fields whose line does
 * not name them are 0 then.
 */
#define EVENT_FIN 0x80
#define EVENT_NOTICE 0x40
struct kernel_event {
	__u32 client;      /*  0 as in session_record */
	__u32 port_server; /*  4 as in session_record */
	__u32 client_isn;  /*  8 notice: acknowledgement number of the node */
	__u32 server_isn;  /* 12 of the SYN/ACK; FIN and notice: the session's nonce */
	__u32 ts_offset;   /* 16 as in session_record; notice: address of the node, or its alias */
	__u32 tsval;       /* 20 of the client; 0 without timestamps */
	__u16 mss;         /* 24 of the client; 536 when the SYN had no MSS option */
	__u16 window;      /* 26 of the client */
	__u8 scales;       /* 28 as in session_record */
	__u8 flags;        /* 29 IXP_*_OK, EVENT_* */
	__u8 mac[6];       /* 30 source MAC address of the SYN */
};

BATON_ASSERT(sizeof(struct session_record) == 64, "session_record");
BATON_ASSERT(sizeof(struct index_line) == 64, "index_line");
BATON_ASSERT(sizeof(struct xdp_node) == 64, "xdp_node");
BATON_ASSERT(sizeof(struct inline_server) == 8, "inline_server");
BATON_ASSERT(sizeof(struct xdp_control) == 288, "xdp_control");
BATON_ASSERT(sizeof(struct kernel_event) == 36, "kernel_event");

#endif
