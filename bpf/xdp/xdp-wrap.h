/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sends payload that arrives before the node has confirmed. The payload goes in IXP, so that it
 * cannot reach a kernel without the socket. Handoff.receive and NodeWriter.wrap of src/engine do
 * the same; this handles ordinary segments only.
 */
#ifndef BATON_XDP_WRAP_H
#define BATON_XDP_WRAP_H

#include "cookie.h"
#include "xdp-to-node.h"

/*
 * True for a segment with new payload that acknowledges nothing of the response. All other segments
 * go to the engine.
 */
static __always_inline int can_wrap(const struct session_record *record,
                                    const struct segment *segment, __u32 most)
{
	return (segment->flags & (TCP_ACK | TCP_SYN | TCP_FIN | TCP_RST)) == TCP_ACK &&
	       segment->payload > 0 && segment->total <= most &&
	       segment->seq - record->handed_to <= MOST_AHEAD &&
	       segment->ack == record->server_isn + 1 &&
	       checksum_fold64(sum_ipv4(segment->ip)) == 0 && !is_unfinished(segment);
}

/* Fills the IXP header of a segment except for its tag, as NodeWriter.finishWrapped does. */
static __always_inline void fill_ixp(struct ixp_hdr *ixp, const struct xdp_node *node,
                                     const struct session_record *record, __u32 ms)
{
	ixp->version = BATON_VERSION;
	ixp->type = IXP_SEGMENT;
	ixp->length = IXP_LENGTH;
	ixp->service = 0;
	ixp->session = BE32(record->nonce);
	ixp->balancer = node->balancer;
	ixp->confirm = BE32(record->handed_to);
	ixp->mss = BE16(record->mss < LEAST_MSS ? LEAST_MSS : record->mss);
	ixp->flags = record->flags & (IXP_WSCALE_OK | IXP_SACK_OK | IXP_TSTAMP_OK);
	ixp->scales = record->scales;
	ixp->tsval = BE32(record->tsval);
	ixp->tsecr = BE32(record->ts_offset + ms);
}

struct ixp_words {
	__u32 word[IXP_LENGTH / 4];
};

union ixp_packet {
	struct ixp_hdr header;
	struct ixp_words words;
};

/*
 * Inserts this IXP header, of which only the tag is missing, between IPv4 and TCP header. The frame
 * grows at its front, so TCP header and payload stay in place; pointers into the packet become
 * invalid. XDP_PASS: nothing has changed. XDP_DROP: the frame is spoilt. XDP_TX: it is ready.
 */
static __always_inline int insert_ixp(struct xdp_md *ctx, const struct xdp_control *us,
                                      const struct xdp_node *node, const struct segment *segment,
                                      union ixp_packet *ixp)
{
	struct session_key tuple = {
		.client = segment->ip->saddr,
		.virtual_addr = segment->ip->daddr,
		.client_port = segment->tcp->source,
		.virtual_port = segment->tcp->dest,
	};
	int padding = (int)(segment->total + IPV4_OFFSET) - (int)(ctx->data_end - ctx->data);

	ixp->header.tag =
		ixp_tag(us->key, &tuple, BE32(segment->seq), BE32(segment->ack), &ixp->header);
	if ((padding != 0 && bpf_xdp_adjust_tail(ctx, padding)) ||
	    bpf_xdp_adjust_head(ctx, -IXP_LENGTH))
		return XDP_PASS;

	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)((char *)eth + IPV4_OFFSET);
	struct ixp_words *to = (void *)(ip + 1);

	if ((void *)(to + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	write_macs(eth, node);
	eth->h_proto = BE16(ETH_P_IP);
	fill_ipv4(ip, tuple.client, tuple.virtual_addr, BATON_IPPROTO_IXP,
	          (__u16)(segment->total + IXP_LENGTH));
	*to = ixp->words;
	return XDP_TX;
}

/* XDP_PASS means that nothing has changed and the frame goes to the engine. */
static __noinline int wrap(struct xdp_md *ctx, const struct xdp_control *us,
                           struct session_record *record)
{
	struct segment segment;
	union ixp_packet ixp;

	const struct xdp_node *node = node_of(record);
	__u32 most = node && node->carry ? node->most - IXP_LENGTH : us->most_frame - IPV4_OFFSET;
	__u32 ms = clock_ms();

	if (!parse_segment((void *)(long)ctx->data, (void *)(long)ctx->data_end, &segment) ||
	    !can_wrap(record, &segment, most))
		return XDP_PASS;

	if (!node) {
		count(XDP_DROP_UNRESOLVED);
		return XDP_DROP;
	}
	if (node->interface == OWN_STACK)
		return XDP_PASS;

	fill_ixp(&ixp.header, node, record, ms);

	int verdict = insert_ixp(ctx, us, node, &segment, &ixp);

	if (verdict != XDP_TX)
		return verdict;
	record->last_seen = ms;
	follow(record, &segment);
	count(XDP_WRAPPED);
	return send_wrapped(ctx, us, node, record->nonce, segment.total + IXP_LENGTH);
}

#endif
