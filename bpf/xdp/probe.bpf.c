// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Sends every frame back out of the interface that it came in by. Never attached: the balancer runs
 * it over frames of its own (BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES) to see whether what
 * a driver sends for XDP gets anywhere. A veth takes such frames only while its peer polls.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

SEC("xdp")
int probe(struct xdp_md *context)
{
	(void)context;
	return XDP_TX;
}
