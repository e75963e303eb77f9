/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sends packets to nodes: with new MAC addresses to those on the link, and carried to those behind
 * routers (IXP_CARRY). Carrier of src/engine/carrier.ts writes the same.
 */
#ifndef BATON_XDP_TO_NODE_H
#define BATON_XDP_TO_NODE_H

#include "xdp-session.h"

/*
 * Sends an IPv4 packet of `total` bytes inside a packet to the node's own address. XDP_PASS means
 * that nothing has changed: the packet is too large, or there is no room before it.
 */
static __noinline int carry(struct xdp_md *ctx, const struct xdp_control *us,
                            const struct xdp_node *node, __u32 nonce, __u32 total)
{
	int padding = (int)(total + IPV4_OFFSET) - (int)(ctx->data_end - ctx->data);

	if (total > node->most || (padding != 0 && bpf_xdp_adjust_tail(ctx, padding)) ||
	    bpf_xdp_adjust_head(ctx, -CARRY_BYTES))
		return XDP_PASS;

	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)((char *)eth + IPV4_OFFSET);
	struct carry_hdr *carry = (void *)(ip + 1);

	if ((void *)(carry + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	write_macs(eth, node);
	eth->h_proto = BE16(ETH_P_IP);
	fill_ipv4(ip, us->own, node->address, BATON_IPPROTO_IXP, (__u16)(total + CARRY_BYTES));
	carry->version = BATON_VERSION;
	carry->type = IXP_CARRY;
	carry->length = CARRY_LENGTH;
	carry->pad = 0;
	carry->session = BE32(nonce);
	count(XDP_CARRIED);
	return send_to_node(ctx, node);
}

/* Sends a packet of IXP that the program has made of a segment. If it is lost, the client repeats
 * the segment. */
static __always_inline int send_wrapped(struct xdp_md *ctx, const struct xdp_control *us,
                                        const struct xdp_node *node, __u32 nonce, __u32 total)
{
	if (!node->carry)
		return send_to_node(ctx, node);

	int verdict = carry(ctx, us, node, nonce, total);

	return verdict == XDP_PASS ? XDP_DROP : verdict;
}

/* Sends a segment to the session's node. */
static __always_inline int forward(struct xdp_md *ctx, const struct xdp_control *us,
                                   struct session_record *record, const struct segment *segment,
                                   __u32 worker, int unfinished)
{
	const struct xdp_node *node = node_of(record);
	__u32 bytes = ctx->data_end - ctx->data;

	if (!node) {
		count(XDP_DROP_UNRESOLVED);
		return XDP_DROP;
	}
	if (node->carry) {
		/* The engine finishes checksums, and cuts what is too large. */
		int verdict = unfinished ? XDP_PASS
		                         : carry(ctx, us, node, record->nonce, segment->total);

		if (verdict == XDP_PASS)
			return to_engine(ctx, us, worker, XDP_TO_ENGINE_CARRY);
		count(XDP_FORWARDED);
		count_more(XDP_FORWARDED_BYTES, bytes);
		return verdict;
	}
	if (unfinished || node->interface == OWN_STACK) {
		if (!forward_through_stack(ctx, node))
			return to_engine(ctx, us, worker, XDP_TO_ENGINE_CHECKSUM);
		count(XDP_FORWARDED);
		count_more(XDP_FORWARDED_BYTES, bytes);
		return XDP_PASS;
	}
	count(XDP_FORWARDED);
	count_more(XDP_FORWARDED_BYTES, bytes);
	write_macs(segment->eth, node);
	return send_to_node(ctx, node);
}

#endif
