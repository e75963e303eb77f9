/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Data of virtual servers with mode forward, which only forward. The XDP program, the engine and
 * the main thread share it. With the datapath packet it is memory of the process, laid out in the
 * same way (src/engine/forward/layout.ts, which test/kernel compares with this file).
 *
 * The main thread decides which nodes a virtual server may choose. Whoever sees the first packet of
 * a flow chooses one of them: no packet waits for another thread. Numbers are in host byte order
 * unless their line says otherwise.
 */
#ifndef BATON_FORWARD_H
#define BATON_FORWARD_H

#include "session.h"

/*
 * Times of this file are ticks: CLOCK_MONOTONIC in units of 1024 ms, modulo 2^22. An entry is
 * written for its time only once in a tick.
 */
#define FORWARD_TICK_SHIFT 10
#define FORWARD_TICK_MASK 0x3fffff
/* Ticks by which a time may be ahead of the reader's, who has read the clock earlier. */
#define FORWARD_TICKS_AHEAD 64

#define MOST_SERVERS 256
#define FORWARD_PICKS 240
#define FORWARD_WAYS 4
#define NO_NODE 0xffff

/* Key of map `forward_addresses`. */
struct forward_address {
	__be32 address;  /* 0 */
	__u32 transport; /* 4 IPPROTO_TCP or IPPROTO_UDP */
};

/* Its value: the port ranges of the address, in ascending order, in `forward_ranges`. */
struct forward_span {
	__u32 first; /* 0 */
	__u32 count; /* 4 */
};

/*
 * The first INLINE_SPANS keys and values of `forward_addresses` once more, for the XDP program,
 * which then searches no hash table. The main thread writes an entry with one store, and the
 * program reads it with one load. Element of map `inline_spans`.
 */
#define INLINE_SPANS 4
struct inline_span {
	__be32 address; /* 0 */
	__u32 span;     /* 4 transport << 26 | count << 13 | first; 0: the entry is free */
} __attribute__((aligned(8)));
#define SPAN_COUNT_SHIFT 13
#define SPAN_TRANSPORT_SHIFT 26
#define SPAN_MASK 0x1fff

struct inline_spans {
	struct inline_span entry[INLINE_SPANS];
};

struct forward_range {
	__u16 from; /* 0 */
	__u16 to;   /* 2 both ends belong to the range */
	__u32 slot; /* 4 of the virtual server */
};

/* Steps that a search among this many ranges takes. */
#define MOST_FORWARD_RANGES 4096
#define FORWARD_SEARCH_STEPS 13

/* forward_server.flags */
#define FORWARD_IN_USE 0x01 /* the slot has a virtual server with mode forward */
#define FORWARD_CLOSED 0x02 /* it is retired: it takes no new flows; with buckets: no SYNs */

/*
 * Element of map `forward_servers`, key: slot of the virtual server. Its picks are the nodes that
 * the next flows get, in order, and then again from the first. The main thread makes them with the
 * predictor. Buckets have no picks, the bucket has the node.
 */
struct forward_server {
	__u32 flags;        /*  0 FORWARD_* */
	__u32 buckets;      /*  4 a power of two; 0: flows have records */
	__u32 first_bucket; /*  8 in `forward_buckets` */
	__u32 sticky_mask;  /* 12 the bits of a client address that are remembered; 0: none */
	__u32 client_seed;  /* 16 of session_hash */
	__u32 port_seed;    /* 20 */
	__u32 cursor;       /* 24 both: flows that have taken a pick */
	__u32 pick_count;   /* 28 0: no node takes a flow */
	__u16 picks[FORWARD_PICKS]; /* 32 slots of nodes */
};

/* Element of map `forward_buckets`. */
struct forward_bucket {
	__u16 node; /* 0 its slot, or NO_NODE */
	__u16 pad;  /* 2 always 0 */
	__u32 seen; /* 4 both: tick of the last packet */
};

/* forward_node.state */
#define FORWARD_KEEPS 0x01 /* packets of its flows go to it */
#define FORWARD_TAKES 0x02 /* it gets new flows */

/* Element of map `forward_nodes`, key: slot of the node. */
struct forward_node {
	__u32 state; /* 0 FORWARD_* */
	__u32 pad;   /* 4 always 0 */
};

/*
 * forward_flow.kind, and what the fields of the key are then:
 *
 *     FLOW        client, its port, the port of the virtual server
 *     STICKY      the remembered bits of the client address, 0, 0
 *     FRAGMENT    client, IPv4 identification, 0. It has the node of the first fragment. `server`
 *                 is the first one at that address.
 */
#define FORWARD_FLOW 1
#define FORWARD_STICKY 2
#define FORWARD_FRAGMENT 3

/* forward_flow.state */
#define FORWARD_SECOND 0x01 /* more than one packet has come; STICKY: to a flow of the client */
#define FORWARD_FIN 0x02    /* the client has sent FIN */
#define FORWARD_RST 0x04    /* the client has sent RST */

/*
 * The record of a flow. A free one is 0. Kernel and engine add records; the main thread removes
 * those that are idle.
 *
 * A record may be in any of the FORWARD_WAYS places of three sets (forward_candidate), and is in
 * the first one that has room. The first of the three is near the beginning of the table: some
 * 10,000 flows need only its first pages, which stay in the caches, however large the table is.
 *
 * When all places are taken, the new flow takes the place of one that has seen one packet only,
 * else of the one that has been idle longest. A flood of single packets, from however many
 * addresses, takes no other places. So the table is bounded, and no search is longer than three
 * sets. Two CPUs that add records to one set in the same moment may lose one of them; the next
 * packet adds it again.
 */
struct forward_flow {
	__u32 client; /*  0 IPv4 address */
	__u32 ports;  /*  4 client port << 16 | port of the virtual server */
	__u16 node;   /*  8 slot in `nodes` */
	__u8 server;  /* 10 slot of the virtual server */
	__u8 kind;    /* 11 FORWARD_FLOW, ... in the lower half, `state` in the upper */
	__u32 seen;   /* 12 tick of the last packet */
};
#define FORWARD_KIND_MASK 0x0f
#define FORWARD_STATE_SHIFT 4

/* Element of map `forward_flows`: one cache line. */
struct forward_set {
	struct forward_flow way[FORWARD_WAYS];
};

/*
 * Element of map `forward_counts`, of each CPU. Keys below MOST_SERVERS are slots of virtual
 * servers, keys from there on MOST_SERVERS + slot of a node.
 */
struct forward_count {
	__u64 packets; /*  0 forwarded */
	__u64 bytes;   /*  8 of these, with Ethernet headers */
	__u64 flows;   /* 16 flows that chose a node; with buckets: SYNs */
};

/* Ticks from `then` to `tick`; 0 for a time that is a little ahead. */
static inline __attribute__((always_inline)) __u32 forward_ticks_since(__u32 tick, __u32 then)
{
	__u32 since = (tick - then) & FORWARD_TICK_MASK;

	return since > FORWARD_TICK_MASK - FORWARD_TICKS_AHEAD ? 0 : since;
}

/* Sets of which one is a flow's first candidate. */
#define FORWARD_NEAR_SETS 8192
#define FORWARD_CANDIDATES 3

/*
 * The sets that may have a record, in the order of the search: `turn` is 0 to FORWARD_CANDIDATES -
 * 1. `mask`: number of sets less one. In a small table the first two are the same.
 */
static inline __attribute__((always_inline)) __u32 forward_candidate(__u32 hash, __u32 mask,
                                                                     __u32 turn)
{
	if (turn == 0)
		return hash & mask & (FORWARD_NEAR_SETS - 1);
	if (turn == 1)
		return hash & mask;

	__u32 mixed = (hash ^ (hash >> 15)) * 0x9e3779b1U;

	return (mixed ^ (mixed >> 13)) & mask;
}

BATON_ASSERT(sizeof(struct forward_address) == 8, "forward_address");
BATON_ASSERT(sizeof(struct forward_span) == 8, "forward_span");
BATON_ASSERT(sizeof(struct inline_span) == 8, "inline_span");
BATON_ASSERT(sizeof(struct forward_range) == 8, "forward_range");
BATON_ASSERT(2 * MOST_FORWARD_RANGES <= SPAN_MASK + 1, "inline_span.span");
BATON_ASSERT(sizeof(struct forward_server) == 512, "forward_server");
BATON_ASSERT(sizeof(struct forward_node) == 8, "forward_node");
BATON_ASSERT(sizeof(struct forward_bucket) == 8, "forward_bucket");
BATON_ASSERT(sizeof(struct forward_flow) == 16, "forward_flow");
BATON_ASSERT(sizeof(struct forward_set) == 64, "forward_set");
BATON_ASSERT(sizeof(struct forward_count) == 24, "forward_count");

#endif
