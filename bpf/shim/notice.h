/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Turns a frame into a notice to the balancer: an IXP frame that gets an answer (at ingress), or a
 * copy of a segment to the client (at egress).
 *
 * The copy may be a segment of 64 KB with an unfinished checksum. Truncating the copy removes the
 * segmentation. But the request to write a TCP checksum at offset 16 behind the IPv4 header stays:
 * that is why IXCP has a hole there.
 */
#ifndef BATON_NOTICE_H
#define BATON_NOTICE_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "alias.h"
#include "maps.h"
#include "packet.h"

/*
 * Makes the frame one of the other family, with room for its IP header. This also moves the place
 * of an unfinished checksum to where IXCP has its hole.
 */
static __always_inline long take_family(struct __sk_buff *skb, __u16 protocol)
{
	return skb->protocol == bpf_htons(protocol)
	               ? 0
	               : bpf_skb_change_proto(skb, bpf_htons(protocol), 0);
}

/* Writes the notice over the frame. Returns 0, or an error. With a stack of its own. */
static __noinline int write_notice(struct __sk_buff *skb, const struct shim_config *config,
                                   const struct notice *notice)
{
	struct notice_frame frame = {};

	fill_notice(&frame, notice, config);
	return take_family(skb, ETH_P_IP) || bpf_skb_change_tail(skb, NOTICE_FRAME_BYTES, 0) ||
	       bpf_skb_store_bytes(skb, 0, &frame.eth, NOTICE_FRAME_BYTES, 0);
}

/* The same to a balancer with an IPv6 address. */
static __noinline int write_notice6(struct __sk_buff *skb, const struct shim_config *config,
                                    const struct notice *notice, const struct shim_balancer *to)
{
	struct notice_frame6 frame = {};

	fill_notice6(&frame, notice, config, to);
	return take_family(skb, ETH_P_IPV6) || bpf_skb_change_tail(skb, NOTICE_FRAME_BYTES_6, 0) ||
	       bpf_skb_store_bytes(skb, 0, &frame.eth, NOTICE_FRAME_BYTES_6, 0);
}

/*
 * Turns the frame into this notice and sends it, at either hook. Returns the verdict. On the
 * balancer itself the notice goes to ingress, where the engine's tap receives it as if it came from
 * the wire.
 */
static __always_inline int send_notice(struct __sk_buff *skb, const struct shim_config *config,
                                       const struct notice *notice, int at_ingress)
{
	__be32 balancer = notice->balancer;
	const struct shim_balancer *to = bpf_map_lookup_elem(&balancers, &balancer);

	/* The session is of an earlier run, which had another config. */
	if (!to) {
		count(SHIM_DROP_UNKNOWN_BALANCER);
		return TC_ACT_SHOT;
	}
	if (to->family == FAMILY_IPV6 ? write_notice6(skb, config, notice, to)
	                              : write_notice(skb, config, notice)) {
		count(SHIM_DROP_REWRITE);
		return TC_ACT_SHOT;
	}
	skb->mark = 0;

	if (notice->type == IXCP_ADOPTED)
		count(SHIM_NOTICE_ADOPTED);
	else if (notice->type == IXCP_FIN)
		count(SHIM_NOTICE_FIN);
	else if (notice->type == IXCP_RST)
		count(SHIM_NOTICE_RST);
	else if (notice->type == IXCP_RELEASED)
		count(SHIM_NOTICE_RELEASED);
	else if (notice->type == IXCP_LEFT)
		count(SHIM_NOTICE_LEFT);
	else if (notice->type == IXCP_SYN_ACK)
		count(SHIM_NOTICE_SYN_ACK);
	else if (notice->type == IXCP_PARKED)
		count(SHIM_NOTICE_PARKED);
	else if (notice->type == IXCP_ENDED)
		count(SHIM_NOTICE_ENDED);
	else if (notice->type == IXCP_OWNED)
		count(SHIM_NOTICE_OWNED);
	else if (notice->reason == IXCP_REASON_UNFOLLOWED)
		count(SHIM_REFUSED_UNFOLLOWED);
	else if (notice->reason == IXCP_REASON_UNANSWERED)
		count(SHIM_REFUSED_UNANSWERED);
	else if (notice->reason == IXCP_REASON_ENDING)
		count(SHIM_REFUSED_ENDING);
	else if (notice->reason == IXCP_REASON_UNKNOWN_SESSION)
		count(SHIM_REFUSED_UNKNOWN);
	else if (notice->reason == IXCP_REASON_NO_LISTENER)
		count(SHIM_REFUSED_NO_LISTENER);
	else if (notice->reason == IXCP_REASON_TUPLE_IN_USE)
		count(SHIM_REFUSED_TUPLE_IN_USE);
	else
		count(SHIM_REFUSED_UNABLE);

	if (config->local)
		return bpf_redirect(config->local, BPF_F_INGRESS);
	return at_ingress ? bpf_redirect(skb->ifindex, 0) : TC_ACT_OK;
}

/* The four-tuple of the client's segments, from a segment to the client. */
static __always_inline struct session_key reversed_tuple(const struct tcp_view *view,
                                                         const struct shim_config *config)
{
	struct session_key tuple = {
		.client_port = view->tcp->dest,
		.virtual_port = view->tcp->source,
	};

	if (!view->ipv6) {
		tuple.client = view->ip->daddr;
		tuple.virtual_addr = view->ip->saddr;
	} else {
		tuple.client = alias_of(&view->ip6->daddr, config->alias);
		tuple.virtual_addr = alias_of(&view->ip6->saddr, config->alias);
	}
	return tuple;
}

/* The same from a segment of the client. */
static __always_inline struct session_key tuple_of(const struct tcp_view *view,
                                                   const struct shim_config *config)
{
	struct session_key tuple = {
		.client_port = view->tcp->source,
		.virtual_port = view->tcp->dest,
	};

	if (!view->ipv6) {
		tuple.client = view->ip->saddr;
		tuple.virtual_addr = view->ip->daddr;
	} else {
		tuple.client = alias_of(&view->ip6->saddr, config->alias);
		tuple.virtual_addr = alias_of(&view->ip6->daddr, config->alias);
	}
	return tuple;
}

/* Parses a segment of either family. */
static __always_inline int parse_segment(struct __sk_buff *skb, struct tcp_view *view)
{
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;

	return skb->protocol == bpf_htons(ETH_P_IPV6) ? parse_tcp6(data, data_end, view)
	                                              : parse_tcp(data, data_end, view);
}

/* Handles a copy at egress. Its mark says which notice it becomes. */
static __always_inline int become_notice(struct __sk_buff *skb)
{
	const struct shim_config *config = get_config();
	struct tcp_view view;

	if (!config) {
		count(SHIM_DROP_UNCONFIGURED);
		return TC_ACT_SHOT;
	}
	if (parse_segment(skb, &view) != PARSE_OK) {
		count(SHIM_DROP_NOTICE);
		return TC_ACT_SHOT;
	}

	struct session_key tuple = reversed_tuple(&view, config);
	struct session *session = bpf_map_lookup_elem(&sessions, &tuple);

	if (!session) {
		count(SHIM_DROP_NOTICE);
		return TC_ACT_SHOT;
	}

	struct notice notice = {
		.type = skb->mark & 0xf,
		.reason = skb->mark >> 4 & 0xf,
		.session = session->nonce,
		.balancer = session->balancer,
		.tuple = tuple,
		.seq = view.tcp->seq,
		.ack = view.tcp->ack_seq,
	};

	/* These are about the place of the parking, wherever the segment began. */
	if (notice.type == IXCP_ENDED ||
	    (notice.type == IXCP_FIN && notice.reason == IXCP_REASON_PARKED)) {
		notice.seq = bpf_htonl(session->parking.sent + session->translation.sent);
		notice.ack = bpf_htonl(session->parking.received + session->translation.received);
		notice.answers = bpf_htons(session->answers.ended);
	} else if (notice.reason == IXCP_REASON_HELD_BACK) {
		notice.answers = bpf_htons(session->resumed);
	}
	__builtin_memcpy(notice.mac, session->mac, ETH_ALEN);
	__builtin_memcpy(notice.own_mac, view.eth->h_source, ETH_ALEN);
	return send_notice(skb, config, &notice, 0);
}

/*
 * Sends a copy of this segment, which egress turns into a notice. Packet pointers become invalid.
 * False if the copy failed.
 */
static __always_inline int notify_balancer(struct __sk_buff *skb, __u32 type, __u32 mark)
{
	skb->mark = BATON_MARK_NOTICE | type;

	long error = bpf_clone_redirect(skb, skb->ifindex, 0);

	skb->mark = mark;
	if (error)
		count(SHIM_DROP_CLONE);
	return error == 0;
}

#endif
