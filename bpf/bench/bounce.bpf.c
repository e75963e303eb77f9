// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Programs that do less than any balancer must, for comparison in benchmarks. No program of Baton
 * attaches them.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "parse.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* The one entry of map `config`, key u32 0. */
struct bounce_config {
	__be32 address;      /*  0 the virtual address */
	__u8 destination[6]; /*  4 MAC address of the one node */
	__u8 source[6];      /* 10 our own */
};

BATON_ASSERT(sizeof(struct bounce_config) == 16, "bounce_config");

/* Which address is forwarded, and to which node? */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bounce_config);
} config SEC(".maps");

struct mac_words {
	__u32 word[3];
};

static __always_inline int swapped(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	__u8 destination[ETH_ALEN];

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return 0;
	__builtin_memcpy(destination, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, destination, ETH_ALEN);
	return 1;
}

/* Sends every frame back to its sender: the most that a driver can do. */
SEC("xdp")
int bounce_swap(struct xdp_md *ctx)
{
	return swapped(ctx) ? XDP_TX : XDP_PASS;
}

/* The same with a redirect, for interfaces whose XDP_TX may get stuck. */
SEC("xdp")
int bounce_redirect(struct xdp_md *ctx)
{
	return swapped(ctx) ? (int)bpf_redirect(ctx->ingress_ifindex, 0) : XDP_PASS;
}

/* Sends frames for the virtual address to the one node, without any look-up. */
SEC("xdp")
int bounce_forward(struct xdp_md *ctx)
{
	__u32 zero = 0;
	const struct bounce_config *bounce = bpf_map_lookup_elem(&config, &zero);
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)((char *)eth + IPV4_OFFSET);

	if (!bounce || (void *)(ip + 1) > (void *)(long)ctx->data_end ||
	    eth->h_proto != BE16(ETH_P_IP) || ip->daddr != bounce->address)
		return XDP_PASS;
	*(struct mac_words *)eth = *(const struct mac_words *)bounce->destination;
	return XDP_TX;
}

/* For the peer of a veth pair, whose driver delivers XDP_TX frames only while a program is
 * attached. */
SEC("xdp")
int pass_all(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}
