/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Finds sessions, follows their clients, and sends frames to the engine, a node or the stack. */
#ifndef BATON_XDP_SESSION_H
#define BATON_XDP_SESSION_H

#include "client.h"
#include "xdp-maps.h"

/* Largest plausible step of sequence and acknowledgement numbers between two segments: two large
 * windows. */
#define MAX_ADVANCE (1 << 24)

#define NS_PER_MS 1000000

/* The time in ms of CLOCK_MONOTONIC, like all times in the shared records. */
static __always_inline __u32 clock_ms(void)
{
	return (__u32)(bpf_ktime_get_ns() / NS_PER_MS);
}

/* A time may be ahead of ours by this much, because another CPU has read the clock later. */
#define MOST_AHEAD_MS 60000

/* The ms since `then`, up to 49.7 days, as `elapsed` of src/base/clock.ts. */
static __always_inline __u32 elapsed(__u32 clock, __u32 then)
{
	__u32 ms = clock - then;

	return ms > 0xffffffff - MOST_AHEAD_MS ? 0 : ms;
}

/* jiffies << 32 | ms at that tick. One word, so that no CPU reads halves of two values. */
static volatile __u64 last_tick;

/*
 * clock_ms() at the last tick, which was at most 1 to 10 ms ago. Reading the clock for each packet
 * would be a third of its cost. A CPU that reads an older word here just reads the clock again.
 */
static __always_inline __u32 tick_ms(void)
{
	__u64 last = last_tick;
	__u32 jiffies = (__u32)bpf_jiffies64();

	if (last && (__u32)(last >> 32) == jiffies)
		return (__u32)last;

	__u32 ms = clock_ms();

	last_tick = (__u64)jiffies << 32 | ms;
	return ms;
}

/* An entry of xdp_control.inline_servers as one word. */
union server_entry {
	__u64 word;
	struct inline_server is;
};

/*
 * The virtual server with this address and port, as slot and SERVER_* flags; or NO_SERVER. It is
 * right while the main thread changes servers: all of them are in the map, one that is in an entry
 * stays in that entry, and `servers` falls to INLINE_SERVERS only after all of them are in entries.
 */
static __always_inline __u32 find_server(const struct xdp_control *us, __be32 address, __be16 port)
{
	/* Read before the entries: with an older number, the map is searched once too often. */
	__u32 servers = *(const volatile __u32 *)&us->servers;

#pragma unroll
	for (__u32 i = 0; i < INLINE_SERVERS; i++) {
		union server_entry entry = {
			.word = *(const volatile __u64 *)&us->inline_servers[i],
		};

		if (entry.is.address == address && entry.is.port == port)
			return entry.is.server;
	}
	if (servers <= INLINE_SERVERS)
		return NO_SERVER;

	struct guard_server key = { .address = address, .port = port };
	const __u32 *server = bpf_map_lookup_elem(&virtual_servers, &key);

	return server ? *server : NO_SERVER;
}

/* True if a virtual server takes no new sessions. Only SYNs pay for this second look-up. */
static __noinline int is_retired(const struct xdp_control *us, __be32 address, __be16 port)
{
	return (find_server(us, address, port) & SERVER_RETIRED) != 0;
}

/* Which session a frame belongs to, and which worker owns that session. */
struct place {
	__u32 client;
	__u32 port_server;
	__u32 hash;
	__u32 worker;
	__u32 slot; /* in `sessions`, after `find`; NO_SLOT: it has no session */
};

/* `server`: as find_server returns it. */
static __always_inline void place_of(const struct xdp_control *us, __u32 client, __u32 client_port,
                                     __u32 server, struct place *place)
{
	place->client = client;
	place->port_server = client_port << 16 | (server & SERVER_SLOT);
	place->hash = session_hash(client, place->port_server, us->client_seed, us->port_seed);
	place->worker = session_worker(place->hash, us->workers);
}

#define NO_SLOT 0xffffffff

/* The key of a session as one word. */
static __always_inline __u64 key_of(__u32 client, __u32 port_server)
{
	return (__u64)port_server << 32 | client;
}

/*
 * Looks for a session in one table of its worker's index. The table begins at word `base` and has
 * `mask` + 1 words. The worker's slots begin at `first_slot`. Returns the slot in `sessions`, or
 * NO_SLOT. The function is global and not inlined, so that the verifier checks it once, separately:
 * inlined at each look-up, it would exceed the verifier's limit.
 */
__noinline __u32 search(__u64 key, __u32 hash, __u32 base, __u32 mask, __u32 first_slot)
{
	for (__u32 i = 0; i < INDEX_MOST_PROBES; i++) {
		__u32 at = base + ((hash + i) & mask);
		__u32 line = at / INDEX_LINE_WORDS;
		const struct index_line *words = bpf_map_lookup_elem(&session_index, &line);

		if (!words)
			return NO_SLOT;

		__u32 word = words->word[at % INDEX_LINE_WORDS];

		if (word == 0)
			return NO_SLOT;
		if ((word ^ hash) & ~INDEX_SLOT_MASK)
			continue;

		__u32 slot = first_slot + (word & INDEX_SLOT_MASK) - 1;
		const struct session_record *record = bpf_map_lookup_elem(&sessions, &slot);

		if (record && key_of(record->client, record->port_server) == key)
			return slot;
	}
	count(XDP_INDEX_LIMIT);
	return NO_SLOT;
}

/* The same for the tables of an index with this index_state. */
static __always_inline __u32 search_tables(const struct xdp_control *us, const struct place *place,
                                           __u32 state)
{
	__u32 words = state & ~INDEX_FLAGS;
	__u32 first = place->worker * us->index_words;
	__u32 end = first + us->index_words;
	__u32 first_slot = place->worker * us->capacity;
	__u64 key = key_of(place->client, place->port_server);
	__u32 slot = NO_SLOT;

	/* The old table first: a session is in the new table before it leaves the old one. */
	if (state & INDEX_GROWING)
		slot = search(key, place->hash, state & INDEX_AT_END ? first : end - words / 2,
		              words / 2 - 1, first_slot);
	if (slot == NO_SLOT)
		slot = search(key, place->hash, state & INDEX_AT_END ? end - words : first,
		              words - 1, first_slot);
	return slot;
}

/*
 * The session of a place, or NULL. This may miss the session while the engine removes another one
 * from the index, because that moves words.
 */
static __always_inline struct session_record *find(const struct xdp_control *us,
                                                   struct place *place)
{
	const volatile __u32 *index_state = &us->index_state[place->worker % MAX_WORKERS];
	__u32 state = *index_state;
	__u32 slot = search_tables(us, place, state);

	/* The index began to grow during the search. */
	if (slot == NO_SLOT && *index_state != state)
		slot = search_tables(us, place, *index_state);
	place->slot = slot;
	return bpf_map_lookup_elem(&sessions, &slot);
}

/*
 * Gives a frame to the engine and counts it as `why`. Without a socket, counts ENGINE_ABSENT and
 * drops the frame (XDP_DROP). A frame larger than the MTU has no room in the socket, so it passes:
 * the engine receives it from its tap, and the guard keeps it from the stack.
 */
static __always_inline int to_engine(struct xdp_md *ctx, const struct xdp_control *us, __u32 worker,
                                     __u32 why)
{
	__u32 socket = ctx->rx_queue_index * MAX_WORKERS + worker;
	int verdict;

	if (ctx->data_end - ctx->data > us->most_frame) {
		verdict = bpf_map_lookup_elem(&xsks, &socket) ? XDP_PASS : XDP_DROP;
		if (verdict == XDP_PASS)
			why = XDP_TO_ENGINE_UNCUT;
	} else {
		verdict = (int)bpf_redirect_map(&xsks, socket, XDP_DROP);
	}
	count(verdict == XDP_DROP ? XDP_ENGINE_ABSENT : why);
	return verdict;
}

/*
 * Updates how far the client has got, as Core.follow of src/engine/core.ts does. True for an
 * in-sequence FIN; the caller handles it.
 */
static __always_inline int follow(struct session_record *record, const struct segment *segment)
{
	if ((segment->flags & (TCP_ACK | TCP_RST | TCP_SYN)) != TCP_ACK)
		return 0;

	int acked = seq_diff(segment->ack, record->client_ack);

	if (acked > MAX_ADVANCE || acked < -MAX_ADVANCE)
		return 0;
	if (acked > 0)
		record->client_ack = segment->ack;

	__u32 next = record->receive_next;
	__u32 end = segment->seq + segment->payload;
	int ahead = seq_diff(end, next);

	if (ahead > 0 && ahead < MAX_ADVANCE)
		record->receive_next = end;
	/* A segment that the client sent after its FIN may have arrived before the FIN. */
	else if (ahead != 0 && (ahead != -1 || record->flags & SESSION_CLIENT_FIN))
		return 0;
	if (!(segment->flags & TCP_FIN) || seq_diff(segment->seq, next) > 0)
		return 0;
	record->receive_next = end + 1;
	return 1;
}

/* Most bytes of a response that a client can acknowledge before the node's confirmation arrives. */
#define MOST_UNSEEN_ANSWER (1 << 24)
/* Most bytes that a client can send behind the handoff: the largest window it was offered. */
#define MOST_AHEAD 0xffff

/*
 * True if a segment acknowledges bytes that the balancer has not sent: then a node has sent them.
 * False for segments inside the bytes that the engine keeps and sends itself.
 */
static __always_inline int acknowledges_answer(const struct session_record *record,
                                               const struct segment *segment)
{
	return segment->flags & TCP_ACK &&
	       segment->ack - (record->server_isn + 1) - 1 < MOST_UNSEEN_ANSWER &&
	       segment->seq - record->handed_to <= MOST_AHEAD;
}

/* The node of a session, or NULL while its MAC address is not resolved. */
static __always_inline const struct xdp_node *node_of(const struct session_record *record)
{
	__u32 index = record->node;
	const struct xdp_node *node = bpf_map_lookup_elem(&nodes, &index);

	return node && node->interface ? node : NULL;
}

/* Both MAC addresses, in the order of an Ethernet header and of xdp_node. */
struct mac_words {
	__u32 word[3];
};

static __always_inline void write_macs(struct ethhdr *eth, const struct xdp_node *node)
{
	*(struct mac_words *)eth = *(const struct mac_words *)node;
}

/*
 * Sends a frame through an interface. A frame that a veth sends for XDP_TX gets stuck unless the
 * peer has an XDP program too. For a redirected frame the peer only has to poll, as it does for
 * GRO.
 */
static __always_inline int send_through(struct xdp_md *ctx, __u32 interface, __u32 redirect)
{
	if (interface == ctx->ingress_ifindex && !redirect)
		return XDP_TX;

	int verdict = (int)bpf_redirect_map(&ports, interface, XDP_DROP);

	if (verdict != XDP_REDIRECT)
		count(XDP_DROP_NO_PORT);
	return verdict;
}

/* A frame to this machine itself must go through the stack: see forward_through_stack. */
static __always_inline int send_to_node(struct xdp_md *ctx, const struct xdp_node *node)
{
	return send_through(ctx, node->interface, node->redirect);
}

/*
 * Sends a segment to the node through the stack, behind which the guard sends it out, or leaves it
 * to the stack if this machine is the node. The stack knows the checksum and segmentation that the
 * sender left to hardware. False, without any change, if the driver has no room for metadata.
 */
static __noinline int forward_through_stack(struct xdp_md *ctx, const struct xdp_node *node)
{
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(struct redirect_request)))
		return 0;

	struct redirect_request *request = (void *)(long)ctx->data_meta;
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(request + 1) > (void *)eth || (void *)(eth + 1) > (void *)(long)ctx->data_end)
		return 0;
	request->magic = REDIRECT_MAGIC;
	request->interface = node->interface;
	write_macs(eth, node);
	count(XDP_FORWARDED_BY_STACK);
	return 1;
}

#endif
