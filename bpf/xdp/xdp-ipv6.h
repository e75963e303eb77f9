/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * IPv6. The program forwards segments of sessions that their nodes own. The engine gets everything
 * else for a virtual server: SYNs, FINs, heads, errors. It answers with the same cookies.
 */
#ifndef BATON_XDP_IPV6_H
#define BATON_XDP_IPV6_H

#include "alias.h"
#include "xdp-notice.h"
#include "xdp-segment.h"
#include "xdp-session.h"

/* As find_server, for an alias. Never an entry of `control`: it has no room for the family. */
static __always_inline __u32 find_server6(__be32 alias, __be16 port)
{
	struct guard_server key = { .address = alias, .port = port, .family = FAMILY_IPV6 };
	const __u32 *server = bpf_map_lookup_elem(&virtual_servers, &key);

	return server ? *server : NO_SERVER;
}

/* True if the session in this slot has a client with this address. */
static __always_inline int is_client(__u32 slot, const struct in6_addr *client)
{
	const struct session_address *known = bpf_map_lookup_elem(&session_addresses, &slot);
	const __be32 *word = client->in6_u.u6_addr32;

	return known && known->word[3] == BE32(word[3]) && known->word[2] == BE32(word[2]) &&
	       known->word[1] == BE32(word[1]) && known->word[0] == BE32(word[0]);
}

/* Gives an ICMPv6 error about a packet of a virtual server to the worker that owns the session. */
static __noinline int receive_icmp6(struct xdp_md *ctx, const struct xdp_control *us)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ipv6hdr *ip = (void *)(long)ctx->data + IPV4_OFFSET;
	__u8 *type = (void *)(ip + 1);

	if ((void *)(type + 1) > data_end || *type < ICMPV6_FIRST_ERROR ||
	    *type > ICMPV6_LAST_ERROR)
		return XDP_PASS;

	struct ipv6hdr *inner = (void *)(type + ICMP_HEADER_BYTES);
	struct ports *ports = (void *)(inner + 1);
	struct place place = {};

	if ((void *)(ports + 1) <= data_end && inner->version == 6) {
		const __be32 *alias = bpf_map_lookup_elem(&ipv6_aliases, &inner->saddr);
		__u32 server = alias ? find_server6(*alias, ports->source) : NO_SERVER;

		if (server != NO_SERVER)
			place_of(us, BE32(alias_of(&inner->daddr, us->alias)),
			         BE16(ports->destination), server, &place);
	}
	return to_engine(ctx, us, place.worker, XDP_TO_ENGINE_ICMP);
}

/* Finds the place of the session that a notice names. False for a report, and for a server that is
 * not known. */
static __always_inline int find_told(const struct xdp_control *us, const struct ixcp_hdr *ixcp,
                                     struct place *place)
{
	if (ixcp->type == IXCP_REPORT)
		return 0;

	__u32 server = find_server(us, ixcp->virtual_addr, ixcp->virtual_port);

	/* A notice does not tell the family of its numbers. */
	if (server == NO_SERVER && us->ipv6)
		server = find_server6(ixcp->virtual_addr, ixcp->virtual_port);
	if (server == NO_SERVER)
		return 0;
	place_of(us, BE32(ixcp->client), BE16(ixcp->client_port), server, place);
	return 1;
}

/* Handles a notice, or a report, that may be for us. */
static __noinline int receive_ixcp6(struct xdp_md *ctx, const struct xdp_control *us)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ipv6hdr *ip = (void *)(long)ctx->data + IPV4_OFFSET;
	struct ixcp_hdr *ixcp = (void *)(ip + 1);
	const __be32 *word = ip->daddr.in6_u.u6_addr32;
	struct place place = {};

	if ((void *)ixcp > data_end || ip->version != 6 || !us->has_own6 || word[3] != us->own6[3] ||
	    word[2] != us->own6[2] || word[1] != us->own6[1] || word[0] != us->own6[0])
		return XDP_PASS;
	if ((void *)(ixcp + 1) <= data_end && find_told(us, ixcp, &place))
		return receive_notice6(ctx, us, &place);
	return to_engine(ctx, us, place.worker, XDP_TO_ENGINE_IXCP);
}

/* Handles an IPv6 frame for one of our MAC addresses, except for notices. */
static __noinline int receive_ipv6(struct xdp_md *ctx, struct xdp_control *us)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ipv6hdr *ip = (void *)(long)ctx->data + IPV4_OFFSET;
	struct segment segment;
	struct place place;

	if ((void *)(ip + 1) > data_end || ip->version != 6)
		return XDP_PASS;

	const __be32 *alias = bpf_map_lookup_elem(&ipv6_aliases, &ip->daddr);

	if (!alias)
		return XDP_PASS;
	if (ip->nexthdr == IPPROTO_ICMPV6)
		return receive_icmp6(ctx, us);
	if (is_extension(ip->nexthdr))
		return to_engine(ctx, us, 0, XDP_TO_ENGINE_ODD);
	if (ip->nexthdr != IPPROTO_TCP)
		return XDP_PASS;
	if (!parse_segment6((void *)(long)ctx->data, data_end, &segment))
		return to_engine(ctx, us, 0, XDP_TO_ENGINE_ODD);

	__u32 server = find_server6(*alias, segment.tcp->dest);

	if (server == NO_SERVER)
		return XDP_PASS;
	place_of(us, BE32(alias_of(&segment.ip6->saddr, us->alias)), BE16(segment.tcp->source),
	         server, &place);

	struct session_record *record = find(us, &place);

	if (!record)
		return to_engine(ctx, us, place.worker,
		                 segment.flags & TCP_SYN ? XDP_TO_ENGINE_SYN
		                                         : XDP_TO_ENGINE_UNKNOWN);

	__u8 action = *(volatile __u8 *)&record->action;

	if (!action || action == ACTION_CLOSING || !is_client(place.slot, &segment.ip6->saddr))
		return to_engine(ctx, us, place.worker, XDP_TO_ENGINE_STATE);
	return receive_session(ctx, us, record, action, &segment, &place, 1);
}

#endif
