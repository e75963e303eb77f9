/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps of the XDP program. The loader gives `sessions` and `session_index` their sizes: workers
 * * capacity records, and workers * index_words / INDEX_LINE_WORDS lines.
 */
#ifndef BATON_XDP_MAPS_H
#define BATON_XDP_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "counters.h"
#include "session.h"

/* What the program has to know: all that it reads before it looks at a frame. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct xdp_control);
} control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct session_record);
} sessions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct index_line);
} session_index SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_XDP_NODES);
	__type(key, __u32);
	__type(value, struct xdp_node);
} nodes SEC(".maps");

/* Is this address and port a virtual server of ours? The value is its index in session keys. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct guard_server);
	__type(value, __u32);
} virtual_servers SEC(".maps");

/* Does a virtual server of ours have this address? The value means nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __be32);
	__type(value, __u32);
} virtual_addresses SEC(".maps");

/* The engine's sockets: receive queue * MAX_WORKERS + worker. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MAX_QUEUES *MAX_WORKERS);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

/* Interfaces that frames leave by, but for those that go back the way they came: index to index. */
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

/* How often did each thing of counters.h happen? */
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
