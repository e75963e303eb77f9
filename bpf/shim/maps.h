/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps of the shim. The line above each says which question it answers. Layouts: config.h. */
#ifndef BATON_MAPS_H
#define BATON_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "counters.h"

/* Which key, address and role does this machine have? */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shim_config);
} config SEC(".maps");

/* May this balancer hand sessions to this machine, and where do its notices go? */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __be32);
	__type(value, struct shim_balancer);
} balancers SEC(".maps");

/*
 * Which listener adopts the sessions of this service? Without an entry for 0, sessions of the
 * node's web server go to the listener on their own virtual address and port.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct shim_service);
} services SEC(".maps");

/* Which session has this four-tuple, and which confirmations does its balancer have? */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct session_key);
	__type(value, struct session);
} sessions SEC(".maps");

/* When did the socket of any session last begin a response (bpf_ktime_get_ns)? 0: never. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} last_answer SEC(".maps");

/* The longest TCP header, and room for it in whole words of a mask. */
#define TCP_MOST_BYTES 60
#define TCP_HEADER_ROOM 64

/* A TCP header. The rest lets a word be read at each place of the room. */
struct tcp_header {
	__u8 bytes[TCP_HEADER_ROOM];
	__u8 rest[8];
};

/*
 * The work on one header. The places in its options are here, because the verifier forgets what is
 * in a map: it would follow each of their values through the loop otherwise.
 */
struct header_work {
	struct tcp_header before, after;
	struct translation translation;
	__u32 next;     /* where the next option begins */
	__u32 sack_end; /* where the blocks end that are being translated */
};

/* Which TCP header is this CPU translating? It is too large for the stack of a program. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct header_work);
} headers SEC(".maps");

/*
 * May a segment that arrives in plain form concern the shim? 0: no session is translated or parked,
 * so no segment costs a look-up.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} watching SEC(".maps");

/* How often did each event of counters.h happen? */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SHIM_COUNTER_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(__u32 index)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &index);

	if (value)
		(*value)++;
}

static __always_inline void begin_watching(void)
{
	__u32 zero = 0;
	__u32 *on = bpf_map_lookup_elem(&watching, &zero);

	/* Written only once: all CPUs read it. */
	if (on && !*on)
		*on = 1;
}

static __always_inline int is_watching(void)
{
	__u32 zero = 0;
	const __u32 *on = bpf_map_lookup_elem(&watching, &zero);

	return on && *on;
}

static __always_inline const struct shim_config *get_config(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

#endif
