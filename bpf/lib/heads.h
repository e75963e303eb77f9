/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Heads that the engine has judged: which nodes may get a request, known by a digest of its bytes.
 * Maps of the XDP program that user space maps into its memory, like those of session.h.
 *
 * The engine puts a head in only if its verdict is the same for each connection until the next
 * change. A change of anything that the verdict depends on gives xdp_control.head_generation
 * another value, and so voids all heads at once.
 *
 * test/kernel compares src/datapath/heads-layout.ts and src/engine/moving/head-digest.ts with this
 * file.
 */
#ifndef BATON_HEADS_H
#define BATON_HEADS_H

#include "session.h"
#include "siphash.h"

#define HEAD_WAYS 4          /* heads of one set */
#define HEAD_LEAST_BYTES 16  /* of the payload; "GET / HTTP/1.1" and two empty lines are longer */
#define HEAD_MOST_BYTES 1024 /* of the payload */
#define HEAD_NODES 256       /* slots of nodes that have a bit in judged_head.nodes */
#define MOST_PARKED 4        /* nodes at which sockets of one session wait */
#define NO_NODE 0xffff

/*
 * judged_head.server: no other node may get the request than the one whose bit is set, and it may
 * be repeated there. So the program may bring a session to this node.
 */
#define HEAD_SOLE 0x80000000

/*
 * Element of map `heads`, of 64 bytes: one cache line. The sets of a worker begin at worker *
 * xdp_control.head_sets, and the digest's first word says which of them has a head.
 *
 * Only the engine of the worker writes, except for `requests`. It writes `generation` first, as 0,
 * and last, so that nobody believes half of an entry.
 */
struct judged_head {
	__u64 digest[2];  /*  0 of the whole payload, under xdp_control.head_key */
	__u32 generation; /* 16 xdp_control.head_generation when the engine judged it; 0: free */
	__u32 server;     /* 20 slot of the virtual server | HEAD_SOLE */
	__u32 number;     /* 24 by which the engine knows the head */
	__u32 requests;   /* 28 kernel: how often it forwarded this head */
	__u32 nodes[HEAD_NODES / 32]; /* 32 bit n: the node in slot n may get the request */
};

/*
 * Element of map `moves`: what the kernel has done alone for the session in this slot of
 * `sessions`. The map has one element only if no virtual server's sessions may move.
 */
struct session_moves {
	__u32 requests; /*  0 kernel: requests that it forwarded; the engine zeroes it at first */
	__u32 head;     /*  4 kernel: number of the last of them */
	/*
	 * With the present xdp_control.head_generation, all nodes of the session may keep parked
	 * sockets, and the program may bring the session to them. It then exchanges its node and
	 * one of `parked`. The engine writes these fields without ACTION_HEADS, and `generation`
	 * last.
	 */
	__u32 generation;          /*  8 engine; 0: the program does not move the session */
	__u32 node_requests;       /* 12 both: of this node, since its last ADOPT or RESUME */
	__u16 parked[MOST_PARKED]; /* 16 both: nodes where sockets wait, then NO_NODE */
	__u32 moved;               /* 24 kernel: how often it moved the session */
	__u16 ended_node;          /* 28 both: who sent the last IXCP_ENDED; NO_NODE: nobody */
	__u16 ended_answers;       /* 30 both: its number of answers */
	__u32 ended_next;          /* 32 both: the client's next byte, S */
	__u32 ended_at;            /* 36 both: the end of the answers, A */
	__u32 resumed_seq;         /* 40 kernel: S of its last RESUME */
	__u32 resumed_ack;         /* 44 kernel: A of its last RESUME */
	__u32 unproven;            /* 48 both: 1: nothing shows yet that the node has got it */
	__u32 resumed_end;         /* 52 kernel: the end of the head of its last RESUME */
	__u32 busy;                /* 56 kernel: how many CPUs work on a head of the session */
	__u32 pad;                 /* 60 always 0 */
};

/*
 * How many sessions the program has brought to a node, and away from it. Behind the elements of all
 * sessions, map `moves` has HEAD_NODES of these for each worker, so that the engine knows the load
 * of its nodes without a look at each session.
 */
struct node_moves {
	__u32 came; /* 0 */
	__u32 went; /* 4 */
};

#define NODE_MOVES_A_LINE (sizeof(struct session_moves) / sizeof(struct node_moves))

struct head_digest {
	__u64 word[2];
};

/* Begins SipHash-2-4 with a 128-bit result. */
static __always_inline void head_digest_begin(struct sip_state *s, const __u64 *key)
{
	__u64 k0 = SIP_LE64(key[0]);
	__u64 k1 = SIP_LE64(key[1]);

	s->v0 = k0 ^ 0x736f6d6570736575ULL;
	s->v1 = k1 ^ 0x646f72616e646f6dULL ^ 0xee;
	s->v2 = k0 ^ 0x6c7967656e657261ULL;
	s->v3 = k1 ^ 0x7465646279746573ULL;
}

static __always_inline void sip_rounds_of_end(struct sip_state *s)
{
	sip_round(s);
	sip_round(s);
	sip_round(s);
	sip_round(s);
}

/*
 * Ends a digest of `bytes` bytes. What was hashed: their whole words of 8 bytes, then their last 8
 * bytes if some bytes are in no whole word. With their number as the last word, no two messages
 * are hashed alike.
 */
static __always_inline struct head_digest head_digest_end(struct sip_state *s, __u32 bytes)
{
	struct head_digest digest;

	sip_word(s, bytes);
	s->v2 ^= 0xee;
	sip_rounds_of_end(s);
	digest.word[0] = s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
	s->v1 ^= 0xdd;
	sip_rounds_of_end(s);
	digest.word[1] = s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
	return digest;
}

BATON_ASSERT(sizeof(struct judged_head) == 64, "judged_head");
BATON_ASSERT(sizeof(struct session_moves) == 64, "session_moves");
BATON_ASSERT(sizeof(struct node_moves) == 8, "node_moves");

#endif
