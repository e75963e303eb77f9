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

static __always_inline __u32 owner_of(const struct forward_flow *flow)
{
	return flow_owner(flow->server, flow->kind & FORWARD_KIND_MASK);
}

#define NO_FLOW 0xffffffff

/* The flow in a place as `search_flow` returns it, or NULL. */
static __always_inline struct forward_flow *flow_at(__u32 place)
{
	__u32 index = place / FORWARD_WAYS;
	struct forward_set *set = bpf_map_lookup_elem(&forward_flows, &index);

	return set ? &set->way[place % FORWARD_WAYS] : NULL;
}

/*
 * Looks for a record. `key` is client | ports << 32, `owner` as flow_owner returns it, `mask` the
 * number of sets less one. Returns set * FORWARD_WAYS + way, or NO_FLOW. The function is global, so
 * that the verifier checks it once.
 */
__noinline __u32 search_flow(__u64 key, __u32 owner, __u32 hash, __u32 mask)
{
	for (int half = 0; half < 2; half++) {
		__u32 index = hash & mask;
		const struct forward_set *set = bpf_map_lookup_elem(&forward_flows, &index);

		if (!set)
			return NO_FLOW;
#pragma unroll
		for (int way = 0; way < FORWARD_WAYS; way++) {
			const struct forward_flow *flow = &set->way[way];

			if (*(const volatile __u64 *)&flow->client == key &&
			    owner_of(flow) == owner)
				return index * FORWARD_WAYS + way;
		}
		hash = forward_second_hash(hash);
	}
	return NO_FLOW;
}

#define OLDER_THAN_ANY 0x40000000

/*
 * Adds a record: in the set with more room, else in place of the record that is needed least. The
 * parameters are those of search_flow; `node` is the node's slot. The result has no meaning.
 */
__noinline int add_flow(__u64 key, __u32 owner_node, __u32 hash, __u32 mask, __u32 tick)
{
	__u32 best = NO_FLOW, best_rank = 0, free_place = NO_FLOW, most_free = 0, free = 0;

	for (int i = 0; i < 2 * FORWARD_WAYS; i++) {
		__u32 place = (hash & mask) * FORWARD_WAYS + i % FORWARD_WAYS;
		const struct forward_flow *flow = flow_at(place);

		if (!flow)
			return 0;
		if (!flow->kind) {
			free++;
			if (free > most_free) {
				most_free = free;
				free_place = place;
			}
		} else {
			__u32 rank = (tick - flow->seen) & FORWARD_TICK_MASK;

			if (!(flow->kind >> FORWARD_STATE_SHIFT & FORWARD_SECOND))
				rank |= OLDER_THAN_ANY;
			if (rank >= best_rank) {
				best_rank = rank;
				best = place;
			}
		}
		if (i == FORWARD_WAYS - 1) {
			hash = forward_second_hash(hash);
			free = 0;
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
