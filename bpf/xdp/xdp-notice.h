/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Notices of nodes. The engine need not act at once on ADOPTED and FIN: the program checks them and
 * reports them to the engine without waking it. It notes an ENDED of a session that it may move by
 * itself (xdp-resume.h). All other notices go to the engine, and so do
 * notices with an error.
 */
#ifndef BATON_XDP_NOTICE_H
#define BATON_XDP_NOTICE_H

#include "alias.h"
#include "siphash.h"
#include "xdp-resume.h"
#include "xdp-session.h"
#include "xdp-syn.h"

/*
 * True for an ADOPTED, FIN or ENDED that Notices.receive of src/engine/handoff/notices.ts would
 * accept, if its IP header is right. `node` and `own` are the numbers of its addresses.
 */
static __always_inline int can_report(const struct xdp_control *us, const struct ixcp_hdr *ixcp,
                                      __be32 node, __be32 own)
{
	return (ixcp->type == IXCP_ADOPTED || ixcp->type == IXCP_FIN || ixcp->type == IXCP_ENDED) &&
	       ixcp->reason != IXCP_REASON_PARKED &&
	       ixcp->version == BATON_VERSION && ixcp->length == IXCP_LENGTH &&
	       ixcp->tag == ixcp_tag(us->key, node, own, ixcp);
}

static __always_inline int is_whole(const struct iphdr *ip)
{
	return !(ip->frag_off & BE16(IPV4_FRAGMENT_MASK)) &&
	       BE16(ip->tot_len) == IPV4_BYTES + IXCP_LENGTH && checksum_fold64(sum_ipv4(ip)) == 0;
}

/* Records the node's FIN for the engine that will take the session over: no engine runs. */
static __always_inline void record_fin(const struct xdp_control *us, struct place *place,
                                       __be32 node, __u32 nonce)
{
	struct session_record *record = find(us, place);

	if (!record || record->nonce != nonce)
		return;

	const struct xdp_node *at = node_of(record);

	if (at && at->address == node)
		record->flags |= SESSION_NODE_FIN;
}

/* Reports a notice of this node about the session of `place`, or gives it to the engine. */
static __always_inline int report_notice(struct xdp_md *ctx, const struct xdp_control *us,
                                         struct place *place, const struct ixcp_hdr *ixcp,
                                         __be32 node)
{
	if (ixcp->type == IXCP_ENDED)
		return note_ended(us, place, node, ixcp)
		               ? XDP_DROP
		               : to_engine(ctx, us, place->worker, XDP_TO_ENGINE_IXCP);

	int fin = ixcp->type == IXCP_FIN;
	struct kernel_event event = {
		.client = place->client,
		.port_server = place->port_server,
		.client_isn = BE32(ixcp->ack),
		.server_isn = BE32(ixcp->session),
		.ts_offset = BE32(node),
		.flags = EVENT_NOTICE | ixcp->type,
	};

	if (place->worker < MAX_WORKERS && report_event(ctx, place->worker, &event)) {
		count(XDP_NOTICE_TOLD);
		return XDP_DROP;
	}

	int verdict = to_engine(ctx, us, place->worker, XDP_TO_ENGINE_IXCP);

	if (fin && verdict == XDP_DROP)
		record_fin(us, place, node, event.server_isn);
	return verdict;
}

/* Handles a notice about the session of `place`. The frame has no IPv4 options. */
static __noinline int receive_notice(struct xdp_md *ctx, const struct xdp_control *us,
                                     struct place *place)
{
	struct iphdr *ip = (void *)(long)ctx->data + IPV4_OFFSET;
	struct ixcp_hdr *ixcp = (void *)(ip + 1);

	if ((void *)(ixcp + 1) > (void *)(long)ctx->data_end || !is_whole(ip) ||
	    !can_report(us, ixcp, ip->saddr, ip->daddr))
		return to_engine(ctx, us, place->worker, XDP_TO_ENGINE_IXCP);
	return report_notice(ctx, us, place, ixcp, ip->saddr);
}

/* The same for a notice of a node with an IPv6 address. */
static __noinline int receive_notice6(struct xdp_md *ctx, const struct xdp_control *us,
                                      struct place *place)
{
	struct ipv6hdr *ip = (void *)(long)ctx->data + IPV4_OFFSET;
	struct ixcp_hdr *ixcp = (void *)(ip + 1);

	if ((void *)(ixcp + 1) > (void *)(long)ctx->data_end ||
	    BE16(ip->payload_len) != IXCP_LENGTH)
		return to_engine(ctx, us, place->worker, XDP_TO_ENGINE_IXCP);

	__be32 node = alias_of(&ip->saddr, us->alias);

	if (!can_report(us, ixcp, node, alias_of(&ip->daddr, us->alias)))
		return to_engine(ctx, us, place->worker, XDP_TO_ENGINE_IXCP);
	return report_notice(ctx, us, place, ixcp, node);
}

#endif
