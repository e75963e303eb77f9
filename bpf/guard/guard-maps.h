/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the guard knows, and its counters. */
#ifndef BATON_GUARD_MAPS_H
#define BATON_GUARD_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "counters.h"

/* Which addresses do notices to this balancer go to? */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guard_own);
} own SEC(".maps");

/* Which engine thread owns a session? The hash seeds and the number of threads. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guard_sharing);
} sharing SEC(".maps");

/* Is this machine a node, too? Which frames are for it? */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guard_local);
} local SEC(".maps");

/* How often did each event of counters.h happen? */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, GUARD_COUNTER_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(__u32 index)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &index);

	if (value)
		(*value)++;
}

#endif
