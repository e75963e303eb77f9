// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A link that loses frames, for tests and benchmarks. Each hook of tc loses 2 % at random. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

#define LOST_OF_1000 20

SEC("tc")
int lose(struct __sk_buff *skb)
{
	(void)skb;
	return bpf_get_prandom_u32() % 1000 < LOST_OF_1000 ? TC_ACT_SHOT : TC_ACT_OK;
}
