/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The tables of virtual servers with mode forward: buckets, flows, and what is counted. forward.h
 * has the layouts. src/engine/forward/ does the same with the datapath packet.
 */
#ifndef BATON_XDP_FORWARD_FLOWS_H
#define BATON_XDP_FORWARD_FLOWS_H

#include "forward-ports.h"
#include "xdp-session.h"

/* What is known of the virtual server with mode forward in this slot? */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MOST_SERVERS);
	__type(key, __u32);
	__type(value, struct forward_server);
} forward_servers SEC(".maps");

/* Which addresses have virtual servers with mode forward? The first few (struct inline_span). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct inline_spans);
} inline_spans SEC(".maps");

/* Which node has this bucket? The loader sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct forward_bucket);
} forward_buckets SEC(".maps");

/* Which node has this flow? The loader sets the size, xdp_control.forward_sets. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct forward_set);
} forward_flows SEC(".maps");

/* Does this node keep its flows, and does it get new ones? */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_XDP_NODES);
	__type(key, __u32);
	__type(value, struct forward_node);
} forward_nodes SEC(".maps");

/* What has been forwarded for each virtual server, and to each node? */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MOST_SERVERS + MAX_XDP_NODES);
	__type(key, __u32);
	__type(value, struct forward_count);
} forward_counts SEC(".maps");

static __always_inline __u32 forward_tick(void)
{
	return (tick_ms() >> FORWARD_TICK_SHIFT) & FORWARD_TICK_MASK;
}

/* The server and kind of a record as the 16 bits of its words 10 and 11. */
static __always_inline __u32 flow_owner(__u32 slot, __u32 kind)
{
	return kind << 8 | slot;
}

static __always_inline __u32 flow_hash(const struct forward_server *server, __u32 client,
                                       __u32 ports, __u32 owner)
{
	return session_hash(client, ports ^ owner, server->client_seed, server->port_seed);
}

#define NO_FLOW 0xffffffff

/* The flow in a place as `search_flow` returns it, or NULL. */
static __always_inline struct forward_flow *flow_at(__u32 place)
{
	__u32 index = place / FORWARD_WAYS;
	struct forward_set *set = bpf_map_lookup_elem(&forward_flows, &index);

	if (!set)
		return NULL;
	/* Otherwise the compiler adds to the pointer first, which the verifier forbids. */
	OPAQUE(set);
	return &set->way[place % FORWARD_WAYS];
}

#define OWNER_SHIFT 16
#define OWNER_MASK (FORWARD_KIND_MASK << 8 | 0xff)

/*
 * Which way of a set has the record of a key? FORWARD_WAYS: none. No branch depends on the answer:
 * nobody can predict it, and a wrong prediction costs most while the set is not in a cache, because
 * the CPU does nothing else until it comes.
 */
static __always_inline __u32 way_of(const struct forward_set *set, __u64 key, __u32 owner)
{
	__u32 others = 1, way = 0;

#pragma unroll
	for (int i = 0; i < FORWARD_WAYS; i++) {
		const volatile __u64 *words = (const volatile __u64 *)&set->way[i];
		__u64 differs = words[0] ^ key;

		differs |= (words[1] >> OWNER_SHIFT & OWNER_MASK) ^ owner;
		/* The highest bit becomes 1 unless the number is 0. */
		differs |= -differs;
		OPAQUE(differs);
		others &= differs >> 63;
		way += others;
	}
	return way;
}

/*
 * Looks for a record. `key` is client | ports << 32, `owner` as flow_owner returns it, `mask` the
 * number of sets less one. Returns set * FORWARD_WAYS + way, or NO_FLOW. The function is global, so
 * that the verifier checks it once.
 */
__noinline __u32 search_flow(__u64 key, __u32 owner, __u32 hash, __u32 mask)
{
	for (__u32 turn = 0; turn < FORWARD_CANDIDATES; turn++) {
		__u32 index = forward_candidate(hash, mask, turn);
		const struct forward_set *set = bpf_map_lookup_elem(&forward_flows, &index);

		if (!set)
			return NO_FLOW;

		__u32 way = way_of(set, key, owner);

		if (way < FORWARD_WAYS)
			return index * FORWARD_WAYS + way;
	}
	return NO_FLOW;
}

/* The same in one set, without a call. Returns the record or NULL. */
static __always_inline struct forward_flow *flow_in(__u32 index, __u64 key, __u32 owner)
{
	struct forward_set *set = bpf_map_lookup_elem(&forward_flows, &index);

	if (!set)
		return NULL;

	__u32 way = way_of(set, key, owner);

	return way < FORWARD_WAYS ? &set->way[way] : NULL;
}

/* The same in all of them, for each packet: most records are in the first two. */
static __always_inline struct forward_flow *find_flow(__u64 key, __u32 owner, __u32 hash,
                                                      __u32 mask)
{
	struct forward_flow *flow = flow_in(forward_candidate(hash, mask, 0), key, owner);

	if (!flow)
		flow = flow_in(forward_candidate(hash, mask, 1), key, owner);
	if (!flow)
		flow = flow_at(search_flow(key, owner, hash, mask));
	return flow;
}

#define OLDER_THAN_ANY 0x40000000

/*
 * Adds a record: in the first set with room, else in place of the record that is needed least. The
 * parameters are those of search_flow; `node` is the node's slot. The result has no meaning.
 */
__noinline int add_flow(__u64 key, __u32 owner_node, __u32 hash, __u32 mask, __u32 tick)
{
	__u32 best = NO_FLOW, best_rank = 0, free_place = NO_FLOW;

	for (__u32 i = 0; i < FORWARD_CANDIDATES * FORWARD_WAYS && free_place == NO_FLOW; i++) {
		__u32 place = forward_candidate(hash, mask, i / FORWARD_WAYS) * FORWARD_WAYS +
		              i % FORWARD_WAYS;
		const struct forward_flow *flow = flow_at(place);

		if (!flow)
			return 0;
		if (!flow->kind) {
			free_place = place;
		} else {
			__u32 rank = forward_ticks_since(tick, flow->seen);

			if (!(flow->kind >> FORWARD_STATE_SHIFT & FORWARD_SECOND))
				rank |= OLDER_THAN_ANY;
			if (rank >= best_rank) {
				best_rank = rank;
				best = place;
			}
		}
	}
	if (free_place == NO_FLOW)
		count(XDP_FORWARD_EVICTED);

	struct forward_flow *flow = flow_at(free_place == NO_FLOW ? best : free_place);

	if (!flow)
		return 0;
	/* The second word first: no other CPU finds the key with the node of another flow. */
	*(volatile __u64 *)&flow->node = owner_node | (__u64)tick << 32;
	*(volatile __u64 *)&flow->client = key;
	return 0;
}

/* The words 8 to 11 of a record that is added. */
static __always_inline __u32 owner_node(__u32 owner, __u32 node)
{
	return owner << 16 | node;
}

static __always_inline void count_forwarded(__u32 key, __u32 bytes)
{
	struct forward_count *counts = bpf_map_lookup_elem(&forward_counts, &key);

	if (counts) {
		counts->packets++;
		counts->bytes += bytes;
	}
}

static __always_inline void count_flow(__u32 key)
{
	struct forward_count *counts = bpf_map_lookup_elem(&forward_counts, &key);

	if (counts)
		counts->flows++;
}

static __always_inline __u32 node_state(__u32 node)
{
	const struct forward_node *known = bpf_map_lookup_elem(&forward_nodes, &node);

	return known ? known->state : 0;
}

#endif
