// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Sends every frame back through the interface that it arrived on. The balancer never attaches this
 * program. It runs the program over frames of its own (BPF_PROG_TEST_RUN with
 * BPF_F_TEST_XDP_LIVE_FRAMES) to find out whether frames that a driver sends for XDP arrive. A veth
 * delivers such frames only while its peer polls.
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
