/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Finds the virtual server with mode forward of an address, a transport protocol and a port. Guard
 * and XDP program each have these maps of their own; user space fills both. They are apart from
 * those of virtual-servers.h, so that frames of other virtual servers cost no look-up more.
 */
#ifndef BATON_FORWARD_PORTS_H
#define BATON_FORWARD_PORTS_H

#include <bpf/bpf_helpers.h>

#include "forward.h"

/* Which part of `forward_ranges` has the ports of this address and transport protocol? */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, struct forward_address);
	__type(value, struct forward_span);
} forward_addresses SEC(".maps");

/*
 * Which virtual server has the ports of this range? User space writes a change into the half that
 * no address uses, so a search never sees half a change.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2 * MOST_FORWARD_RANGES);
	__type(key, __u32);
	__type(value, struct forward_range);
} forward_ranges SEC(".maps");

static __always_inline const struct forward_span *forward_span_of(__be32 address, __u32 transport)
{
	struct forward_address key = { .address = address, .transport = transport };

	return bpf_map_lookup_elem(&forward_addresses, &key);
}

/*
 * The slot of the virtual server with this port (host byte order), or NO_SERVER. The function is
 * global, so that the verifier checks its loop once.
 */
__noinline __u32 forward_search_port(__u32 first, __u32 count, __u32 port)
{
	__u32 low = first;
	__u32 high = first + count;

	for (int step = 0; step < FORWARD_SEARCH_STEPS && low < high; step++) {
		__u32 middle = low + (high - low) / 2;
		const struct forward_range *range = bpf_map_lookup_elem(&forward_ranges, &middle);

		if (!range)
			return NO_SERVER;
		if (port < range->from)
			high = middle;
		else if (port > range->to)
			low = middle + 1;
		else
			return range->slot;
	}
	return NO_SERVER;
}

/* The slot of the virtual server with this port, or NO_SERVER. Most addresses have one range. */
static __always_inline __u32 forward_find_port(__u32 first, __u32 count, __u32 port)
{
	const struct forward_range *range;

	if (count != 1)
		return forward_search_port(first, count, port);
	range = bpf_map_lookup_elem(&forward_ranges, &first);
	return range && port >= range->from && port <= range->to ? range->slot : NO_SERVER;
}

/* The virtual server with mode forward that gets such packets, or NO_SERVER. */
static __always_inline __u32 find_forward(__be32 address, __u32 transport, __u32 port)
{
	const struct forward_span *span = forward_span_of(address, transport);

	return span ? forward_search_port(span->first, span->count, port) : NO_SERVER;
}

#endif
