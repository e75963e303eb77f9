/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps of the XDP program. The line above each says which question it answers. session.h has
 * the layouts. The loader sets the sizes of `sessions` (workers * capacity) and of `session_index`
 * (workers * index_words / INDEX_LINE_WORDS).
 */
#ifndef BATON_XDP_MAPS_H
#define BATON_XDP_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "counters.h"
#include "session.h"
#include "virtual-servers.h"

/* What are the settings of this balancer? The program reads them before it looks at a frame. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct xdp_control);
} control SEC(".maps");

/* What is known of the session in this slot, and what does the kernel do with its segments? */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct session_record);
} sessions SEC(".maps");

/*
 * Which IPv6 address has the client of the session in this slot? The record has the alias. Words in
 * host byte order. The engine writes it, and the loader sets the size: one element if no virtual
 * server has an IPv6 address.
 */
struct session_address {
	__u32 word[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct session_address);
} session_addresses SEC(".maps");

/* In which slot is the session with this hash? */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct index_line);
} session_index SEC(".maps");

/* Which MAC addresses and which interface lead to this node? */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_XDP_NODES);
	__type(key, __u32);
	__type(value, struct xdp_node);
} nodes SEC(".maps");

/* Which AF_XDP socket gets frames for a worker? The key is receive queue * MAX_WORKERS + worker. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MAX_QUEUES *MAX_WORKERS);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

/* Through which other interfaces may frames leave? The value is the key: the interface's index. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

/*
 * What has the program done that the engine must know (struct kernel_event)? A ring buffer for each
 * worker, which the loader puts in. Without a ring buffer, SYNs are answered with cookies.
 */
struct event_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_WORKERS);
	__type(key, __u32);
	__array(values, struct event_ring);
} events SEC(".maps");

/* How often did each event of counters.h happen? */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, XDP_COUNTER_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count_more(__u32 index, __u64 amount)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &index);

	if (value)
		*value += amount;
}

static __always_inline void count(__u32 index)
{
	count_more(index, 1);
}

#endif
