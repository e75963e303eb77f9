/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How many pings of virtual addresses this machine's kernel may answer. */
#ifndef BATON_GUARD_ECHO_H
#define BATON_GUARD_ECHO_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Echo requests a second that the kernel may answer: anyone can send them, from any address. */
#define ECHOES_PER_SECOND 1000
#define NS_PER_SECOND 1000000000ULL

/* When is the next echo request due? Requests may be early by a second: that is the burst. */
struct echo_limit {
	struct bpf_spin_lock lock;
	__u32 pad;
	__u64 due; /* bpf_ktime_get_ns */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct echo_limit);
} echo_limit SEC(".maps");

/*
 * True if this machine's kernel may answer one more echo request. The lock makes the limit hold for
 * all CPUs together.
 */
static __always_inline int may_answer_echo(void)
{
	const __u64 each = NS_PER_SECOND / ECHOES_PER_SECOND;
	__u32 zero = 0;
	struct echo_limit *limit = bpf_map_lookup_elem(&echo_limit, &zero);
	__u64 now = bpf_ktime_get_ns();
	int may = 0;

	if (!limit)
		return 0;
	bpf_spin_lock(&limit->lock);
	if (limit->due < now)
		limit->due = now;
	if (limit->due - now <= NS_PER_SECOND - each) {
		limit->due += each;
		may = 1;
	}
	bpf_spin_unlock(&limit->lock);
	return may;
}

#endif
